"""Printed numbers: their values, and how exactly they were written down."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.files.printed_numbers import read_printed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.files.printed_numbers import Printed

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
# Words that are read at a time.
_BATCH = 1 << 14


# What programs write where there is no number.
NOTHING = r"-{1,3}|\?|#?n/?a|none|null|nil"
_NOTHING = re.compile(NOTHING, re.IGNORECASE)


def advice(word: str) -> str:
    """Return what to write instead of a word that is no number, as far as it can be told."""
    return " Write NaN where there is no number." if _NOTHING.fullmatch(word) else ""


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
        self._words: list[bytes] = []  # not yet read
        self._read: list[tuple[NDArray[np.float64], NDArray[np.int16]]] = []
        self._count = 0
        self._whole_decimals = whole_decimals
        # How far printing may have rounded each, where that rests on itself alone; else empty.
        self._own: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return self._count

    def append(self, word: bytes) -> None:
        """Append a number as it was printed; it matches `NUMBER_PATTERN`."""
        self.extend([word])

    def extend(self, words: list[bytes]) -> None:
        """Append numbers as they were printed.

        Raises `ValueError`, now or when they are read, if one does not match `NUMBER_PATTERN`.
        """
        self._words += words
        self._count += len(words)
        if len(self._words) >= _BATCH:
            self.read()

    def extend_read(self, printed: Printed, count: int | None = None) -> None:
        """Append numbers that were read, or the first so many of them."""
        self.read()
        self._read.append((printed.values[:count], self._last_digits(printed)[:count]))
        self._count += len(self._read[-1][0])

    def part(self, which: Any) -> Numbers:
        """Return some of the numbers."""
        self.read()
        if len(self._read) != 1 or self._own is None:
            values, last = map(np.concatenate, zip(*self._read, strict=True))
            self._read, self._own = [(values, last)], _own_rounding(values, last)
        part = Numbers(self._whole_decimals)
        ((values, last),) = self._read
        part._read = [(values[which], last[which])]
        part._own = self._own[which] if self._own.size else self._own
        part._count = len(part._read[0][0])
        return part

    def read(self) -> None:
        """Read what was appended."""
        if self._words:
            words, self._words = self._words, []
            text = b" ".join(words)
            printed = read_printed(text)
            between = sum(text.count(letter) for letter in b" \t\r\n")
            # A word may hold two numbers beside one that holds none.
            if len(printed.values) != len(words) or between != len(words) - 1:
                raise ValueError("not as many numbers as words")
            self._read.append((printed.values, self._last_digits(printed)))

    def _last_digits(self, printed: Printed) -> NDArray[np.int16]:
        """Return the exponents of the last digits of numbers."""
        decimals, is_scaled = printed.decimals, printed.is_scaled
        if decimals.max(initial=0) > _LARGEST_EXPONENT:
            decimals = np.minimum(decimals, _LARGEST_EXPONENT)
        last = -decimals
        if decimals.min(initial=1) < 1:
            last[decimals == 0] = -DECIMALS_OF_A_POINT
            last[decimals < 0] = -self._whole_decimals
        if is_scaled.any():
            unit = printed.exponents - np.maximum(decimals, 0)
            unit = np.clip(unit, -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
            unit[printed.values == 0] = _FINEST
            last = unit if is_scaled.all() else np.where(is_scaled, unit, last)
        short: NDArray[np.int16] = last.astype(np.int16)
        if not np.isfinite(printed.values).all():
            short[~np.isfinite(printed.values)] = _EXACT
        return short

    def take(self, scale: float = 1.0) -> tuple[NDArray[np.float64], NDArray[Any] | float]:
        """Return the numbers times a factor, and how far printing may have rounded each."""
        self.read()
        if len(self._read) == 1:
            values, last = map(np.ascontiguousarray, self._read[0])
        else:
            none = np.zeros(0), np.zeros(0, np.int16)
            values, last = map(np.concatenate, zip(none, *self._read, strict=True))
        rounding = self._own if len(self._read) == 1 else None
        if rounding is None or not rounding.size:
            rounding = _rounding(values, last) if len(values) else np.zeros(1)
        if scale != 1.0:
            values, rounding = values * scale, rounding * abs(scale)
        return values, float(rounding[0]) if (rounding == rounding[0]).all() else rounding


def _half_unit(last: Any) -> Any:
    """Return half of 10^last; last is an integer or -inf."""
    last = np.minimum(np.maximum(last, -_SMALLEST), _SMALLEST)
    return _HALF_UNITS[last.astype(np.int16) + _SMALLEST]


def _rounding(values: NDArray[np.float64], last: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return half a unit of each number's last digit.

    Libraries that drop trailing zeros (NumPy; ``%g``; Python) print 0.5 beside 0.12345678 where
    others would print 0.50000000. They round all numbers of one array to the same number of
    decimals, or of significant digits, or to the shortest unique decimal. So a number counts as
    precise to the coarsest of these, judging by the finest of its array, but never as worse than
    its own last digit.
    """
    own = _own_rounding(values, last)
    if own.size:
        return own
    size, told, zeros = np.abs(values), last > _FINEST, last == _FINEST
    half = _half_unit(last)
    finest = np.min(last, where=told, initial=_LARGEST_EXPONENT)
    if not zeros.any() or not _are_alike(size, half, told & (size > 0)):
        half = _as_one_array(size, last, half, told, finest)
    half[zeros] = _half_unit(finest)
    half[(last == _EXACT) | (half <= _FULL_PRECISION * size)] = 0
    return np.asarray(half)


def _own_rounding(values: NDArray[np.float64], last: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return half a unit of each number's last digit, if none rests on others; else none."""
    if not len(values):
        return np.zeros(0)
    size = np.abs(values)
    half: NDArray[np.float64] = _half_unit(last)
    least = last.min()
    if least == last.max() and least > _FINEST and half[0] > 1e-15 * size.max():
        return half
    told = last > _FINEST
    full = ~told | (half <= _FULL_PRECISION * size)
    if full.all():
        return np.zeros(len(values))
    # A zero has no digits of its own: it is as precise as the finest number beside it.
    rests = (last == _FINEST) | (told & (size == 0) & (half > half.min(where=told, initial=np.inf)))
    if rests.any() or not _are_alike(size, half, told & (size > 0)):
        return np.zeros(0)
    half[full] = 0
    return half


def _are_alike(
    size: NDArray[np.float64], half: NDArray[np.float64], which: NDArray[np.bool_]
) -> bool:
    """Whether all of these numbers have as many significant digits."""
    with np.errstate(all="ignore"):
        units = size / half / 2
    least, most = np.min(units, where=which, initial=np.inf), np.max(units, where=which, initial=0)
    digits = math.floor(math.log10(least)) if math.isfinite(least) else 0
    return bool(10.0**digits <= least and most < 10.0 ** (digits + 1))


def _as_one_array(
    size: NDArray[np.float64],
    last: NDArray[np.int16],
    half: NDArray[np.float64],
    told: NDArray[np.bool_],
    finest: np.int16,
) -> NDArray[np.float64]:
    """Return how far each number may be rounded, judging by all of them."""
    with np.errstate(divide="ignore", invalid="ignore"):
        # The exponent of the first digit, plus one.
        magnitude = np.where(told, np.floor(np.log10(size)) + 1, 0)
    # Of 999999999999.999 the logarithm is rounded to 12.
    magnitude -= told & (size > 0) & (size < 2 * _half_unit(np.maximum(magnitude - 1, -_SMALLEST)))
    most = float(np.max(magnitude - last, where=told & (size != 0), initial=0))
    common = np.maximum(_half_unit(magnitude - most), _half_unit(finest))
    common = np.maximum(common, _unit_of(most) * size)
    return np.asarray(np.minimum(half, common))


def _unit_of(digits: float) -> float:
    """Return the unit roundoff of the format that this many digits suffice for.

    The shortest unique decimal of a number lies within half the distance of its neighbours.
    """
    return 2.0**-11 if digits <= 5 else 2.0**-24 if digits <= 9 else 2.0**-53
