"""Recorded values, to compare with and to start from."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients
from gradwitness.engine.binding import recorded, unrecorded
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.distant import is_distant
from gradwitness.engine.floats import (
    SHORT,
    Arithmetic,
    is_inexact,
    round_to,
    unit_roundoff,
    wide,
)
from gradwitness.judging.comparing.compare import Comparison, compare, unjudged
from gradwitness.judging.comparing.piecewise import Pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gradwitness.tape import Node, NodeRun, Tape, Value

# One step's result is the next one's operand: up to so many bytes are cached in float64. More than
# this saves no time that shows: large operands are read in pieces.
_CACHE_BYTES = 2**21


class Records:
    """Looks up a tape's numbers in float64, and compares with them.

    Parameters
    ----------
    tape : Tape
        May still be growing.

    Attributes
    ----------
    exposed : set of int
        Storages that something other than torch may write to: they are read anew each time.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._lookup = recorded(tape)
        self._cache: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self.exposed: set[int] = set()

    def __call__(self, number: int) -> NDArray[Any]:
        """Return a value's numbers, read-only.

        Raises
        ------
        Unjudgeable
            If the tape does not hold them.
        """
        cached = self._cache.get(number)
        if cached is not None:
            self._cache.move_to_end(number)
            return cached
        value = self._tape.values[number]
        array = np.asarray(self._lookup(number))
        if array is value.array:
            return array
        array.flags.writeable = False
        if value.layout is not None and value.layout.storage in self.exposed:
            return array
        self._cache[number] = array
        self._bytes += array.nbytes
        while self._bytes > _CACHE_BYTES:
            self._bytes -= self._cache.popitem(last=False)[1].nbytes
        return array

    def part(self, number: int, index: tuple[slice, ...]) -> NDArray[Any]:
        """Return part of a value in a rounding format; all of it if the index is empty.

        Raises
        ------
        Unjudgeable
            If the tape does not hold them.
        """
        array = self._tape.values[number].array
        if not index or array is None or number in self._cache:
            return self(number)[index] if index else self(number)
        with np.errstate(invalid="ignore"):
            return wide(array[index])

    def as_recorded(self, number: int) -> NDArray[Any]:
        """Return a value's numbers to compare with, in their own format if that rounds.

        Raises
        ------
        Unjudgeable
            If the tape does not hold them.
        """
        value = self._tape.values[number]
        return self(number) if value.array is None or not is_inexact(value.dtype) else value.array

    def forget(self) -> None:
        """Let go of what is cached."""
        self._cache.clear()
        self._bytes = 0

    def changed(self, number: int) -> bool:
        """Return whether a value's numbers are still cached and have changed since."""
        cached, value = self._cache.get(number), self._tape.values[number]
        if cached is None or value.array is None:
            return False
        with np.errstate(invalid="ignore"):
            current = value.array.astype(cached.dtype)
        return not np.array_equal(cached, current, equal_nan=True)

    def expose(self, number: int) -> None:
        """Stop caching a value's storage: something other than torch may write to it."""
        layout = self._tape.values[number].layout
        if layout is None or layout.storage in self.exposed:
            return
        self.exposed.add(layout.storage)
        for cached in list(self._cache):
            other = self._tape.values[cached].layout
            if other is not None and other.storage == layout.storage:
                self._bytes -= self._cache.pop(cached).nbytes

    def magnitudes(self, number: int) -> NDArray[Any]:
        """Return the magnitudes of a value's numbers."""
        array = self(number)
        return np.abs(array) if array.dtype.kind in "fc" else array

    def coarsest(self, numbers: Iterable[int | None]) -> str:
        """Return the coarsest format of some values."""
        formats = {self._tape.values[n].dtype for n in numbers if n is not None}
        return max(filter(is_inexact, formats), key=unit_roundoff, default="float32")

    def shortest(self, numbers: Sequence[int]) -> str:
        """Return the format of 16 bits whose numbers values are; else their own coarsest one.

        Torch's engine converts what a function returns to the format of its input, which leaves
        numbers of 16 bits as they are.
        """
        own = self.coarsest(numbers)
        if own in SHORT.values():
            return own
        for _, name in sorted(SHORT.items(), reverse=True):
            if all(
                np.array_equal(self(n), round_to(self(n), name), equal_nan=True) for n in numbers
            ):
                return name
        return own

    def exact(self, number: int, arithmetic: Arithmetic | None = None) -> Bounded:
        """Return a value as the witness's exact operand."""
        dtype = self._tape.values[number].dtype
        chosen = arithmetic or Arithmetic.stepwise(dtype if is_inexact(dtype) else "float32")
        return Bounded(self(number), chosen)

    def sent_sizes(self, node: Node, node_run: NodeRun) -> list[float]:
        """Return how large each gradient that a node sends is if no terms cancel; 0 if unknown."""
        incoming = [None if n is None else self.magnitudes(n) for n in node_run.incoming]
        try:
            sent = gradients(self._tape, node, incoming, self, None)
        except Unjudgeable:
            return [0.0] * len(node.edges)
        return [0.0 if g is None else largest(g) for g in sent]

    def value(self, number: int) -> Value:
        """Return a value as it is on the tape."""
        return self._tape.values[number]

    def against(self, number: int, expected: Any, allowance: float = 0.0) -> Comparison:
        """Compare a recorded value with the expected one."""
        return self.compared(self._tape.values[number], expected, allowance)

    def compared(self, value: Value, expected: Any, allowance: float = 0.0) -> Comparison:
        """Compare a value, which need not be on the tape, with the expected one."""
        if value.array is None:
            return unjudged(unrecorded(value))
        if isinstance(expected, Pieces):
            return expected.against(value.array, value.dtype, allowance)
        return compare(value.array, expected, value.dtype, allowance=allowance)


class Living(Records):
    """Looks numbers up where they live; those on the host in the records of that.

    Parameters
    ----------
    tape : Tape
        With arrays as they were recorded.
    records : Records
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        super().__init__(tape)
        self._on_host, self.exposed = records, records.exposed

    def __call__(self, number: int) -> NDArray[Any]:
        """Return a value's numbers."""
        there = is_distant(self._tape.values[number].array)
        return self._lookup(number) if there else self._on_host(number)

    def part(self, number: int, index: tuple[slice, ...]) -> NDArray[Any]:
        """Return part of a value in a rounding format; all of it if the index is empty."""
        if is_distant(self._tape.values[number].array):
            return super().part(number, index)
        return self._on_host.part(number, index)


def largest(array: Any) -> float:
    """Return the largest magnitude of an array; 0 if it is not finite or the array is empty."""
    magnitude = float(np.max(np.abs(array), initial=0.0))
    return magnitude if np.isfinite(magnitude) else 0.0
