"""How long recorded values are held: while a step needs them, then while there is room."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradwitness.capture.values import ValueStore


class Retention:
    """Counts the steps that still need a value.

    Values that no step needs are kept for the report while all of them fit into ``room``. Once they
    do not, they are freed, and from then on at once.

    Parameters
    ----------
    room : int or None
        Bytes; None for no limit.

    Attributes
    ----------
    complete : bool
        Whether nothing has been freed.
    """

    def __init__(self, values: ValueStore, room: int | None) -> None:
        self.complete = True
        self._values = values
        self._room = room
        self._needed: defaultdict[int, int] = defaultdict(int)
        self._spare: set[int] = set()
        # The memory of spare values, and its bytes.
        self._memory: dict[object, int] = {}
        self._bytes = 0

    def hold(self, numbers: Iterable[int | None]) -> None:
        """Count one more step that needs these values."""
        needed = self._needed
        for number in numbers:
            if number is not None:
                needed[number] += 1

    def drop(self, numbers: Iterable[int | None]) -> None:
        """Count one step less; free values that no step needs."""
        if self._room is None:
            return
        needed, spare = self._needed, []
        for number in numbers:
            if number is None:
                continue
            left = needed[number] - 1
            if left > 0:
                needed[number] = left
            else:
                del needed[number]
                spare.append(number)
        if self.complete:
            self._spare.update(spare)
            for memory, size in map(self._values.memory, spare):
                self._bytes += size - self._memory.get(memory, 0)
                self._memory[memory] = size
            if self.fits(0):
                return
            self.complete = False
            spare = [number for number in self._spare if number not in self._needed]
            self._spare.clear()
            self._memory.clear()
        if spare:
            self._values.release(spare)

    def fits(self, more: int) -> bool:
        """Whether so many more bytes may be kept."""
        return self.complete and (self._room is None or self._bytes + more <= self._room)
