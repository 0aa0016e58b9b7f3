"""Decimal numbers in bulk: values by one call per block, printed digits found on the bytes."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Places: TypeAlias = NDArray[np.intp]
_Numbers: TypeAlias = NDArray[np.float64]

# Letters that occur in nan, infinity and exponents count as parts of numbers.
SEPARATOR, NUMBER, OPEN, CLOSE, FOREIGN = range(5)
NUMBER_BYTES = b"0123456789+-.eEnNaAiIfFtTyY"
_CLASSES = bytearray([FOREIGN]) * 256
for _byte in NUMBER_BYTES:
    _CLASSES[_byte] = NUMBER
for _byte in b" \t\n\r\v\f,":
    _CLASSES[_byte] = SEPARATOR
_CLASSES[ord("[")], _CLASSES[ord("]")] = OPEN, CLOSE
CLASSES = bytes(_CLASSES)
_TO_SPACE = bytes.maketrans(b"[],", b"   ")

NUMBER_PATTERN = rb"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|(?i:nan|inf(?:inity)?))"
_NUMBER = re.compile(NUMBER_PATTERN)

# The exponent of "a unit of the last digit" of a number that was printed exactly.
_EXACT = np.iinfo(np.int16).min
_LARGEST_EXPONENT = 10_000
# NumPy prints 1 as "1." where it rounds to so many decimals or more; torch where it is exact.
DECIMALS_OF_A_POINT = 4
_SLICE = 1 << 18
# What is read without rounding before the last step.
_MOST_DIGITS = 15
_LARGEST_POWER = 22
_DIGIT_VALUES = bytes.maketrans(b"0123456789", bytes(range(10)))
_NO_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_POWERS = np.array([float(10**k) for k in range(_LARGEST_POWER + 1)])
# Where there are numbers of 64 bits (x87), they hold 19 digits, and the same powers.
_HAS_64_BITS = np.finfo(np.longdouble).nmant == 63
_MOST_LONG_DIGITS = 19
_LONG_POWERS = np.cumprod(np.array([1] + [10] * _LARGEST_POWER, np.longdouble))
# Beyond these powers of ten, float64 has 0 and inf.
_SMALLEST = 400
_HALF_UNITS = np.array([0.5 * float(f"1e{k}") for k in range(-_SMALLEST, _SMALLEST + 1)])
# Below half of this, relatively, digits say all that float64 holds: 17 of them do.
_FULL_PRECISION = 2.0**-54


class BadNumber(ValueError):
    """Something that stands where a number should, ``at`` a byte of the block, ``length`` long."""

    def __init__(self, at: int, length: int) -> None:
        super().__init__(at, length)
        self.at = at
        self.length = length


def starts_and_ends(classes: NDArray[np.uint8]) -> tuple[_Places, _Places]:
    """Return where the numbers of a block begin, and end, from its bytes' classes."""
    inside = np.zeros(len(classes) + 2, bool)
    np.equal(classes, NUMBER, out=inside[1:-1])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    return edges[::2], edges[1::2]


@dataclass(frozen=True)
class _Layout:
    """Where the parts of a block's numbers are.

    Attributes
    ----------
    array : ndarray of uint8
        The block.
    starts, ends, stops : ndarray
        Of each number; ``stops`` is where its exponent's mark stands, or its end.
    points, marks : ndarray
        Where points and exponents' marks are.
    pointed, marked : ndarray
        To which number each of them belongs: to one at most.
    """

    array: NDArray[np.uint8]
    starts: _Places
    ends: _Places
    stops: _Places
    points: _Places
    marks: _Places
    pointed: _Places
    marked: _Places

    @classmethod
    def of(cls, block: bytes, starts: _Places, ends: _Places) -> _Layout:
        """Find the parts of a block's numbers."""
        array = np.frombuffer(block, np.uint8)
        points = np.flatnonzero(array == ord("."))
        marks = np.flatnonzero((array | 0x20) == ord("e"))
        pointed, marked = _owners(points, starts, ends), _owners(marks, starts, ends)
        stops = ends.copy()
        stops[marked] = marks
        return cls(array, starts, ends, stops, points, marks, pointed, marked)


def parse(
    block: bytes, starts: _Places, ends: _Places, whole_decimals: int = 0
) -> tuple[_Numbers, NDArray[np.int16]]:
    """Return the numbers of a block, and for each the power of ten of its last printed digit.

    Whole numbers without a point or an exponent count as printed to so many decimals.

    Raises
    ------
    BadNumber
        If one of them is none.
    """
    if not len(starts):
        return np.empty(0), np.empty(0, np.int16)
    layout = _Layout.of(block, starts, ends)
    exponents = np.zeros(len(starts), np.int64)
    exponents[layout.marked] = _whole_numbers(layout.array, layout.marks + 1, ends[layout.marked])
    decimals = np.zeros(len(starts), np.int64)
    decimals[layout.pointed] = layout.stops[layout.pointed] - layout.points - 1
    values = _short(block, layout, exponents - decimals)
    if values is None:
        values = _any(block, starts, ends)
    if whole_decimals:
        is_whole = np.ones(len(starts), bool)
        is_whole[layout.pointed] = is_whole[layout.marked] = False
        decimals[is_whole] = whole_decimals
    trimmed = layout.pointed[decimals[layout.pointed] == 0]
    decimals[trimmed] = DECIMALS_OF_A_POINT
    last = np.clip(exponents - decimals, -_LARGEST_EXPONENT, _LARGEST_EXPONENT).astype(np.int16)
    # With an exponent, only what is exactly zero is printed as zero.
    last[layout.marked[values[layout.marked] == 0]] = _EXACT
    last[~np.isfinite(values)] = _EXACT
    return values, last


def _short(block: bytes, layout: _Layout, units: NDArray[np.int64]) -> _Numbers | None:
    """Return numbers of few digits and moderate exponents; None if there are others.

    Up to 15 digits are a whole number below 2^53 and the power of ten is at most 10^22, so both are
    exact, and one multiplication or division rounds correctly (Clinger, *How to read floating point
    numbers accurately*, PLDI 1990). That all bytes are accounted for makes it the whole grammar.
    """
    array, starts = layout.array, layout.starts
    first = array[starts]
    negative = first == ord("-")
    signs = (negative | (first == ord("+"))).astype(np.intp)
    counts = layout.stops - starts - signs
    counts[layout.pointed] -= 1
    # Exponents are digits too, but for the mark and a sign.
    after = array[np.minimum(layout.marks + 1, len(array) - 1)]
    written = layout.ends[layout.marked] - layout.marks - 1
    written -= (after == ord("-")) | (after == ord("+"))
    most = int(counts.max())
    if (
        counts.min() < 1
        or most > (_MOST_LONG_DIGITS if _HAS_64_BITS else _MOST_DIGITS)
        or np.abs(units).max() > _LARGEST_POWER
        or written.min(initial=1) < 1
    ):
        return None
    totals = counts.copy()
    totals[layout.marked] += written
    digits = np.frombuffer(block.translate(_DIGIT_VALUES, _NO_DIGITS), np.uint8)
    if len(digits) != int(totals.sum()):
        return None
    is_long = most > _MOST_DIGITS
    wide = _whole(digits, np.cumsum(totals) - totals, counts, np.uint64 if is_long else np.float64)
    powers = _LONG_POWERS if is_long else _POWERS
    scaled = wide.astype(powers.dtype, copy=False)
    np.divide(scaled, powers[np.maximum(-units, 0)], out=scaled, where=units < 0)
    np.multiply(scaled, powers[np.maximum(units, 0)], out=scaled, where=units > 0)
    values = scaled.astype(np.float64, copy=False)
    np.negative(values, out=values, where=negative)
    if is_long:
        _settle(block, layout, scaled, values)
    return values


def _settle(block: bytes, layout: _Layout, scaled: NDArray[Any], values: _Numbers) -> None:
    """Read the numbers again that a second rounding, from 64 bits to 53, may have put wrong.

    That is where 64 bits lie in the middle between two float64 numbers, or next to it.
    """
    size = np.abs(values)
    spacing = np.spacing(size)
    middle = np.abs(np.abs((scaled - size).astype(np.float64)) - spacing / 2)
    for which in np.flatnonzero((middle <= spacing * 2.0**-9) & (size > 0)).tolist():
        values[which] = float(block[layout.starts[which] : layout.ends[which]])


def _whole(
    digits: NDArray[np.uint8], begins: _Places, counts: _Places, kind: type[Any]
) -> NDArray[Any]:
    """Return the whole numbers whose digits begin there and are so many."""
    values = np.empty(len(counts), kind)
    for count in np.flatnonzero(np.bincount(counts)).tolist():
        which = np.flatnonzero(counts == count)
        at = begins[which]
        total = digits[at].astype(kind)
        for place in range(1, count):
            total *= 10
            total += digits[at + place]
        values[which] = total
    return values


def _any(block: bytes, starts: _Places, ends: _Places) -> _Numbers:
    """Return numbers of any kind, nan and inf too."""
    try:
        with warnings.catch_warnings():
            # What cannot be read to its end is a warning in older versions of NumPy.
            warnings.simplefilter("error", DeprecationWarning)
            values = np.fromstring(block.translate(_TO_SPACE), np.float64, sep=" ")
        # All was read: whoever takes 1-2 for two numbers has found more than there are.
        if len(values) == len(starts):
            return values
    except (ValueError, DeprecationWarning):
        pass
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if not _NUMBER.fullmatch(block, start, end):
            raise BadNumber(start, end - start)
    raise BadNumber(int(starts[0]), 1)


def _bad(place: int, starts: _Places, ends: _Places) -> BadNumber:
    which = max(int(np.searchsorted(starts, place, "right")) - 1, 0)
    return BadNumber(int(starts[which]), int(ends[which] - starts[which]))


def _owners(places: _Places, starts: _Places, ends: _Places) -> _Places:
    """Return which number each point, or each exponent's mark, belongs to: to one at most."""
    if len(places) == len(starts) and bool(np.all((places >= starts) & (places < ends))):
        return np.arange(len(starts))
    owner = np.searchsorted(starts, places, "right") - 1
    twice = np.flatnonzero(owner[1:] == owner[:-1])
    if len(twice):
        raise _bad(int(places[twice[0] + 1]), starts, ends)
    return owner


def _whole_numbers(array: NDArray[np.uint8], begin: _Places, end: _Places) -> NDArray[np.int64]:
    """Return the exponents that stand between; what is malformed is found by who parses it."""
    last = len(array) - 1
    first = array[np.minimum(begin, last)]
    negative = first == ord("-")
    at = begin + (negative | (first == ord("+")))
    total = np.zeros(len(begin), np.int64)
    for _ in range(int(min(np.max(end - at, initial=0), 6))):
        digit = array[np.minimum(at, last)].astype(np.int64) - ord("0")
        total = np.where(at < end, total * 10 + digit, total)
        at += 1
    return np.where(negative, -total, total)


class GrowingNumbers:
    """Numbers of which it is not known how many will come.

    The array grows in place (``realloc``), so that large ones are never there twice.
    """

    def __init__(self) -> None:
        self._values: NDArray[np.float64] = np.empty(0)
        self._last: NDArray[np.int16] | int | None = None
        self.size = 0

    def append(self, values: NDArray[np.float64], last: NDArray[np.int16]) -> None:
        """Take a block's numbers and their last digits."""
        before, self.size = self.size, self.size + len(values)
        if not len(values):
            return
        if self.size > len(self._values):
            self._values = _grown(self._values, self.size)
        self._values[before : self.size] = values
        same = int(last[0]) if last.min() == last.max() else None
        is_varied = isinstance(self._last, np.ndarray)
        if same is not None and not is_varied and self._last in (None, same):
            self._last = same
            return
        if not isinstance(self._last, np.ndarray):
            self._last = np.full(len(self._values), self._last or 0, np.int16)
        elif self.size > len(self._last):
            self._last = _grown(self._last, len(self._values))
        self._last[before : self.size] = last

    def take(self, scale: float = 1.0) -> tuple[NDArray[np.float64], NDArray[Any] | float]:
        """Return the numbers, and how far each may lie from the one that was printed."""
        self._values.resize(self.size, refcheck=False)
        values = self._values
        if isinstance(self._last, np.ndarray):
            rounding = _rounding(values, self._last[: self.size])
        else:
            rounding = _constant_rounding(values, self._last)
        if scale != 1.0:
            values *= scale
            rounding = rounding * abs(scale)
        return values, rounding


def _grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    array.resize(max(size, len(array) + len(array) // 4), refcheck=False)
    return array


def _constant_rounding(values: NDArray[np.float64], last: int | None) -> float:
    if last is None or last == _EXACT:
        return 0.0
    half = float(_half_unit(last))
    nonzero = np.abs(values[values != 0]).min(initial=np.inf) if len(values) < _SLICE else 0.0
    return 0.0 if half <= _FULL_PRECISION * nonzero < np.inf else half


def _half_unit(last: Any) -> Any:
    """Return half of 10^last; last is a whole number, or -inf."""
    return _HALF_UNITS[np.clip(last, -_SMALLEST, _SMALLEST).astype(np.int16) + _SMALLEST]


def _rounding(values: _Numbers, last: NDArray[np.int16]) -> _Numbers | float:
    """Return half a unit of each number's last digit; one number if it is the same for all.

    Libraries that leave zeros out at the end (NumPy; ``%g``; Python) print 0.5 beside 0.12345678
    where others would print 0.50000000. They round all numbers of one print to the same number of
    decimals, or of significant digits, or to what tells them from their neighbours. So a number
    counts as good to the coarsest of these, as the finest of its array shows them, and never as
    worse than its own last digit.
    """
    parts = [slice(begin, begin + _SLICE) for begin in range(0, len(values), _SLICE)]
    if all(_are_full(values[part], last[part]) for part in parts):
        return 0.0
    finest, most = _LARGEST_EXPONENT, -np.inf
    for part in parts:
        known = last[part] != _EXACT
        finest = min(finest, int(np.min(last[part], initial=_LARGEST_EXPONENT, where=known)))
        nonzero = known & (values[part] != 0)
        digits = _magnitude(values[part]) - last[part]
        most = max(most, np.max(digits, initial=-np.inf, where=nonzero))
    rounding = np.empty(len(values))
    for part in parts:
        by_digits = _half_unit(_magnitude(values[part]) - max(most, 0))
        common = np.maximum(by_digits, _half_unit(finest))
        common = np.maximum(common, _unit_of(most) * np.abs(values[part]))
        own = _half_unit(last[part])
        rounding[part] = np.minimum(own, common)
        enough = rounding[part] <= _FULL_PRECISION * np.abs(values[part])
        rounding[part][enough | (last[part] == _EXACT)] = 0
    return rounding if bool(np.any(rounding != rounding[0])) else float(rounding[0])


def _are_full(values: NDArray[np.float64], last: NDArray[np.int16]) -> bool:
    """Whether all numbers were printed with the digits that float64 holds."""
    return bool(np.all((_half_unit(last) <= _FULL_PRECISION * np.abs(values)) | (last == _EXACT)))


def _unit_of(digits: float) -> float:
    """Return the unit roundoff of the format that so many digits are enough for.

    The shortest decimal that tells a number from its neighbours has fewer digits than most, and
    lies within half their distance.
    """
    return 2.0**-11 if digits <= 5 else 2.0**-24 if digits <= 9 else 2.0**-53


def _magnitude(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the exponent of each number's first digit, plus one; -inf for 0, and 0 for nan."""
    with np.errstate(divide="ignore"):
        exponents = np.floor(np.log10(np.abs(values))) + 1
    exponents[np.isnan(exponents)] = 0
    return exponents
