"""A growing tape whose elements are looked up once in a step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gradwitness.engine.distant import Distant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.engine.forms import Form
    from gradwitness.tape import Tape, Value

T = TypeVar("T")


class StepMemory:
    """Hands out a tape that remembers what it is asked for while a step is judged, in a ``with``.

    A growing tape makes each element anew, as it is at that moment. While a step is judged, the
    program does not run; afterwards nothing is held on to but the forms of calls, which hold no
    numbers.

    Parameters
    ----------
    tape : Tape

    Attributes
    ----------
    tape, living : Tape
        Whose values have their numbers on the host; and where they live, maybe on a device.
    """

    def __init__(self, tape: Tape) -> None:
        self._values = _Values(tape.values)
        # A call's form is that of its node's run, too.
        self._living = _Living(self._values)
        self._calls, self._nodes = _Remembered(tape.calls), _Remembered(tape.nodes)
        self._all: tuple[_Remembered[Any], ...] = (
            self._values, self._living, self._calls, self._nodes,
        )  # fmt: skip
        self.tape = replace(
            tape,
            values=self._values.as_sequence(),
            calls=self._calls.as_sequence(),
            nodes=self._nodes.as_sequence(),
        )
        self.living = replace(self.tape, values=self._living.as_sequence())

    def __enter__(self) -> None:
        for remembered in self._all:
            remembered.keeps = True

    def __exit__(self, *_: object) -> None:
        for remembered in self._all:
            remembered.keeps = False
            remembered.clear()

    def settle(self, tape: Tape) -> None:
        """Let the complete tape take the place of the growing one.

        That makes its elements from the program's own objects, and so would keep them.
        """
        self._values.made, self._calls.made = tape.values, tape.calls
        self._nodes.made = tape.nodes


class _Remembered(dict[int, T]):
    """Elements by number, made when first asked for: those of a step are looked up at C's speed.

    Looked at otherwise, it is the sequence that makes them. (It has no slices.)
    """

    def __init__(self, made: Sequence[T]) -> None:
        super().__init__()
        self.made = made
        # Off between steps.
        self.keeps = False

    def __missing__(self, index: int) -> T:
        found = self.made[index]
        if self.keeps:
            self[index] = found
        return found

    def as_sequence(self) -> Sequence[T]:
        """Return it as a tape holds it."""
        sequence: Any = self
        return cast("Sequence[T]", sequence)

    def __len__(self) -> int:
        return len(self.made)

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self.made)))

    def __reversed__(self) -> Iterator[Any]:
        return map(self.__getitem__, reversed(range(len(self.made))))


class _Values(_Remembered["Value"]):
    """The values, and the forms of calls on them: see `form_of`, which asks for these."""

    def __init__(self, made: Sequence[Value]) -> None:
        super().__init__(made)
        self.forms: dict[object, Form] = {}


class _Living(_Values):
    """The values where they live; ``met`` if one of them lives on a device."""

    met = False

    def __init__(self, on_host: _Values) -> None:
        super().__init__(on_host.as_sequence())
        self.forms = on_host.forms

    def __missing__(self, index: int) -> Value:
        found = self.made[index]
        if isinstance(found, Distant):
            self.met = True
            found = found.living()
        if self.keeps:
            self[index] = found
        return found
