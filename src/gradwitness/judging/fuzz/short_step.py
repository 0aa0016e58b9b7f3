"""Slopes over one short step: quick, for functions that run in float64 throughout.

Drawn numbers often lie near to a kink or at one. The step is so short that there hardly is one in
it, and where there is, it shows: a smooth function hardly bends over the step. Weighed by
cotangents of both signs, the kinks of several results would cancel, so that they are looked for in
each result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradwitness.judging.custom.slopes import Claim, Runs

    Floats = NDArray[np.float64]

_STEP = 2.0**-14
# How much larger than what the function bends an error must be, to be none of a kink.
_BENT = 8
# Sums of two slopes that are held against the slope along both.
_SUMS = 4
# Of the gradient's size: what is nearer is right. The step's own error is some 1e-9 of it.
_NEAR = 1e-6
# Of the results' size: their rounding errors.
_ROUNDING = 2.0**-48


def usual_slope(claim: Claim) -> float:
    """Return how large a slope is for a gradient of this size along no particular direction."""
    size = _mean_size(claim.at) or 1.0
    return float(_mean_size(claim.sent) * size * np.sqrt(claim.at.size))


def over_a_short_step(again: Runs, claim: Claim, *, nothing: float) -> Verdict:
    """Compare a gradient with the slopes along itself and along random signs.

    Parameters
    ----------
    again : Runs
    claim : Claim
    nothing : float
        Differences that are none.

    Raises
    ------
    Unjudgeable
        If the function fails.
    """
    rng = np.random.default_rng(2)
    size = _mean_size(claim.at) or 1.0
    steep = _mean_size(claim.sent)
    directions = [size * rng.choice([-1.0, 1.0], claim.at.shape) for _ in range(2)]
    directions += [claim.sent * (size / steep)] if steep else []
    rest = again.run({})
    usual = usual_slope(claim)
    seen, near = False, True
    for v in directions:
        slope, bends, rounding = _slope(again, claim, rest, v, _STEP)
        claimed = float((claim.sent * v).sum())
        gap = abs(claimed - slope)
        if gap > max(_BENT * bends, claim.unseen * usual, _BENT * rounding, nothing):
            # What curves within the step has another slope over a part of it. And where there
            # is a kink that no line through it shows, slopes do not add up: a median of equals.
            step = _STEP / 8
            finer = _slope(again, claim, rest, v, step)[0]
            off = abs(finer - slope)
            for _ in range(_SUMS):
                w = 2 * size * rng.standard_normal(claim.at.shape)
                beside, both = (_slope(again, claim, rest, u, step)[0] for u in (w, v + w))
                off = max(off, abs(both - finer - beside))
            if abs(claimed - finer) > _BENT * off:
                return Verdict.DISAGREES
        near &= gap <= _NEAR * usual + rounding
        seen |= abs(slope) > 2 * (_NEAR * usual + rounding)
    return Verdict.AGREES if near and seen else Verdict.INCONCLUSIVE


def _slope(
    again: Runs, claim: Claim, rest: Sequence[Any], v: Floats, step: float
) -> tuple[float, float, float]:
    """Return the slope along v, how much it changes at rest, and its rounding error."""
    ahead, behind = (again.run({claim.value: claim.at + s * step * v}) for s in (1, -1))
    slope = bends = rounding = 0.0
    for g, y, after, before in zip(claim.incoming, rest, ahead, behind, strict=False):
        if g is not None:
            if not y.shape == after.shape == g.shape:
                raise Unjudgeable("its results change their shape")
            slope += float((g * (after - before)).sum()) / (2 * step)
            bends += float(np.abs(g * (after - 2 * y + before)).sum()) / step
            rounding += _ROUNDING * float(np.abs(g * y).sum()) / step
    return slope, bends, rounding


def _mean_size(array: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(array)))) if array.size else 0.0
