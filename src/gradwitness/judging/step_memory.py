"""A growing tape whose elements are looked up once in a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from gradwitness.tape import Tape

T = TypeVar("T")


class StepMemory:
    """Hands out a tape that remembers what it is asked for while a step is judged, in a ``with``.

    A growing tape makes each element anew, as it is at that moment. While a step is judged, the
    program does not run; afterwards nothing is held on to.

    Parameters
    ----------
    tape : Tape
    """

    def __init__(self, tape: Tape) -> None:
        self._parts: list[_Remembered[Any]] = [
            _Remembered(part) for part in (tape.values, tape.calls, tape.nodes)
        ]
        values, calls, nodes = self._parts
        self.tape = replace(tape, values=values, calls=calls, nodes=nodes)

    def __enter__(self) -> None:
        for part in self._parts:
            part.known = {}

    def __exit__(self, *_: object) -> None:
        for part in self._parts:
            part.known = None

    def settle(self, tape: Tape) -> None:
        """Let the complete tape take the place of the growing one.

        That makes its elements from the program's own objects, and so would keep them.
        """
        for part, made in zip(self._parts, (tape.values, tape.calls, tape.nodes), strict=True):
            part.made = made


class _Remembered(Sequence[T]):
    def __init__(self, made: Sequence[T]) -> None:
        self.made = made
        # None between steps.
        self.known: dict[int, T] | None = None

    def __len__(self) -> int:
        return len(self.made)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        known = self.known
        if known is None or type(index) is slice:
            return self.made[index]
        if index not in known:
            known[index] = self.made[index]
        return known[index]
