"""The slope of a function of one number: Richardson's central differences, decreasing steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from gradwitness._errors import Unjudgeable

if TYPE_CHECKING:
    from collections.abc import Callable

# Steps relative to the operand's size: 2^-4, 2^-6, ... 2^-18.
_STEPS = tuple(2.0**-k for k in range(4, 20, 2))
# A step whose curvature is far below float32's rounding, and whose own rounding is near it.
_TREMBLE = 2.0**-20


@dataclass(frozen=True)
class AtRest:
    """What is known of the function at 0.

    Attributes
    ----------
    value : float
    tremor : float
        How far two values may lie apart by rounding.
    stops : float
        How far they may lie apart by where an iteration stops.
    """

    value: float
    tremor: float
    stops: float


def extrapolated(
    along: Callable[[float], float], at_rest: AtRest, enough: float
) -> tuple[float, float, float]:
    """Return the slope at 0, the best over decreasing steps, with an estimate of its error.

    And the part of the error that shows in these steps: without where an iteration may stop.
    A step whose error is as small as a 16th of ``enough`` is the last.
    """
    twice = 2 * at_rest.value
    tremor, middle, finer = (
        abs(along(h) - twice + along(-h)) for h in (_TREMBLE, _TREMBLE / 2, _TREMBLE / 4)
    )
    # For a smooth phi this falls with h^2. At a kink it falls with h, and over h it tends to the
    # difference between the slopes of both sides.
    kink = max(0.0, (16 * finer - tremor) / (3 * _TREMBLE))
    beside = max(abs(4 * middle - tremor), abs(16 * finer - tremor))
    if beside <= tremor / 8:
        # It does: what is left beside the curvature trembles.
        tremor = beside / 3
    tremor += at_rest.tremor
    bends = []
    best = (math.nan, math.inf, math.inf)
    plain = better = math.nan
    for h in _STEPS:
        before, better_before = plain, better
        try:
            ahead, behind = along(h), along(-h)
        except Unjudgeable:
            # So far away it may have no value, as a Cholesky factor has none.
            if h == _STEPS[-1]:
                raise
            plain = better = math.nan
            continue
        bends.append(abs(ahead - twice + behind) / h)
        plain = (ahead - behind) / (2 * h)
        # The error of central differences falls with h^2: by 16 from step to step.
        better = plain + (plain - before) / 15
        seen = abs(better - better_before) + tremor / h
        error = seen + at_rest.stops / h
        if error < best[1]:
            best = (better, error, seen)
        if best[1] <= enough / 16:
            break
    # A kink bends phi over every step alike; what only trembles does so less over the longer ones.
    bend = min(map(max, pairwise(bends)), default=math.inf)
    bent = min(kink, bend) / 2
    return best[0], best[1] + bent, best[2] + bent
