"""The backward of a custom function against the gradients that the program declared for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness._errors import Unjudgeable
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.forward import run
from gradwitness.rules.surrogates import declared
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.engine.floats import Arithmetic
    from gradwitness.judging.records import Records
    from gradwitness.judging.slopes import Functions
    from gradwitness.tape import Argument, Node, Tape

GRADE = "declared by the program, not derived: d{name} = {text}; normwise"


class Declared:
    """Computes the declared gradients of custom functions.

    Parameters
    ----------
    tape : Tape
    records : Records
    functions : Functions or None
        Knows which function made a node, and what it was applied to. Without it nothing is taken
        as declared.
    """

    def __init__(self, tape: Tape, records: Records, functions: Functions | None) -> None:
        self._tape = tape
        self._records = records
        self._functions = functions

    def grades(self, node: Node) -> dict[int, str]:
        """Return the kind of evidence by edge, for those whose gradient was declared."""
        functions = self._functions
        known = {} if functions is None else declared(functions.function(node.id))
        if functions is None or not known:
            return {}
        input_nrs = _input_nrs(functions.arguments(node.id))
        return {
            input_nrs[name]: GRADE.format(name=name, text=gradient.text)
            for name, gradient in known.items()
            if name in input_nrs
        }

    def gradients(
        self, node: Node, incoming: Sequence[Bounded | None], arithmetic: Arithmetic
    ) -> dict[int, Any]:
        """Return what was declared, by edge, with the bound that its formula has.

        Raises
        ------
        Unjudgeable
            If numbers that it takes were not recorded, or it fails.
        """
        functions = self._functions
        known = {} if functions is None else declared(functions.function(node.id))
        if functions is None or not known:
            return {}
        arguments = functions.arguments(node.id)
        ys = [None if n is None else self._records.exact(n, arithmetic) for n in node.outputs]
        gs = [*incoming, *[None] * (len(ys) - len(incoming))]
        input_nrs = _input_nrs(arguments)
        made = {}
        for name, gradient in known.items():
            if name not in input_nrs:
                continue
            given = {n: self._alive(arguments[n], arithmetic) for n in gradient.arguments}
            one = len(node.outputs) == 1
            first = (gs[0], ys[0]) if one else (tuple(gs), tuple(ys))
            made[input_nrs[name]] = self._checked(
                name,
                run(f"the declared gradient of {name!r}", gradient.function, *first, **given),
            )
        return made

    def _alive(self, item: Argument, arithmetic: Arithmetic) -> Any:
        if isinstance(item, Ref):
            return self._records.exact(item.value, arithmetic)
        if isinstance(item, tuple):
            return tuple(self._alive(each, arithmetic) for each in item)
        return item

    def _checked(self, name: str, result: Any) -> Bounded:
        if not isinstance(result, Bounded):
            raise Unjudgeable(
                f"the declared gradient of {name!r} is no array made of the cotangent: a "
                f"{type(result).__name__}"
            )
        return result


def _input_nrs(arguments: dict[str, Argument]) -> dict[str, int]:
    """Return the edge of each argument that is a tensor: they stand in the order of arguments."""
    tensors = [name for name, item in arguments.items() if isinstance(item, Ref)]
    return {name: place for place, name in enumerate(tensors)}
