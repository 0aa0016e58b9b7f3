"""Whether an explanation fits a claim, and how much that proves.

The measure is description length, in bits. Without an explanation the numbers of a refuted claim
may lie anywhere within its largest error E of the right ones. An explanation that fits pins each
one down to its allowance, which saves log2(E / allowance) bits per number, and costs log2 of the
number of alternatives that were tried. The odds of a coincidence that saves b bits more than it
costs are 2^-b: an explanation that fits only because the tensor is tiny, or because many
coefficients were tried, does not pay for itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case, Exhibit

# A fitted number counts as this many alternatives tried: the resolution of float32.
REAL = 2**24

# The bits that an explanation has to save beyond its cost: one coincidence in a thousand.
ENOUGH = 10.0

_MOST = 52.0  # bits that one number can save
_ODD = 12.0  # bits that a NaN or infinity saves: few claims have one
_GLANCE = 997  # numbers of a large tensor that are compared first


@dataclass(frozen=True)
class Fit:
    """How well a prediction fits a claim."""

    # The worst `|claim - predicted|` over what rounding allows; inf for another shape.
    residual: float
    bits: float  # the bits that the prediction saves
    most: float = 0.0  # the most that it saves at a single number

    @property
    def holds(self) -> bool:
        """Whether every number is within rounding of the prediction."""
        return self.residual <= 1


def fit(exhibit: Exhibit, predicted: NDArray[np.float64]) -> Fit:
    """Compare a prediction with a claim.

    Each number gets its own allowance, or the tensor's largest where the prediction has permuted
    numbers. Both grow with the prediction, as rounding errors do. In a large tensor a sample is
    compared first.
    """
    claim = exhibit.claim
    if predicted.shape != claim.shape:
        return Fit(math.inf, 0.0)
    allowance = np.asarray(exhibit.allowance, np.float64)
    growth = max(1.0, _peak(predicted) / (_peak(exhibit.witness) or math.inf))
    largest = np.max(allowance, initial=0.0) * growth
    sample = slice(None, None, max(1, claim.size // _GLANCE))
    first_look = _measure(claim.reshape(-1)[sample], predicted.reshape(-1)[sample], largest, 1.0)
    if not first_look.holds:
        return first_look
    error = spread(exhibit)
    elementwise = allowance * growth if allowance.shape in ((), claim.shape) else largest
    full = _measure(claim, predicted, elementwise, error)
    return full if full.holds else _measure(claim, predicted, largest, error)


def fits(exhibit: Exhibit, predicted: NDArray[np.float64]) -> bool:
    """Whether a prediction fits a claim everywhere."""
    return fit(exhibit, predicted).holds


def glimpsed(
    exhibit: Exhibit, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> bool:
    """Whether a claim may be this function of the right numbers, judging by a sample."""
    if exhibit.claim.shape != exhibit.witness.shape:
        return False
    sample = slice(None, None, max(1, exhibit.claim.size // _GLANCE))
    g, h = exhibit.witness.reshape(-1)[sample], exhibit.claim.reshape(-1)[sample]
    growth = max(1.0, _peak(h) / (_peak(g) or math.inf))
    return _measure(h, function(g), np.max(exhibit.allowance, initial=0.0) * growth * 2, 1.0).holds


def spread(exhibit: Exhibit) -> float:
    """Return the claim's largest finite error, or its largest number if there is none.

    There is none for a claim in another shape, or one that is wrong only by NaN.
    """
    claim, witness = exhibit.claim, exhibit.witness
    if claim.shape != witness.shape:
        return _peak(claim)
    with np.errstate(invalid="ignore"):
        error = _peak(claim - witness)
    return error if error > np.max(exhibit.allowance, initial=0.0) else _peak(witness)


def cost(freedom: int, most: float = 0.0) -> float:
    """Return the bits that an explanation's alternatives cost.

    A fitted number meets one number of the claim in any case. Where that one saves more than `REAL`
    costs, as in float64, everything that it saves is paid back.
    """
    tried = math.log2(1 + freedom)
    per_number = math.log2(REAL)
    return tried + (tried // per_number) * max(0.0, most - per_number)


def jointly(
    exhibits: Iterable[Exhibit], predict: Callable[[Exhibit], NDArray[np.float64] | None]
) -> dict[str, NDArray[np.float64]]:
    """Return the predictions of a hypothesis, for every tensor that it fits."""
    predictions = {}
    for exhibit in exhibits:
        predicted = predict(exhibit)
        if predicted is not None and fits(exhibit, predicted):
            predictions[exhibit.name] = predicted
    return predictions


def refuted(case: Case) -> list[Exhibit]:
    """Return the tensors to be explained."""
    return [e for e in case.exhibits.values() if e.refuted]


def is_chance(exhibit: Exhibit, predicted: NDArray[np.float64]) -> bool:
    """Whether the right numbers would explain a claim, too, and so whatever is near them.

    Only narrower bounds than a diagnosis has refute it; or else it has the right numbers in another
    shape, and a prediction that leaves them as they are explains that.
    """
    claim, witness = exhibit.claim, exhibit.witness
    if claim.shape != witness.shape or np.array_equal(predicted, witness):
        return False
    with np.errstate(all="ignore"):
        # NaN compares as false.
        return bool(np.all(np.abs(claim - witness) <= exhibit.allowance))


def _peak(numbers: NDArray[np.float64]) -> float:
    """Return the largest finite magnitude."""
    size = np.abs(numbers)
    return float(np.max(size, initial=0.0, where=np.isfinite(size)))


def _measure(
    claim: NDArray[np.float64],
    predicted: NDArray[np.float64],
    allowed: NDArray[np.float64] | float,
    error: float,
) -> Fit:
    with np.errstate(invalid="ignore", divide="ignore"):
        equal = (claim == predicted) | (np.isnan(claim) & np.isnan(predicted))
        gap = np.where(equal, 0.0, np.abs(claim - predicted))
        ratio = np.where(gap == 0, 0.0, gap / allowed)
        saved = np.clip(np.log2(error / np.asarray(allowed)), 0, _MOST) if error else 0.0
    worst = float(np.max(np.where(np.isnan(ratio), np.inf, ratio), initial=0.0))
    bits = np.where(np.isfinite(claim), saved, _ODD)
    return Fit(worst, float(np.sum(bits)), float(np.max(bits, initial=0.0)))
