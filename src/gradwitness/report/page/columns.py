"""Columns of numbers and texts, packed so small that a page can hold those of a large model."""

from __future__ import annotations

import base64
import gzip
import json
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
# Numbers that are written as they would be again: no leading zero, and no more than 32 bits.
_NUMBER = re.compile(r"(?<!\d)([1-9]\d{0,8})(?!\d)", re.ASCII)


class Columns:
    """A table by its columns; equal texts are kept once, and so are those that differ by numbers.

    Packed, it is the length of a header (4 bytes, little-endian), the header as JSON, padding, and
    the columns one after another, each with its own padding; all that compressed, and in base64.
    Of whole numbers the differences are kept, and of each column all first bytes, then all second
    ones and so on: both are more alike than the numbers.

    A text is a form, in which NUL stands for numbers: ``_form`` is that of each text, ``_filled``
    the numbers, by form, by place in it, and then in the order of the texts.
    """

    def __init__(self, **facts: Any) -> None:
        self._facts = facts
        self._numbers: dict[str, np.ndarray[Any, Any]] = {}
        self._apart: dict[str, int] = {}
        self._texts: dict[str, int] = {}
        self._of_texts: list[str] = []

    def numbers(self, name: str, numbers: ArrayLike, dtype: DTypeLike, *, apart: int = 1) -> None:
        """Add a column of numbers; whole ones are alike that stand so far ``apart``."""
        with np.errstate(over="ignore"):  # beyond float32 a figure is shown as infinite
            array = np.asarray(numbers).astype(dtype)
        self._numbers[name] = array
        self._apart[name] = apart if array.dtype.kind in "iu" else 0

    def figures(self, name: str, figures: ArrayLike) -> None:
        """Add a column of errors, norms and the like; of very many, to within 2^-12."""
        self.numbers(name, figures, np.float32)
        if self._numbers[name].size > _MOST_EXACT:
            self._numbers[name] = rounded(self._numbers[name])

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


def rounded(figures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return figures without their last 12 bits."""
    bits = figures.view(np.uint32)
    return ((bits + 0x800) & np.uint32(0xFFFFF000)).view(np.float32)


def packed(content: bytes) -> str:
    """Return bytes compressed, as text that no HTML can mistake for its own."""
    return base64.b64encode(gzip.compress(content, compresslevel=6, mtime=0)).decode("ascii")
