"""Somebody else's gradients against what they should be, number by number.

A number confirms something only if it is larger than what it may be off by: the rounding of the
arithmetic that made it, and that of the digits in which it was written down. What is smaller might
as well have been left out. A tensor agrees if no number lies outside its allowance, and at least
half of those that are not zero confirm something: an agreement that most of a tensor has no part in
is none (`ENOUGH`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.claims.align import align
from gradwitness.diagnose.case import Case, Exhibit
from gradwitness.diagnose.hypotheses.unsafe import unsafe_program
from gradwitness.diagnose.inlined_functions import diagnose_inlined
from gradwitness.diagnose.suspects import untried
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, unit_roundoff
from gradwitness.engine.replay import confirmed_digits
from gradwitness.judging.compare import CANCELS, TOO_LITTLE, Comparison, compare, mismatch, unjudged
from gradwitness.judging.finding import Coverage
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradwitness.claims.claim import Claim, Run
    from gradwitness.diagnose.rank import Cause
    from gradwitness.engine.replay import Replay
    from gradwitness.tape import Tape

# The share of a tensor's numbers, other than zeros, that must confirm it.
ENOUGH = 0.5
# A claimed zero confirms a true one if it is known to so much of the tensor's largest number.
_ZERO = 1 / 16


@dataclass(frozen=True)
class Reference:
    """What one gradient should be.

    Attributes
    ----------
    value, allowance : ndarray
        float64: the numbers, and how far arithmetic may bring right ones from them.
    doubt : str
        Why the witness cannot vouch for it; empty if it can.
    is_part : bool
        Whether entries are missing, so that its shape says nothing.
    cancels : bool
        Whether its terms are known to cancel, so that it is zero within rounding.
    doubtful_to : float
        The distance up to which a claim is in doubt and not wrong, relative to the largest number;
        0 where the allowance is derived.
    """

    value: NDArray[np.float64]
    allowance: NDArray[np.float64]
    doubt: str = ""
    is_part: bool = False
    cancels: bool = False
    doubtful_to: float = 0.0


@dataclass(frozen=True)
class Program:
    """Where references come from, if a program was recorded."""

    tape: Tape
    replay: Replay
    sweep: int


@dataclass(frozen=True)
class ClaimRow:
    """The judgement of one claimed gradient.

    Attributes
    ----------
    name : str
        Of the gradient that it is about.
    claimed_as : str
        Its name in the source.
    shape : tuple of int
        That it should have.
    verdict : Verdict
    reason : str
        Why it is INCONCLUSIVE, or what is wrong beyond the figures; empty where they say it.
    inherited : bool
        Whether another gradient's fault explains this one's.
    comparison : Comparison
        Recorded is the claim, expected the reference.
    digits : float
        Decimal digits to which both are the same, normwise; nan if they cannot be compared.
    coverage : Coverage
        How many of its numbers confirm anything, of how many there are.
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


@dataclass(frozen=True)
class ClaimReport:
    """What one run of claims came to.

    Attributes
    ----------
    source, against : str
        What claims, and what it was judged against.
    dtype : str
        The format that the claims are taken to be computed in.
    grade : str
        What the allowances rest on.
    rows : tuple of ClaimRow
        In the order of the forward pass.
    unclaimed, unknown : tuple of str
        Gradients that nothing was said of; claims that belong to no gradient.
    notes : tuple of str
        How the source was understood.
    causes : tuple of Cause
        Why claims are wrong, best first; empty where no explanation fits.
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

    @property
    def verdict(self) -> Verdict:
        """The worst of all; what was not claimed is INCONCLUSIVE, and so is no claim at all."""
        missing = [Verdict.INCONCLUSIVE] * bool(self.unclaimed)
        return worst([row.verdict for row in self.rows] + missing)

    @property
    def exit_code(self) -> int:
        """Exit code of a command that found this."""
        return self.verdict.exit_code

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
        What the references come from.
    """
    pairs = align(run, {name: ref.value.shape for name, ref in references.items()})
    largest = max((_largest(ref.value) for ref in references.values()), default=0.0)
    rows, exhibits = [], {}
    for name, reference in references.items():
        claim = pairs.pairs.get(name)
        if claim is None:
            continue
        row = _row(name, claim, reference, dtype, largest)
        rows.append(row)
        if claim.is_whole and reference.value.dtype.kind != "c":
            # Of what was left out nobody knows what was wrong with it.
            exhibits[name] = _exhibit(row, claim, reference)
    causes: tuple[Cause, ...] = ()
    if any(exhibit.refuted for exhibit in exhibits.values()):
        known = (program.tape, program.replay, program.sweep) if program else (None, None, 0)
        case = Case(exhibits, *known)
        causes = diagnose_inlined(case)
        left_out = untried(case)
        notes = (*notes, left_out) if left_out else notes
    if program:
        notes += unsafe_program(exhibits, program.tape, program.replay, program.sweep)
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
        (*notes, *pairs.notes),
        causes,
    )


def _row(
    name: str, claim: Claim, reference: Reference, dtype: str, largest_of_all: float
) -> ClaimRow:
    value, allowance = reference.value, reference.allowance
    shown = _shown(claim, value.shape)
    size = value.size
    if shown is None:
        # Where entries are missing on the other side, another shape is no mistake.
        said = _shape_said(claim.array.shape, value.shape)
        c = unjudged(reference.doubt) if reference.is_part else mismatch(said, claim.array)
        figures = (False, c, math.nan, Coverage(0, size))
        return ClaimRow(name, claim.name, value.shape, c.verdict, c.reason, *figures)
    if not claim.is_whole:
        value, allowance = value[shown], allowance[shown]
    allowance = allowance + claim.rounding
    comparison = _compared(claim.array, value, allowance, dtype)
    confirming = _confirming(value, allowance)
    coverage = Coverage(int(np.count_nonzero(confirming)), size)
    verdict, reason = comparison.verdict, comparison.reason
    if reason == TOO_LITTLE:
        verdict, reason = Verdict.AGREES, ""
    if verdict is Verdict.DISAGREES and _between(claim, value, reference):
        verdict = Verdict.INCONCLUSIVE
        reason = "too far for a few roundings, too near for a mistake: check --claims can tell"
    elif verdict is Verdict.AGREES:
        scale = math.sqrt(unit_roundoff(dtype)) * largest_of_all
        if reference.cancels and bool(np.all(allowance <= scale)):
            reason = CANCELS
        else:
            reason = _too_silent(claim, value, confirming)
        if not claim.is_whole:
            reason = f"entries left out in the source: {claim.array.size} of {size} are shown"
        reason = reference.doubt or reason
        verdict = Verdict.AGREES if reason in ("", CANCELS) else Verdict.INCONCLUSIVE
    # Where nothing is the same there are no digits, and not less than none; nan stays nan.
    digits = max(confirmed_digits(claim.array, value), 0.0) if value.size else math.nan
    return ClaimRow(
        name,
        claim.name,
        reference.value.shape,
        verdict,
        reason,
        False,
        replace(comparison, verdict=verdict, reason=reason),
        digits,
        coverage,
    )


def _compared(
    claimed: NDArray[Any], value: NDArray[np.float64], allowance: NDArray[np.float64], dtype: str
) -> Comparison:
    expected = Bounded(value, Arithmetic.stepwise(dtype), allowance, allowance)
    return compare(claimed, expected, dtype)


def _between(claim: Claim, value: NDArray[np.float64], reference: Reference) -> bool:
    """Whether a distance is more than a few roundings, but may still be what rounding does."""
    if not reference.doubtful_to:
        return False
    gap = np.abs(claim.array.astype(np.float64) - value) - claim.rounding
    return bool(np.all(gap <= reference.allowance + reference.doubtful_to * _largest(value)))


def _confirming(value: NDArray[np.float64], allowance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which numbers stand out of their allowance; zeros, if they are known well enough."""
    zero = (value == 0) & (allowance <= _ZERO * _largest(value))
    return np.asarray((np.abs(value) > allowance) | zero)


def _too_silent(claim: Claim, value: NDArray[np.float64], confirming: NDArray[np.bool_]) -> str:
    """Return why a tensor's numbers confirm too little, or an empty string."""
    # Where all are zero, all count.
    counted = value != 0 if value.any() else np.ones(value.shape, dtype=bool)
    if np.count_nonzero(confirming & counted) >= ENOUGH * np.count_nonzero(counted):
        return ""
    silent = counted & ~confirming
    rounding = np.broadcast_to(claim.rounding, value.shape)
    zeros = silent & (claim.array == 0) & (rounding > 0)
    if 2 * np.count_nonzero(zeros) >= np.count_nonzero(silent):
        share = np.count_nonzero(zeros) / value.size
        unit = 2 * float(np.max(rounding[zeros]))
        written = f"{0:.{max(0, round(-math.log10(unit)))}f}"
        return (
            f"{share:.0%} of the entries read {written} at the printed precision: they confirm "
            "nothing"
        )
    share = np.count_nonzero(silent) / value.size
    return f"{share:.0%} of the entries are smaller than their rounding: they confirm nothing"


def _shown(claim: Claim, shape: tuple[int, ...]) -> tuple[Any, ...] | None:
    """Return the part of a reference that a claim shows, or None if it has another shape."""
    have = claim.array.shape
    if claim.is_whole:
        return () if have == shape else None
    gaps = (*claim.gaps, *[None] * (len(have) - len(claim.gaps)))
    if len(have) != len(shape) or any(
        n > m if gap is not None else n != m for n, m, gap in zip(have, shape, gaps, strict=True)
    ):
        return None
    places = [
        np.arange(n) + (0 if gap is None else (m - n) * (np.arange(n) >= gap))
        for n, m, gap in zip(have, shape, gaps, strict=True)
    ]
    return np.ix_(*places)


def _shape_said(have: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    said = f"shape {have}, expected {wanted}"
    return f"{said}: it is that of the transpose" if have == wanted[::-1] else said


def _exhibit(row: ClaimRow, claim: Claim, reference: Reference) -> Exhibit:
    """Return what a hypothesis sees of a claim."""
    given = claim.array.astype(np.float64)
    allowance: NDArray[np.float64] | float = reference.allowance
    if given.shape == reference.value.shape:
        allowance = reference.allowance + claim.rounding
    elif given.size == reference.value.size:
        # Which number was rounded how is lost with the shape.
        given = given.reshape(reference.value.shape)
        allowance = reference.allowance + np.max(claim.rounding, initial=0.0)
    refuted = row.verdict is Verdict.DISAGREES
    return Exhibit(row.name, reference.value, given, allowance, refuted)


def _largest(array: NDArray[np.float64]) -> float:
    return float(np.max(np.abs(array), initial=0.0))
