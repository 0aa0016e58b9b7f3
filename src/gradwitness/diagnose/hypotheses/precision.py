"""Mistake: none in a formula, but the numbers were rounded to a short format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import refuted
from gradwitness.engine.floats import round_to, unit_roundoff

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Case, Exhibit

PRECISION = "low precision"
_FORMATS = ("bfloat16", "float16", "float32")
_GROWTH = 64  # the rounding errors of a few layers, in unit roundoffs of the largest number
_ENOUGH = 4  # the evidence needs at least this many numbers, over all tensors


def low_precision(case: Case) -> Iterator[Explanation]:
    """Suppose that every number was computed or stored in a shorter format."""
    by_format = {name: [e for e in refuted(case) if _is_in_format(e, name)] for name in _FORMATS}
    # Numbers of a shorter format are also numbers of a longer one.
    name, short = max(by_format.items(), key=lambda item: len(item[1]))
    if sum(np.count_nonzero(e.claim) for e in short) < _ENOUGH:
        return
    worst = max(_relative_error(e) for e in short)
    yield Explanation(
        PRECISION,
        f"No wrong formula, but low precision: every number of {listed(e.name for e in short)} is "
        f"a {name} number, with an error of at most {worst:.1e} of the largest, where {name} has a "
        f"unit roundoff of {unit_roundoff(name):.1e}. It was computed or stored in {name}.",
        {e.name: e.claim for e in short},
        freedom=len(_FORMATS),
        reveals=False,
    )


def _is_in_format(exhibit: Exhibit, name: str) -> bool:
    g, h = exhibit.witness, exhibit.claim
    if g.shape != h.shape or not h.any() or not np.isfinite(h).all():
        return False
    unit = unit_roundoff(name)
    # An allowance as coarse as the format would have passed its rounding.
    if np.max(exhibit.allowance) >= unit * np.max(np.abs(g)):
        return False
    return bool(np.all(round_to(h, name) == h)) and _relative_error(exhibit) <= _GROWTH * unit


def _relative_error(exhibit: Exhibit) -> float:
    largest = float(np.max(np.abs(exhibit.witness), initial=0.0))
    gap = float(np.max(np.abs(exhibit.claim - exhibit.witness)))
    return gap / largest if largest else np.inf
