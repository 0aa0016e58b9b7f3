"""Mistake: only a few numbers are wrong, such as one element, row or column, or NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import REAL, refuted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case, Exhibit

LOCALISED = "wrong in a few places"
NOT_FINITE = "not finite"
_SHARE = 1 / 4  # of a tensor that still counts as "a few"
_LISTED = 4


def localised(case: Case) -> Iterator[Explanation]:
    """Locate a few wrong numbers of a tensor; each one counts as fitted."""
    predicted: dict[str, NDArray[np.float64]] = {}
    parts = []
    freedom = 1
    for exhibit in refuted(case):
        if exhibit.claim.shape != exhibit.witness.shape:
            continue
        wrong = np.abs(exhibit.claim - exhibit.witness) > exhibit.allowance
        count = int(np.count_nonzero(wrong))
        # NaN has another hypothesis.
        if not 0 < count <= _SHARE * wrong.size or not np.isfinite(exhibit.claim).all():
            continue
        where = _where(wrong)
        if not where:
            continue
        factor = _ratio(exhibit, wrong)
        values = exhibit.claim if factor is None else factor * exhibit.witness
        predicted[exhibit.name] = np.where(wrong, values, exhibit.witness)
        ratio = "" if factor is None else f", by a factor {factor:.6g}"
        parts.append(f"{exhibit.name} is wrong only {where}{ratio}")
        choices = wrong.size if where.startswith("in ") else wrong.size**count
        freedom *= choices * REAL ** (count if factor is None else 1)
    if predicted:
        text = f"{listed(parts)}; everything else is right."
        yield Explanation(LOCALISED, text, predicted, freedom=freedom)


def not_finite(case: Case) -> Iterator[Explanation]:
    """Explain NaN or infinity where everything else is right: 0 * inf, 0 / 0, overflow."""
    predicted: dict[str, NDArray[np.float64]] = {}
    parts = []
    for exhibit in refuted(case):
        bad = ~np.isfinite(exhibit.claim)
        if exhibit.claim.shape != exhibit.witness.shape or not bad.any():
            continue
        gap = np.abs(np.where(bad, exhibit.witness, exhibit.claim) - exhibit.witness)
        if np.any(gap > exhibit.allowance):
            continue
        predicted[exhibit.name] = np.where(bad, exhibit.claim, exhibit.witness)
        where = (
            "everywhere" if bad.all() else _where(bad) or f"in {bad.sum()} of {bad.size} elements"
        )
        parts.append(f"{exhibit.name} {where}")
    if predicted:
        yield Explanation(
            NOT_FINITE,
            f"NaN or infinite instead of finite: {listed(parts)}. Possible origins: 0 times "
            "infinity in the branch that a where does not take, a division by zero, or overflow "
            "in a 16-bit format.",
            predicted,
            freedom=1,
            reveals=False,
        )


def _where(wrong: NDArray[np.bool_]) -> str:
    """Describe the wrong positions; empty if they form no simple pattern."""
    count = np.count_nonzero(wrong)
    for axis in range(wrong.ndim if wrong.ndim > 1 else 0):
        others = tuple(k for k in range(wrong.ndim) if k != axis)
        slices = np.flatnonzero(wrong.any(axis=others))
        elements = len(slices) * wrong.size // wrong.shape[axis]
        if len(slices) <= max(1, _SHARE * wrong.shape[axis]) and 2 * count > elements and count > 1:
            kind = {0: "row", 1: "column"}.get(axis) if wrong.ndim == 2 else None
            kind = kind or f"axis {axis}, index"
            return f"in {kind} {listed(map(str, slices))}"
    if count > _LISTED:
        return f"at {count} of {wrong.size} elements" if count <= wrong.size // 100 else ""
    indices = (f"[{','.join(map(str, index))}]" for index in np.argwhere(wrong))
    return f"at {listed(indices)}"


def _ratio(exhibit: Exhibit, wrong: NDArray[np.bool_]) -> float | None:
    """Return the common factor of the wrong numbers, if any."""
    g, h = exhibit.witness[wrong], exhibit.claim[wrong]
    if g.size < 2 or not g.any():
        return None
    factor = float(np.vdot(g, h) / np.vdot(g, g))
    largest = np.max(exhibit.allowance) * max(1.0, abs(factor))
    return factor if np.all(np.abs(h - factor * g) <= largest) else None
