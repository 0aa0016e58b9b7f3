"""What an agreement is worth: which numbers confirm something, and what few decimals leave open."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.judging.numbers import subscript

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The share of a tensor's non-zero numbers that must confirm it.
ENOUGH = 0.5
# A claimed zero confirms a true one if its allowance is below this share of the tensor's largest;
# and a printed zero is a true one if its digits go as far below the smallest other number.
_ZERO = 1 / 16
_LISTED = 3


def confirming(
    value: NDArray[np.float64],
    allowance: NDArray[np.float64],
    rounding: NDArray[np.float64] | float,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which numbers of a tensor confirm something, and which should.

    Those should that are not exactly zero; if all are, all should. ``rounding`` is that of the
    right value: one that was printed as zero may be another number.
    """
    size = np.abs(value)
    largest, smallest = np.max(size, initial=0.0), np.min(size, initial=np.inf, where=size > 0)
    is_zero = (size == 0) & (np.broadcast_to(rounding, size.shape) <= _ZERO * smallest)
    counted = ~is_zero if not is_zero.all() else is_zero
    return np.asarray((size > allowance) | (is_zero & (allowance <= _ZERO * largest))), counted


def too_silent(
    confirms: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    reads_zero: NDArray[np.bool_],
    rounding: NDArray[np.float64] | float,
) -> str:
    """Return why a tensor's numbers confirm too little, or an empty string."""
    silent = counted & ~confirms
    if np.count_nonzero(silent) <= (1 - ENOUGH) * np.count_nonzero(counted):
        return ""
    half_units = np.broadcast_to(rounding, silent.shape)
    zeros = silent & reads_zero & (half_units > 0)
    which = zeros if 2 * np.count_nonzero(zeros) >= np.count_nonzero(silent) else silent
    share = f"{np.count_nonzero(which) / silent.size:.0%} of the entries"
    if which is silent:
        return f"{share} are smaller than their rounding: they confirm nothing ({places(which)})"
    decimals = max(0, round(-math.log10(2 * float(np.max(half_units[zeros])))))
    return (
        f"{share} read {0:.{decimals}f} at the printed precision: they confirm nothing "
        f"({places(which)} carry no digits at {decimals} decimals)"
    )


def places(which: NDArray[np.bool_]) -> str:
    """Return the first few places, and how many more there are."""
    flat = np.flatnonzero(which)
    first = (subscript(tuple(map(int, np.unravel_index(n, which.shape)))) for n in flat[:_LISTED])
    more = len(flat) - _LISTED
    return listed([*first, *([f"{more} more"] if more > 0 else [])])
