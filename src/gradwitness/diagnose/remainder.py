"""What a diagnosis leaves unexplained, and how near the wrong numbers come to the right ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.evidence import refuted
from gradwitness.diagnose.hypotheses.factor import slope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.diagnose.case import Case, Exhibit
    from gradwitness.diagnose.rank import Cause

# A factor that leaves more than this, of the largest number, is none.
_NEARLY = 0.05


def unexplained(case: Case, causes: Sequence[Cause]) -> str:
    """Return a note on the refuted claims that no cause explains; empty if there are none.

    A nearly constant factor is no cause, as rounding forbids what it leaves, but it says where to
    look. Without any cause, a claim without such a factor is not worth a note.
    """
    explained = {name for cause in causes for name in cause.explains}
    left = [exhibit for exhibit in refuted(case) if exhibit.name not in explained]
    nearly: list[tuple[float, float, list[str]]] = []
    for exhibit in left:
        factor, error = _nearest(exhibit)
        if 0 < error <= _NEARLY:
            same = next((n for n in nearly if abs(n[0] - factor) <= n[1] + error), None)
            if same is None:
                nearly.append((factor, error, [exhibit.name]))
            else:
                same[2].append(exhibit.name)
                nearly[nearly.index(same)] = (same[0], max(same[1], error), same[2])
    told = {name for _, _, names in nearly for name in names}
    others = [e.name for e in left if e.name not in told] if causes else []
    parts = [f"{listed(names)}: {_said(factor, error)}" for factor, error, names in nearly]
    parts += [f"{listed(others)}: no known mistake fits"] if others else []
    return f"unexplained: {'; '.join(parts)}" if parts else ""


def _nearest(exhibit: Exhibit) -> tuple[float, float]:
    """Return the factor that comes nearest to making the right numbers the claimed, and its error.

    The error is the largest, relative to the largest number; inf where no factor makes sense.
    """
    with np.errstate(all="ignore"):
        factor = slope(exhibit)
        if not factor or exhibit.claim.size < 2:
            return 1.0, math.inf
        right = factor * exhibit.witness
        return factor, float(np.max(np.abs(exhibit.claim - right)) / np.max(np.abs(right)))


def _said(factor: float, error: float) -> str:
    within = f"to {100 * error:.1g} %"
    if abs(factor - 1) <= error:
        return f"right {within}"
    decimals = max(0, round(-math.log10(error * abs(factor))))
    shown = f"{factor:.{decimals}f}" if decimals < 6 else f"{factor:.3g}"
    return f"{shown} times what it should be, {within}"
