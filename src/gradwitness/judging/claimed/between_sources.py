"""Two sources of gradients compared with each other, without a program.

How far apart two right ones may lie depends on the computation, which is not known here. So there
are three zones, none of them a proof. With u the unit roundoff of the coarser format, n the
number of tensors, and distances beyond the printed digits taken over the tensor's largest number:

- up to 2 n u (one rounding for each tensor, forward and backward; 8 u at least) they agree;
- beyond sqrt(u), half of the digits, they disagree;
- in between, only a recorded program can tell (`gradwitness check --claims`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from gradwitness.claims.align import align, align_runs
from gradwitness.claims.decimals import with_decimals
from gradwitness.claims.layout import shortened, unmerged
from gradwitness.claims.names import forward_order
from gradwitness.engine.floats import unit_roundoff
from gradwitness.judging.claimed.judge import ClaimReport, Reference, judge_run
from gradwitness.judging.claimed.references import computed_in, require_format

if TYPE_CHECKING:
    from gradwitness.claims.claim import Claims, Run

_LEAST = 8  # roundings


def compare_runs(
    first: Claims, second: Claims, dtype: str | None = None
) -> tuple[ClaimReport, ...]:
    """Judge each run of the second source against that of the first.

    Parameters
    ----------
    first, second : Claims
        Several runs are matched by `align_runs`.
    dtype : str, optional
        The coarser of the formats that they were computed in; else read from the sources.
    """
    require_format(dtype)
    reports = []
    for number, (i, j) in enumerate(align_runs(first, second)):
        notes = () if number else (*first.notes, *second.notes)
        names = (_named(first, i), _named(second, j))
        reports.append(_pair(first.runs[i], second.runs[j], dtype, *names, notes))
    return tuple(reports)


def _named(claims: Claims, index: int) -> str:
    return claims.source + f", run {index + 1}" * (len(claims.runs) > 1)


def _pair(
    a: Run, b: Run, dtype: str | None, against: str, source: str, notes: tuple[str, ...]
) -> ClaimReport:
    if dtype is None:
        formats = [computed_in(run, "float32") for run in (a, b)]
        texts = (
            f"{name}: {why}" for name, (_, why) in zip((against, source), formats, strict=True)
        )
        notes = (*notes, *(text for text, (_, why) in zip(texts, formats, strict=True) if why))
        dtype = max((fmt for fmt, _ in formats), key=unit_roundoff)
    a, layouts = _in_layout_of(b, a)
    notes = (*notes, *layouts)
    unit = unit_roundoff(dtype)
    near = max(_LEAST, 2 * len(a)) * unit
    report = judge_run(
        b,
        _references(a, near, math.sqrt(unit)),
        dtype,
        source=source,
        against=against,
        grade=f"no program: agreement to {near:.1e}, disagreement beyond {math.sqrt(unit):.1e}",
        notes=notes,
    )
    return replace(report, is_mutual=True)


def _in_layout_of(b: Run, a: Run) -> tuple[Run, tuple[str, ...]]:
    """Return the first source in the layout of the second where that one alone tells it.

    Flattened numbers have lost their shape, and a kernel of Flax is told from PyTorch's side: which
    source comes first must not matter.
    """
    shapes = {name: b[name].array.shape for name in forward_order(list(b)) if b[name].is_whole}
    laid = {name: replace(claim, name=name) for name, claim in a.items()}
    aligned = align(laid, shapes)
    notes = list(aligned.layouts)
    for name, claim in aligned.pairs.items():
        theirs = b[name].array
        claim, how = unmerged(shortened(claim, theirs.shape), theirs)
        laid[claim.name] = claim
        notes += [f"{claim.name}: {how}"] * bool(how)
    return laid, tuple(notes)


def _references(run: Run, near: float, far: float) -> dict[str, Reference]:
    run, decimals = with_decimals(run)
    references = {}
    for name in forward_order(list(run)):
        claim = run[name]
        references[name] = Reference(
            claim.array,
            claim.rounding,
            "" if claim.is_whole else "the other source leaves entries out",
            is_part=not claim.is_whole,
            doubtful_to=far,
            rounding=claim.rounding,
            decimals=decimals.get(claim.name, 0),
            share=near,
        )
    return references
