"""Mistake: where a value was broadcast, its gradient is summed over other axes, or averaged."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.hypotheses.summed import AVERAGED, ONE_SAMPLE, WRONG_AXIS
from gradwitness.diagnose.replayed_faults import Trial, on_replay
from gradwitness.engine.forward import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Explanation
    from gradwitness.diagnose.replayed_faults import Site, Visit


@on_replay
def wrong_axes(trial: Trial) -> Iterator[Explanation]:
    """Explain by a wrong sum where a step broadcasts an operand."""
    for site in trial.sites():
        for edge, wanted in enumerate(site.node.edges):
            if wanted is None or (site.call.is_view and site.op != "aten.expand"):
                continue
            name = site.names[edge]
            if isinstance(site.operands[name], tuple):
                continue
            shape, full = np.shape(site.operands[name]), np.shape(site.y)
            if len(shape) <= len(full) and np.prod(shape) < np.prod(full):
                yield from _other_sums(trial, site, edge, shape)


def _other_sums(
    trial: Trial, site: Site, edge: int, shape: tuple[int, ...]
) -> Iterator[Explanation]:
    name, full = site.names[edge], np.shape(site.y)
    extra = len(full) - len(shape)
    repeated = (*range(extra), *(k + extra for k, n in enumerate(shape) if n < full[k + extra]))
    step = f"{site.op.partition('.')[2]} at {site.place}"
    tries: list[tuple[str, str, Any]] = []
    longer = [(k,) for k in repeated if full[k] > 1]
    for along in [repeated, *(longer if len(longer) > 1 else ())]:
        count = math.prod(full[k] for k in along)
        of = "" if along == repeated else f" along axis {_listed(along)}"
        rest = tuple(k for k in repeated if k not in along)
        tries += [
            (
                AVERAGED,
                f"averaged over the {count} numbers that share it{of}",
                partial(_mean, repeated, count),
            ),
            (ONE_SAMPLE, f"only that of the first row{of}", partial(_one, along, rest, 0)),
            (ONE_SAMPLE, f"only that of the last row{of}", partial(_one, along, rest, -1)),
        ]
    for axes in itertools.combinations(range(len(full)), len(repeated)):
        if axes != repeated and np.prod(full) // np.prod([full[k] for k in axes]) == np.prod(shape):
            text = f"summed over axis {_listed(axes)} instead of {_listed(repeated)}"
            tries.append((WRONG_AXIS, text, lambda raw, axes=axes: raw.sum(axes)))
    for tried, (cause, text, reduced) in enumerate(tries, 1):

        def wrong(visit: Visit, reduced: Any = reduced) -> list[Any] | None:
            raw = _raw(visit, name)
            if raw.shape != full:
                return None
            return visit.sending(np.reshape(reduced(raw), shape), edge)

        said = f"the gradient that {step} sends to what it broadcasts is {text}"
        yield from trial.explained(
            cause, said, [(site, wrong)], place=site.place, node=site.node.id, freedom=tried
        )


def _raw(visit: Visit, name: str) -> Any:
    """Return a gradient before it is summed over the repeated axes."""
    site = visit.site
    y = site.results if len(site.results) > 1 else site.y
    g = (visit.g, *(None for _ in site.results[1:])) if len(site.results) > 1 else visit.g
    values = tuple(site.operands.values())
    return np.asarray(run("the vjp", site.rule.gradients[name], g, y, values, site.parameters))


def _mean(axes: tuple[int, ...], count: int, raw: Any) -> Any:
    return raw.sum(axes) / count


def _one(axes: tuple[int, ...], rest: tuple[int, ...], index: int, raw: Any) -> Any:
    """Return what is summed over some axes, at one place along others."""
    chosen = tuple(index if k in axes else slice(None) for k in range(raw.ndim))
    return raw.sum(rest, keepdims=True)[chosen]


def _listed(axes: tuple[int, ...]) -> str:
    return ", ".join(map(str, axes))
