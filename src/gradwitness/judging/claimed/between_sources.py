"""Two sources of gradients against each other, without a program.

How far two right ones may lie apart depends on the computation, which is not known here. So there
are three zones, and none of them is a proof. With u the unit roundoff of the coarser format, n the
number of tensors, and distances beyond the printed digits taken over the tensor's largest number:

- up to 2 n u (one rounding for each tensor, forward and backward; 8 u at least) they agree;
- beyond sqrt(u), half of all digits, they disagree;
- between, nobody can tell: a recorded program can (`gradwitness check --claims`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.claims.align import align_runs
from gradwitness.engine.floats import unit_roundoff
from gradwitness.judging.claimed.judge import ClaimReport, Reference, judge_run
from gradwitness.judging.claimed.references import computed_in, require_format

if TYPE_CHECKING:
    from gradwitness.claims.claim import Claim, Claims, Run

_LEAST = 8  # roundings


def compare_runs(
    first: Claims, second: Claims, dtype: str | None = None
) -> tuple[ClaimReport, ...]:
    """Judge each run of the second source against that of the first.

    Parameters
    ----------
    first, second : Claims
        Of several runs, those that belong together: see `align_runs`.
    dtype : str, optional
        The coarser of the formats that they were computed in; else as the sources tell.
    """
    require_format(dtype)
    reports = []
    for number, (i, j) in enumerate(align_runs(first, second)):
        notes = () if number else (*first.notes, *second.notes)
        names = (_named(first, i), _named(second, j))
        reports.append(_pair(first.runs[i], second.runs[j], dtype, *names, notes))
    return tuple(reports)


def _named(claims: Claims, run: int) -> str:
    return claims.source + f", run {run + 1}" * (len(claims.runs) > 1)


def _pair(
    a: Run, b: Run, dtype: str | None, against: str, source: str, notes: tuple[str, ...]
) -> ClaimReport:
    if dtype is None:
        known = [computed_in(run, "float32") for run in (a, b)]
        said = (f"{name}: {why}" for name, (_, why) in zip((against, source), known, strict=True))
        notes = (*notes, *(text for text, (_, why) in zip(said, known, strict=True) if why))
        dtype = max((found for found, _ in known), key=unit_roundoff)
    unit = unit_roundoff(dtype)
    few = max(_LEAST, 2 * len(a)) * unit
    return judge_run(
        b,
        {name: _reference(claim, few, math.sqrt(unit)) for name, claim in a.items()},
        dtype,
        source=source,
        against=against,
        grade=f"no program: agreement to {few:.1e}, disagreement beyond {math.sqrt(unit):.1e}",
        notes=notes,
    )


def _reference(claim: Claim, few: float, most: float) -> Reference:
    value = claim.array.astype(np.float64)
    largest = float(np.max(np.abs(value), initial=0.0))
    allowance = np.broadcast_to(few * largest + np.asarray(claim.rounding), value.shape)
    doubt = "" if claim.is_whole else "entries are left out on the other side"
    return Reference(value, allowance, doubt, not claim.is_whole, doubtful_to=most)
