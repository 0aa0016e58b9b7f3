"""A way through the graph along which the gradient is cut off, or multiplied by a number."""

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
from gradwitness.diagnose.replayed_faults import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case
    from gradwitness.diagnose.replayed_faults import Site
    from gradwitness.tape import Edge

LEFT_OUT = "scale left out in backward"
TWICE = "scale applied twice"
_SCALES = frozenset({"aten.mul", "aten.div"})
_NEAR = 1e-3  # a fitted factor that may be 1, or 0


@dataclass(frozen=True)
class _Way:
    """Steps one behind the other, from one that sends to several, or is sent to by several.

    Attributes
    ----------
    site : Site
    number : int
        The edge along which the way begins.
    steps : tuple of Site
        The sites that it leads through, the first one included.
    joined : bool
        Whether others arrive where its first edge leads.
    """

    site: Site
    number: int
    steps: tuple[Site, ...]
    joined: bool

    @property
    def place(self) -> str:
        ends = dict.fromkeys((self.steps[0].place, self.steps[-1].place))
        return " to ".join(ends)

    @property
    def sizes(self) -> tuple[int, ...]:
        shapes = [np.shape(a) for s in self.steps for a in s.operands.values()]
        return tuple(itertools.chain.from_iterable(shapes))


def scaled_paths(case: Case) -> Iterator[Explanation]:
    """Explain by one way on which the gradient is multiplied by a number: -1, 1/2, 0."""
    trial = Trial.of(case)
    if trial is None:
        return
    facts = Facts(case)
    ways = list(_ways(trial))
    for way in ways:
        left = trial.with_faults([(way.site, without(way.number))])
        if not any(np.any(np.abs(g) > case.exhibits[n].allowance) for n, g in left.items()):
            continue  # all of it comes this way: then whole gradients have the factor
        share = {n: case.exhibits[n].witness - g for n, g in left.items()}
        factor = _fitted(case, share)
        if factor is not None and abs(factor - 1) > _NEAR:
            yield from _named(case, facts, way, share, factor, tried=len(ways))


def _ways(trial: Trial) -> Iterator[_Way]:
    """Yield the ways on which a factor shows otherwise than on the way before."""
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
        for number, edge in edges:
            joined = arrivals[edge.node, edge.index] > 1
            yield _Way(site, number, _followed(sites, arrivals, site, edge), joined)


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


def _fitted(case: Case, share: Mapping[str, NDArray[np.float64]]) -> float | None:
    """Return the factor of what came along a way that brings it nearest to the claims."""
    above = below = 0.0
    for name, along in share.items():
        exhibit = case.exhibits[name]
        if exhibit.claim.shape != along.shape or not np.isfinite(exhibit.claim).all():
            return None
        size = float(np.max(np.abs(along), initial=0.0)) or 1.0
        above += float(np.vdot(exhibit.claim - exhibit.witness, along / size)) / size
        below += float(np.vdot(along / size, along / size))
    return 1 + above / below if below else None


def _named(
    case: Case,
    facts: Facts,
    way: _Way,
    share: Mapping[str, NDArray[np.float64]],
    factor: float,
    *,
    tried: int,
) -> Iterator[Explanation]:
    def predicted(value: float) -> dict[str, NDArray[np.float64]]:
        return {n: case.exhibits[n].witness + (value - 1) * s for n, s in share.items()}

    def matches(value: float) -> bool:
        made = predicted(value)
        return all(fits(case.exhibits[n], g) for n, g in made.items())

    if abs(factor) < _NEAR:
        # Where several uses of a value add up, this has a name of its own.
        text = f"the gradient is cut off from {way.place}: nothing arrives on this way"
        if not way.joined and matches(0.0):
            cut = Meaning(0.0, DETACHED, text, tried)
            yield _explained(cut, text, way, predicted(0.0), tried)
        return
    if not matches(factor):
        return
    found = _meant(facts, way, factor, matches)
    for meaning in found or [Meaning(factor, FACTOR, "No common mistake has this factor.", REAL)]:
        text = (
            f"the gradient that goes from {way.place} is {meaning.value:.7g} times what it should "
            f"be; other ways are right. {meaning.text}"
        )
        made = predicted(meaning.value)
        yield _explained(meaning, text, way, made, tried + meaning.tried)


def _meant(
    facts: Facts, way: _Way, factor: float, matches: Callable[[float], bool]
) -> list[Meaning]:
    """Return what a factor means: a number that a step on the way multiplies by, above all."""
    found = []
    for step in way.steps:
        for operand in list(step.operands.values())[1:] if step.op in _SCALES else ():
            scale = float(operand) if np.ndim(operand) == 0 and operand else 1.0
            scale = 1 / scale if step.op == "aten.div" else scale
            for value, cause, what in ((1 / scale, LEFT_OUT, "not"), (scale, TWICE, "twice")):
                if abs(value - factor) <= _NEAR * abs(factor) and matches(value):
                    text = f"{step.place} multiplies by {scale:.6g}; its backward does {what}."
                    found.append(Meaning(value, cause, text, 1))
    usual = meanings(factor, facts.counts, way.sizes, everywhere=False, matches=matches)
    squared = any(step.op in SQUARES for step in way.steps)
    return found + [m for m in usual if squared or m.cause not in (MISSING_TWO, EXTRA_TWO)]


def _explained(
    meaning: Meaning,
    text: str,
    way: _Way,
    predicted: Mapping[str, NDArray[np.float64]],
    freedom: int,
) -> Explanation:
    return Explanation(
        meaning.cause,
        text,
        predicted,
        meaning.value,
        way.place,
        way.site.node.id,
        freedom,
        meaning.reveals,
    )
