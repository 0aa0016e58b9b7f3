"""What the judgement needs to know of a program's custom functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gradwitness._printable import listed
from gradwitness.judging.custom.slopes import Runs
from gradwitness.judging.note import Note
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.judging.fuzz.drawn import Subject
    from gradwitness.tape import Argument, Tape, Value


class Again(Runs, Protocol):
    """A node's forward, kept to be run again after the block."""

    @property
    def values(self) -> Mapping[int, Value]:
        """Copies of its operands, and of what else was asked for, as recorded."""

    def refusal(self) -> str:
        """Return why it may not run again; empty if it may."""

    def sent(self, operand: int, incoming: Sequence[NDArray[Any] | None]) -> NDArray[Any]:
        """Return what its own backward sends to an operand, run in float64 as its forward is.

        Raises
        ------
        Unjudgeable
            If it may not run again, or that fails.
        """

    def elsewhere(self, operand: int) -> tuple[Subject, bool]:
        """Return the function as one to be tried on other inputs, and whether of other shapes.

        Raises
        ------
        Unjudgeable
            If it may not run there.
        """


class Method(NamedTuple):
    """The backward method of a custom function, in the program's text.

    Attributes
    ----------
    symbol : str
        ``ISRLU.backward``.
    file : str
    line : int
        That of its ``def``.
    text : str
        From there on; empty if the file cannot be read.
    called : str
        ``file:line`` that applied the function.
    """

    symbol: str
    file: str
    line: int
    text: str
    called: str

    def has(self, line: str) -> bool:
        """Whether ``file:line`` lies in it."""
        file, _, number = line.rpartition(":")
        return file == self.file and 0 <= int(number) - self.line < max(self.text.count("\n"), 1)


class Functions(Protocol):
    """Knows the program's custom functions and their arguments."""

    def function(self, node: int) -> type | None:
        """Return the class whose forward made a node, if one did."""

    def operands(self, node: int) -> Sequence[int]:
        """Return the recorded values of a node's inputs, in the order of its edges.

        Raises
        ------
        Unjudgeable
            If it is not known how the node's function was called.
        """

    def again(self, node: int, numbers: Iterable[int | None]) -> Again:
        """Keep a node's function with copies of its operands, and of some more values.

        Raises
        ------
        Unjudgeable
            If it is not known how it was called, or there is no room.
        """

    def allowed(self) -> Sequence[str]:
        """Return the names of the functions that the program allows to run again."""

    def arguments(self, node: int) -> dict[str, Argument]:
        """Return the arguments of a node's function, by the names of its forward.

        Raises
        ------
        Unjudgeable
            If it is not known how it was called.
        """

    def method(self, node: int) -> Method | None:
        """Return where the backward of a node's function is written, if it is the program's."""

    def input_names(self, node: int) -> Sequence[str]:
        """Return the names of a node's inputs, as forward has them; empty if not known."""


def misnamed(functions: Functions, tape: Tape) -> tuple[Note, ...]:
    """Return a note on names of functions that may run again, of which there is none."""
    allowed = functions.allowed()
    if not allowed:
        return ()
    custom = {n.name.removesuffix("Backward") for n in tape.nodes if n.kind == Kind.CUSTOM}
    operators = {"::".join(call.op.split(".")[:2]) for call in tape.calls}
    names = [name for name in allowed if name not in custom | operators]
    if not names:
        return ()
    there = f"it has {listed(sorted(custom))}" if custom else "it has none"
    text = f"no custom function of the graph is named {listed(names)}: {there}."
    return (Note("nothing to rerun", text),)
