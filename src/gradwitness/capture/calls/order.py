"""Recorded calls, in the order in which each thread ran them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradwitness.capture.calls.drafts import CallDraft


@dataclass
class Thread:
    """The calls of one thread. Torch numbers the nodes that each thread makes, from 0."""

    calls: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)

    def at(self, sequence: int) -> Sequence[int]:
        """Return the calls under a sequence number."""
        begin = bisect_left(self.sequences, sequence)
        return self.calls[begin : bisect_left(self.sequences, sequence + 1, begin)]

    def until(self, last: int, sequence: int) -> Sequence[int]:
        """Return the calls from a sequence number to a call, inclusive."""
        begin = bisect_left(self.sequences, sequence)
        return self.calls[begin : bisect_left(self.calls, last + 1, begin)]


class CallOrder:
    """Finds calls by thread and sequence number, and by what they made.

    Attributes
    ----------
    threads : dict of int to Thread
    """

    def __init__(self, calls: Sequence[CallDraft]) -> None:
        self.threads: dict[int, Thread] = {}
        self._calls = calls
        self._read = 0
        self._makers: dict[int, int] = {}

    def read(self) -> None:
        """Read the calls that have been added since."""
        for number in range(self._read, len(self._calls)):
            call = self._calls[number]
            if call.sequence < 0:
                # Before the first node, or added for a view that torch rebuilds.
                continue
            if call.thread not in self.threads:
                self.threads[call.thread] = Thread()
            thread = self.threads[call.thread]
            thread.calls.append(number)
            thread.sequences.append(call.sequence)
            for value in (*call.outputs, call.base):
                if value is not None:
                    self._makers[value] = number
        self._read = len(self._calls)

    def making(self, values: Iterable[int], sequence: int) -> Sequence[int]:
        """Return the calls from a sequence number to the last one that made one of some values."""
        last = max((self._makers[v] for v in values if v in self._makers), default=None)
        return () if last is None else self.threads[self._calls[last].thread].until(last, sequence)
