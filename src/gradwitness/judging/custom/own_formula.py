"""What a custom function's backward sends in 16 bits, held against its own formula in float64.

Where the bound of 16-bit steps is too wide to tell anything, forward and backward run again in
float64, from the recorded arguments and cotangents. Nothing is rounded then, and slopes tell
whether the formula is the derivative. How far torch's number lies off it is what the backward
itself has lost.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradwitness.judging.comparing.comparison import OWN, SHARE, Comparison
from gradwitness.judging.comparing.records import largest
from gradwitness.judging.custom.slopes import measure, require_repeatable
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.custom.functions import Again
    from gradwitness.judging.custom.slopes import Claim

GRADE = "numerical: its own backward, run again in float64, is supported by {count} slopes"
# Two roundings of it, 0.1 %, are for constants in the formula that are as good as 16 bits need.
_CONSTANTS = "float16"


def by_own_formula(again: Again, claim: Claim, coarse: Comparison) -> tuple[Comparison, str]:
    """Judge a claim by its own formula.

    Returns
    -------
    (Comparison, str)
        AGREES if the formula is the derivative, and the claim near to what it gives; DISAGREES, by
        slopes, if it is not the derivative; else the ``coarse`` one. With it, the evidence.

    Raises
    ------
    Unjudgeable
        If the function may not run again, or gives another result in float64.
    """
    require_repeatable(again, claim)
    own = again.sent(claim.value, claim.incoming)
    slopes = measure(again, replace(claim, sent=own, dtype=_CONSTANTS, outputs=(), roundings=2))
    if slopes.verdict is Verdict.DISAGREES:
        return slopes, ""
    if coarse.verdict is Verdict.DISAGREES:
        return coarse, ""
    size, lost = largest(own), largest(claim.sent - own)
    moved = SHARE / 2 * size + lost
    if slopes.verdict is not Verdict.AGREES or not 0 < moved <= SHARE * size:
        return coarse, ""
    agreed = replace(
        coarse, verdict=Verdict.AGREES, reason=OWN, detects=moved, detects_relative=moved / size
    )
    return agreed, GRADE.format(count=slopes.size)
