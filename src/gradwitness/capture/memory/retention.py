"""How long recorded values are held: while a step needs them, then while there is room."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sized

    from gradwitness._room import Room
    from gradwitness.capture.memory.values import ValueStore

# A number that a picture shows; its memory is no larger.
_SHOWN = 2**10


class Retention:
    """Counts the steps that still need a value.

    Values that no step needs are spare. All of them are kept while they fit into the room. Once
    they do not, those stay that the float64 replay starts from, that a node's gradients are
    computed from, and that belong to a step in doubt: whatever else there is can be computed from
    them. Once these do not fit either, all are freed, and from then on at once.

    Parameters
    ----------
    values : ValueStore
    room : Room or None
        None for no limit.
    in_doubt : callable
        Whether something recorded so far does not agree: then all is kept from there on.

    Attributes
    ----------
    complete : bool
        Whether nothing has been freed.
    replayable : bool
        Whether nothing has been freed that the replay starts from.
    """

    def __init__(
        self, values: ValueStore, room: Room | None, in_doubt: Callable[[], bool] = lambda: False
    ) -> None:
        self.complete = self.replayable = True
        self._values = values
        self._room = room
        self._in_doubt = in_doubt
        self._needed: defaultdict[int, int] = defaultdict(int)
        self._spare: set[int] = set()
        # What gradients are computed from, or may be looked at again; and where the replay starts.
        self._lasting: set[int | None] = set()
        self._starts: set[int | None] = set()
        # Gradients that nodes of a pass have made.
        self._sent: set[int] = set()
        # The memory of spare values, and its bytes.
        self._memory: dict[object, int] = {}
        self._bytes = 0

    def hold(self, numbers: Iterable[int | None]) -> None:
        """Count one more step that needs these values."""
        if self._room is None:
            return
        needed = self._needed
        for number in numbers:
            if number is not None:
                needed[number] += 1

    def last(self, numbers: Iterable[int | None]) -> None:
        """Note values that gradients are computed from, or that may be looked at once more."""
        self._lasting.update(numbers)

    def start_from(self, numbers: Iterable[int | None]) -> list[int | None]:
        """Note values that the replay takes from the record; return them."""
        starts = [*numbers]
        self._starts.update(starts)
        return starts

    def send(self, numbers: tuple[int | None, ...], known: int) -> tuple[int | None, ...]:
        """Note which gradients of a pass are new, and made by its nodes; return all."""
        self._sent.update([n for n in numbers if n is not None and n >= known])
        return numbers

    def doubt(self, hooks: Sized) -> None:
        """Keep all from here on if there are hooks, of what lasts: they may send anything."""
        if hooks:
            self._in_doubt = lambda: True

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
        if spare:
            self._keep_or_free(spare, self._room)

    def _keep_or_free(self, spare: list[int], room: Room) -> None:
        if self.complete:
            self._count(spare)
            if self._bytes <= room.all:
                return
            self.complete = False
            if self._in_doubt():
                self._lasting |= self._spare
            self._free(self._lasts)
        elif self.replayable:
            if self._in_doubt():
                self._lasting.update(spare)
            self._count(n for n in spare if self._lasts(n))
            self._values.release([n for n in spare if n not in self._spare])
        else:
            self._values.release(spare)
        if self._bytes > room.lasting:
            self.replayable = False
            self._free(lambda _: False)

    def end(self) -> None:
        """Free what a step in doubt would have been judged by: all agree."""
        if not (self.complete or self._in_doubt()):
            self._free(self._is_start)

    def fits(self, more: int) -> bool:
        """Whether so many more bytes may be kept."""
        room = self._room
        if room is None or not self.replayable:
            return self.replayable
        return self._bytes + more <= (room.all if self.complete else room.lasting)

    def _lasts(self, number: int) -> bool:
        return number in self._lasting or self._is_start(number)

    def _is_start(self, number: int) -> bool:
        return (
            number in self._starts
            or self._values.drafts[number].is_start(
                saved=number in self._lasting, sent=number in self._sent
            )
            or 0 < self._values.memory(number)[1] <= _SHOWN
        )

    def _count(self, spare: Iterable[int]) -> None:
        self._spare.update(spare)
        for memory, size in map(self._values.memory, spare):
            self._bytes += size - self._memory.get(memory, 0)
            self._memory[memory] = size

    def _free(self, lasts: Callable[[int], bool]) -> None:
        """Free spare values but for those that last."""
        spare = self._spare - self._needed.keys()
        self._spare = {number for number in spare if lasts(number)}
        self._memory.clear()
        self._bytes = 0
        self._count(self._spare)
        self._values.release(spare - self._spare)
