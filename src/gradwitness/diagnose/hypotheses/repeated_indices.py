"""Mistake: where an index comes more than once, only the last of its gradients is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.diagnose.replayed_faults import Trial, aten, on_replay
from gradwitness.engine.forward import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Explanation
    from gradwitness.diagnose.replayed_faults import Visit

LAST_COUNTS = "repeated indices overwrite each other"
_READING = aten("index embedding gather index_select take unfold im2col")


@on_replay
def repeated_indices(trial: Trial) -> Iterator[Explanation]:
    """Explain by a gradient that is written, not added, where it belongs."""
    for site in trial.sites(_READING):
        edge = next((k for k, edge in enumerate(site.node.edges) if edge is not None), None)
        if edge is None:
            continue
        source = np.asarray(site.operands[site.names[edge]])
        places = _places(site, source, edge)
        if places is None or len(np.unique(places)) == places.size:
            continue

        def wrong(
            visit: Visit, source: Any = source, places: Any = places, edge: int = edge
        ) -> list[Any]:
            g = np.asarray(visit.g).reshape(-1)
            written = np.zeros(source.size)
            # What a step before sends nothing to is not written.
            written[places.reshape(-1)[g != 0]] = g[g != 0]
            return visit.sending(written.reshape(source.shape), edge)

        op = site.op.partition(".")[2]
        text = (
            f"the indices of {op} at {site.place} repeat, and of the gradients for one place only "
            "the last is kept: they add up"
        )
        yield from trial.explained(
            LAST_COUNTS, text, [(site, wrong)], place=site.place, node=site.node.id, freedom=1
        )


def _places(site: Any, source: Any, edge: int) -> Any:
    """Return which element of the source each element of the result is, by what the rule sends."""
    marks = np.arange(source.size, dtype=np.float64).reshape(source.shape)
    changed = {site.names[edge]: marks}
    values = [changed.get(name, operand) for name, operand in site.operands.items()]
    try:
        read = run(f"the rule of {site.op}", site.rule.function, *values, **site.parameters)
    except Unjudgeable:
        return None
    places = np.asarray(read)
    same = places.shape == np.shape(site.y) and np.array_equal(
        source.reshape(-1)[places.astype(int)], site.y
    )
    return places.astype(int) if same else None
