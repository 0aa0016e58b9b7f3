"""Gradients that the program declared to be right to a tolerance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradwitness.judging.records import largest
from gradwitness.rules.declarations import tolerance_of
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.comparison import Comparison
    from gradwitness.judging.custom_functions import Judged
    from gradwitness.judging.functions import Functions
    from gradwitness.judging.records import Records
    from gradwitness.tape import Node, NodeRun

GRADE = (
    "declared by the program to be right to {tolerance:g} of the largest number; it is to {off:.2g}"
)


def as_approximated(
    records: Records, functions: Functions | None, node: Node, node_run: NodeRun, judged: Judged
) -> Judged:
    """Return a judgement where a disagreement within the declared tolerance is none."""
    tolerance = 0.0 if functions is None else tolerance_of(functions.function(node.id))
    number = node_run.outgoing[judged.input_nr]
    if number is None:
        return judged
    c, grade = within(judged.comparison, judged.grade, tolerance, largest(records(number)))
    if c is judged.comparison:
        return judged
    # What was sent is right enough, and carried on as it is.
    return replace(judged, comparison=c, grade=grade, by_rules=False, case=None)


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
    )
    return agreed, GRADE.format(tolerance=tolerance, off=c.relative_error)
