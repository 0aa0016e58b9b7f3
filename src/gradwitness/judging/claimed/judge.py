"""Somebody else's gradients compared with what they should be, number by number.

A number confirms something only if it is larger than its possible error: the rounding of the
arithmetic, and that of the printed digits. A smaller one might as well have been left out. A tensor
agrees if no number lies outside its allowance, and at least half of the non-zero numbers confirm
something (`ENOUGH`): an agreement in which most of a tensor has no part is none.
"""

from __future__ import annotations

import math
from dataclasses import replace
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
from gradwitness.judging.claimed.reports import ClaimReport as ClaimReport
from gradwitness.judging.claimed.reports import ClaimRow as ClaimRow
from gradwitness.judging.claimed.reports import Program as Program
from gradwitness.judging.claimed.reports import Reference as Reference
from gradwitness.judging.comparing.compare import CANCELS, TOO_LITTLE, mismatch, unjudged
from gradwitness.judging.finding import Coverage
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradwitness.claims.claim import Claim, Run
    from gradwitness.judging.claimed.figures import Figures

_HALF = 0.5  # of a unit, which is how far a whole number was rounded
_LEAST_OF_SIX_DIGITS = 1e5  # from here on ``%g`` prints no decimals
_LEFT_OUT = "the source leaves entries out: it shows {} of {}"
_WHOLE = (
    "printed without decimals: right if rounded to whole numbers, wrong if not. Print it with "
    "decimals"
)


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
        if _rests_on_whole_numbers(claim, reference, of):
            reason = _WHOLE
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
        # Nothing that is said of a claim rests on its norm, which would take a pass of its own.
        replace(comparison, verdict=verdict, reason=reason, norm=math.nan),
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
    if not (reference.doubtful_to and math.isfinite(of.comparison.error)):
        return False
    most = of.allowed + reference.doubtful_to * of.largest + claim.rounding
    if not isinstance(most, np.ndarray):
        return bool(of.comparison.error <= most)
    with np.errstate(all="ignore"):
        # NaN that is not refuted stands on both sides.
        return not any(
            np.any(np.abs(c - v) > far) for c, v, far in pieces(claim.array, of.value, most)
        )


def _rests_on_whole_numbers(claim: Claim, reference: Reference, of: Figures) -> bool:
    """Whether a tensor is right only if printing rounded it, or the other one, to whole numbers.

    ``48`` may be printed by ``%.0f``, which drops half a unit, or be all there is: an example's.
    """
    sides = (claim.array, claim.rounding), (of.value, reference.rounding)
    dropped = sum(_HALF for side in sides if _is_whole(*side))
    if not dropped:
        return False
    with np.errstate(all="ignore"):
        most = of.allowed + claim.rounding - dropped
        return bool(np.any(np.abs(claim.array - of.value) > most))


def _is_whole(array: NDArray[Any], rounding: NDArray[np.float64] | float) -> bool:
    """Whether all numbers were printed without decimals, for which ``%g`` would have had room."""
    if not array.size or not np.all(rounding == _HALF):
        return False
    return bool(np.all(np.rint(array) == array) and np.abs(array).min() < _LEAST_OF_SIX_DIGITS)


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
