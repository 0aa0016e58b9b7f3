"""Parse decimal numbers in bulk: their values, and how many digits were printed."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Offsets: TypeAlias = NDArray[np.intp]
_Numbers: TypeAlias = NDArray[np.float64]

# Letters of nan, infinity and exponents count as parts of numbers.
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
# NumPy prints "1." for 1 when rounding to this many decimals or more; torch when it is exact.
DECIMALS_OF_A_POINT = 4
_CHUNK = 1 << 18
# Limits within which only the last step rounds.
_MOST_DIGITS = 15
_LARGEST_POWER = 22
_DIGIT_VALUES = bytes.maketrans(b"0123456789", bytes(range(10)))
_NO_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_POWERS = np.array([float(10**k) for k in range(_LARGEST_POWER + 1)])
# 80-bit numbers (x87) have a significand of 64 bits: 19 digits, and the same powers.
_HAS_64_BITS = np.finfo(np.longdouble).nmant == 63
_MOST_LONG_DIGITS = 19
_LONG_POWERS = np.cumprod(np.array([1] + [10] * _LARGEST_POWER, np.longdouble))
# Beyond these powers of ten, float64 has only 0 and inf.
_SMALLEST = 400
_HALF_UNITS = np.array([0.5 * float(f"1e{k}") for k in range(-_SMALLEST, _SMALLEST + 1)])
# Relative rounding below this determines a float64 uniquely, as 17 digits do.
_FULL_PRECISION = 2.0**-54


class BadNumber(ValueError):
    """Malformed number of ``length`` bytes ``at`` an offset of the block."""

    def __init__(self, at: int, length: int) -> None:
        super().__init__(at, length)
        self.at = at
        self.length = length


def starts_and_ends(classes: NDArray[np.uint8]) -> tuple[_Offsets, _Offsets]:
    """Return the starts and ends of a block's numbers, from the classes of its bytes."""
    inside = np.zeros(len(classes) + 2, bool)
    np.equal(classes, NUMBER, out=inside[1:-1])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    return edges[::2], edges[1::2]


@dataclass(frozen=True)
class _Layout:
    """The offsets of the parts of a block's numbers."""

    array: NDArray[np.uint8]  # the block
    starts: _Offsets
    ends: _Offsets
    stops: _Offsets  # where each number has its exponent mark, or its end
    points: _Offsets  # decimal points
    marks: _Offsets  # exponent marks
    # The number that each of them belongs to: at most one.
    pointed: _Offsets
    marked: _Offsets

    @classmethod
    def of(cls, block: bytes, starts: _Offsets, ends: _Offsets) -> _Layout:
        """Find the parts of a block's numbers."""
        array = np.frombuffer(block, np.uint8)
        points = np.flatnonzero(array == ord("."))
        marks = np.flatnonzero((array | 0x20) == ord("e"))
        pointed, marked = _owners(points, starts, ends), _owners(marks, starts, ends)
        stops = ends.copy()
        stops[marked] = marks
        return cls(array, starts, ends, stops, points, marks, pointed, marked)


def parse(
    block: bytes, starts: _Offsets, ends: _Offsets, whole_decimals: int = 0
) -> tuple[_Numbers, NDArray[np.int16]]:
    """Return the numbers of a block, and the power of ten of each one's last printed digit.

    Integers without a point or an exponent count as printed to ``whole_decimals`` decimals.
    """
    if not len(starts):
        return np.empty(0), np.empty(0, np.int16)
    layout = _Layout.of(block, starts, ends)
    exponents = np.zeros(len(starts), np.int64)
    exponents[layout.marked] = _exponents(layout.array, layout.marks + 1, ends[layout.marked])
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
    # With an exponent, only an exact zero is printed as zero.
    last[layout.marked[values[layout.marked] == 0]] = _EXACT
    last[~np.isfinite(values)] = _EXACT
    return values, last


def _short(block: bytes, layout: _Layout, units: NDArray[np.int64]) -> _Numbers | None:
    """Return the numbers if all have few digits and moderate exponents, else None.

    Up to 15 digits are an integer below 2^53, and the power of ten is at most 10^22. Both are
    exact, so one multiplication or division rounds correctly (Clinger, *How to read floating point
    numbers accurately*, PLDI 1990). Malformed numbers are ruled out by accounting for every byte.
    """
    array, starts = layout.array, layout.starts
    first = array[starts]
    negative = first == ord("-")
    signs = (negative | (first == ord("+"))).astype(np.intp)
    counts = layout.stops - starts - signs
    counts[layout.pointed] -= 1
    # Exponents are digits too, except for the mark and a sign.
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
    wide = _integers(
        digits, np.cumsum(totals) - totals, counts, np.uint64 if is_long else np.float64
    )
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
    """Read again the numbers that double rounding, from 64 bits to 53, may have spoilt.

    Those lie at or next to the midpoint of two float64 numbers.
    """
    size = np.abs(values)
    spacing = np.spacing(size)
    middle = np.abs(np.abs((scaled - size).astype(np.float64)) - spacing / 2)
    for index in np.flatnonzero((middle <= spacing * 2.0**-9) & (size > 0)).tolist():
        values[index] = float(block[layout.starts[index] : layout.ends[index]])


def _integers(
    digits: NDArray[np.uint8], begins: _Offsets, counts: _Offsets, kind: type[Any]
) -> NDArray[Any]:
    """Return the integers whose digits begin at ``begins``, ``counts`` digits each."""
    values = np.empty(len(counts), kind)
    for count in np.flatnonzero(np.bincount(counts)).tolist():
        numbers = np.flatnonzero(counts == count)
        first = begins[numbers]
        total = digits[first].astype(kind)
        for k in range(1, count):
            total *= 10
            total += digits[first + k]
        values[numbers] = total
    return values


def _any(block: bytes, starts: _Offsets, ends: _Offsets) -> _Numbers:
    """Return numbers of any kind, including nan and inf."""
    try:
        with warnings.catch_warnings():
            # Older versions of NumPy only warn about unparsed text.
            warnings.simplefilter("error", DeprecationWarning)
            values = np.fromstring(block.translate(_TO_SPACE), np.float64, sep=" ")
        # NumPy reads 1-2 as two numbers; a wrong count shows it.
        if len(values) == len(starts):
            return values
    except (ValueError, DeprecationWarning):
        pass
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if not _NUMBER.fullmatch(block, start, end):
            raise BadNumber(start, end - start)
    raise BadNumber(int(starts[0]), 1)


def _bad(offset: int, starts: _Offsets, ends: _Offsets) -> BadNumber:
    number = max(int(np.searchsorted(starts, offset, "right")) - 1, 0)
    return BadNumber(int(starts[number]), int(ends[number] - starts[number]))


def _owners(offsets: _Offsets, starts: _Offsets, ends: _Offsets) -> _Offsets:
    """Return the number that each point or exponent mark belongs to: at most one."""
    if len(offsets) == len(starts) and bool(np.all((offsets >= starts) & (offsets < ends))):
        return np.arange(len(starts))
    owner = np.searchsorted(starts, offsets, "right") - 1
    twice = np.flatnonzero(owner[1:] == owner[:-1])
    if len(twice):
        raise _bad(int(offsets[twice[0] + 1]), starts, ends)
    return owner


def _exponents(array: NDArray[np.uint8], begin: _Offsets, end: _Offsets) -> NDArray[np.int64]:
    """Return the exponents between these offsets; parsing finds the malformed ones."""
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
    """A growing array of numbers, extended in place (``realloc``) so that it is never copied."""

    def __init__(self) -> None:
        self._values: NDArray[np.float64] = np.empty(0)
        self._last: NDArray[np.int16] | int | None = None
        self.size = 0

    def append(self, values: NDArray[np.float64], last: NDArray[np.int16]) -> None:
        """Append a block's numbers and their last digits."""
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
        """Return the numbers, and how far printing may have rounded each."""
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
    nonzero = np.abs(values[values != 0]).min(initial=np.inf) if len(values) < _CHUNK else 0.0
    return 0.0 if half <= _FULL_PRECISION * nonzero < np.inf else half


def _half_unit(last: Any) -> Any:
    """Return half of 10^last; last is an integer or -inf."""
    return _HALF_UNITS[np.clip(last, -_SMALLEST, _SMALLEST).astype(np.int16) + _SMALLEST]


def _rounding(values: _Numbers, last: NDArray[np.int16]) -> _Numbers | float:
    """Return half a unit of each number's last digit; a scalar if it is the same for all.

    Libraries that drop trailing zeros (NumPy; ``%g``; Python) print 0.5 beside 0.12345678 where
    others would print 0.50000000. They round all numbers of one array to the same number of
    decimals, or of significant digits, or to the shortest unique decimal. So a number counts as
    precise to the coarsest of these, judging by the finest of its array, but never as worse than
    its own last digit.
    """
    chunks = [slice(begin, begin + _CHUNK) for begin in range(0, len(values), _CHUNK)]
    if all(_are_full(values[chunk], last[chunk]) for chunk in chunks):
        return 0.0
    finest, most = _LARGEST_EXPONENT, -np.inf
    for chunk in chunks:
        inexact = last[chunk] != _EXACT
        finest = min(finest, int(np.min(last[chunk], initial=_LARGEST_EXPONENT, where=inexact)))
        nonzero = inexact & (values[chunk] != 0)
        digits = _magnitude(values[chunk]) - last[chunk]
        most = max(most, np.max(digits, initial=-np.inf, where=nonzero))
    rounding = np.empty(len(values))
    for chunk in chunks:
        by_digits = _half_unit(_magnitude(values[chunk]) - max(most, 0))
        common = np.maximum(by_digits, _half_unit(finest))
        common = np.maximum(common, _unit_of(most) * np.abs(values[chunk]))
        own = _half_unit(last[chunk])
        rounding[chunk] = np.minimum(own, common)
        full = rounding[chunk] <= _FULL_PRECISION * np.abs(values[chunk])
        rounding[chunk][full | (last[chunk] == _EXACT)] = 0
    return rounding if bool(np.any(rounding != rounding[0])) else float(rounding[0])


def _are_full(values: NDArray[np.float64], last: NDArray[np.int16]) -> bool:
    """Whether all numbers were printed to full float64 precision."""
    return bool(np.all((_half_unit(last) <= _FULL_PRECISION * np.abs(values)) | (last == _EXACT)))


def _unit_of(digits: float) -> float:
    """Return the unit roundoff of the format that this many digits suffice for.

    The shortest unique decimal of a number lies within half the distance of its neighbours.
    """
    return 2.0**-11 if digits <= 5 else 2.0**-24 if digits <= 9 else 2.0**-53


def _magnitude(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the exponent of each number's first digit, plus one; -inf for 0, and 0 for nan."""
    with np.errstate(divide="ignore"):
        exponents = np.floor(np.log10(np.abs(values))) + 1
    exponents[np.isnan(exponents)] = 0
    return exponents
