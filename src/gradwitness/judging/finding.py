"""Results of the local check: a finding for each comparison, a row for each gradient."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from gradwitness.judging.compare import Comparison
    from gradwitness.judging.note import Note
    from gradwitness.tape import Source


class Step(Enum):
    """The kinds of step that a recorded program is made of."""

    FORWARD = "forward"  # a call's result, from its operands
    FAN_IN = "fan-in"  # a node's incoming gradient, from what the other nodes sent
    BACKWARD = "backward"  # a node's outgoing gradient, from its incoming one
    ACCUMULATE = "accumulate"  # `.grad` after, from `.grad` before and what arrived


@dataclass(frozen=True)
class Finding:
    """One comparison and where it stands in the program.

    Attributes
    ----------
    step : Step
    title : str
        ``AddmmBackward0 #12, gradient of B``.
    comparison : Comparison
    call, node, sweep : int or None
        Numbers on the tape.
    tensor_nr : int
        Output of the call, input or edge of the node.
    source : Source or None
        Where the program made the call.
    formula : str
        The rule's text for what was compared.
    grade : str
        How strong the evidence is, where it is less than a bound derived from the rule.
    """

    step: Step
    title: str
    comparison: Comparison
    call: int | None = None
    node: int | None = None
    sweep: int | None = None
    tensor_nr: int = 0
    source: Source | None = None
    formula: str = ""
    grade: str = ""

    @property
    def verdict(self) -> Verdict:
        """The comparison's verdict."""
        return self.comparison.verdict


@dataclass(frozen=True)
class Row:
    """The judgement of one gradient that the user receives.

    Attributes
    ----------
    name : str
        The parameter's name, or the leaf's number.
    shape : tuple of int
    dtype : str
    verdict : Verdict
        The worst of its own comparison and of every step that it depends on.
    reason : str
        Its own reason, or the step that it inherits a fault from; empty if it agrees.
    inherited : bool
        Whether the fault, or the doubt, lies in an earlier step and not in the last one.
    comparison : Comparison
        The gradient against the witness's, from the recorded cotangent of the last step that
        rounds.
    digits : float
        Correct decimal digits against the float64 replay from the leaves; nan without one.
    node, input_nr, sweep : int
        Accumulator (or the node it was taken at), input of that node, backward pass.
    value : int or None
        The gradient on the tape.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    verdict: Verdict
    reason: str
    inherited: bool
    comparison: Comparison
    digits: float
    node: int
    input_nr: int
    sweep: int
    value: int | None

    @property
    def relative_error(self) -> float:
        """Of a disagreement: its own, or what the digits that are right leave of an inherited one.

        nan where nothing disagrees, or the digits are not known.
        """
        if self.verdict is not Verdict.DISAGREES:
            return math.nan
        return 10 ** min(-self.digits, 300.0) if self.inherited else self.comparison.relative_error

    def verdict_to(self, digits: float | None) -> Verdict:
        """Return the verdict where a disagreement with so many right digits is let pass.

        How far an inherited error has grown on its way, only the digits of the gradient tell.
        """
        if self.verdict is not Verdict.DISAGREES or digits is None:
            return self.verdict
        if not self.inherited:
            return self.comparison.verdict_to(digits)
        if math.isnan(self.digits):
            return Verdict.INCONCLUSIVE
        return Verdict.AGREES if self.digits >= digits else Verdict.DISAGREES


@dataclass(frozen=True)
class Coverage:
    """How many of one kind were judged, of how many there are."""

    judged: int
    total: int


@dataclass(frozen=True)
class Report:
    """The judgement of a program.

    Attributes
    ----------
    findings : tuple of Finding
        In the order of execution.
    rows : tuple of Row
        One for each gradient that a backward pass gave to the user.
    notes : tuple of Note
        Other issues, or what explains a fault. No verdict depends on them.
    digits : float or None
        What is `required`: a disagreement with so many right digits is let pass.
    """

    findings: tuple[Finding, ...]
    rows: tuple[Row, ...]
    notes: tuple[Note, ...] = ()
    digits: float | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all; INCONCLUSIVE if there is no gradient at all."""
        return self._verdict_to(None)

    @property
    def required(self) -> Verdict:
        """The verdict to which the required digits lead: what exit codes and `require` follow."""
        return self._verdict_to(self.digits)

    def _verdict_to(self, digits: float | None) -> Verdict:
        steps = [finding.comparison.verdict_to(digits) for finding in self.findings]
        return worst([*steps, worst([row.verdict_to(digits) for row in self.rows])])

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """The steps that disagree. Each is judged alone, so none is blamed for another's fault."""
        return tuple(f for f in self.findings if f.verdict is Verdict.DISAGREES)

    @property
    def first_wrong(self) -> Finding | None:
        """The first step, in the order of execution, that disagrees."""
        return next(iter(self.wrong), None)

    def count(self, verdict: Verdict, step: Step | None = None) -> int:
        """Count the findings of a verdict, of one kind of step or of all."""
        return sum(f.verdict is verdict and step in (None, f.step) for f in self.findings)

    def coverage(self) -> dict[str, Coverage]:
        """Return how much was judged: forward calls, backward nodes, gradients, elements."""
        shares = {
            "forward calls": _units(self.findings, Step.FORWARD, "call"),
            "backward nodes": _units(self.findings, Step.BACKWARD, "node"),
        }
        rows = sum(row.verdict is not Verdict.INCONCLUSIVE for row in self.rows)
        elements = [(f.comparison.size, f.verdict) for f in self.findings]
        judged = sum(size for size, verdict in elements if verdict is not Verdict.INCONCLUSIVE)
        shares["gradients"] = Coverage(rows, len(self.rows))
        shares["elements"] = Coverage(judged, sum(size for size, _ in elements))
        return shares

    def reasons(self) -> Counter[str]:
        """Count the reasons for which steps could not be judged."""
        return Counter(
            f.comparison.reason for f in self.findings if f.verdict is Verdict.INCONCLUSIVE
        )


def _units(findings: tuple[Finding, ...], step: Step, attribute: str) -> Coverage:
    """Count calls or nodes: one counts as judged if all of its findings are."""
    units: dict[tuple[int | None, int | None], bool] = {}
    for finding in findings:
        if finding.step is step:
            key = (finding.sweep, getattr(finding, attribute))
            judged = finding.verdict is not Verdict.INCONCLUSIVE
            units[key] = units.get(key, True) and judged
    return Coverage(sum(units.values()), len(units))
