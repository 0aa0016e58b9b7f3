"""Columns of numbers and texts, packed so small that a page can hold those of a large model."""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, DTypeLike

# Browsers make arrays of numbers only where their bytes begin at a multiple of the largest size.
_ALIGNED = 8


class Columns:
    """A table by its columns; equal texts are kept once.

    Packed, it is the length of a header (4 bytes, little-endian), the header as JSON, padding, and
    the columns one after another, each with its own padding; all that compressed, and in base64.
    """

    def __init__(self, **facts: Any) -> None:
        self._facts = facts
        self._numbers: dict[str, np.ndarray[Any, Any]] = {}
        self._texts: dict[str, int] = {}
        self._of_texts: list[str] = []

    def numbers(self, name: str, numbers: ArrayLike, dtype: DTypeLike) -> None:
        """Add a column of numbers; little-endian, whatever the machine."""
        with np.errstate(over="ignore"):  # beyond float32 a figure is shown as infinite
            array = np.asarray(numbers).astype(dtype)
        self._numbers[name] = array.astype(array.dtype.newbyteorder("<"))

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
        header = {
            "facts": self._facts,
            "texts": list(self._texts),
            "of_texts": self._of_texts,
            "columns": {
                name: [f"{array.dtype.kind}{array.dtype.itemsize}", array.size]
                for name, array in self._numbers.items()
            },
        }
        written = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
        pieces = [len(written).to_bytes(4, "little"), written]
        pieces.append(b" " * (-(4 + len(written)) % _ALIGNED))
        for array in self._numbers.values():
            pieces += [array.tobytes(), bytes(-array.nbytes % _ALIGNED)]
        return packed(b"".join(pieces))


def packed(content: bytes) -> str:
    """Return bytes compressed, as text that no HTML can mistake for its own."""
    return base64.b64encode(gzip.compress(content, compresslevel=6, mtime=0)).decode("ascii")
