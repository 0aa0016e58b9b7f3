"""Gradients that the program declared for its custom functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import RuleFailure, Unjudgeable
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.forward import numbers, run
from gradwitness.judging.comparing.records import largest
from gradwitness.rules.retractions import retractions
from gradwitness.rules.surrogates import declared
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.engine.floats import Arithmetic
    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.custom.functions import Functions
    from gradwitness.judging.custom.lie_groups import Retract
    from gradwitness.rules.surrogates import Declared as Surrogate
    from gradwitness.tape import Argument, Node, Tape

DECLARED = "declared by the program, not derived"
GRADE = f"{DECLARED}: d{{name}} = {{text}}; normwise"


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
            given: tuple[Any, Any] = (gs[0], ys[0]) if single else (tuple(gs), tuple(ys))
            whose = f"the declared gradient of {node.name.removesuffix('Backward')}'s {name!r}"
            if gradient.tolerance:
                given, values = _plain(given), _plain(values)
            result = _computed(whose, gradient, given, values, arithmetic)
            operand = arguments[name]
            assert isinstance(operand, Ref)  # noqa: S101 (it has an edge)
            shape = self._tape.values[operand.value].shape
            if result.shape != shape:
                raise Unjudgeable(
                    f"{whose} ({gradient.line}) has shape {result.shape}, but {name} has shape "
                    f"{shape}: return one number for each of {name} (np.broadcast_to, .sum(axis))"
                )
            by_edge[input_nrs[name]] = _tolerant(result, gradient.tolerance, arithmetic)
        return by_edge

    def _alive(self, argument: Argument, arithmetic: Arithmetic) -> Any:
        if isinstance(argument, Ref):
            return self._records.exact(argument.value, arithmetic)
        if isinstance(argument, tuple):
            return tuple(self._alive(part, arithmetic) for part in argument)
        return argument


def _computed(
    whose: str, gradient: Surrogate, given: Any, values: Any, arithmetic: Arithmetic
) -> Bounded:
    try:
        made = run(whose, gradient.function, *given, **values)
        bounded: Bounded = numbers(whose, made, "float64", arithmetic)
    except RuleFailure as failure:
        if "no rounding bound" not in str(failure):
            raise
        raise Unjudgeable(f"{failure}; with tolerance= it may call anything") from failure
    return bounded


def _plain(given: Any) -> Any:
    """Return plain arrays, for a formula that may call anything."""
    if isinstance(given, Bounded):
        return given.value
    if isinstance(given, dict):
        return {name: _plain(value) for name, value in given.items()}
    return tuple(map(_plain, given)) if isinstance(given, tuple) else given


def _tolerant(result: Bounded, tolerance: float, arithmetic: Arithmetic) -> Bounded:
    if not tolerance:
        return result
    # Halved: a normwise bound is an element's own and the largest, together.
    allowed = np.full(result.shape, tolerance * largest(result.value) / 2)
    return Bounded(result.value, arithmetic, allowed, allowed)


def _input_nrs(arguments: dict[str, Argument]) -> dict[str, int]:
    """Return the edge of each tensor argument; edges follow the order of the arguments."""
    tensors = [name for name, argument in arguments.items() if isinstance(argument, Ref)]
    return {name: input_nr for input_nr, name in enumerate(tensors)}
