"""Mistakes in linear layers: weights not transposed, samples that are not counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.replayed_faults import Fault, Stage, explained
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Scene
    from gradwitness.diagnose.replayed_faults import Site, Turn

MATRICES = frozenset({"aten.addmm", "aten.mm", "aten.bmm", "aten.baddbmm"})


def _untransposed(turn: Turn) -> list[Any] | None:
    weight, edge = turn.site.operands["B"], turn.site.edge("A")
    if edge is None or weight.shape[-1] != weight.shape[-2]:
        return None
    made = turn.site.vjp("A", turn.g, B=np.swapaxes(weight, -1, -2))
    return turn.sending(made, edge)


FAULTS = (
    Fault(
        "weight not transposed in backward",
        "the gradient of the input at {place} is taken with the weight as it stands in the forward "
        "pass and not transposed: the layer is square, so that the shapes fit all the same",
        MATRICES,
        _untransposed,
    ),
)


def linear_faults(scene: Scene) -> Iterator[Explanation]:
    """Explain by a product whose other factor is not transposed."""
    return explained(scene, FAULTS)


# One sample of the batch only.


def one_sample(scene: Scene) -> Iterator[Explanation]:
    """Explain by gradients of one sample alone: each one's overwrote the one before."""
    stage = Stage.of(scene)
    if stage is None:
        return
    sites = [s for s in stage.sites() if _feeds_leaf(stage, s)]
    count = len(sites[0].y) if sites and np.ndim(sites[0].y) else 0
    if count < 2:
        return
    for at, which in ((-1, "last"), (0, "first")):

        def wrong(turn: Turn, at: int = at) -> list[Any] | None:
            if not turn.g.ndim or turn.g.shape[0] % count:
                return None
            rows = turn.g.shape[0] // count
            kept = np.zeros_like(turn.g)
            keep = slice(len(turn.g) - rows, None) if at else slice(rows)
            kept[keep] = turn.g[keep]
            return [
                s if s is None or not _ends(stage, turn.site, k) else turn.site.vjp(name, kept)
                for k, (name, s) in enumerate(zip(turn.site.names, turn.sent, strict=True))
            ]

        predicted = stage.play([(site, wrong) for site in sites])
        if predicted:
            text = (
                f"the gradients are those of the {which} of {count} samples alone: each sample's "
                "replaces the one before (= instead of +=), or only one is looked at"
            )
            yield Explanation("one sample of the batch", text, predicted)


def _ends(stage: Stage, site: Site, edge: int) -> bool:
    """Whether an edge leads to a parameter, behind views only."""
    target = site.node.edges[edge]
    while target is not None:
        node = stage.tape.nodes[target.node]
        if node.kind == Kind.ACCUMULATE:
            return True
        call = None if node.call is None else stage.tape.calls[node.call]
        if call is None or not call.is_view:
            return False
        target = node.edges[0]
    return False


def _feeds_leaf(stage: Stage, site: Site) -> bool:
    return not site.call.is_view and any(_ends(stage, site, k) for k in range(len(site.names)))
