"""Gradients that the program declared for its custom functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness._errors import Unjudgeable
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.forward import run
from gradwitness.rules.retractions import retractions
from gradwitness.rules.surrogates import declared
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.engine.floats import Arithmetic
    from gradwitness.judging.functions import Functions
    from gradwitness.judging.lie_groups import Retract
    from gradwitness.judging.records import Records
    from gradwitness.tape import Argument, Node, Tape

GRADE = "declared by the program, not derived: d{name} = {text}; normwise"


class Declared:
    """Computes the declared gradients of custom functions.

    Parameters
    ----------
    tape : Tape
    records : Records
    functions : Functions or None
        Knows which function made a node, and its arguments. Without it nothing counts as declared.
    """

    def __init__(self, tape: Tape, records: Records, functions: Functions | None) -> None:
        self._tape = tape
        self._records = records
        self._functions = functions

    def grades(self, node: Node) -> dict[int, str]:
        """Return the kind of evidence by edge, for those whose gradient was declared."""
        functions = self._functions
        by_name = {} if functions is None else declared(functions.function(node.id))
        if functions is None or not by_name:
            return {}
        input_nrs = _input_nrs(functions.arguments(node.id))
        return {
            input_nrs[name]: GRADE.format(name=name, text=gradient.text)
            for name, gradient in by_name.items()
            if name in input_nrs
        }

    def retracts(self, node: Node, input_nr: int) -> tuple[Retract | None, Retract | None]:
        """Return what was declared to move an operand, and what to move the results."""
        functions = self._functions
        by_name = {} if functions is None else retractions(functions.function(node.id))
        if functions is None or not by_name:
            return None, None
        try:
            input_nrs = _input_nrs(functions.arguments(node.id))
        except Unjudgeable:
            input_nrs = {}
        name = next((name for name, number in input_nrs.items() if number == input_nr), None)
        return None if name is None else by_name.get(name), by_name.get(None)

    def gradients(
        self, node: Node, incoming: Sequence[Bounded | None], arithmetic: Arithmetic
    ) -> dict[int, Any]:
        """Return the declared gradients by edge, with the bounds of their formulas.

        Raises
        ------
        Unjudgeable
            If numbers that a formula needs were not recorded, or it fails.
        """
        functions = self._functions
        by_name = {} if functions is None else declared(functions.function(node.id))
        if functions is None or not by_name:
            return {}
        arguments = functions.arguments(node.id)
        ys = [None if n is None else self._records.exact(n, arithmetic) for n in node.outputs]
        gs = [*incoming, *[None] * (len(ys) - len(incoming))]
        input_nrs = _input_nrs(arguments)
        by_edge = {}
        for name, gradient in by_name.items():
            if name not in input_nrs:
                continue
            values = {n: self._alive(arguments[n], arithmetic) for n in gradient.arguments}
            single = len(node.outputs) == 1
            g_and_y = (gs[0], ys[0]) if single else (tuple(gs), tuple(ys))
            by_edge[input_nrs[name]] = self._checked(
                name,
                run(f"the declared gradient of {name!r}", gradient.function, *g_and_y, **values),
            )
        return by_edge

    def _alive(self, argument: Argument, arithmetic: Arithmetic) -> Any:
        if isinstance(argument, Ref):
            return self._records.exact(argument.value, arithmetic)
        if isinstance(argument, tuple):
            return tuple(self._alive(part, arithmetic) for part in argument)
        return argument

    def _checked(self, name: str, result: Any) -> Bounded:
        if not isinstance(result, Bounded):
            raise Unjudgeable(
                f"the declared gradient of {name!r} is not an array computed from the cotangent: "
                f"got {type(result).__name__}"
            )
        return result


def _input_nrs(arguments: dict[str, Argument]) -> dict[str, int]:
    """Return the edge of each tensor argument; edges follow the order of the arguments."""
    tensors = [name for name, argument in arguments.items() if isinstance(argument, Ref)]
    return {name: input_nr for input_nr, name in enumerate(tensors)}
