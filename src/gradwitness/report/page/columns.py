"""Columns of numbers and texts, packed so small that a page can hold those of a large model."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, DTypeLike, NDArray

# Browsers make arrays of numbers only where their bytes begin at a multiple of the largest size.
_ALIGNED = 8
# Of more lines than this, figures are kept to the digits that a page shows: the other ones, which
# are random, would be most of it.
_MOST_EXACT = 20_000
# Exponents of decimals that are infinite and NaN.
_INFINITE, _NAN = 999, -999
# Numbers that are written as they would be again: no leading zero, and no more than 32 bits.
_NUMBER = re.compile(r"(?<!\d)([1-9]\d{0,8})(?!\d)", re.ASCII)


class Columns:
    """A table by its columns; equal texts are kept once, and so are those that differ by numbers.

    Packed, it is the length of a header (4 bytes, little-endian), the header as JSON, padding, and
    the columns one after another, each with its own padding; all that compressed, and in base64.
    Of whole numbers the differences are kept, and of each column all first bytes, then all second
    ones and so on: both are more alike than the numbers.

    Very many figures are decimals, ``mantissa * 10**exponent``. Where they recur (the norm of a
    gradient that is sent is that of the one that arrives), only new ones are; a further column says
    of each figure how many new ones ago it stood before, or 0 if it is new.

    A text is a form, in which NUL stands for numbers: ``_form`` is that of each text, ``_filled``
    the numbers, by form, by place in it, and then in the order of the texts.
    """

    def __init__(self, **facts: Any) -> None:
        self._facts = facts
        self._numbers: dict[str, np.ndarray[Any, Any]] = {}
        self._apart: dict[str, int] = {}
        self._texts: dict[str, int] = {}
        self._of_texts: list[str] = []
        self._of_decimals: list[str] = []

    def numbers(self, name: str, numbers: ArrayLike, dtype: DTypeLike, *, apart: int = 1) -> None:
        """Add a column of numbers; whole ones are alike that stand so far ``apart``."""
        with np.errstate(over="ignore"):  # beyond float32 a figure is shown as infinite
            array = np.asarray(numbers).astype(dtype)
        self._numbers[name] = array
        self._apart[name] = apart if array.dtype.kind in "iu" else 0

    def figures(
        self, name: str, figures: ArrayLike, *, digits: int = 3, recurring: bool = False
    ) -> None:
        """Add a column of errors, norms and the like; of very many, to so many digits.

        Of ``recurring`` ones many stand more than once.
        """
        given = np.asarray(figures, np.float64)
        if given.size <= _MOST_EXACT:
            self.numbers(name, given, np.float32)
            return
        self._of_decimals.append(name)
        ago, new = _first_seen(given) if recurring else ([], given)
        self.numbers(f"{name}_ago", ago, np.uint32, apart=0)
        for part, numbers in zip(("mantissa", "exponent"), decimals(new, digits), strict=True):
            self.numbers(f"{name}_{part}", numbers, np.int32, apart=0)

    def texts(self, name: str, texts: Iterable[str]) -> None:
        """Add a column of texts, with what cannot be seen written out but line ends and tabs."""
        numbers = [self._number(text) for text in texts]
        self.numbers(name, numbers, np.uint32)
        self._of_texts.append(name)

    def _number(self, text: str) -> int:
        number = self._texts.get(text)
        if number is None:
            shown = "\t".join(map(printable, text.split("\t")))
            number = self._texts.setdefault(shown, len(self._texts))
        return number

    def packed(self) -> str:
        """Return the table as text; the same table gives the same text."""
        forms = self._forms()
        header = {
            "facts": self._facts,
            "forms": forms,
            "of_texts": self._of_texts,
            "of_decimals": self._of_decimals,
            "columns": {
                name: [f"{array.dtype.kind}{array.dtype.itemsize}", array.size, self._apart[name]]
                for name, array in self._numbers.items()
            },
        }
        written = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
        pieces = [len(written).to_bytes(4, "little"), written]
        pieces.append(b" " * (-(4 + len(written)) % _ALIGNED))
        for name, array in self._numbers.items():
            alike = array.copy()
            if apart := self._apart[name]:
                alike[apart:] -= array[:-apart]
            shuffled = alike.astype(array.dtype.newbyteorder("<")).view(np.uint8)
            pieces.append(shuffled.reshape(array.size, array.itemsize).T.tobytes())
            pieces.append(bytes(-array.nbytes % _ALIGNED))
        return packed(b"".join(pieces))

    def _forms(self) -> list[str]:
        """Add the columns that texts are filled in from; return their forms."""
        forms: dict[str, int] = {}
        filled: list[list[list[str]]] = []
        form_of = []
        for text in self._texts:
            parts = _NUMBER.split(text)
            form = forms.setdefault("\0".join(parts[::2]), len(forms))
            form_of.append(form)
            if form == len(filled):
                filled.append([])
            filled[form].append(parts[1::2])
        self.numbers("_form", form_of, np.uint32)
        by_place = [place for rows in filled for place in zip(*rows, strict=True)]
        self.numbers("_filled", [int(n) for place in by_place for n in place], np.uint32)
        return list(forms)


def _first_seen(figures: NDArray[np.float64]) -> tuple[list[int], NDArray[np.float64]]:
    """Return how many different figures ago each stood before, or 0, and the new ones.

    Zeros, infinities and NaNs, which take no room, are always new.
    """
    seen: dict[float, int] = {}
    ago: list[int] = []
    new: list[float] = []
    for figure in figures.tolist():
        before = seen.get(figure)
        ago.append(0 if before is None else len(new) - before)
        if before is None:
            if figure and math.isfinite(figure):
                seen[figure] = len(new)
            new.append(figure)
    return ago, np.array(new, np.float64)


def decimals(
    figures: NDArray[np.float64], digits: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return mantissas of so many digits, and exponents of 10."""
    usual = np.isfinite(figures) & (figures != 0)
    with np.errstate(all="ignore"):
        exponents = np.where(usual, np.floor(np.log10(np.abs(figures))) - digits + 1, 0).astype(int)
        # In two steps: no power of ten is subnormal.
        half = exponents // 2
        scaled = np.where(usual, figures / 10.0**half / 10.0 ** (exponents - half), 0)
    mantissas = np.rint(scaled).astype(np.int32)
    for odd, exponent in ((figures == np.inf, _INFINITE), (np.isnan(figures), _NAN)):
        mantissas[odd], exponents[odd] = 1, exponent
    mantissas[figures == -np.inf], exponents[figures == -np.inf] = -1, _INFINITE
    return mantissas, exponents.astype(np.int32)


def packed(content: bytes) -> str:
    """Return bytes compressed, as text that no HTML can mistake for its own."""
    return base64.b64encode(gzip.compress(content, compresslevel=9, mtime=0)).decode("ascii")
