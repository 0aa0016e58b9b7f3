"""A rule's formula applied to a small step's tensors as they lie.

What `evaluate` and `gradients` see to besides, in any step of any program, takes as long as the
numbers do where these are few. Nothing of it is needed here, which a step's form tells.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from gradwitness.engine.backward import gradients
from gradwitness.engine.binding import unknown
from gradwitness.engine.floats import wide
from gradwitness.engine.forms import BITS, MOST, form_of
from gradwitness.engine.forward import run
from gradwitness.engine.in_pieces import parts_made
from gradwitness.judging.looks.once import operands_as_recorded
from gradwitness.judging.looks.step import raw
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gradwitness.engine.binding import Lookup
    from gradwitness.engine.forms import Form
    from gradwitness.engine.tiling import Index
    from gradwitness.rules.vjps import Gradient
    from gradwitness.tape import Call, Node, Tape, Value

# Steps of more numbers are cut into pieces.
_MOST = 2**16
# What a rule asks for besides the arguments of a call.
_BESIDES = frozenset(["in_place", "made", "memory"])


def made_in_parts(
    tape: Tape, call: Call, form: Form, lookup: Lookup
) -> Iterable[tuple[int, Index, Any]]:
    """Return the pieces of a call's results in float64, see `parts_made`."""
    whole = _by_element(tape.values, call, form) if _is_by_element(form) else None
    return parts_made(tape, call, lookup) if whole is None else [(0, (), whole)]


def moved_back(
    tape: Tape, node: Node, call: Call, incoming: Sequence[NDArray[Any] | None]
) -> Sequence[Any]:
    """Return what a node sends that moves numbers, by input, of those that came in."""
    if len(node.edges) == 1 and call.op not in BITS:
        made = _sent_by_one(tape.values, call, form_of(tape.values, call), incoming)
        if made is not None:
            return [made]
    return gradients(tape, node, incoming, raw(tape), None)


def _by_element(values: Sequence[Value], call: Call, form: Form) -> Any:
    """Return a float32 step's result, None if its numbers are not known."""
    recorded = operands_as_recorded(values, call, form)
    if recorded is None:
        return None
    operands = [wide(a) if hasattr(a, "astype") else a for a in recorded]
    parameters = {name: call.arguments[name] for name in form.parameters}
    return run(f"the rule of {form.rule.name}", form.rule.function, *operands, **parameters)


def _sent_by_one(
    values: Sequence[Value], call: Call, form: Form, incoming: Sequence[Any]
) -> Any | None:
    """Return what a step that moves one tensor's numbers sends back; None if that is not so."""
    rule = form.rule
    gradient = _of_one(form, len(rule.gradients), len(rule.refused))
    whole = len(incoming) == len(form.outputs) and all(g is not None and g.size for g in incoming)
    if gradient is None or not whole:
        return None
    taken: list[Any] = [call.arguments[schema] for schema in form.positional]
    shapes = [values[a.value].shape if isinstance(a, Ref) else None for a in taken]
    # Of these the formula reads no more than their shapes.
    operands = [a if s is None else unknown(s) for a, s in zip(taken, shapes, strict=True)]
    several = len(incoming) > 1
    g: Any = tuple(incoming) if several else incoming[0]
    y = tuple(unknown(v.shape) for v in incoming) if several else unknown(g.shape)
    parameters = {name: call.arguments[name] for name in form.parameters}
    made = run(f"the vjp in the rule of {rule.name}", gradient, g, y, operands, parameters)
    return (
        made if getattr(made, "shape", None) == next(s for s in shapes if s is not None) else None
    )


@functools.lru_cache(maxsize=MOST)
def _is_by_element(form: Form) -> bool:
    plain = form.by_element and form.formats == {"float32"} and form.largest <= _MOST
    return plain and len(form.outputs) == 1 and not form.listed and _asks_for_no_more(form)


@functools.lru_cache(maxsize=MOST)
def _of_one(form: Form, vjps: int, refusals: int) -> Gradient | None:
    """Return the gradient of the one tensor that a step takes, if it reads no numbers but g."""
    del vjps, refusals  # See `Form.edges`.
    edges = form.edges()
    if len(edges) != 1 or (form.alone, form.listed) != (1, 0) or form.over_complex:
        return None
    (((name, _), _),) = edges
    gradient = form.rule.gradients.get(name)
    fits = gradient is not None and gradient.reads <= {"g"} and not gradient.together
    return gradient if fits and _asks_for_no_more(form) else None


def _asks_for_no_more(form: Form) -> bool:
    return not form.rule.given and _BESIDES.isdisjoint(form.rule.parameters)
