"""Mistake: of the terms of a sum, some are missing, counted twice, or have another factor."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import REAL, fits
from gradwitness.diagnose.hypotheses.paths import without
from gradwitness.diagnose.replayed_faults import Trial, on_replay
from gradwitness.engine.backward import gradients

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Exhibit
    from gradwitness.diagnose.replayed_faults import Site
    from gradwitness.tape import Call, Edge

    Array = NDArray[np.float64]

MISSING = "term missing"
TWICE = "term counted twice"
SIGN = "term with the wrong sign"
TURNED = "term transposed"
FACTOR = "term with a wrong factor"
MEAN_PATH = "mean path missing"
VARIANCE_PATH = "variance path missing"
AGAIN = {MEAN_PATH: "mean path counted twice", VARIANCE_PATH: "variance path counted twice"}
CONSTANTS = "mean and variance taken as constants"

_MOST = 48  # terms of one function
_TOGETHER = 3  # terms that one mistake may change
_COMBINED = 400  # sets of terms that are tried
_SAMPLE = 2**10  # numbers of one gradient that are looked at first
_NEAR = 1e-3
_EQUAL = 1e-9
_PLAIN = (0.0, 2.0, -1.0, 0.5, -2.0, -0.5, 3.0)
_AVERAGES = frozenset(("aten.mean", "aten.sum"))
_ROOTS = frozenset(("aten.rsqrt", "aten.sqrt"))
_SPREADS = frozenset(f"aten.{n}" for n in ["var", "std", "var_mean", "linalg_vector_norm", "norm"])


@dataclass(frozen=True)
class Term:
    """A part of some gradients: what arrives by one way through the forward.

    Attributes
    ----------
    parts : dict of str to ndarray
        By the names of the inputs.
    path : tuple of Call
        Steps on the way, from the result on.
    """

    parts: Mapping[str, Array]
    path: tuple[Call, ...]

    @property
    def through(self) -> str:
        """The last step of the way, which uses the input."""
        call = self.path[-1]
        return f"{call.base_op.partition('.')[2]} at {_line(call)}"

    @property
    def statistic(self) -> str:
        """Which statistic of a normalisation the way runs through, or an empty string."""
        ops = {call.base_op for call in self.path}
        deviates = not ops.isdisjoint(_SPREADS) or not (
            ops.isdisjoint(_ROOTS) or ops.isdisjoint(_AVERAGES)
        )
        if deviates:
            return VARIANCE_PATH
        centred = [call.base_op for call in self.path[-2:]]
        is_mean = centred[0] == "aten.sub" and centred[-1] in _AVERAGES and ops.isdisjoint(_ROOTS)
        return MEAN_PATH if is_mean else ""


@on_replay
def wrong_terms(trial: Trial) -> Iterator[Explanation]:
    """Explain by the factors of the terms that gradients are the sum of.

    Terms are what arrives along one edge of the forward's graph, or else by one whole path.
    """
    exhibits = [e for e in trial.case.exhibits.values() if e.claim.shape == e.witness.shape]
    if not all(np.isfinite(e.claim).all() for e in exhibits):
        return
    edges = _told_apart(_along_edges(trial), exhibits)
    found = list(_explained(trial, exhibits, edges))
    found = found or list(_explained(trial, exhibits, _told_apart(_along_paths(trial), exhibits)))
    yield from found or _turned(exhibits, edges)


def _along_edges(trial: Trial) -> Iterator[Term]:
    """Yield what arrives along all edges of one line, along all to one value, and along each."""
    ways = _ways(trial)
    joined: dict[Edge, list[tuple[Site, int]]] = defaultdict(list)
    repeated: dict[tuple[str, str, int], list[tuple[Site, int]]] = defaultdict(list)
    for site in trial.sites():
        for edge_nr, edge in enumerate(site.node.edges):
            if edge is not None and site.node.id in ways:
                joined[edge].append((site, edge_nr))
                repeated[site.op, site.place, edge_nr].append((site, edge_nr))
    several = [uses for uses in (*repeated.values(), *joined.values()) if len(uses) > 1]
    singles = [[use] for uses in joined.values() for use in uses]
    for cut in [*several, *singles]:
        if trial.gives_up(cut[0][0].node.id):
            return
        left = trial.with_mistakes([(site, without(edge_nr)) for site, edge_nr in cut])
        witness = {name: trial.case.exhibits[name].witness for name in left}
        yield Term({n: witness[n] - g for n, g in left.items()}, ways[cut[0][0].node.id])


def _ways(trial: Trial) -> dict[int, tuple[Call, ...]]:
    """Return, for each node, the steps of the shortest way to it from a root."""
    tape = trial.tape
    ways: dict[int, tuple[Call, ...]] = {}
    waiting: list[tuple[int, tuple[Call, ...]]] = [(e.node, ()) for e, _ in trial.sweep.roots]
    for number, before in waiting:
        node = tape.nodes[number]
        if number in ways or node.call is None:
            continue
        call = tape.calls[node.call]
        ways[number] = before if call.is_view and before else (*before, call)
        waiting += [(e.node, ways[number]) for e in node.edges if e is not None]
    return ways


def _along_paths(trial: Trial) -> Iterator[Term]:
    """Yield what arrives at each input by each path, if there are not too many."""
    tape = trial.tape
    found: list[Term] = []
    waiting: list[tuple[int, int, Any, tuple[Call, ...]]] = [
        (edge.node, edge.index, trial.lookup(seed), ())
        for edge, seed in trial.sweep.roots
        if seed is not None
    ]
    steps = 0
    while waiting:
        number, index, g, path = waiting.pop()
        node, steps = tape.nodes[number], steps + 1
        if steps > 16 * _MOST or len(found) > _MOST:
            return
        if node.leaf is not None:
            found.append(Term({tape.values[node.leaf].name: np.asarray(g, np.float64)}, path))
            continue
        incoming = [g if k == index else None for k in range(len(node.outputs))]
        call = tape.calls[node.call or 0]
        sent = gradients(tape, node, incoming, trial.lookup, None)
        onward = path if call.is_view and path else (*path, call)
        for edge, gradient in zip(node.edges, sent, strict=True):
            if edge is not None and gradient is not None and np.any(gradient):
                waiting.append((edge.node, edge.index, gradient, onward))
    yield from found


def _told_apart(terms: Iterable[Term], exhibits: Sequence[Exhibit]) -> list[Term]:
    """Return the terms that show, equal ones once, and none that is all of every gradient."""
    told: list[Term] = []
    for term in terms:
        if len(told) >= _MOST:
            break
        shown = {e.name for e in exhibits if _size(term, e) > np.max(e.allowance, initial=0.0)}
        whole = all(_is_near(term, Term({e.name: e.witness}, ()), e) for e in exhibits)
        if not shown or whole:
            continue
        equal = [k for k, t in enumerate(told) if all(_is_near(term, t, e) for e in exhibits)]
        term = Term({n: g for n, g in term.parts.items() if n in shown}, term.path)
        if not equal:
            told.append(term)
        elif len(term.path) > len(told[equal[0]].path):
            # The step next to the input says most.
            told[equal[0]] = term
    return told


def _size(term: Term, exhibit: Exhibit) -> float:
    return float(np.max(np.abs(term.parts.get(exhibit.name, 0.0)), initial=0.0))


def _is_near(term: Term, other: Term, exhibit: Exhibit) -> bool:
    a, b = (t.parts.get(exhibit.name, np.zeros(())) for t in (term, other))
    return bool(np.all(np.abs(a - b) <= _EQUAL * max(_size(term, exhibit), _size(other, exhibit))))


def _explained(
    trial: Trial, exhibits: Sequence[Exhibit], terms: Sequence[Term]
) -> Iterator[Explanation]:
    """Yield the smallest sets of terms whose factors explain everything that is wrong."""
    gap = _sampled(exhibits, {e.name: e.claim - e.witness for e in exhibits})
    rows = [_sampled(exhibits, term.parts) for term in terms]
    for count in range(1, min(_TOGETHER, len(terms)) + 1):
        if math.comb(len(terms), count) > _COMBINED:
            return
        found = False
        for chosen in itertools.combinations(range(len(terms)), count):
            part = np.stack([rows[k] for k in chosen])
            solved, _, rank, _ = np.linalg.lstsq(part.T, gap, rcond=1e-9)
            left = gap - solved @ part
            if rank == count and np.linalg.norm(left) <= 0.1 * np.linalg.norm(gap):
                changes = [(terms[k], float(d)) for k, d in zip(chosen, solved, strict=True)]
                for explanation in _named(trial, exhibits, changes, len(terms)):
                    found = True
                    yield explanation
        if found:
            return


def _turned(exhibits: Sequence[Exhibit], terms: Sequence[Term]) -> Iterator[Explanation]:
    """Yield a square term that is added transposed."""
    right = {e.name: e.witness for e in exhibits}
    for tried, term in enumerate(terms, 1):
        if all(g.ndim > 1 and g.shape[-1] == g.shape[-2] for g in term.parts.values()):
            turned = {n: right[n] - g + np.swapaxes(g, -1, -2) for n, g in term.parts.items()}
            names = listed(term.parts)
            text = f"The gradient of {names} is a sum, in which {_of(term)} is transposed."
            yield Explanation(TURNED, text, turned, freedom=2 + tried, reveals=False)


def _of(*terms: Term) -> str:
    return f"the term through {listed([term.through for term in terms])}"


def _sampled(exhibits: Sequence[Exhibit], parts: Mapping[str, Array]) -> Array:
    """Return some numbers of all gradients in one vector, each relative to its tensor's size."""
    blocks = []
    for exhibit in exhibits:
        g = np.broadcast_to(parts.get(exhibit.name, np.zeros(())), exhibit.witness.shape)
        size = float(np.max(np.abs(exhibit.witness), initial=0.0)) or 1.0
        blocks.append(g.reshape(-1)[:: max(1, g.size // _SAMPLE)] / size)
    return np.concatenate(blocks) if blocks else np.zeros(0)


def _named(
    trial: Trial, exhibits: Sequence[Exhibit], changes: Sequence[tuple[Term, float]], count: int
) -> Iterator[Explanation]:
    """Yield the factors of some terms as an explanation, if they fit."""
    numbers = trial.case.alone.numbers if trial.case.alone else ()
    options = [*_PLAIN, *(f for n in numbers for f in (n.value, 1 / n.value))]
    predicted = {e.name: e.witness for e in exhibits}
    factors, freedom = [], 2
    for term, off in changes:
        near = [k for k, f in enumerate(options) if abs(f - 1 - off) <= _NEAR * max(1.0, abs(f))]
        factor = options[near[0]] if near else 1 + off
        if abs(factor - 1) < _NEAR:
            return
        freedom *= (near[0] + 1 if near else REAL) * (1 if len(changes) == 1 else count)
        factors.append(factor)
        for name, g in term.parts.items():
            predicted[name] = predicted[name] + (factor - 1) * g
    changed = {n for term, _ in changes for n in term.parts}
    if not all(fits(e, predicted[e.name]) for e in exhibits if e.name in changed):
        return
    terms = [term for term, _ in changes]
    cause, text = _told(terms, factors)
    yield Explanation(
        cause,
        text,
        {name: predicted[name] for name in predicted if name in changed},
        place=_line(terms[0].path[-1]),
        freedom=freedom,
        reveals=False,
    )


def _line(call: Call) -> str:
    return call.source.line.rpartition("/")[2]


def _told(terms: Sequence[Term], factors: Sequence[float]) -> tuple[str, str]:
    """Return the name of a mistake that gives terms these factors, and a sentence on it."""
    what = _of(*terms)
    of = f"The gradient of {listed(dict.fromkeys(n for t in terms for n in t.parts))} is a sum"
    if set(factors) == {0.0}:
        statistics = {term.statistic for term in terms}
        cause = CONSTANTS if statistics == {MEAN_PATH, VARIANCE_PATH} else MISSING
        if len(statistics) == 1 and "" not in statistics:
            cause = statistics.pop()
        return cause, f"{of}, in which {what} is missing."
    if set(factors) == {2.0}:
        return AGAIN.get(terms[0].statistic, TWICE), f"{of}, in which {what} is counted twice."
    if set(factors) == {-1.0}:
        return SIGN, f"{of}, in which {what} has the wrong sign."
    figures = listed([f"{factor:.6g}" for factor in factors])
    return FACTOR, f"{of}, in which {what} is multiplied by {figures}; it should be by 1."
