"""Mistake: a square written out, ``(y - t) ** 2``, is differentiated as if t were zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.replayed_faults import Mistake, Trial, aten, explanations, on_replay

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradwitness.diagnose.case import Explanation
    from gradwitness.diagnose.replayed_faults import Site, Visit

_SQUARES = aten("pow mul")


@on_replay
def targets_by_hand(trial: Trial) -> Iterator[Explanation]:
    """Explain by 2 y instead of 2 (y - t), t being the operand that needs no gradient."""
    gaps = {site.call.id: site for site in trial.sites({"aten.sub"})}
    squares = list(trial.sites(_SQUARES))
    bases = {site.node.id: _without_target(trial, site, gaps) for site in squares}
    sites = [site for site in squares if bases[site.node.id] is not None]

    def wrong(visit: Visit) -> list[Any]:
        share = visit.g * bases[visit.site.node.id] * 2 / sum(s is not None for s in visit.sent)
        return [None if s is None else share for s in visit.sent]

    text = (
        "the gradient of the square at {place} is as if the target were zero: the target is not "
        "subtracted"
    )
    yield from explanations(trial, Mistake("loss without its target", text, _SQUARES, wrong), sites)


def _without_target(trial: Trial, site: Site, gaps: Mapping[int, Site]) -> Any:
    """Return the squared difference without its target; None if there is none."""
    base = next(iter(site.numbers.values()), None)
    squares = (
        site.operands.get("exponent") == 2
        if site.op == "aten.pow"
        else len(site.numbers) == 2 and len(set(site.numbers.values())) == 1
    )
    call = None if base is None or not squares else trial.makers.get(trial.origin(base))
    gap = None if call is None else gaps.get(call.id)
    if gap is None or gap.parameters.get("alpha", 1) != 1 or len(gap.numbers) < 2:
        return None
    needs_gradient = [gap.edge(name) is not None for name in ("a", "b")]
    if sum(needs_gradient) != 1:
        return None
    y = gap.operands["a"] if needs_gradient[0] else -gap.operands["b"]
    return y if np.shape(y) == np.shape(site.y) else None
