"""A tensor that is wrong in a few places only: one element, one row, one column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import REAL, named, refuted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case, Exhibit

LOCALISED = "wrong in a few places"
NOT_FINITE = "not finite"
_SHARE = 1 / 4  # of a tensor that "a few" may be
_LISTED = 4


def localised(case: Case) -> Iterator[Explanation]:
    """Say where a tensor is wrong, if in few places; each number fitted there has its cost."""
    predicted: dict[str, NDArray[np.float64]] = {}
    said = []
    freedom = 1
    for exhibit in refuted(case):
        if exhibit.claim.shape != exhibit.witness.shape:
            continue
        wrong = np.abs(exhibit.claim - exhibit.witness) > exhibit.allowance
        count = int(np.count_nonzero(wrong))
        # NaN is the affair of another hypothesis.
        if not 0 < count <= _SHARE * wrong.size or not np.isfinite(exhibit.claim).all():
            continue
        where = _where(wrong)
        if not where:
            continue
        factor = _ratio(exhibit, wrong)
        there = exhibit.claim if factor is None else factor * exhibit.witness
        predicted[exhibit.name] = np.where(wrong, there, exhibit.witness)
        how = "" if factor is None else f", {factor:.6g} times what is right there"
        said.append(f"{exhibit.name} is wrong only {where}{how}")
        choices = wrong.size if where.startswith("in ") else wrong.size**count
        freedom *= choices * REAL ** (count if factor is None else 1)
    if predicted:
        text = f"{named(said)}; everything else in there is right."
        yield Explanation(LOCALISED, text, predicted, freedom=freedom)


def not_finite(case: Case) -> Iterator[Explanation]:
    """NaN or infinity in places, everything else right: 0 * inf through a where, 0/0, overflow."""
    predicted: dict[str, NDArray[np.float64]] = {}
    said = []
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
        said.append(f"{exhibit.name} {where}")
    if predicted:
        yield Explanation(
            NOT_FINITE,
            f"NaN or infinite where finite numbers are right: {named(said)}. As from 0 times "
            "infinity in the branch that a where does not take, a division by zero, or overflow in "
            "a 16-bit format.",
            predicted,
            freedom=1,
            reveals=False,
        )


def _where(wrong: NDArray[np.bool_]) -> str:
    """Name the places, or return nothing if they have no shape worth a name."""
    count = np.count_nonzero(wrong)
    for axis in range(wrong.ndim if wrong.ndim > 1 else 0):
        others = tuple(k for k in range(wrong.ndim) if k != axis)
        slices = np.flatnonzero(wrong.any(axis=others))
        held = len(slices) * wrong.size // wrong.shape[axis]
        if len(slices) <= max(1, _SHARE * wrong.shape[axis]) and 2 * count > held and count > 1:
            what = {0: "row", 1: "column"}.get(axis) if wrong.ndim == 2 else None
            what = what or f"axis {axis}, index"
            return f"in {what} {named(map(str, slices))}"
    if count > _LISTED:
        return f"at {count} of {wrong.size} elements" if count <= wrong.size // 100 else ""
    places = (f"[{','.join(map(str, place))}]" for place in np.argwhere(wrong))
    return f"at {named(places)}"


def _ratio(exhibit: Exhibit, wrong: NDArray[np.bool_]) -> float | None:
    """Return the factor of the wrong numbers, if they have one in common."""
    g, h = exhibit.witness[wrong], exhibit.claim[wrong]
    if g.size < 2 or not g.any():
        return None
    factor = float(np.vdot(g, h) / np.vdot(g, g))
    largest = np.max(exhibit.allowance) * max(1.0, abs(factor))
    return factor if np.all(np.abs(h - factor * g) <= largest) else None
