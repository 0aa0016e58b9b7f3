"""A judgement of a random share of the steps, and what it leaves open.

A step is judged from its own recorded operands, so it can be left out without another one. That it
is, is drawn without a look at its numbers; what it made is used as recorded.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from gradwitness.judging.comparing.comparison import unjudged
from gradwitness.judging.finding import Finding, Report, Row, Step, considered
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from gradwitness.tape import Call, Node

LEFT_OUT = "not looked at: of this block a random share of the steps was"


class Drawn:
    """Draws the steps that are looked at, and keeps the findings of all others.

    The generator is this object's own.

    Parameters
    ----------
    share : float
        The probability that a step is looked at.

    Attributes
    ----------
    share : float
    left_out : list of Finding
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._random = random.Random()  # noqa: S311 (no secret)
        self.left_out: list[Finding] = []

    def leaves_out_call(self, call: Call) -> bool:
        """Whether the next step, a call, is left out."""
        if not self._leaves_out():
            return False
        title = f"{call.op} (call {call.id})"
        self.left_out.append(Finding(Step.FORWARD, title, _UNJUDGED, call=call.id))
        return True

    def leaves_out_node(self, node: Node, sweep: int) -> bool:
        """Whether the next step, a node run, is left out."""
        if not self._leaves_out():
            return False
        title = f"{node.name} #{node.id}"
        self.left_out.append(Finding(Step.BACKWARD, title, _UNJUDGED, node=node.id, sweep=sweep))
        return True

    def _leaves_out(self) -> bool:
        return self.share < 1 and self._random.random() >= self.share

    def completed(self, report: Report) -> Report:
        """Return a report with the steps that were left out: no gradient agrees without them."""
        if not self.left_out:
            return report
        findings = (*report.findings, *self.left_out)
        return replace(report, findings=findings, rows=tuple(map(_open, report.rows)))


_UNJUDGED = unjudged(LEFT_OUT)


def _open(row: Row) -> Row:
    """Return a row that does not agree."""
    open_to = Verdict.INCONCLUSIVE, LEFT_OUT, True
    if row.apart is not None and row.apart[0] is Verdict.AGREES:
        row = replace(row, apart=open_to)
    if row.verdict is Verdict.AGREES:
        row = replace(row, verdict=open_to[0], reason=open_to[1], inherited=open_to[2])
    return row


def found(report: Report) -> Verdict:
    """Return the verdict on what was looked at, as `Report.required` is that on everything."""
    if all(f.comparison.reason != LEFT_OUT for f in report.findings):
        return report.required
    steps = [f.comparison for f in considered(report.findings, report.judge)]
    looked = [c.verdict_to(report.digits) for c in steps if c.reason != LEFT_OUT]
    looked += [row.verdict_to(report.digits) for row in report.rows if row.reason != LEFT_OUT]
    return worst(looked) if looked else Verdict.AGREES
