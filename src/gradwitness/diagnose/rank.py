"""Rank the explanations of a case: first the one that explains most without breaking anything."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.evidence import ENOUGH, Fit, cost, fit, is_chance, refuted
from gradwitness.diagnose.experiments import experiment
from gradwitness.diagnose.facts import Facts
from gradwitness.diagnose.registry import HYPOTHESES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gradwitness.diagnose.case import Case, Explanation, Hypothesis

_SOME_ONLY = 16  # what it costs that a mistake shows at some of the inputs only


@dataclass(frozen=True)
class Cause:
    """One cause of wrong gradients.

    Attributes
    ----------
    cause : str
        The mistake's short name.
    text : str
        One or two sentences for the person who made the mistake.
    rank : int
        1 for the cause that explains most; later causes explain the rest.
    bits : float
        The strength of the evidence: the odds of a coincidence are 2^-bits.
    explains : tuple of str
        The refuted tensors that it explains, nearest to the loss first.
    guilty : tuple of str
        Those of them where the mistake was made.
    inherited : tuple of str
        Those that are wrong only because their cotangents are.
    coefficient : float
        The fitted number; nan where nothing was fitted.
    residual : float
        The worst ``|claim - predicted|`` over what rounding allows.
    place : str
        The step or layer at fault; empty if there is no single one.
    node : int or None
        The autograd node at fault, on the tape.
    runner_up : str
        Another cause that fits equally well; empty if there is none.
    experiment : str
        How to distinguish the two.
    reveals : bool
        Whether the right numbers may follow from text and coefficient: no student may see them.
    """

    cause: str
    text: str
    rank: int
    bits: float
    explains: tuple[str, ...]
    guilty: tuple[str, ...]
    inherited: tuple[str, ...]
    coefficient: float
    residual: float
    place: str
    node: int | None
    runner_up: str = ""
    experiment: str = ""
    reveals: bool = True


@dataclass(frozen=True)
class _Candidate:
    """An explanation that fits, and the refuted tensors that it fits."""

    explanation: Explanation
    fits: dict[str, Fit]

    @property
    def bits(self) -> float:
        most = max(f.most for f in self.fits.values()) if self.fits else 0.0
        return sum(f.bits for f in self.fits.values()) - cost(self.explanation.freedom, most)

    def over(self, names: set[str]) -> _Candidate:
        return replace(self, fits={n: f for n, f in self.fits.items() if n in names})


def diagnose(case: Case, hypotheses: Sequence[Hypothesis] = HYPOTHESES) -> tuple[Cause, ...]:
    """Find the causes of a case's refuted claims.

    The one that explains most refuted tensors comes first; among equals the one with least freedom,
    then the more common one. Later ones explain the rest. Empty if nothing fits, or if the fit may
    be a coincidence.
    """
    causes: list[Cause] = []
    left, scale = _cover(case, hypotheses, causes)
    if left and scale is not None:
        # The rest may have the common factor and another mistake.
        _cover(_scaled(case, left, scale), hypotheses, causes)
    return tuple(causes)


def _cover(
    case: Case, hypotheses: Sequence[Hypothesis], causes: list[Cause]
) -> tuple[set[str], float | None]:
    """Add causes until nothing more is explained; return the unexplained and a common factor."""
    candidates = [c for h in hypotheses for c in _candidates_of(h, case)]
    left = {e.name for e in refuted(case)}
    facts = Facts(case)
    scale = None
    while left:
        viable = [c for candidate in candidates if (c := candidate.over(left)).bits >= ENOUGH]
        if not viable:
            break
        viable.sort(key=_precedence)
        best = viable[0]
        rivals = (c for c in viable if c.fits.keys() >= best.fits.keys())
        causes.append(_cause(facts, best, rivals, len(causes) + 1))
        left -= best.fits.keys()
        if scale is None and _is_scale(case, best):
            scale = best.explanation.coefficient
    return left, scale


def _candidates_of(hypothesis: Hypothesis, case: Case) -> list[_Candidate]:
    """Return a hypothesis's candidates; its failure must not cost the user the verdict."""
    try:
        with np.errstate(all="ignore"):
            told = (r for e in hypothesis(case) for r in _readings(case, e))
            return [c for e in told if (c := _candidate(case, e))]
    except Exception as error:  # noqa: BLE001 (reported as a warning)
        name = getattr(hypothesis, "__name__", repr(hypothesis))
        warnings.warn(
            f"the hypothesis {name} failed with {type(error).__name__}: {error}. This is a bug in "
            "gradwitness; no verdict depends on it.",
            stacklevel=2,
        )
        return []


def _readings(case: Case, explanation: Explanation) -> Iterator[Explanation]:
    """Yield an explanation, and that of a function's refuted gradients alone.

    A backward by hand computes the gradient of each input on its own.
    """
    yield explanation
    predicted = explanation.predicted
    wrong = {n: g for n, g in predicted.items() if n in case.exhibits and case.exhibits[n].refuted}
    if case.alone and 0 < len(wrong) < len(predicted):
        text = f"{explanation.text.removesuffix('.')}, in the gradient of {listed(wrong)} alone."
        freedom = explanation.freedom + _SOME_ONLY
        yield replace(explanation, text=text, predicted=wrong, freedom=freedom)


def _is_scale(case: Case, candidate: _Candidate) -> bool:
    """Whether an explanation multiplies several tensors by the same number."""
    factor, predicted = candidate.explanation.coefficient, candidate.explanation.predicted
    return len(candidate.fits) > 1 and all(
        np.array_equal(predicted[name], factor * case.exhibits[name].witness)
        for name in candidate.fits
    )


def _scaled(case: Case, names: set[str], factor: float) -> Case:
    """Return the case with all right gradients multiplied, and only some still refuted."""
    exhibits = {
        name: replace(
            e,
            witness=factor * e.witness,
            allowance=max(1.0, abs(factor)) * np.asarray(e.allowance),
            refuted=name in names,
        )
        for name, e in case.exhibits.items()
    }
    return replace(case, exhibits=exhibits)


def _precedence(candidate: _Candidate) -> tuple[int, int]:
    # Ties keep the registry's order: a smaller residual within rounding is no evidence.
    return -len(candidate.fits), candidate.explanation.freedom


def _candidate(case: Case, explanation: Explanation) -> _Candidate | None:
    """Return a candidate if the explanation fits wherever it predicts a change."""
    fits_by_name: dict[str, Fit] = {}
    # The cheapest comparison first.
    for name in sorted(explanation.predicted, key=lambda n: explanation.predicted[n].size):
        exhibit = case.exhibits.get(name)
        if exhibit is None:
            continue
        result = fit(exhibit, explanation.predicted[name])
        if not result.holds:
            return None
        if exhibit.refuted:
            fits_by_name[name] = result
    if all(is_chance(case.exhibits[n], explanation.predicted[n]) for n in fits_by_name):
        return None
    return _Candidate(explanation, fits_by_name)


def _cause(facts: Facts, best: _Candidate, rivals: Iterable[_Candidate], rank: int) -> Cause:
    explanation = best.explanation
    names = tuple(n for n in facts.order_from(explanation.node) if n in best.fits)
    guilty = names
    if explanation.place:
        # A single step is at fault: the first layer behind it is guilty, and the others inherit.
        layer = _layer(names[0])
        guilty = tuple(n for n in names if n == names[0] or (layer and _layer(n) == layer))
    inherited = tuple(n for n in names if n not in guilty)
    other = next((c for c in rivals if c.explanation.cause != explanation.cause), None)
    return Cause(
        cause=explanation.cause,
        text=explanation.text,
        rank=rank,
        bits=best.bits,
        explains=names,
        guilty=guilty,
        inherited=inherited,
        coefficient=explanation.coefficient,
        residual=max(f.residual for f in best.fits.values()),
        place=explanation.place,
        node=explanation.node,
        runner_up="" if other is None else other.explanation.cause,
        experiment="" if other is None else experiment(facts.case, explanation, other.explanation),
        reveals=explanation.reveals,
    )


def _layer(name: str) -> str:
    return name.rpartition(".")[0]
