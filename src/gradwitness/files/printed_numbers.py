"""Printed numbers read many at a time, eight letters at once.

A text of numbers is read in three steps, each over all of them: where each begins and ends, and
where its point and its exponent are; the digits before and after the point as integers; their
product with a power of ten, rounded once. What is not of that form (NaN, infinity, more digits than
an integer of 64 bits holds), and what lies so near the middle of two numbers that only more digits
decide, is left to NumPy's own reader. Few numbers are read one by one: the steps cost more.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from gradwitness.files.printed_digits import MOST_DIGITS, WHOLE_POWERS, Digits, Letters, one_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Integers: TypeAlias = NDArray[np.int64]
    Flags: TypeAlias = NDArray[np.bool_]

# Digits are never given back: a search through many would take their cube.
NUMBER_PATTERN = rb"[-+]?(?:(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?|(?i:nan|inf(?:inity)?))"
_NUMBER = re.compile(NUMBER_PATTERN)
_WORD = re.compile(rb"[^ \n\r\t]+")

_SPACE, _POINT, _MINUS, _PLUS, _E = b" .-+e"
_OF_NUMBERS = b"0123456789+-.eEnNaAiIfFtTyY "
_LOWER = 0x20  # the bit that makes a letter a small one
_CONTROL = list(b"\n\r\t")  # those that may stand between numbers
# Letters read at a time: what is made of them stays in the cache.
BLOCK = 1 << 18
# As many letters are read sooner one by one.
_FEW = 1 << 8
# Integers up to 2^53 and powers of ten up to 10^22 are exact in float64, so that one operation
# between them is rounded once.
_MOST_EXACT, _EXACT_POWER = 2**53, 22
# Beyond these powers the product might leave the normal numbers, or its error term might.
_MOST_POWER = 250
_POWERS = 10.0 ** np.arange(_EXACT_POWER + 1)
_SPLIT = 2.0**27 + 1
# Twice what the sum of two float64, which stands for a product, may be off by, as a share of it.
_UNSURE = 2.0**-98


@dataclass(frozen=True)
class Printed:
    """Printed numbers, in their order.

    Attributes
    ----------
    values : ndarray
        Correctly rounded to float64.
    decimals : ndarray
        How many digits follow the point; -1 without a point.
    exponents : ndarray
        The integer after the letter e; 0 without one.
    is_scaled : ndarray
        Whether there is such a letter.
    ends : ndarray
        Where each number ends in the text.
    is_tight : bool
        Whether one letter alone is known to follow each number, and to precede the next.
    """

    values: NDArray[np.float64]
    decimals: Integers
    exponents: Integers
    is_scaled: Flags
    ends: Integers
    is_tight: bool = False


def blocks_of(text: bytes, between: bytes) -> Iterator[bytes]:
    """Yield a text in blocks that end with one of the letters that may stand between numbers."""
    letter = re.compile(b"[" + re.escape(between) + b"]")
    begin = 0
    while begin < len(text):
        found = letter.search(text, begin + BLOCK)
        end = found.end() if found else len(text)
        yield text[begin:end]
        begin = end


def values_of(text: bytes) -> NDArray[np.float64]:
    """Return numbers that a space separates; raise `ValueError` if there is anything else."""
    return np.concatenate([np.zeros(0), *(read_printed(x).values for x in blocks_of(text, b" "))])


def read_printed(text: bytes, also: bytes = b"") -> Printed:
    """Read numbers that white space, or any of the letters ``also``, separates.

    Raises `ValueError` if there is anything else.
    """
    if len(text) < _FEW:
        return _read_few(text.translate(bytes.maketrans(also, b" " * len(also))))
    between = Letters(text)
    before = between.begin - 1
    begins, ends, is_tight = _words(between.letters[before : between.end + 1], also)
    printed = read_words(between, begins + before, ends + before)
    return replace(printed, ends=printed.ends - between.begin, is_tight=is_tight)


def _read_few(text: bytes) -> Printed:
    values, decimals, exponents, is_scaled, ends = [], [], [], [], []
    for word in _WORD.finditer(text):
        if not _NUMBER.fullmatch(word[0]):
            raise ValueError(f"no number: {word[0]!r}")
        mantissa, e, exponent = word[0].lower().partition(b"e")
        _, point, fraction = mantissa.partition(b".")
        size = _far_exponent(exponent.lstrip(b"+-"))
        values.append(float(word[0]))
        decimals.append(len(fraction) if point else -1)
        exponents.append(-size if exponent.startswith(b"-") else size)
        is_scaled.append(bool(e))
        ends.append(word.end())
    return Printed(
        np.array(values, np.float64),
        np.array(decimals, np.int64),
        np.array(exponents, np.int64),
        np.array(is_scaled, np.bool_),
        np.array(ends, np.int64),
    )


def read_words(text: Letters, begins: Integers, ends: Integers) -> Printed:
    """Read words of a text; raise `ValueError` if one is no number.

    They are in order, and none is empty.
    """
    letters = text.letters
    e = _place_in_each(letters, _E, begins, ends, ends)
    is_scaled = e < ends
    is_negative, is_signed = _signs(letters, begins)
    digits_begin = begins + is_signed
    point = _place_in_each(letters, _POINT, digits_begin, e, ends)
    is_pointed = point != e
    whole, decimals = point - digits_begin, e - point - is_pointed
    count = whole + decimals
    digits = Digits(text, (count < 1) | (count > MOST_DIGITS))
    mantissa = digits.before(point, whole)
    if is_pointed.any():
        shift = WHOLE_POWERS[np.clip(one_of(decimals), 0, MOST_DIGITS)]
        mantissa = mantissa * shift + digits.before(e, decimals)
    exponents = np.zeros(len(ends), np.int64)
    if is_scaled.any():
        exponents = _exponents(text, digits, e, ends)
    values = _scaled(mantissa, exponents - decimals, digits.odd)
    bits = values.view(np.uint64)
    bits |= is_negative.astype(np.uint64) << np.uint64(63)
    if digits.odd.any():
        values[digits.odd] = _one_by_one(text.padded, begins[digits.odd], ends[digits.odd])
    decimals[~is_pointed] = -1
    return Printed(values, decimals, exponents, is_scaled, ends)


def _exponents(text: Letters, digits: Digits, e: Integers, ends: Integers) -> Integers:
    """Return the integers after the letters e, 0 where there is none."""
    is_scaled = e < ends
    is_below, is_signed = _signs(text.letters, e + 1)
    counts = (ends - e - 1 - is_signed) * is_scaled
    digits.odd |= is_scaled & (counts < 1)
    exponents = digits.before(ends, counts).view(np.int64)
    for n in np.flatnonzero(counts >= MOST_DIGITS):
        exponents[n] = _far_exponent(text.padded[ends[n] - counts[n] : ends[n]])
    return np.where(is_below, -exponents, exponents)


def _far_exponent(digits: bytes) -> int:
    """Return an integer of many digits, which may be zeros, as nearly as an int64 holds it."""
    digits = digits.lstrip(b"0") or b"0"
    return int(digits) if len(digits) < MOST_DIGITS and digits.isdigit() else 10**9


def _words(letters: NDArray[np.uint8], also: bytes) -> tuple[Integers, Integers, bool]:
    """Return where words begin and end, and whether one letter is between any two of them.

    The first and the last of the letters are spaces.
    """
    is_between = letters <= _SPACE
    for letter in also:
        is_between |= letters == letter
    ends = np.flatnonzero(is_between[1:] > is_between[:-1]) + 1
    last = ends[-1] if len(ends) else 0
    # At the end of the text, one more may follow the last word.
    is_tight = (
        not is_between[1]
        and len(letters) - last <= 2
        and np.count_nonzero(is_between[:last]) == len(ends)
    )
    if is_tight:
        begins = np.concatenate([[1], ends[:-1] + 1])
        control = letters[ends]
    else:
        begins = np.flatnonzero(is_between[:-1] > is_between[1:]) + 1
        control = letters
    control = control[control < _SPACE]
    if control.size and not np.isin(control, _CONTROL).all():
        raise ValueError("a character that cannot be seen")
    return begins, ends, is_tight


def _place_in_each(
    letters: NDArray[np.uint8], letter: int, begins: Integers, stops: Integers, ends: Integers
) -> Integers:
    """Return where in each word a letter is, expected before its stop, which stands for nowhere.

    Raises `ValueError` if it is twice in one word. Where it is in the same place of all of them,
    that is not looked for: in any other place it is no digit.
    """
    first = letters[begins[:1].sum() : stops[:1].sum()] | _LOWER
    for at in np.flatnonzero(first == letter)[:1]:
        guesses: tuple[Integers, ...] = begins + at, stops - (len(first) - at)
        for guess in guesses:
            is_within = (begins <= guess).all() and (guess < stops).all()
            if is_within and (letters[guess] | _LOWER == letter).all():
                return guess
    begin, end = begins[:1].sum(), ends[-1:].sum()
    places = begin + np.flatnonzero(letters[begin:end] | _LOWER == letter)
    words = np.searchsorted(ends, places)
    is_within = begins[words] <= places  # others are in words that are not read
    if not is_within.all():
        words, places = words[is_within], places[is_within]
    if (np.diff(words) == 0).any():
        raise ValueError("no number has two points, or two exponents")
    place = stops.copy()
    place[words] = places
    return place


def _signs(letters: NDArray[np.uint8], begins: Integers) -> tuple[Flags, Flags]:
    """Return which words begin with a minus, and which with a sign."""
    first = letters[begins]
    is_negative = first == _MINUS
    return is_negative, is_negative | (first == _PLUS)


def _scaled(mantissa: NDArray[np.uint64], power: Integers, odd: Flags) -> NDArray[np.float64]:
    """Return integers times powers of ten, correctly rounded, or note that they are odd."""
    size = np.abs(power)
    values = mantissa.astype(np.float64)
    scale = _POWERS[np.minimum(one_of(size), _EXACT_POWER)]
    if power.max(initial=0) <= 0:
        values /= scale
    else:
        values = np.where(power < 0, values / scale, values * scale)
    if mantissa.max(initial=0) > _MOST_EXACT or size.max(initial=0) > _EXACT_POWER:
        rest = ((mantissa > _MOST_EXACT) | (size > _EXACT_POWER)) & (mantissa > 0)
        odd |= rest & (size > _MOST_POWER)
        rest &= ~odd
        values[rest], odd[rest] = _in_two_parts(mantissa[rest], power[rest])
    return values


@cache
def _powers_in_two_parts() -> NDArray[np.float64]:
    """Return the powers of ten as sums of two float64."""
    exact = [Fraction(10) ** n for n in range(-_MOST_POWER, _MOST_POWER + 1)]
    return np.array([(float(x), float(x - Fraction(float(x)))) for x in exact]).T


def _in_two_parts(
    mantissa: NDArray[np.uint64], power: Integers
) -> tuple[NDArray[np.float64], Flags]:
    """Return integers times powers of ten, and which may have been rounded to the wrong side.

    All numbers are sums of two float64. What is left out, and rounding, come to less than 2^-103.
    """
    p, p_low = _powers_in_two_parts()[:, power + _MOST_POWER]
    m = mantissa.astype(np.float64)
    m_low = (mantissa - m.astype(np.uint64)).view(np.int64).astype(np.float64)
    # Dekker's product of m and p, and what it was rounded by.
    product = m * p
    (m1, m2), (p1, p2) = _halves(m), _halves(p)
    low = ((m1 * p1 - product) + m1 * p2 + m2 * p1) + m2 * p2
    low += m * p_low + m_low * p
    value = product + low
    left = np.abs(low - (value - product))
    gap = np.spacing(value)
    # From a power of two the next number below is half as far.
    unsure = np.minimum(np.abs(left - gap / 2), np.abs(left - gap / 4)) <= _UNSURE * value
    return value, unsure


def _halves(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two numbers of 26 bits whose sum is x."""
    split = _SPLIT * x
    upper = split - (split - x)
    return upper, x - upper


def _one_by_one(padded: bytes, begins: Integers, ends: Integers) -> NDArray[np.float64]:
    """Return numbers of any form."""
    words = [padded[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]
    text = b" ".join(words)
    # NumPy takes nan(1) for a number, and other white space for none.
    if other := text.translate(None, _OF_NUMBERS):
        raise ValueError(f"no letter of a number: {other[:1]!r}")
    with warnings.catch_warnings():
        # What is no number is told by a warning, and by an error in later versions.
        warnings.simplefilter("error", DeprecationWarning)
        try:
            values = np.fromstring(text, sep=" ")
        except DeprecationWarning as error:
            raise ValueError(str(error)) from None
    if len(values) != len(words):
        raise ValueError("not as many numbers as words")
    return values
