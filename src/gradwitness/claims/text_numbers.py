"""Printed numbers: their values, and how exactly they were written down."""

from __future__ import annotations

import re
from array import array
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMBER_PATTERN = rb"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|(?i:nan|inf(?:inity)?))"

# The exponent of "a unit of the last digit" of nan and infinity, and of a zero with an exponent,
# which is as precise as the finest number of its array: printing did not round it.
_EXACT, _FINEST = -32768, -32767
_LARGEST_EXPONENT = 10_000
# NumPy prints "1." for 1 when rounding to this many decimals or more; torch when it is exact.
DECIMALS_OF_A_POINT = 4
# Beyond these powers of ten, float64 has only 0 and inf.
_SMALLEST = 400
_HALF_UNITS = np.array([0.5 * float(f"1e{k}") for k in range(-_SMALLEST, _SMALLEST + 1)])
# Relative rounding below this determines a float64 uniquely, as 17 digits do.
_FULL_PRECISION = 2.0**-54
_EXPONENT = re.compile(rb"[eE]")


class Digits(str):
    """A number as it was printed, told from other text."""

    __slots__ = ()


# The short ones are many, and mostly the same.
digits = lru_cache(maxsize=1 << 12)(Digits)


class Numbers:
    """The printed numbers of one tensor.

    Integers without a point or an exponent count as printed to ``whole_decimals`` decimals.
    """

    def __init__(self, whole_decimals: int = 0) -> None:
        self._values, self._last = array("d"), array("h")
        self._whole_decimals = whole_decimals

    def __len__(self) -> int:
        return len(self._values)

    def append(self, word: bytes) -> None:
        """Append a number as it was printed; it matches `NUMBER_PATTERN`."""
        value = float(word)
        self._values.append(value)
        if value - value:
            self._last.append(_EXACT)
            return
        mantissa, *exponent = _EXPONENT.split(word)
        point = mantissa.find(b".") + 1
        decimals = len(mantissa) - point if point else 0
        if exponent:
            unit = max(min(int(exponent[0][:20]) - decimals, _LARGEST_EXPONENT), -_LARGEST_EXPONENT)
            self._last.append(unit if value else _FINEST)
        elif point:
            self._last.append(-min(decimals or DECIMALS_OF_A_POINT, _LARGEST_EXPONENT))
        else:
            self._last.append(-self._whole_decimals)

    def take(self, scale: float = 1.0) -> tuple[NDArray[np.float64], NDArray[Any] | float]:
        """Return the numbers times a factor, and how far printing may have rounded each."""
        values, last = np.array(self._values), np.array(self._last)
        rounding = _rounding(values, last) if len(values) else np.zeros(1)
        if np.all(rounding == rounding[0]):
            return values * scale, float(rounding[0]) * abs(scale)
        return values * scale, rounding * abs(scale)


def _half_unit(last: Any) -> Any:
    """Return half of 10^last; last is an integer or -inf."""
    return _HALF_UNITS[np.clip(last, -_SMALLEST, _SMALLEST).astype(np.int16) + _SMALLEST]


def _rounding(values: NDArray[np.float64], last: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return half a unit of each number's last digit.

    Libraries that drop trailing zeros (NumPy; ``%g``; Python) print 0.5 beside 0.12345678 where
    others would print 0.50000000. They round all numbers of one array to the same number of
    decimals, or of significant digits, or to the shortest unique decimal. So a number counts as
    precise to the coarsest of these, judging by the finest of its array, but never as worse than
    its own last digit.
    """
    size = np.abs(values)
    told = last > _FINEST
    if told.all() and last.min() == last.max() and _half_unit(last[0]) > 1e-15 * size.max():
        return np.broadcast_to(_half_unit(last[0]), size.shape)
    full = ~told | (_half_unit(last) <= _FULL_PRECISION * size)
    if full.all():
        return np.zeros(len(values))
    finest = np.min(last, where=told, initial=_LARGEST_EXPONENT)
    with np.errstate(divide="ignore", invalid="ignore"):
        # The exponent of the first digit, plus one.
        magnitude = np.where(told, np.floor(np.log10(size)) + 1, 0)
    # Of 999999999999.999 the logarithm is rounded to 12.
    magnitude -= told & (size > 0) & (size < 2 * _half_unit(np.maximum(magnitude - 1, -_SMALLEST)))
    most = float(np.max(magnitude - last, where=told & (values != 0), initial=0))
    common = np.maximum(_half_unit(magnitude - most), _half_unit(finest))
    common = np.maximum(common, _unit_of(most) * size)
    rounding = np.minimum(_half_unit(last), common)
    rounding[last == _FINEST] = _half_unit(finest)
    rounding[(last == _EXACT) | (rounding <= _FULL_PRECISION * size)] = 0
    return np.asarray(rounding)


def _unit_of(digits: float) -> float:
    """Return the unit roundoff of the format that this many digits suffice for.

    The shortest unique decimal of a number lies within half the distance of its neighbours.
    """
    return 2.0**-11 if digits <= 5 else 2.0**-24 if digits <= 9 else 2.0**-53
