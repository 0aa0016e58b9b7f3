"""How many decimals a source's numbers have, whatever they are stored or printed in.

``np.round(g, 5)`` keeps float32 and may be printed as ``0.e+00``: neither tells that the number was
cut at the fifth decimal. That all numbers are multiples of 10^-5 does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.engine.floats import round_to

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.claims.claim import Claim, Run

_MOST = 9
_GLANCE = 1000
# That a number is a multiple of 10^-k is a coincidence of one in as many as its format has between
# two of them. All together must be less likely than one in 10^12.
_ODDS = 12.0
# Neither does a multiple of 2^-10 tell: halves and quarters are what examples are made of.
_BINARY = 1 << 10
_ENOUGH = 4  # telling numbers, of at least two values


def with_decimals(run: Run) -> tuple[Run, dict[str, int]]:
    """Return a run whose claims are as precise as their decimals, and those by the claims' names.

    Only claims are listed that lost precision by it. If the numbers of a whole run have few
    decimals, so have those of a tensor that is too small, or too full of zeros, to tell by itself.
    """
    numbers = {name: _numbers(claim) for name, claim in run.items()}
    by_name = {name: _decimals([flat]) for name, flat in numbers.items()}
    together = _decimals(list(numbers.values()))
    if together:
        by_name = dict.fromkeys(run, together)
    coarser = {
        name: k
        for name, k in by_name.items()
        if k and np.any(run[name].rounding < (0.5 - 1e-9) * 10.0**-k)
    }
    cut = {
        name: replace(run[name], rounding=np.maximum(run[name].rounding, 0.5 * 10.0**-k))
        for name, k in coarser.items()
    }
    return run | cut, {run[name].name: k for name, k in coarser.items()}


def _numbers(claim: Claim) -> NDArray[np.float64]:
    flat = claim.array.astype(np.float64, copy=False).reshape(-1)
    return flat if np.isfinite(flat).all() else flat[np.isfinite(flat)]


def _decimals(arrays: list[NDArray[np.float64]]) -> int:
    """Return how many decimals all numbers have; 0 if they have none, too many, or cannot tell."""
    k = 1
    for numbers in arrays:
        for part in (numbers[:_GLANCE], numbers):
            while k <= _MOST and not _have(part, k):
                k += 1
    if k > _MOST:
        return 0
    odds = 0.0
    telling: list[NDArray[np.float64]] = []
    for numbers in arrays:
        narrow = np.float32 if np.array_equal(round_to(numbers, "float32"), numbers) else np.float64
        told = numbers[numbers * _BINARY % 1 != 0]
        between = 10.0**-k / np.spacing(np.abs(told).astype(narrow))
        odds += float(np.sum(np.log10(between), where=between > 2))
        telling.append(told[between > 2])
    values = np.concatenate([*telling, np.zeros(0)])
    return k if odds > _ODDS and len(values) >= _ENOUGH and len(np.unique(values)) > 1 else 0


def _have(numbers: NDArray[np.float64], k: int) -> bool:
    rounded = np.round(numbers, k)
    return bool(np.all((rounded == numbers) | (round_to(rounded, "float32") == numbers)))
