"""Find the step that made gradients zero: the where, mask or index that dropped the elements."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.forward import evaluate
from gradwitness.tape import references

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from numpy.typing import NDArray

    from gradwitness.tape import Call, Node, Tape

    Array: TypeAlias = NDArray[Any]
    # The gradient that arrives at an input of a node, or None where it is unknown.
    Arriving: TypeAlias = Callable[[int, int], Array | None]

THROUGH_WHERE = "NaN through where"
CURE = (
    "0 times an infinite derivative is NaN: make the operation's argument safe as well (where(ok, "
    "x, 1) before it, and where again after it), or select the elements first"
)
# Operations that keep some elements and drop the others, element by element.
SELECTING = frozenset(
    f"aten.{name}" for name in ["where", "masked_fill", "mul", "clamp", "clamp_min", "clamp_max"]
)
# Operations that pick, move or add elements: each element can be followed through them.
_MOVING = frozenset(
    f"aten.{name}"
    for name in ["index", "index_select", "masked_select", "gather", "sum", "mean", "clone", "cat"]
)


def told(call: Call) -> str:
    """Return a call's operation, number and line."""
    line = call.source.line.rpartition("/")[2]
    return f"{call.op} (call {call.id}{f', {line}' if line else ''})"


def unselected_by(
    tape: Tape,
    input_nr: tuple[int, int],
    places: NDArray[np.bool_],
    arriving: Arriving,
    lookup: Callable[[int], Array],
) -> Call | None:
    """Find the step that did not select some elements, so that their gradients are zero.

    They arrive at ``places`` of a node and its input. None if something else makes the zeros, or if
    that is unknown.
    """
    senders: dict[tuple[int, int], list[Node]] = defaultdict(list)
    for node in tape.nodes:
        for edge in filter(None, node.edges):
            senders[edge.node, edge.index].append(node)
    waiting, seen = [(input_nr, places)], {input_nr}
    while waiting:
        current, elements = waiting.pop()
        value = tape.nodes[current[0]].outputs[current[1]]
        for node in senders.get(current, ()):
            call = None if node.call is None else tape.calls[node.call]
            if call is None or value is None:
                continue
            after = _after(tape, call, value, elements, arriving(node.id, 0), lookup)
            if after is None:
                continue
            if not after.any():
                return call
            if (node.id, 0) not in seen:
                seen.add((node.id, 0))
                waiting.append(((node.id, 0), after))
    return None


def _after(
    tape: Tape,
    call: Call,
    value: int,
    places: NDArray[np.bool_],
    g: Array | None,
    lookup: Callable[[int], Array],
) -> NDArray[np.bool_] | None:
    """Return where a call puts some elements of an operand: nowhere if it does not select them.

    None if they cannot be followed, or vanish for another reason.
    """
    if call.is_view or call.base_op in _MOVING:
        return _moved(tape, call, value, places, lookup)
    if g is None:
        return None
    try:
        after = np.broadcast_to(places, g.shape)
    except ValueError:
        return None
    if not g[after].any():
        return after  # zero before already
    return np.zeros_like(after) if call.base_op in SELECTING else None


def _moved(
    tape: Tape,
    call: Call,
    value: int,
    places: NDArray[np.bool_],
    lookup: Callable[[int], Array],
) -> NDArray[np.bool_] | None:
    """Follow elements through a step by running it on their indicator."""
    tensors = {n for name, a in call.arguments.items() if name != "indices" for n in references(a)}

    def marked(number: int) -> Array:
        if number == value:
            return places.astype(np.float64)
        array = lookup(number)
        return array if number not in tensors or array.dtype.kind in "biu" else np.zeros_like(array)

    try:
        moved, *_ = evaluate(tape, call, marked, bounded=False)
    except (Unjudgeable, ValueError, IndexError):
        return None
    return np.asarray(moved) > 0
