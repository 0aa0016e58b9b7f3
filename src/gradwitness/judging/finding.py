"""Results of the local check: a finding for each comparison, a row for each gradient."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from gradwitness._errors import InputError
from gradwitness._record import record
from gradwitness.judging.comparing.comparison import BASES, CANCELS
from gradwitness.judging.depth import FULL
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from gradwitness.judging.comparing.compare import Comparison
    from gradwitness.judging.note import Note
    from gradwitness.tape import Source


# What an agreement may rest on.
_USUAL = frozenset(["", CANCELS, *BASES])


class Step(Enum):
    """The kinds of step that a recorded program is made of."""

    FORWARD = "forward"  # a call's result, from its operands
    FAN_IN = "fan-in"  # a node's incoming gradient, from what the other nodes sent
    BACKWARD = "backward"  # a node's outgoing gradient, from its incoming one
    ACCUMULATE = "accumulate"  # `.grad` after, from `.grad` before and what arrived


@record(frozen=True, slots=True)
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
    advice : str
        What a gradient that is no derivative looks like, and the declaration that would say so.
    symbol, file, line : str, str, int
        The method that sent a wrong gradient (``ISRLU.backward``), and where: the line that made
        it, if that is known. Empty and 0 where it is torch's own.
    called : str
        ``file:line`` that applied its function.
    cause, why : str
        The mistake's short name, and the evidence in a sentence or two; empty where none is known.
    runner_up : str
        Another cause that fits as well.
    remedy : str
        What to write instead, as a line of Python.
    fuzz : str
        When only it is wrong, by trials at other shapes, strides and numbers; empty if it always
        is, or that is not known.
    forward : tuple of str
        Of a wrong custom function: what matters to the input, in torch's words.
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
    advice: str = ""
    symbol: str = ""
    file: str = ""
    line: int = 0
    called: str = ""
    cause: str = ""
    why: str = ""
    runner_up: str = ""
    remedy: str = ""
    fuzz: str = ""
    forward: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The comparison's verdict."""
        return self.comparison.verdict

    def at_node(self, node: int | None) -> Finding:
        """Return a plain finding with its node, which was not known when the step was judged."""
        if node == self.node:
            return self
        fields: Any = (*_BEFORE_NODE(self), node, *_AFTER_NODE(self))
        return Finding(*fields)

    @property
    def agrees_plainly(self) -> bool:
        """Whether it agrees, and no more is to be said of it."""
        c = self.comparison
        usual = c.verdict is Verdict.AGREES and c.reason in _USUAL and not (c.hides or c.tolerance)
        return usual and not (self.grade or self.advice) and type(self) is Finding

    @property
    def is_of_a_step(self) -> bool:
        """Whether it is about one step, and not a doubt about the whole."""
        return self.call is not None or self.node is not None

    @property
    def is_forward_doubt(self) -> bool:
        """Whether it is about the result of a call, which could not be judged."""
        of_call = self.step is Step.FORWARD and self.call is not None
        return of_call and self.verdict is Verdict.INCONCLUSIVE


_NAMES = [*Finding.__dataclass_fields__]
# `replace` would look each field up in turn: most steps of a program have a node.
_BEFORE_NODE = attrgetter(*_NAMES[: _NAMES.index("node")])
_AFTER_NODE = attrgetter(*_NAMES[_NAMES.index("node") + 1 :])

ALL, GRADIENTS = "all", "gradients"


def rests_on(judge: str) -> str:
    """Return what a verdict shall rest on.

    Raises
    ------
    InputError
        If it is neither of the two.
    """
    if judge not in (ALL, GRADIENTS):
        raise InputError(f"judge={judge!r}: give {ALL!r} or {GRADIENTS!r}")
    return judge


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
    doubt : float
        How far steps whose bounds show too little may have moved it, over its largest number.
    apart : tuple, optional
        Verdict, reason and inherited as they are without the doubts about forward results, where
        there are any.
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
    doubt: float = 0.0
    apart: tuple[Verdict, str, bool] | None = None

    @property
    def grounds(self) -> str:
        """Its reason, or what it agrees by if that is not the worst case."""
        return self.reason or (self.comparison.reason if self.basis else "")

    @property
    def basis(self) -> str:
        """The same in a few words, where there is nothing else to say."""
        return self.comparison.basis if self.verdict is Verdict.AGREES else ""

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

        How far an inherited error has grown on its way, only the digits of the gradient tell. The
        step that an inherited doubt comes from has to pass by itself.
        """
        if self.verdict is Verdict.AGREES or digits is None:
            return self.verdict
        if not self.inherited:
            agreed = self.comparison.verdict is self.verdict
            return self.comparison.verdict_to(digits) if agreed else self.verdict
        if math.isnan(self.digits):
            return Verdict.INCONCLUSIVE
        return Verdict.AGREES if self.digits >= digits else self.verdict


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
    judge : str
        What the verdict rests on: ``all``, or the ``gradients`` (see `judging`).
    depth : str
        How thoroughly it was judged: ``full``, or ``fast``.
    """

    findings: tuple[Finding, ...]
    rows: tuple[Row, ...]
    notes: tuple[Note, ...] = ()
    digits: float | None = None
    judge: str = ALL
    depth: str = FULL

    def judging(self, judge: str) -> Report:
        """Return the same judgement, resting on ``all`` or on the ``gradients``.

        A backward step is judged from the recorded operands, whether or not the calls that made
        these could be judged. With ``gradients``, results of calls that could not be judged are
        counted apart and leave the verdict as it is; a result that is wrong is still wrong.

        Raises
        ------
        InputError
            For any other word.
        """
        if rests_on(judge) == self.judge:
            return self
        if self.judge == GRADIENTS:
            raise InputError("the doubts about forward results were set apart already")
        return replace(self, judge=judge, rows=tuple(map(_apart, self.rows)))

    @property
    def forward(self) -> Verdict:
        """The worst verdict on the result of a call."""
        return worst([f.verdict for f in self.findings if f.step is Step.FORWARD])

    @property
    def gradients(self) -> Verdict:
        """The verdict that rests on the gradients, see `judging`."""
        return self.judging(GRADIENTS).verdict

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all; INCONCLUSIVE if there is no gradient at all."""
        return self._verdict_to(None)

    @property
    def required(self) -> Verdict:
        """The verdict to which the required digits lead: what exit codes and `require` follow."""
        return self._verdict_to(self.digits)

    def _verdict_to(self, digits: float | None) -> Verdict:
        comparisons = [f.comparison for f in considered(self.findings, self.judge)]
        steps = [c.verdict if digits is None else c.verdict_to(digits) for c in comparisons]
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
        """Count the findings of a verdict, of one kind of step or of all.

        A doubt about the whole, as of a block that an exception ended, is no step's.
        """
        kinds = [f.is_of_a_step and f.step for f in self.findings if f.verdict is verdict]
        return len(kinds) if step is None else kinds.count(step)

    def coverage(self) -> dict[str, Coverage]:
        """Return how much was judged: forward calls, backward nodes, gradients, elements."""
        shares = {
            "forward calls": _units(self.findings, Step.FORWARD, "call"),
            "backward nodes": _units(self.findings, Step.BACKWARD, "node"),
        }
        rows = sum(row.verdict is not Verdict.INCONCLUSIVE for row in self.rows)
        elements = [(f.comparison, f.verdict) for f in self.findings]
        judged = sum(
            round(c.size * c.share)
            for c, verdict in elements
            if verdict is not Verdict.INCONCLUSIVE
        )
        shares["gradients"] = Coverage(rows, len(self.rows))
        shares["elements"] = Coverage(judged, sum(c.size for c, _ in elements))
        return shares

    def reasons(self) -> Counter[str]:
        """Count the reasons for which steps could not be judged."""
        return Counter(
            f.comparison.reason for f in self.findings if f.verdict is Verdict.INCONCLUSIVE
        )


def considered(findings: tuple[Finding, ...], judge: str) -> list[Finding]:
    """Return the findings on which a verdict rests."""
    return [f for f in findings if judge == ALL or not f.is_forward_doubt]


def _apart(row: Row) -> Row:
    if row.apart is None:
        return row
    verdict, reason, inherited = row.apart
    return replace(row, verdict=verdict, reason=reason, inherited=inherited, apart=None)


def _units(findings: tuple[Finding, ...], step: Step, attribute: str) -> Coverage:
    """Count calls or nodes: one counts as judged if all of its findings are."""
    units: dict[tuple[int | None, int | None], bool] = {}
    for finding in findings:
        if finding.step is step and finding.is_of_a_step:
            key = (finding.sweep, getattr(finding, attribute))
            judged = finding.verdict is not Verdict.INCONCLUSIVE
            units[key] = units.get(key, True) and judged
    return Coverage(sum(units.values()), len(units))
