"""Gradients that the program declared to be right to a tolerance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.comparison import Comparison

GRADE = (
    "declared by the program to be right to {tolerance:g} of the largest number; it is to {off:.2g}"
)


def within(c: Comparison, grade: str, tolerance: float, scale: float) -> tuple[Comparison, str]:
    """Return a comparison and its grade; an error within a tolerance, times a scale, is none."""
    if c.verdict is not Verdict.DISAGREES or not c.relative_error <= tolerance:
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
