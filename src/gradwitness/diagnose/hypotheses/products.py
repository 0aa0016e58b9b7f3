"""Mistake: a weight is not transposed in backward, or only one sample is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.replayed_faults import Mistake, Trial, aten, explained, on_replay
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Case, Explanation
    from gradwitness.diagnose.replayed_faults import Site, Visit

MATRICES = aten("addmm mm bmm baddbmm")


def _untransposed(visit: Visit) -> list[Any] | None:
    weight, edge = visit.site.operands["B"], visit.site.edge("A")
    if edge is None or weight.shape[-1] != weight.shape[-2]:
        return None
    gradient = visit.site.vjp("A", visit.g, B=np.swapaxes(weight, -1, -2))
    return visit.sending(gradient, edge)


MISTAKES = (
    Mistake(
        "weight not transposed in backward",
        "the gradient of the input at {place} is computed with the weight as in the forward pass, "
        "not transposed: the layer is square, so the shapes fit anyway",
        MATRICES,
        _untransposed,
    ),
)


def linear_mistakes(case: Case) -> Iterator[Explanation]:
    """Explain by a matrix product whose other factor is not transposed in backward."""
    return explained(case, MISTAKES)


# Only one sample of the batch.


@on_replay
def one_sample(trial: Trial) -> Iterator[Explanation]:
    """Explain by the gradients of a single sample, as each overwrote the previous one."""
    sites = [s for s in trial.sites() if _feeds_leaf(trial, s)]
    count = len(sites[0].y) if sites and np.ndim(sites[0].y) else 0
    if count < 2:
        return
    for end, ordinal in ((-1, "last"), (0, "first")):

        def wrong(visit: Visit, end: int = end) -> list[Any] | None:
            if not visit.g.ndim or visit.g.shape[0] % count:
                return None
            rows = visit.g.shape[0] // count
            g_kept = np.zeros_like(visit.g)
            sample = slice(len(visit.g) - rows, None) if end else slice(rows)
            g_kept[sample] = visit.g[sample]
            return [
                s if s is None or not _ends(trial, visit.site, k) else visit.site.vjp(name, g_kept)
                for k, (name, s) in enumerate(zip(visit.site.names, visit.sent, strict=True))
            ]

        text = (
            f"the gradients are only those of the {ordinal} of {count} samples: each sample's "
            "overwrites the previous one (= instead of +=), or only one is used"
        )
        mistakes = [(site, wrong) for site in sites]
        yield from trial.explained("one sample of the batch", text, mistakes)


def _ends(trial: Trial, site: Site, edge: int) -> bool:
    """Whether an edge leads to a parameter, through views only."""
    target = site.node.edges[edge]
    while target is not None:
        node = trial.tape.nodes[target.node]
        if node.kind == Kind.ACCUMULATE:
            return True
        call = None if node.call is None else trial.tape.calls[node.call]
        if call is None or not call.is_view:
            return False
        target = node.edges[0]
    return False


def _feeds_leaf(trial: Trial, site: Site) -> bool:
    return not site.call.is_view and any(_ends(trial, site, k) for k in range(len(site.names)))
