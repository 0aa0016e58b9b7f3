"""Somebody else's gradients compared with what they should be, number by number.

A number confirms something only if it is larger than its possible error: the rounding of the
arithmetic, and that of the printed digits. A smaller one might as well have been left out. A tensor
agrees if no number lies outside its allowance, and at least half of the non-zero numbers confirm
something (`ENOUGH`): an agreement in which most of a tensor has no part is none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._printable import listed
from gradwitness.claims.align import align
from gradwitness.claims.decimals import with_decimals
from gradwitness.claims.layout import shortened, unmerged
from gradwitness.engine.floats import unit_roundoff
from gradwitness.engine.replay import digits_of
from gradwitness.files.mapping import pieces
from gradwitness.judging.claimed.distances import extent
from gradwitness.judging.claimed.explaining import explain
from gradwitness.judging.claimed.figures import figures
from gradwitness.judging.compare import CANCELS, TOO_LITTLE, mismatch, unjudged
from gradwitness.judging.finding import Coverage
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradwitness.claims.claim import Claim, Run
    from gradwitness.diagnose.rank import Cause
    from gradwitness.engine.replay import Replay
    from gradwitness.judging.claimed.figures import Figures
    from gradwitness.judging.compare import Comparison
    from gradwitness.tape import Tape

_LEFT_OUT = "the source leaves entries out: it shows {} of {}"


@dataclass(frozen=True)
class Reference:
    """The right value of a gradient.

    Attributes
    ----------
    value : ndarray
        The numbers, in any format.
    allowance : ndarray or float
        How far rounding may move right claims from them, apart from ``share``.
    doubt : str
        Why the witness cannot vouch for it; empty if it can.
    is_part : bool
        Whether entries are missing, so that its shape says nothing.
    cancels : bool
        Whether its terms cancel, so that it is zero within rounding.
    doubtful_to : float
        The distance up to which a claim is in doubt and not wrong, relative to the largest number;
        0 where the allowance is derived, inf where nothing can be refuted.
    rounding : ndarray or float
        How much of the allowance is for digits of the value itself that were not written down.
    decimals : int
        To how many decimals the value was rounded, beyond what its source says; 0 if it was not.
    share : float
        The share of the largest number that rounding may move right claims besides.
    """

    value: NDArray[Any]
    allowance: NDArray[np.float64] | float
    doubt: str = ""
    is_part: bool = False
    cancels: bool = False
    doubtful_to: float = 0.0
    rounding: NDArray[np.float64] | float = 0.0
    decimals: int = 0
    share: float = 0.0

    def allowed(self, largest: float) -> NDArray[np.float64] | float:
        """Return how far rounding may move right claims, if that is the largest number."""
        return self.share * largest + self.allowance if self.share else self.allowance


@dataclass(frozen=True)
class Program:
    """The recorded program that references come from."""

    tape: Tape
    replay: Replay
    sweep: int


@dataclass(frozen=True)
class ClaimRow:
    """The judgement of one claimed gradient.

    Attributes
    ----------
    name : str
        Of the gradient claimed.
    claimed_as : str
        Its name in the source.
    shape : tuple of int
        The shape it should have.
    verdict : Verdict
    reason : str
        Why it is INCONCLUSIVE, or what is wrong beyond the figures; empty where they say it.
    inherited : bool
        Whether another gradient's fault explains this one's.
    comparison : Comparison
        Recorded is the claim, expected the reference.
    digits : float
        Decimal digits in which both agree, normwise; nan if they cannot be compared.
    coverage : Coverage
        How many of its numbers confirm something, of how many there are.
    """

    name: str
    claimed_as: str
    shape: tuple[int, ...]
    verdict: Verdict
    reason: str
    inherited: bool
    comparison: Comparison
    digits: float
    coverage: Coverage

    def verdict_to(self, digits: float | None) -> Verdict:
        """Return the verdict where a disagreement with so many right digits is let pass."""
        return self.comparison.verdict_to(digits)


@dataclass(frozen=True)
class ClaimReport:
    """The judgement of one run of claims.

    Attributes
    ----------
    source, against : str
        Who claims, and what the claims were compared with.
    dtype : str
        The format that the claims are assumed to be computed in.
    grade : str
        What the allowances rest on.
    rows : tuple of ClaimRow
        In the order of the forward pass.
    unclaimed, unknown : tuple of str
        Gradients without a claim; claims that match no gradient.
    notes : tuple of str
        How the source was understood.
    causes : tuple of Cause
        Why claims are wrong, best first; empty where no explanation fits.
    digits : float or None
        What is `required`: a disagreement with so many right digits is let pass.
    """

    source: str
    against: str
    dtype: str
    grade: str
    rows: tuple[ClaimRow, ...]
    unclaimed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    digits: float | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of all; an unclaimed gradient counts as INCONCLUSIVE, and so does no claim."""
        return self._verdict_to(None)

    @property
    def required(self) -> Verdict:
        """The verdict to which the required digits lead: what exit codes and `require` follow."""
        return self._verdict_to(self.digits)

    def _verdict_to(self, digits: float | None) -> Verdict:
        missing = [Verdict.INCONCLUSIVE] * bool(self.unclaimed)
        return worst([row.verdict_to(digits) for row in self.rows] + missing)

    @property
    def exit_code(self) -> int:
        """Exit code of a command with this report."""
        return self.required.exit_code

    @property
    def wrong(self) -> tuple[ClaimRow, ...]:
        """The refuted claims."""
        return tuple(row for row in self.rows if row.verdict is Verdict.DISAGREES)

    @property
    def first_wrong(self) -> ClaimRow | None:
        """The first refuted claim in the order of the backward pass, which ends at the inputs."""
        return self.wrong[-1] if self.wrong else None


def judge_run(
    run: Run,
    references: Mapping[str, Reference],
    dtype: str,
    *,
    source: str,
    against: str,
    grade: str,
    notes: tuple[str, ...] = (),
    program: Program | None = None,
) -> ClaimReport:
    """Judge claims, and explain the wrong ones.

    Parameters
    ----------
    run : Run
    references : mapping of str to Reference
        In the order of the forward pass.
    dtype : str
        The format that the claims were computed in.
    source, against, grade, notes
        As in `ClaimReport`.
    program : Program, optional
        The program that the references come from.
    """
    run, decimals = with_decimals(run)
    pairs = align(run, {name: ref.value.shape for name, ref in references.items()})
    largest = 0.0
    if any(reference.cancels for reference in references.values()):
        largest = max(extent(reference.value)[0] for reference in references.values())
    rows, whole = [], {}
    remarks: dict[str, list[str]] = {}
    for name, reference in references.items():
        claim = pairs.pairs.get(name)
        if claim is None:
            continue
        claim, how = unmerged(shortened(claim, reference.value.shape), reference.value)
        row = _row(name, claim, reference, dtype, largest)
        rows.append(row)
        for remark in (how, _cut(row, reference, decimals.get(claim.name, 0))):
            remarks.setdefault(remark, []).append(name)
        if claim.is_whole and reference.value.dtype.kind != "c":
            # What is wrong with entries left out cannot be known.
            whole[name] = row, claim, reference
    causes, explained = explain(whole, program)
    notes += explained
    notes += tuple(f"{listed(names)}: {how}" for how, names in remarks.items() if how)
    guilty = {name for cause in causes for name in cause.guilty}
    inherited = {name for cause in causes for name in cause.inherited} - guilty
    return ClaimReport(
        source,
        against,
        dtype,
        grade,
        tuple(replace(row, inherited=row.name in inherited) for row in rows),
        tuple(pairs.unclaimed),
        tuple(claim.name for claim in pairs.unknown),
        (*notes, *pairs.notes, *pairs.layouts),
        causes,
    )


def _row(
    name: str, claim: Claim, reference: Reference, dtype: str, largest_of_all: float
) -> ClaimRow:
    shape, size = reference.value.shape, reference.value.size
    part = _visible_part(claim, shape)
    if part is None:
        # Where entries are missing, a different shape is not a mistake.
        c = mismatch(_shape_text(claim.array.shape, shape), claim.array)
        if reference.is_part:
            c = unjudged(reference.doubt)
        elif claim.is_open and claim.array.size < size:
            c = unjudged(_LEFT_OUT.format(claim.array.size, size))
        rest = (False, c, math.nan, Coverage(0, size))
        return ClaimRow(name, claim.name, shape, c.verdict, c.reason, *rest)
    of = figures(claim, reference, part, dtype)
    comparison = of.comparison
    verdict, reason = comparison.verdict, comparison.reason
    if reason == TOO_LITTLE:
        verdict, reason = Verdict.AGREES, ""
    if verdict is Verdict.DISAGREES and _between(claim, reference, of):
        verdict = Verdict.INCONCLUSIVE
        reason = (
            reference.doubt
            if math.isinf(reference.doubtful_to)
            else "too far for a few roundings, too close for a mistake: check --claims can tell"
        )
    elif verdict is Verdict.AGREES:
        scale = math.sqrt(unit_roundoff(dtype)) * largest_of_all
        if reference.cancels and bool(np.all(of.allowed + claim.rounding <= scale)):
            reason = CANCELS
        else:
            reason = of.confirming.too_silent()
        if not claim.is_whole:
            reason = _LEFT_OUT.format(claim.array.size, size)
        reason = reference.doubt or reason
        verdict = Verdict.AGREES if reason in ("", CANCELS) else Verdict.INCONCLUSIVE
    # No digits in common count as 0, never as less; nan stays nan.
    digits = max(digits_of(of.gap, of.largest), 0.0) if claim.array.size else math.nan
    return ClaimRow(
        name,
        claim.name,
        shape,
        verdict,
        reason,
        False,
        replace(comparison, verdict=verdict, reason=reason),
        digits,
        Coverage(of.confirming.count, size),
    )


def _cut(row: ClaimRow, reference: Reference, decimals: int) -> str:
    """Return a remark on a gradient that is right only as far as its decimals go, or nothing."""
    k = min(filter(None, (decimals, reference.decimals)), default=0)
    if not k or row.comparison.refuted:
        return ""
    allowed = reference.allowed(extent(reference.value)[0])
    if not row.comparison.error > np.max(allowed - reference.rounding, initial=0.0):
        return ""
    return f"rounded to {k} decimals, which is no fault: right as far as these go"


def _between(claim: Claim, reference: Reference, of: Figures) -> bool:
    """Whether distances exceed a few roundings, but may still be due to rounding."""
    if math.isinf(reference.doubtful_to):
        return True
    if not reference.doubtful_to:
        return False
    most = np.asarray(of.allowed + reference.doubtful_to * of.largest)
    with np.errstate(all="ignore"):
        return all(
            np.all(np.abs(c - v) - rounding <= far)
            for c, v, rounding, far in pieces(
                claim.array, of.value, np.asarray(claim.rounding), most
            )
        )


def _visible_part(claim: Claim, shape: tuple[int, ...]) -> tuple[Any, ...] | None:
    """Return the index of the part that a claim shows, or None if its shape does not fit."""
    claimed = claim.array.shape
    if claim.is_whole:
        return () if claimed == shape else None
    all_gaps = (*claim.gaps, *[None] * (len(claimed) - len(claim.gaps)))
    if len(claimed) != len(shape) or any(
        n > m if gap is not None else n != m
        for n, m, gap in zip(claimed, shape, all_gaps, strict=True)
    ):
        return None
    indices = [
        np.arange(n) + (0 if gap is None else (m - n) * (np.arange(n) >= gap))
        for n, m, gap in zip(claimed, shape, all_gaps, strict=True)
    ]
    return np.ix_(*indices)


def _shape_text(claimed: tuple[int, ...], expected: tuple[int, ...]) -> str:
    text = f"shape {claimed}, expected {expected}"
    return f"{text}: transposed" if claimed == expected[::-1] else text
