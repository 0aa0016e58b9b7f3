"""What an agreement is worth: which numbers confirm something, and what few decimals leave open."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

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


class _Places:
    """Counts places, and keeps the first few."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[int] = []

    def take(self, which: NDArray[np.bool_], start: int) -> None:
        self.count += int(np.count_nonzero(which))
        if len(self.first) < _LISTED:
            self.first += [start + int(n) for n in np.flatnonzero(which)[:_LISTED]]

    def listed(self, shape: tuple[int, ...]) -> str:
        indices = (np.unravel_index(n, shape) for n in self.first[:_LISTED])
        names = [subscript(tuple(map(int, index))) for index in indices]
        more = self.count - _LISTED
        return listed([*names, *([f"{more} more"] if more > 0 else [])])


class Confirming:
    """Counts which numbers of a tensor confirm something, and which should.

    Those should that are not exactly zero; if all are, all should.

    Parameters
    ----------
    shape : tuple of int
    largest, smallest : float
        The largest magnitude expected, and the smallest that is not zero.
    """

    def __init__(self, shape: tuple[int, ...], largest: float, smallest: float) -> None:
        self._shape = shape
        self._largest, self._smallest = largest, smallest
        self.count = 0
        self._counted = 0
        self._silent, self._zeros = _Places(), _Places()
        self._half_unit = 0.0  # the largest of a number that reads zero

    def all_but(self, nans: int, count: int) -> None:
        """Take so many numbers that all confirm something, but for those that are NaN."""
        self.count += count - nans
        self._counted += count
        self._silent.count += nans

    def take(
        self,
        start: int,
        claimed: NDArray[np.float64],
        value: NDArray[np.float64],
        allowance: NDArray[np.float64] | float,
        rounding: NDArray[np.float64] | float,
        half_units: NDArray[np.float64] | float,
    ) -> None:
        """Take the numbers from a place on, in C order.

        ``rounding`` is that of the right value: one that was printed as zero may be another number.
        Of two sources, of which neither is right, it is the coarser of both.
        ``half_units`` are those of the last digits of both.
        """
        size = np.abs(value)
        is_zero = (size == 0) & (rounding <= _ZERO * self._smallest)
        counted = ~is_zero if self._largest != 0 else np.ones(size.shape, bool)
        confirms = (size > allowance) | (is_zero & (allowance <= _ZERO * self._largest))
        silent = counted & ~confirms
        if silent.any():
            zeros = silent & ((claimed == 0) | (value == 0)) & (half_units > 0)
            self._silent.take(silent, start)
            self._zeros.take(zeros, start)
            self._half_unit = max(self._half_unit, float(np.max(half_units * zeros)))
        self.count += int(np.count_nonzero(confirms))
        self._counted += int(np.count_nonzero(counted))

    def take_exact(self, start: int, value: NDArray[Any], allowance: float) -> None:
        """Take numbers from a place on as `take` does, where all digits of both were written down.

        The allowance is positive, and one for all.
        """
        # What exceeds it exceeds the next number below it in the value's own format, too.
        below = value.dtype.type(allowance)
        below = below if float(below) <= allowance else np.nextafter(below, below * 0)
        loud = np.abs(value) > below
        confirms, counted = int(np.count_nonzero(loud)), value.size
        if self._largest != 0:
            counted = int(np.count_nonzero(value))
            self.count += (value.size - counted) * (allowance <= _ZERO * self._largest)
        self.count += confirms
        self._counted += counted
        if len(self._silent.first) < _LISTED and counted > confirms:
            self._silent.take(~loud & (value != 0 if self._largest != 0 else True), start)
        else:
            self._silent.count += counted - confirms

    def too_silent(self) -> str:
        """Return why the numbers confirm too little, or an empty string."""
        silent, zeros = self._silent, self._zeros
        if silent.count <= (1 - ENOUGH) * self._counted:
            return ""
        which = zeros if 2 * zeros.count >= silent.count else silent
        share = f"{which.count / math.prod(self._shape):.0%} of the entries"
        places = which.listed(self._shape)
        if which is silent:
            return f"{share} are smaller than their rounding: they confirm nothing ({places})"
        decimals = max(0, round(-math.log10(2 * self._half_unit)))
        return (
            f"{share} read {0:.{decimals}f} at the printed precision: they confirm nothing "
            f"({places} carry no digits at {decimals} decimals)"
        )
