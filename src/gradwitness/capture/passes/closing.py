"""What is known at the end of a block of gradients that changed outside of the recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness.capture.passes.entries import edge_of
from gradwitness.tape import REDUCED, Kind, Unseen

if TYPE_CHECKING:
    import torch

    from gradwitness.capture.memory.values import ValueStore
    from gradwitness.capture.passes.graph import GraphRecorder


def closed(values: ValueStore, graph: GraphRecorder, known: list[Unseen]) -> tuple[Unseen, ...]:
    """Draw the balance when the block ends.

    Where ranks have reduced the gradients of a pass, changes while it ran need no other reason.
    """
    reduced = {unseen.sweep for unseen in known if unseen.node is None}
    # A leaf made in the block had no gradient then.
    for tensor in values.histories.tensors():
        values.balance.open(tensor, new=True)
    values.balance.verify_all()
    unseen: dict[tuple[int, int | None], Unseen] = {}
    for change in values.balance.changes:
        in_reduction = change.during is not None and change.during in reduced
        node = _accumulator(change.leaf, graph)
        if node is None or (in_reduction and change.sweep == change.during):
            continue
        graph.walk([node])
        number, grad = graph.number(node), change.leaf.grad
        assert number is not None  # noqa: S101 (just walked)
        reason = REDUCED if in_reduction else change.reason
        after = change.after
        if grad is not None and (change.received or change.shared):
            after = values.of(grad)
        unseen.setdefault((number, change.sweep), Unseen(reason, number, change.sweep, after))
    return tuple(unseen.values())


def _accumulator(leaf: torch.Tensor, graph: GraphRecorder) -> Any:
    """Return the node that adds to a leaf's ``.grad``; one that was frozen since has it still."""
    edge = edge_of(leaf)
    known = (draft.alive for draft in graph.nodes if draft.kind == Kind.ACCUMULATE)
    return next((n for n in known if n.variable is leaf), None) if edge is None else edge.node
