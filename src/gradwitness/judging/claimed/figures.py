"""The figures of a claim beside its reference: how far off it is, and how much of it confirms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.files.mapping import pieces, slabs
from gradwitness.judging.claimed.confirming import Confirming
from gradwitness.judging.claimed.distances import distances, extent
from gradwitness.judging.comparing.compare import Comparing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.claims.claim import Claim
    from gradwitness.judging.claimed.distances import Distances
    from gradwitness.judging.claimed.reports import Reference
    from gradwitness.judging.comparing.compare import Comparison

_LEAST = float(np.finfo(np.float64).smallest_subnormal)


@dataclass(frozen=True)
class Figures:
    """A claim beside the part of its reference that it shows.

    Attributes
    ----------
    value : ndarray
        That part.
    allowed : ndarray or float
        How far each number may be off, but for the claim's own digits.
    largest : float
        The largest magnitude that should be.
    comparison : Comparison
    confirming : Confirming
    gap : float
        The largest distance.
    """

    value: NDArray[Any]
    allowed: NDArray[np.float64] | float
    largest: float
    comparison: Comparison
    confirming: Confirming
    gap: float


def figures(claim: Claim, reference: Reference, part: tuple[Any, ...], dtype: str) -> Figures:
    """Compare a claim with the part of its reference that it shows."""
    value, unsaid = reference.value, reference.rounding
    uniform = not any(map(np.ndim, (reference.allowance, claim.rounding, unsaid)))
    told = distances(claim.array, value) if uniform and claim.is_whole else None
    largest = float(told.largest.max()) if told else extent(value)[0]
    allowed = reference.allowed(largest)
    if reference.share and not largest and not _is_finite(told, value):
        # Where all else is zero no error is allowed, but infinity is never certain.
        allowed = allowed + _LEAST
    if not claim.is_whole:
        shape, value = value.shape, value[part]
        allowed, unsaid = (np.broadcast_to(each, shape)[part] for each in (allowed, unsaid))
        largest = extent(value)[0]
    bound = allowed + claim.rounding
    half_units = claim.rounding + unsaid
    # Of two sources neither is the right one: a zero is true if both say so with enough digits.
    unsure = np.maximum(unsaid, claim.rounding) if reference.share else unsaid
    if told and (0 < float(bound) < math.inf or not (bound or told.errors.any())):
        judged = _at_once(told, float(bound), float(unsure), float(half_units), dtype)
    else:
        judged = _one_by_one(claim.array, value, bound, unsure, half_units, dtype)
    return Figures(value, allowed, largest, *judged)


def _is_finite(told: Distances | None, value: NDArray[Any]) -> bool:
    return not told.odd.any() if told else bool(np.isfinite(value).all())


def _at_once(
    told: Distances, bound: float, unsure: float, half_units: float, dtype: str
) -> tuple[Comparison, Confirming, float]:
    comparison, gap = told.compared(bound, dtype)
    # Only digits that were not written down ask for the smallest.
    smallest = told.smallest_nonzero() if unsure else math.inf
    confirming = Confirming(told.expected.shape, float(told.largest.max()), smallest)
    # Where nothing may be off and nothing is, all confirm: of zeros, that they are.
    silent = told.silent_lines(bound) & (bound > 0)
    unread = int(told.nans.sum())
    if half_units:
        for start, r, w in told.numbers(told.lines, silent):
            confirming.take(start, r, w, bound, unsure, half_units)
            unread -= unread and int(np.count_nonzero(np.isnan(w)))
    else:
        for start, w in told.expected_numbers(told.lines, silent):
            confirming.take_exact(start, w, bound)
            unread -= unread and int(np.count_nonzero(np.isnan(w)))
    confirming.all_but(unread, int(np.diff(told.lines)[~silent].sum()))
    return comparison, confirming, gap


def _one_by_one(
    claimed: NDArray[Any],
    value: NDArray[Any],
    bound: NDArray[np.float64] | float,
    unsure: NDArray[np.float64] | float,
    half_units: NDArray[np.float64] | float,
    dtype: str,
) -> tuple[Comparison, Confirming, float]:
    confirming = Confirming(value.shape, *extent(value))
    gap, start = 0.0, 0
    others = map(np.asarray, (bound, unsure, half_units))
    with np.errstate(all="ignore"):
        for r, w, *rest in pieces(claimed, value, *others):
            gap = float(np.maximum(gap, np.max(np.abs(r - w), initial=0.0)))
            confirming.take(start, r, w, *rest)
            start += r.size
    bounds = np.broadcast_to(bound, value.shape)
    comparing = Comparing(claimed, dtype)
    for index in slabs(claimed, value):
        here = bounds[index]
        comparing.take(Bounded(value[index], Arithmetic.stepwise(dtype), here, here), index)
    return comparing.result(), confirming, gap
