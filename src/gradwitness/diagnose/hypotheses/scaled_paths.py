"""Mistake: on one path through the graph, the gradient is cut off or multiplied by a number."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import REAL, fits
from gradwitness.diagnose.factor_names import EXTRA_TWO, FACTOR, MISSING_TWO, Meaning, meanings
from gradwitness.diagnose.facts import Facts
from gradwitness.diagnose.hypotheses.losses import SQUARES
from gradwitness.diagnose.hypotheses.paths import without
from gradwitness.diagnose.hypotheses.zeros import DETACHED
from gradwitness.diagnose.replayed_faults import Trial, aten, on_replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case
    from gradwitness.diagnose.replayed_faults import Site
    from gradwitness.tape import Edge

LEFT_OUT = "scale left out in backward"
TWICE = "scale applied twice"
_SCALES = aten("mul div")
_NEAR = 1e-3  # the distance of a fitted factor that may be 1 or 0


@dataclass(frozen=True)
class _Path:
    """A chain of steps, beginning at one that sends or receives several gradients."""

    site: Site
    edge_nr: int  # the edge along which the path begins
    steps: tuple[Site, ...]  # the sites on the path, including the first
    joined: bool  # whether other gradients arrive at the end of its first edge

    @property
    def place(self) -> str:
        ends = dict.fromkeys((self.steps[0].place, self.steps[-1].place))
        return " to ".join(ends)

    @property
    def sizes(self) -> tuple[int, ...]:
        shapes = [np.shape(a) for s in self.steps for a in s.operands.values()]
        return tuple(itertools.chain.from_iterable(shapes))


@on_replay
def scaled_paths(trial: Trial) -> Iterator[Explanation]:
    """Explain by one path on which the gradient is multiplied by a number: -1, 1/2, 0."""
    case, facts = trial.case, Facts(trial.case)
    paths = list(_paths(trial))
    for path in paths:
        without_path = trial.with_mistakes([(path.site, without(path.edge_nr))])
        if not any(np.any(np.abs(g) > case.exhibits[n].allowance) for n, g in without_path.items()):
            continue  # everything comes by this path: then whole gradients have the factor
        along = {n: case.exhibits[n].witness - g for n, g in without_path.items()}
        factor = _fitted(case, along)
        if factor is not None and abs(factor - 1) > _NEAR:
            yield from _named(case, facts, path, along, factor, tried=len(paths))


def _paths(trial: Trial) -> Iterator[_Path]:
    """Yield the paths where a factor differs from one on an earlier path."""
    sites = {site.node.id: site for site in trial.sites()}
    arrivals = Counter(
        (edge.node, edge.index)
        for site in sites.values()
        for edge in site.node.edges
        if edge is not None
    )
    for site in sites.values():
        edges = [(k, edge) for k, edge in enumerate(site.node.edges) if edge is not None]
        branches = len(edges) > 1 or arrivals[site.node.id, 0] > 1
        if not branches or site.node.id not in trial.suspects:
            continue
        for edge_nr, edge in edges:
            joined = arrivals[edge.node, edge.index] > 1
            yield _Path(site, edge_nr, _followed(sites, arrivals, site, edge), joined)


def _followed(
    sites: Mapping[int, Site], arrivals: Mapping[tuple[int, int], int], site: Site, edge: Edge
) -> tuple[Site, ...]:
    steps = [site]
    following: Edge | None = edge
    while following is not None and arrivals[following.node, following.index] == 1:
        step = sites.get(following.node)
        onward = [] if step is None else [e for e in step.node.edges if e is not None]
        if step is None or len(onward) != 1:
            break
        steps.append(step)
        following = onward[0]
    return tuple(steps)


def _fitted(case: Case, path_gradients: Mapping[str, NDArray[np.float64]]) -> float | None:
    """Fit the factor of a path's gradients to the claims."""
    numerator = denominator = 0.0
    for name, along in path_gradients.items():
        exhibit = case.exhibits[name]
        if exhibit.claim.shape != along.shape or not np.isfinite(exhibit.claim).all():
            return None
        size = float(np.max(np.abs(along), initial=0.0)) or 1.0
        numerator += float(np.vdot(exhibit.claim - exhibit.witness, along / size)) / size
        denominator += float(np.vdot(along / size, along / size))
    return 1 + numerator / denominator if denominator else None


def _named(
    case: Case,
    facts: Facts,
    path: _Path,
    along: Mapping[str, NDArray[np.float64]],
    factor: float,
    *,
    tried: int,
) -> Iterator[Explanation]:
    def predicted(value: float) -> dict[str, NDArray[np.float64]]:
        return {n: case.exhibits[n].witness + (value - 1) * s for n, s in along.items()}

    def matches(value: float) -> bool:
        gradients = predicted(value)
        return all(fits(case.exhibits[n], g) for n, g in gradients.items())

    if abs(factor) < _NEAR:
        # Where several uses of a value add up, this has another name.
        text = f"the gradient is cut off from {path.place}: nothing arrives by this path"
        if not path.joined and matches(0.0):
            cut = Meaning(0.0, DETACHED, text, tried)
            yield _explained(cut, text, path, predicted(0.0), tried)
        return
    if not matches(factor):
        return
    unnamed = Meaning(factor, FACTOR, "No common mistake has this factor.", REAL)
    for meaning in _meanings(facts, path, factor, matches) or [unnamed]:
        text = (
            f"the gradient from {path.place} is {meaning.value:.7g} times what it should be; other "
            f"paths are right. {meaning.text}"
        )
        gradients = predicted(meaning.value)
        yield _explained(meaning, text, path, gradients, tried + meaning.tried)


def _meanings(
    facts: Facts, path: _Path, factor: float, matches: Callable[[float], bool]
) -> list[Meaning]:
    """Name a factor, first by the numbers that steps on the path multiply by."""
    from_steps = []
    for step in path.steps:
        for operand in list(step.operands.values())[1:] if step.op in _SCALES else ():
            scale = float(operand) if np.ndim(operand) == 0 and operand else 1.0
            scale = 1 / scale if step.op == "aten.div" else scale
            for value, cause, times in ((1 / scale, LEFT_OUT, "not"), (scale, TWICE, "so twice")):
                if abs(value - factor) <= _NEAR * abs(factor) and matches(value):
                    text = f"{step.place} multiplies by {scale:.6g}; its backward does {times}."
                    from_steps.append(Meaning(value, cause, text, 1))
    common = meanings(factor, facts.counts, path.sizes, everywhere=False, matches=matches)
    squared = any(step.op in SQUARES for step in path.steps)
    return from_steps + [m for m in common if squared or m.cause not in (MISSING_TWO, EXTRA_TWO)]


def _explained(
    meaning: Meaning,
    text: str,
    path: _Path,
    predicted: Mapping[str, NDArray[np.float64]],
    freedom: int,
) -> Explanation:
    return Explanation(
        meaning.cause,
        text,
        predicted,
        meaning.value,
        path.place,
        path.site.node.id,
        freedom,
        meaning.reveals,
    )
