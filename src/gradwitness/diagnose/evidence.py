"""Whether an explanation fits a claim, and how much it says that it does.

The measure is description length, in bits. Without an explanation a refuted claim is a set of
numbers that lie anywhere within its largest error E of the right ones. An explanation that fits
pins each of them down to its allowance, which saves log2(E / allowance) bits for each number, and
costs log2 of the number of alternatives that were tried. A coincidence that saves b bits more than
it costs has a chance of 2^-b: what fits only because a tensor is tiny, or because many coefficients
were tried, does not pay for itself.
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

# A number fitted to the claim counts as so many alternatives tried: the resolution of float32.
REAL = 2**24

# What an explanation has to save beyond its cost: one coincidence in a thousand.
ENOUGH = 10.0

_MOST = 52.0  # bits that one number can tell
_ODD = 12.0  # bits that a NaN or an infinity tells: few claims have one
_GLANCE = 997  # numbers that are looked at first in a large tensor


@dataclass(frozen=True)
class Fit:
    """How well a prediction meets a claim.

    Attributes
    ----------
    residual : float
        The worst ``|claim - predicted|`` over what rounding allows; inf for another shape.
    bits : float
        What the prediction saves.
    most : float
        What it saves at the one number that tells most.
    """

    residual: float
    bits: float
    most: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether every number is within rounding of the prediction."""
        return self.residual <= 1


def fit(exhibit: Exhibit, predicted: NDArray[np.float64]) -> Fit:
    """Compare a prediction with a claim.

    Each number is given its own allowance; where the prediction has moved numbers about, the
    largest of the tensor. Both grow with the prediction, as the rounding of a larger result does.
    In a large tensor some numbers are looked at first.
    """
    claim = exhibit.claim
    if predicted.shape != claim.shape:
        return Fit(math.inf, 0.0)
    own = np.asarray(exhibit.allowance, np.float64)
    growth = max(1.0, _peak(predicted) / (_peak(exhibit.witness) or math.inf))
    largest = np.max(own, initial=0.0) * growth
    few = slice(None, None, max(1, claim.size // _GLANCE))
    glance = _measure(claim.reshape(-1)[few], predicted.reshape(-1)[few], largest, 1.0)
    if not glance.holds:
        return glance
    error = spread(exhibit)
    strict = own * growth if own.shape in ((), claim.shape) else largest
    found = _measure(claim, predicted, strict, error)
    return found if found.holds else _measure(claim, predicted, largest, error)


def fits(exhibit: Exhibit, predicted: NDArray[np.float64]) -> bool:
    """Whether a prediction meets a claim everywhere."""
    return fit(exhibit, predicted).holds


def glimpsed(
    exhibit: Exhibit, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> bool:
    """Whether a claim may be a function of each right number, from a look at some of them."""
    if exhibit.claim.shape != exhibit.witness.shape:
        return False
    few = slice(None, None, max(1, exhibit.claim.size // _GLANCE))
    g, h = exhibit.witness.reshape(-1)[few], exhibit.claim.reshape(-1)[few]
    growth = max(1.0, _peak(h) / (_peak(g) or math.inf))
    return _measure(h, function(g), np.max(exhibit.allowance, initial=0.0) * growth * 2, 1.0).holds


def spread(exhibit: Exhibit) -> float:
    """Return the claim's largest finite error, or its largest number if that says nothing.

    It says nothing of a claim in another shape, nor of one that is wrong by NaN alone.
    """
    claim, witness = exhibit.claim, exhibit.witness
    if claim.shape != witness.shape:
        return _peak(claim)
    with np.errstate(invalid="ignore"):
        error = _peak(claim - witness)
    return error if error > np.max(exhibit.allowance, initial=0.0) else _peak(witness)


def cost(freedom: int, most: float = 0.0) -> float:
    """Return the bits that an explanation's alternatives cost.

    A number that was fitted meets one of the claim's in any case: where that one tells more than
    `REAL` asks for, as in float64, all that it tells is paid back.
    """
    tried = math.log2(1 + freedom)
    each = math.log2(REAL)
    return tried + (tried // each) * max(0.0, most - each)


def jointly(
    exhibits: Iterable[Exhibit], predict: Callable[[Exhibit], NDArray[np.float64] | None]
) -> dict[str, NDArray[np.float64]]:
    """Return what a kind of fault predicts, for every tensor that it fits."""
    found = {}
    for exhibit in exhibits:
        predicted = predict(exhibit)
        if predicted is not None and fits(exhibit, predicted):
            found[exhibit.name] = predicted
    return found


def refuted(case: Case) -> list[Exhibit]:
    """Return the tensors to be explained."""
    return [e for e in case.exhibits.values() if e.refuted]


def named(names: Iterable[str]) -> str:
    """Return a few names as text: ``a, b and 3 more``."""
    names = list(names)
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


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
        same = (claim == predicted) | (np.isnan(claim) & np.isnan(predicted))
        gap = np.where(same, 0.0, np.abs(claim - predicted))
        ratio = np.where(gap == 0, 0.0, gap / allowed)
        told = np.clip(np.log2(error / np.asarray(allowed)), 0, _MOST) if error else 0.0
    worst = float(np.max(np.where(np.isnan(ratio), np.inf, ratio), initial=0.0))
    bits = np.where(np.isfinite(claim), told, _ODD)
    return Fit(worst, float(np.sum(bits)), float(np.max(bits, initial=0.0)))
