"""Some numbers of a step, computed with their bounds or without."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from gradwitness.engine.backward import vjp
from gradwitness.engine.binding import recorded
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import wide
from gradwitness.engine.forward import evaluate
from gradwitness.engine.step_arithmetic import backward_arithmetic
from gradwitness.judging.looks.sampled import Places, brought
from gradwitness.judging.looks.step import step_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.engine.floats import Arithmetic
    from gradwitness.judging.looks.step import Role, Step
    from gradwitness.tape import Call, Node, NodeRun, Tape, Value

# From places, and whether bounds are wanted, to the numbers there: whose they are, as recorded, as
# they should be, of what value.
Evaluate: TypeAlias = Callable[[Places, bool], "list[tuple[Role, Any, Any, Value]]"]


def results_at(step: Step) -> Evaluate:
    """Return what computes the results of a step at places."""

    def some(places: Places, bounded: bool) -> list[tuple[Role, Any, Any, Value]]:
        small = step.on(brought(places), recorded, bounded=bounded)
        of = small.tape, small.call, small.lookup
        made = evaluate(*of, bounded=bounded, from_recorded=True)
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
    arithmetic: Callable[[], Arithmetic | None],
    sent: Value,
) -> Evaluate:
    """Return what computes the gradient of a step's operand at places."""
    # What a rule makes all at once is looked at in the same places.
    together = step.together(name)
    wanted = [k == input_nr or n in together for k, (n, _, _) in enumerate(step.inputs())]

    def computed(places: Places, bounded: bool) -> tuple[Any, ...]:
        part = brought(places)
        small = step.on(part, recorded, bounded=bounded)
        parts = [None if v is None else part(k, v)[0] for k, v in enumerate(arrived)]
        incoming = [None if p is None else wide(p) for p in parts]
        if not bounded:
            return vjp(small.tape, small.call, incoming, small.lookup, None, wanted)
        own = arithmetic()
        assert own is not None  # noqa: S101 (something arrived)
        exact = [None if g is None else Bounded(g, own) for g in incoming]
        return vjp(small.tape, small.call, exact, small.lookup, own, wanted)

    def some(places: Places, bounded: bool) -> list[tuple[Role, Any, Any, Value]]:
        made = step.sampled.get((places, bounded)) if together else None
        if made is None:
            made = step.sampled[places, bounded] = computed(places, bounded)
        return [(name, brought(places)(name, sent)[0], made[input_nr], sent)]

    return some


def gradient_of(tape: Tape, node: Node, call: Call, node_run: NodeRun, input_nr: int) -> Evaluate:
    """Return what computes a gradient that a node sends at places."""
    values, step = tape.values, step_of(tape.values, call)
    arithmetic = partial(backward_arithmetic, tape, node, node_run)
    arrived = [None if n is None else values[n] for n in node_run.incoming]
    sent = values[node_run.outgoing[input_nr] or 0]
    return gradient_at(step, step.inputs()[input_nr][0], input_nr, arrived, arithmetic, sent)
