"""Some numbers of a step, computed with their bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from gradwitness.engine.backward import vjp
from gradwitness.engine.binding import recorded
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import wide
from gradwitness.engine.forward import evaluate
from gradwitness.judging.looks.sampled import Along, Scattered, brought

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.engine.floats import Arithmetic
    from gradwitness.judging.looks.step import Role, Step
    from gradwitness.tape import Value

# From places to the numbers there: whose they are, as recorded, as they should be, of what value.
Evaluate: TypeAlias = Callable[[Scattered | Along], "list[tuple[Role, Any, Any, Value]]"]


def results_at(step: Step) -> Evaluate:
    """Return what computes the results of a step at places."""

    def some(places: Scattered | Along) -> list[tuple[Role, Any, Any, Value]]:
        small = step.on(brought(places), recorded)
        made = evaluate(small.tape, small.call, small.lookup, bounded=True)
        return [
            (place, small.tape.values[n or 0].array, result, value)
            for place, (n, result, value) in enumerate(
                zip(small.call.outputs, made, step.outputs, strict=True)
            )
            if n is not None and result is not None and value is not None
        ]

    return some


def gradient_at(
    step: Step,
    name: str,
    input_nr: int,
    arrived: Sequence[Value | None],
    arithmetic: Arithmetic,
    sent: Value,
) -> Evaluate:
    """Return what computes the gradient of a step's operand at places."""
    wanted = [k == input_nr for k in range(len(step.inputs()))]

    def some(places: Scattered | Along) -> list[tuple[Role, Any, Any, Value]]:
        part = brought(places)
        small = step.on(part, recorded)
        parts = [None if v is None else part(k, v)[0] for k, v in enumerate(arrived)]
        incoming = [None if p is None else Bounded(wide(p), arithmetic) for p in parts]
        made = vjp(small.tape, small.call, incoming, small.lookup, arithmetic, wanted)
        return [(name, part(name, sent)[0], made[input_nr], sent)]

    return some
