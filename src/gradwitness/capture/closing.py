"""What is known at the end of a block of gradients that changed outside of the recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.capture.gradients import edge_of
from gradwitness.tape import Unseen

if TYPE_CHECKING:
    from gradwitness.capture.graph import GraphRecorder
    from gradwitness.capture.values import ValueStore


def closed(values: ValueStore, graph: GraphRecorder) -> tuple[Unseen, ...]:
    """Draw the balance when the block ends."""
    # A leaf made in the block had no gradient then.
    for tensor, _ in values.tensors():
        values.balance.open(tensor, new=True)
    values.balance.verify_all()
    unseen: dict[tuple[int, int | None], Unseen] = {}
    for change in values.balance.changes:
        edge = edge_of(change.leaf)
        if edge is None:
            continue
        graph.walk([edge.node])
        number, grad = graph.number(edge.node), change.leaf.grad
        assert number is not None  # noqa: S101 (just walked)
        reason = f"its .grad was changed outside of what was recorded, {change.when}"
        after = None if grad is None else values.of(grad)
        unseen.setdefault((number, change.sweep), Unseen(reason, number, change.sweep, after))
    return tuple(unseen.values())
