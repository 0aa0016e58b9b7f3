"""No fault of formula but of precision: the numbers went through a shorter format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import named, refuted
from gradwitness.engine.floats import round_to, unit_roundoff

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Case, Exhibit

PRECISION = "low precision"
_FORMATS = ("bfloat16", "float16", "float32")
_GROWTH = 64  # unit roundoffs of the largest number that a few layers of rounding may add up to
ROUNDED = "rounded to decimals"
_DECIMALS = 9
_TELLING = 4  # numbers, over all tensors, that must all be of the format


def low_precision(case: Case) -> Iterator[Explanation]:
    """Every number is one of a shorter format, and off by some roundings in it at most."""
    of = {name: [e for e in refuted(case) if _is_of(e, name)] for name in _FORMATS}
    # Many numbers of the shorter format are numbers of the longer one too.
    name, short = max(of.items(), key=lambda item: len(item[1]))
    if sum(np.count_nonzero(e.claim) for e in short) < _TELLING:
        return
    worst = max(_off(e) for e in short)
    yield Explanation(
        PRECISION,
        f"No fault of formula: every number of {named([e.name for e in short])} is a {name} "
        f"number, and off by {worst:.1e} of the largest at most, where {name} has "
        f"{unit_roundoff(name):.1e}. It was computed or stored in that format.",
        {e.name: e.claim for e in short},
        freedom=len(_FORMATS),
        reveals=False,
    )


def rounded(case: Case) -> Iterator[Explanation]:
    """Every number has k decimals, and is the right one rounded to them."""
    of = {k: [e for e in refuted(case) if _has_decimals(e, k)] for k in range(1, _DECIMALS + 1)}
    # Numbers of two decimals have three, too.
    k, short = max(of.items(), key=lambda item: len(item[1]))
    if sum(len(np.unique(e.claim[e.claim != 0])) for e in short) < _TELLING:
        return
    yield Explanation(
        ROUNDED,
        f"No fault of formula: every number of {named([e.name for e in short])} is the right one "
        f"rounded to {k} decimals. Write them out in full.",
        {e.name: e.claim for e in short},
        float(k),
        freedom=_DECIMALS,
        reveals=False,
    )


def _has_decimals(exhibit: Exhibit, k: int) -> bool:
    g, h = exhibit.witness, exhibit.claim
    half = 0.5 * 10.0**-k
    # An allowance as coarse as the decimals would have let the rounding pass.
    if g.shape != h.shape or not np.isfinite(h).all() or np.max(exhibit.allowance) >= half:
        return False
    decimal = np.round(h, k)
    if np.all(round_to(h, "float32") == h):
        decimal = round_to(decimal, "float32")
    off = np.abs(h - g) - half - exhibit.allowance
    return bool(np.all(h == decimal) and np.all(off <= 0))


def _is_of(exhibit: Exhibit, name: str) -> bool:
    g, h = exhibit.witness, exhibit.claim
    if g.shape != h.shape or not h.any() or not np.isfinite(h).all():
        return False
    unit = unit_roundoff(name)
    # An allowance as coarse as the format would have let its rounding pass.
    if np.max(exhibit.allowance) >= unit * np.max(np.abs(g)):
        return False
    return bool(np.all(round_to(h, name) == h)) and _off(exhibit) <= _GROWTH * unit


def _off(exhibit: Exhibit) -> float:
    largest = float(np.max(np.abs(exhibit.witness), initial=0.0))
    gap = float(np.max(np.abs(exhibit.claim - exhibit.witness)))
    return gap / largest if largest else np.inf
