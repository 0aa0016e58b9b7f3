"""Gradients that the program declared to be right to a tolerance, or may declare."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradwitness.judging.custom.recognition import approximation_of
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.finding import Finding

GRADE = (
    "declared by the program to be right to {tolerance:g} of the largest number; it is to {off:.2g}"
)

_MEANT = "if an approximation of this accuracy is meant:\n\n{code}"
_UNTOLD = (
    "{off:.2g} of the largest number off the derivative of the recorded forward, and its slopes in "
    "float64 cannot tell which of the two is right: {following}"
)
_ELSEWHERE = "check it in a wider format, or at other inputs, where its slopes are known better"
# An error of this share of the largest number may be that of an approximation.
_SMALL = 1e-3


def declarable(finding: Finding, function: type | str, off: float) -> Finding:
    """Return a finding about what may be an approximation with the declaration that would say so.

    Parameters
    ----------
    finding : Finding
        One that disagrees, or one in doubt because slopes support neither gradient.
    function : type or str
    off : float
        How far off the function's gradients are at most.
    """
    code = approximation_of(function, off) if off <= _SMALL else ""
    if finding.verdict is Verdict.DISAGREES:
        return replace(finding, advice=_MEANT.format(code=code)) if code else finding
    call = code.rpartition("\n")[2]
    following = f"if it is meant, declare {call}" if code else _ELSEWHERE
    reason = _UNTOLD.format(off=off, following=following)
    return replace(finding, comparison=replace(finding.comparison, reason=reason))


def within(c: Comparison, grade: str, tolerance: float, scale: float) -> tuple[Comparison, str]:
    """Return a comparison and its grade; an error within a tolerance, times a scale, is none.

    So is a doubt about no more than that.
    """
    if c.verdict is Verdict.AGREES or not c.relative_error <= tolerance:
        return c, grade
    bound = c.bound + tolerance * scale
    agreed = replace(
        c,
        verdict=Verdict.AGREES,
        reason="",
        refuted=0,
        bound=bound,
        ratio=c.error / bound,
        probable_ratio=c.error / bound,
        detects=c.detects + 2 * tolerance * scale,
        detects_relative=c.detects_relative + 2 * tolerance,
        tolerance=tolerance,
    )
    return agreed, GRADE.format(tolerance=tolerance, off=c.relative_error)
