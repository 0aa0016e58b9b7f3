"""The letters before many places of a text, eight at once, and the digits that they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers: TypeAlias = NDArray[np.int64]
    Flags: TypeAlias = NDArray[np.bool_]
    Words: TypeAlias = NDArray[np.uint64]

EIGHT = 8
MOST_DIGITS = 19  # a uint64 holds them all
WHOLE_POWERS = np.uint64(10) ** np.arange(MOST_DIGITS + 1, dtype=np.uint64)
_PADDING = 3 * EIGHT
_ZERO = ord("0")


def _eight_of(letter: int) -> np.uint64:
    return np.uint64(int.from_bytes(bytes([letter]) * EIGHT, "little"))


_ZEROS, _UP_TO_HIGH, _HIGH = map(_eight_of, (_ZERO, 0x80 - 10, 0x80))
_PAIRS = np.uint64(0x000000FF000000FF)
# The last of eight letters are in the highest bytes.
_LAST = np.array([2**64 - (1 << 64 - 8 * n) for n in range(EIGHT + 1)], np.uint64)


class Letters:
    """A text between spaces, so that there are letters before and after each place in it.

    Parameters
    ----------
    text : bytes

    Attributes
    ----------
    padded : bytes
    letters : ndarray
        Those of the padded text.
    begin, end : int
        Where the text is in it.
    """

    def __init__(self, text: bytes) -> None:
        self.begin = _PADDING
        self.end = _PADDING + len(text)
        self.padded = b" " * _PADDING + text + b" " * (2 * EIGHT - len(text) % EIGHT)
        self.letters = np.frombuffer(self.padded, np.uint8)
        self._eights = np.frombuffer(self.padded, np.dtype("<u8"))

    def before(self, ends: Integers, counts: Any) -> Words:
        """Return so many letters, at most eight, that end before some places: each takes a byte.

        The last is in the highest; bytes without a letter are 0.
        """
        place = (ends >> 3) - 1
        shift = ((ends & 7) << 3).view(np.uint64)
        word: Words = self._eights[place] >> shift
        # A shift by all 64 bits is none, so it is made in two steps.
        word |= (self._eights[place + 1] << np.uint64(1)) << (np.uint64(63) - shift)
        word &= _LAST[counts]
        return word


class Digits:
    """Reads integers, and notes the words that are odd: with other letters, or too many.

    Parameters
    ----------
    text : Letters
    odd : ndarray
        The words that are known to be odd.
    """

    def __init__(self, text: Letters, odd: Flags) -> None:
        self._text = text
        self.odd = odd

    def before(self, ends: Integers, counts: Integers) -> Words:
        """Return the integers of so many digits that end before some places."""
        if counts.min(initial=0) < 0 or counts.max(initial=0) > MOST_DIGITS:
            self.odd |= (counts < 0) | (counts > MOST_DIGITS)
            counts = np.clip(counts, 0, MOST_DIGITS)
        most, count = int(counts.max(initial=0)), one_of(counts)
        value = np.zeros(len(ends), np.uint64)
        if most <= 2:
            for n in range(most):
                digit = self._text.letters[ends - 1 - n] - np.uint8(_ZERO)
                if count is counts:
                    digit *= counts > n
                self.odd |= digit > 9
                value += digit if n == 0 else np.uint8(10) * digit
            return value
        for n in range(0, most, EIGHT):
            part = self._eight(ends - n, np.clip(count - n, 0, EIGHT))
            value = value + part * WHOLE_POWERS[n] if n else part
        return value

    def _eight(self, ends: Integers, counts: Any) -> Words:
        """Return the integers of at most eight digits."""
        word = self._text.before(ends, counts)
        word ^= _ZEROS & _LAST[counts]
        # In a byte of a digit the sum leaves the highest bit clear.
        known = (word + _UP_TO_HIGH) | word
        if np.bitwise_or.reduce(known) & _HIGH:
            self.odd |= (known & _HIGH) != 0
        # Pairs of digits, then pairs of pairs, then both halves.
        word = word * np.uint64(10) + (word >> np.uint64(8))
        upper = ((word >> np.uint64(16)) & _PAIRS) * np.uint64(1 + (10_000 << 32))
        return ((word & _PAIRS) * np.uint64(100 + (1_000_000 << 32)) + upper) >> np.uint64(32)


def one_of(counts: Integers) -> Any:
    """Return counts, or the one that all of them are."""
    return counts[0] if len(counts) and counts.min() == counts.max() else counts
