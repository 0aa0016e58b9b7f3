"""Gradients that only slopes can settle: what is kept of them, and the verdict after the block.

Two questions are kept apart. Is what a function sent the derivative of its recorded forward? The
rules answer that at once. Is it right? If the rules say no, or cannot say, the function's slopes
decide, and for them it has to run again: only after the block, and only if nobody can notice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._failure import failure
from gradwitness._progress import tracked
from gradwitness._record import record
from gradwitness.engine.floats import SHORT, unit_roundoff, wide
from gradwitness.judging.comparing.compare import TOO_WIDE, Comparison, unjudged
from gradwitness.judging.comparing.comparison import OWN
from gradwitness.judging.comparing.records import Records, largest
from gradwitness.judging.custom.approximations import declarable, within
from gradwitness.judging.custom.lie_groups import Kinds, conventions
from gradwitness.judging.custom.outcome import Outcome, Settled
from gradwitness.judging.custom.own_formula import by_own_formula
from gradwitness.judging.custom.slopes import GRADE, HIDDEN, ROUNDINGS, Claim, between, measure
from gradwitness.judging.custom.tangents import explaining
from gradwitness.judging.custom.triangles import directions
from gradwitness.judging.finding import Finding
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gradwitness.judging.custom.functions import Again
    from gradwitness.judging.custom.lie_groups import Retract
    from gradwitness.judging.custom.recorded_forward import Iteration

NORMWISE = "normwise: the function's own order of operations is not known"
_CONFIRMED = f"{NORMWISE}; its slopes in float64 refute it too"
_SUPPORTED = (
    "by slopes ({count} directions, float64): they support it. The derivative of the recorded "
    "forward differs, as it does of an iteration, of scratch space or of a part of its argument"
)
ALONG = "right along"
ITERATES = "its forward is an iteration"
# What a solver that stops early leaves open, where no record shows it.
_UNSEEN = 1e-3


@dataclass(frozen=True)
class Case:
    """What it takes to measure the slopes of one claim.

    Attributes
    ----------
    again : Again
        The function, with copies of the numbers that the following refer to.
    operand : int
    incoming, sent, outputs : sequence of (int or None)
        Gradients that arrived, gradients that were sent to the operand, and results.
    reason : str
        Why the rules cannot say, or empty.
    by_rules : Comparison or None
        Their judgement.
    expected : ndarray or None
        Their gradient.
    iteration : Iteration or None
        What makes the derivative of the recorded forward another than the function's.
    constants : str
        Where the function may use numbers as constants, on purpose.
    tolerance : float
        How far off the program declared it to be, of the largest number.
    owner : tuple of (type or str) and int
        The function (an operator by its name) and its input: what is guilty once is not run again.
    retracts : tuple of (callable or None)
        What was declared to move the operand, and the results.
    tried : str
        Along what else the rules refute it.
    roundings : int
        By how many roundings of its format what was sent may be off.
    rounded : str
        A coarser format in which what arrived was rounded, if the slopes feel that; or empty.
    otherwise : Comparison or None
        Where the rules refute it only as a computation in float32: what stands unless its slopes
        refute it too.
    """

    again: Again
    operand: int
    incoming: Sequence[int | None]
    sent: Sequence[int]
    outputs: Sequence[int | None]
    reason: str
    by_rules: Comparison | None
    expected: NDArray[Any] | None
    iteration: Iteration | None
    constants: str
    tolerance: float
    owner: tuple[type | str, int]
    retracts: tuple[Retract | None, Retract | None] = (None, None)
    tried: str = ""
    roundings: int = ROUNDINGS
    rounded: str = ""
    otherwise: Comparison | None = None

    def require(self) -> None:
        """Raise Unjudgeable if the function may not run again."""
        refusal = self.again.refusal()
        if refusal:
            raise Unjudgeable(refusal)

    def size(self) -> float:
        """Return the largest number that was sent."""
        return max(map(largest, map(self._records(), self.sent)), default=0.0)

    def _records(self) -> Records:
        tape: Any = SimpleNamespace(values=self.again.values)
        return Records(tape)

    def claim(self) -> Claim:
        """Return the claim in numbers.

        Raises
        ------
        Unjudgeable
            If they were not recorded, or are complex.
        """
        values, records = self.again.values, self._records()
        sent = [records(n) for n in self.sent]
        at = records(self.operand)
        if any(g.shape != sent[0].shape for g in sent):
            raise Unjudgeable("the gradients of one tensor have different shapes")
        arrived = [None if n is None else records(n) for n in self.incoming]
        dtype = records.coarsest([self.operand, *self.incoming, *self.sent])
        if any(a is not None and a.dtype.kind == "c" for a in (at, *sent, *arrived)):
            raise Unjudgeable("slopes along complex numbers are not measured")
        return Claim(
            node=0,
            value=self.operand,
            at=at,
            sent=np.sum(sent, axis=0) if sent else np.zeros(at.shape),
            dtype=max(dtype, self.rounded or dtype, key=unit_roundoff),
            incoming=arrived,
            outputs=[None if n is None else values[n] for n in self.outputs],
            tremor=self.iteration.change if self.iteration else 0.0,
            unsettled=self.iteration.unsettled if self.iteration else 0.0,
            unseen=_UNSEEN if self.reason else 0.0,
            roundings=self.roundings,
        )


@record(frozen=True, slots=True, kw_only=True)
class Accused(Finding):
    """A finding that waits for the slopes of a function, unless the rules have seen enough."""

    case: Case | Outcome


@record(frozen=True, slots=True, kw_only=True)
class Along(Finding):
    """A finding about gradients along Lie groups."""

    kinds: Kinds


def settled(findings: Iterable[Finding]) -> Settled:
    """Measure every accused function: its code runs here, after the block."""
    guilty: set[object] = set()
    trusted: set[int | None] = set()
    told: dict[tuple[int | None, ...], Comparison] = {}
    # Findings of functions that may be approximations, and how far off these are at most.
    near: dict[int, type | str] = {}
    off: dict[type | str, float] = {}

    def one(finding: Accused) -> Finding:
        case = finding.case
        if isinstance(case, Outcome):
            trusted.add(finding.node)
            return _closed(finding, case)
        try:
            known = case.owner in guilty and case.iteration is None
            # Gradients near the format's largest numbers overflow when they are squared.
            with np.errstate(over="ignore", invalid="ignore"):
                outcome = _settled(case, known=known)
            near_enough = within(outcome.comparison, outcome.grade, case.tolerance, case.size())
            comparison, grade = near_enough
            is_untold = outcome.is_untold and comparison is outcome.comparison
            outcome = replace(outcome, comparison=comparison, grade=grade, is_untold=is_untold)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 (the report says so)
            outcome = Outcome(unjudged(failure(error), None), "")
        closed = conclude(finding, case, outcome)
        if outcome.is_untold or closed.verdict is Verdict.DISAGREES:
            near[id(closed)] = function = case.owner[0]
            off[function] = max(off.get(function, 0.0), closed.comparison.relative_error)
        return closed

    def conclude(finding: Accused, case: Case, outcome: Outcome) -> Finding:
        told.update(_told(finding, case, outcome.comparison))
        if outcome.comparison.verdict is Verdict.DISAGREES:
            guilty.add(case.owner)
            is_zero = case.expected is not None or outcome.comparison.expected == 0
            advice = finding.advice if is_zero and case.iteration is None else ""
            outcome = replace(outcome, grade=outcome.grade + case.tried)
            return _closed(finding, outcome, advice)
        shown = outcome.is_untold or outcome.grade.startswith(ALONG)
        unlike = case.expected is not None and case.otherwise is None and not shown
        if outcome.kinds or unlike:
            trusted.add(finding.node)
        return _closed(finding, outcome)

    given = tracked("measuring the slopes of functions", [*findings])
    closed = [one(f) if isinstance(f, Accused) else f for f in given]
    said = [declarable(f, name, off[name]) if (name := near.get(id(f))) else f for f in closed]
    return Settled(said, trusted, told)


def unmeasured(findings: Sequence[Finding]) -> Settled:
    """Leave what waits for slopes in doubt: an interrupt left no time for them."""
    doubt = Outcome(unjudged("interrupted before the slopes of its function were measured"), "")
    waiting = [f for f in findings if isinstance(f, Accused)]
    ends = {id(f): f.case if isinstance(f.case, Outcome) else doubt for f in waiting}
    closed = [_closed(f, ends[id(f)]) if isinstance(f, Accused) else f for f in findings]
    return Settled(closed, {f.node for f in waiting if isinstance(f.case, Outcome)}, {})


def _told(
    finding: Accused, case: Case, comparison: Comparison
) -> dict[tuple[int | None, ...], Comparison]:
    if comparison.verdict is not Verdict.DISAGREES and comparison.reason != OWN:
        return {}
    return {(finding.sweep, finding.node, finding.tensor_nr, n): comparison for n in case.sent}


def _closed(finding: Accused, outcome: Outcome, advice: str = "") -> Finding:
    given: dict[str, Any] = {n: getattr(finding, n) for n in Finding.__dataclass_fields__}
    given |= {"comparison": outcome.comparison, "grade": outcome.grade, "advice": advice}
    return Finding(**given) if outcome.kinds is None else Along(**given, kinds=outcome.kinds)


def _settled(case: Case, *, known: bool) -> Outcome:
    if case.by_rules is None or case.reason:
        return _by_slopes(case)
    if case.expected is None or known:
        return Outcome(case.by_rules, NORMWISE)
    try:
        claim = case.claim()
        name = explaining(case.by_rules, claim.at, claim.sent, case.expected, claim.dtype)
        if name:
            return along_only(name, case.by_rules)
        case.require()
        own = _by_own_formula(case, claim)
        if own is not None:
            return own
        verdict = between(case.again, claim, case.expected)
    except Unjudgeable as why:
        return _unmeasured(case, str(why))
    return _by_both(case, claim, case.by_rules, verdict)


def _by_both(case: Case, claim: Claim, by_rules: Comparison, verdict: Verdict) -> Outcome:
    """Judge what the rules refute by what slopes say of it."""
    if verdict is Verdict.DISAGREES:
        return _tangential(case, claim, by_rules) or Outcome(by_rules, _CONFIRMED)
    if verdict is Verdict.INCONCLUSIVE:
        if case.iteration is not None or case.otherwise is not None:
            return _unmeasured(case, "its slopes cannot tell the two apart")
        return Outcome(opened(by_rules, ""), "", is_untold=True)
    comparison = measure(case.again, claim)
    if comparison.verdict is Verdict.DISAGREES:
        return Outcome(by_rules, _CONFIRMED)
    agrees = comparison.verdict is Verdict.AGREES
    return Outcome(comparison, _SUPPORTED.format(count=comparison.size) if agrees else "")


def _by_own_formula(case: Case, claim: Claim) -> Outcome | None:
    """Judge in 16 bits by the function's own formula in float64; None if that tells nothing."""
    if claim.dtype not in SHORT.values() or case.iteration is not None:
        return None
    assert case.by_rules is not None  # noqa: S101 (the caller has looked)
    coarse = case.otherwise or case.by_rules
    try:
        found, grade = by_own_formula(case.again, claim, coarse)
    except Unjudgeable:
        return None
    if found.verdict is Verdict.DISAGREES:
        return _by_both(case, claim, case.by_rules, found.verdict)
    return Outcome(found, grade) if grade else None


def _unmeasured(case: Case, why: str) -> Outcome:
    """Judge by the rules alone: they refute unless something speaks against their question."""
    assert case.by_rules is not None  # noqa: S101 (the caller has looked)
    if case.otherwise is not None:
        return Outcome(case.otherwise, NORMWISE)
    if case.iteration is None:
        return Outcome(case.by_rules, f"{NORMWISE}; not measured: {why}")
    reason = f"not the derivative of the recorded forward, but {ITERATES}: {why}"
    return Outcome(opened(case.by_rules, reason), "")


def _tangential(case: Case, claim: Claim, plain: Comparison) -> Outcome | None:
    """Judge along the directions in which an operand may move, if the claim lies in them."""
    for along in directions(case.again, claim):
        comparison = measure(case.again, claim, along.project)
        if comparison.verdict is Verdict.AGREES:
            return along_only(along.name, comparison)
    return _by_groups(case, claim, plain)


def _by_groups(case: Case, claim: Claim, plain: Comparison) -> Outcome | None:
    """Judge along Lie groups, if the claim is a gradient along them, or nearer to one than plain.

    One that is right only to the tolerance that was declared gives way to one that is right.
    """
    if not case.sent:
        # No gradient at all follows no convention.
        return None
    pairs = [
        None if g is None or value is None or value.array is None else (wide(value.array), g)
        for value, g in zip(claim.outputs, claim.incoming, strict=False)
    ]
    unit = unit_roundoff(claim.dtype)
    near: Outcome | None = None
    for convention in conventions((claim.at, claim.sent), pairs, unit, case.retracts):
        chart, results = convention.operand, convention.results
        arrived = [
            results[k].to_numbers(g) if k in results else g for k, g in enumerate(claim.incoming)
        ]
        unsettled = claim.unsettled + convention.inexact
        told = replace(claim, incoming=arrived, unsettled=unsettled)
        if chart is None:
            comparison = measure(case.again, told)
        else:
            told = replace(told, sent=chart.to_numbers(claim.sent), move=chart.move)
            comparison = measure(case.again, told, chart.project)
        kinds = convention.kinds
        said = f"by slopes ({comparison.size} directions, float64) {kinds}"
        outcome = Outcome(comparison, said, kinds)
        if comparison.verdict is Verdict.AGREES:
            return outcome
        tolerated = outcome.within(case.tolerance, case.size(), plain)
        if tolerated.comparison.verdict is Verdict.AGREES:
            plain, near = comparison, tolerated
    return near


def along_only(name: str, comparison: Comparison) -> Outcome:
    """Leave open what is right along some directions: `without_unfelt` asks whether more counts."""
    grade = f"{ALONG} {name} directions only"
    return Outcome(opened(comparison, f"{grade}, and nothing keeps the argument there"), grade)


def _by_slopes(case: Case) -> Outcome:
    """Judge where the rules cannot: by slopes alone."""
    array = case.again.values[case.sent[0]].array if case.sent else None
    try:
        case.require()
        claim = case.claim()
        comparison = measure(case.again, claim)
    except Unjudgeable as why:
        return Outcome(unjudged(f"{case.reason}; {why}", array), "")
    if comparison.verdict is Verdict.DISAGREES and case.reason.startswith(TOO_WIDE):
        # Rounding alone may have sent it: slopes in float64 know nothing of that.
        return Outcome(
            unjudged(f"{case.reason}; its slopes differ, but within the bound", array), ""
        )
    if comparison.verdict is Verdict.DISAGREES:
        along = _tangential(case, claim, comparison)
        if along is not None:
            return along
    agreed = case.by_rules is None or case.by_rules.verdict is Verdict.AGREES
    # Their bounds are those of each element.
    by_rules = case.by_rules if case.constants and agreed else None
    if case.constants and agreed and comparison.verdict is Verdict.DISAGREES:
        comparison = opened(comparison, case.constants)
    elif comparison.verdict is Verdict.INCONCLUSIVE and not (
        by_rules and comparison.reason == HIDDEN
    ):
        comparison = opened(comparison, f"{case.reason}; {comparison.reason}")
    elif by_rules:
        return Outcome(by_rules, NORMWISE)
    grade = ""
    if math.isfinite(comparison.detects):
        grade = f"{GRADE.format(count=comparison.size)}, since {case.reason}"
    return Outcome(comparison, grade)


def opened(comparison: Comparison, reason: str) -> Comparison:
    """Return a comparison as one that could not be judged."""
    return replace(comparison, verdict=Verdict.INCONCLUSIVE, reason=reason, refuted=0)
