"""A growing tape whose elements are looked up once in a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, overload

from gradwitness.engine.distant import Distant

if TYPE_CHECKING:
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
        self._living = _Living(self._values)
        # A call's form is that of its node's run, too.
        self._living.forms = self._values.forms
        self._calls, self._nodes = _Remembered(tape.calls), _Remembered(tape.nodes)
        self.tape = replace(tape, values=self._values, calls=self._calls, nodes=self._nodes)
        self.living = replace(self.tape, values=self._living)

    def __enter__(self) -> None:
        self._values.known, self._living.there = {}, {}
        self._calls.known, self._nodes.known = {}, {}

    def __exit__(self, *_: object) -> None:
        self._values.known = self._calls.known = self._nodes.known = None
        self._living.there = {}

    def settle(self, tape: Tape) -> None:
        """Let the complete tape take the place of the growing one.

        That makes its elements from the program's own objects, and so would keep them.
        """
        self._values.made, self._calls.made = tape.values, tape.calls
        self._nodes.made = tape.nodes


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
        found = known.get(index)
        if found is None:
            found = known[index] = self.made[index]
        return found


class _Values(_Remembered["Value"]):
    """The values, and the forms of calls on them: see `form_of`, which asks for these."""

    def __init__(self, made: Sequence[Value]) -> None:
        super().__init__(made)
        self.forms: dict[object, Form] = {}


class _Living(_Values):
    """The values where they live; ``met`` if one of them lives on a device."""

    met = False

    def __init__(self, on_host: _Values) -> None:
        super().__init__(on_host)
        self._on_host = on_host
        # Those on a device; all others are the host's own.
        self.there: dict[int, Value] = {}

    @overload
    def __getitem__(self, index: int) -> Value: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Value]: ...
    def __getitem__(self, index: int | slice) -> Value | Sequence[Value]:
        if type(index) is slice:
            return [self[k] for k in range(*index.indices(len(self)))]
        known = self._on_host.known
        found = None if known is None else known.get(index)
        if found is None:
            found = self._on_host[index]
        if type(found) is not Distant:
            return found
        self.met = True
        living = self.there.get(index) or found.living()
        if known is not None:
            self.there[index] = living
        return living
