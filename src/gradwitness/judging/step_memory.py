"""A growing tape whose elements are looked up once in a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, overload

from gradwitness.engine.distant import Distant

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        # To a tape they are sequences: nobody asks a growing one for a range of its values.
        values: Any = _Values(tape.values)
        living: Any = _Living(values)
        self._values, self._living = values, living
        self._calls, self._nodes = _Remembered(tape.calls), _Remembered(tape.nodes)
        self.tape = replace(tape, values=values, calls=self._calls, nodes=self._nodes)
        self.living = replace(self.tape, values=living)

    def __enter__(self) -> None:
        self._values.remembers = self._living.remembers = True
        self._calls.known, self._nodes.known = {}, {}

    def __exit__(self, *_: object) -> None:
        self._values.remembers = self._living.remembers = False
        self._values.clear()
        self._living.clear()
        self._calls.known = self._nodes.known = None

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


class _Values(dict[int, "Value"]):
    """The values by number, and the forms of calls on them: see `form_of`, which asks for these.

    (A dictionary finds what it has in a fraction of the time that a method takes, and a step asks
    for its values many times.)
    """

    def __init__(self, made: Sequence[Value]) -> None:
        super().__init__()
        self.made = made
        self.remembers = False
        self.forms: dict[object, Form] = {}

    def __missing__(self, index: int) -> Value:
        found = self.made[index]
        if self.remembers:
            self[index] = found
        return found

    def __len__(self) -> int:
        return len(self.made)

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))


class _Living(_Values):
    """The values where they live; ``met`` if one of them lives on a device."""

    met = False

    def __init__(self, on_host: _Values) -> None:
        super().__init__(on_host.made)
        self._on_host, self.forms = on_host, on_host.forms

    def __missing__(self, index: int) -> Value:
        on_host = self._on_host
        found = on_host.get(index)
        if found is None:
            found = self.made[index]
            if self.remembers:
                on_host[index] = found
        if isinstance(found, Distant):
            self.met = True
            found = found.living()
        if self.remembers:
            self[index] = found
        return found
