"""How many decimals a source's numbers have, whatever they are stored or printed in.

``np.round(g, 5)`` keeps float32 and may be printed as ``0.e+00``: neither tells that the number was
cut at the fifth decimal. That all numbers are multiples of 10^-5 does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.floats import round_to
from gradwitness.files.mapping import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gradwitness.claims.claim import Run

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
    by_name = {name: _decimals([claim.array]) for name, claim in run.items()}
    together = _decimals([claim.array for claim in run.values()]) if len(run) > 1 else 0
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


def _decimals(arrays: list[NDArray[Any]]) -> int:
    """Return how many decimals all numbers have; 0 if they have none, too many, or cannot tell."""
    k = 0
    if sum(array.size for array in arrays) < _ENOUGH:
        return k
    for array in arrays:
        for numbers in finite_numbers(array):
            k = max(k, 1)
            if _have(numbers, k):
                continue
            # Zeros have no decimals, and may come in millions before a number that has.
            few = numbers[np.flatnonzero(numbers)[:_GLANCE]]
            more = np.arange(k, _MOST + 1)
            fitting = more[_have(few, more[:, None])].tolist()
            k = next((k for k in fitting if _have(numbers, k)), 0)
            if not k:
                return 0
    if not k:
        return 0
    odds, count = 0.0, 0
    least, most = np.inf, -np.inf
    for array in arrays:
        is_narrow = array.dtype.itemsize <= 4 or all(
            np.array_equal(round_to(x, "float32"), x) for x in finite_numbers(array)
        )
        for numbers in finite_numbers(array):
            with np.errstate(over="ignore"):  # what overflows is a multiple, and tells nothing
                multiples = numbers * _BINARY
            told = numbers[np.rint(multiples) != multiples]
            narrow = np.abs(told).astype(np.float32 if is_narrow else np.float64)
            between = 10.0**-k / np.spacing(narrow)
            odds += float(np.sum(np.log10(between), where=between > 2))
            telling = told[between > 2]
            count += telling.size
            least = min(least, np.min(telling, initial=np.inf))
            most = max(most, np.max(telling, initial=-np.inf))
    return k if odds > _ODDS and count >= _ENOUGH and least < most else 0


def finite_numbers(array: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """Iterate over the finite numbers of an array in pieces, after a glance at the first.

    Pieces of zeros and NaN are left out: zero has no decimals, and is in every format.
    """
    glance = _GLANCE
    for (piece,) in pieces(array, dtype=array.dtype):
        for part in (piece[:glance], piece[glance:]):
            if np.fmax.reduce(part, initial=0) > 0 or np.fmin.reduce(part, initial=0) < 0:
                finite = np.isfinite(part)
                numbers = part if finite.all() else part[finite]
                if numbers.size:
                    yield numbers.astype(np.float64)
        glance = 0


def _have(numbers: NDArray[np.float64], k: Any) -> Any:
    """Whether all numbers have k decimals; of a column of k, whether they do for each."""
    unit = 10.0**k
    with np.errstate(over="ignore"):  # what overflows has too many digits to have decimals
        rounded = np.rint(numbers * unit) / unit
    return np.all((rounded == numbers) | (round_to(rounded, "float32") == numbers), axis=-1)
