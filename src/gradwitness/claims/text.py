"""Gradients in text as NumPy and PyTorch print it, and as people write it."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import FileFormatError, InputError
from gradwitness.claims import text_labels as labels
from gradwitness.claims.claim import Claim, Claims
from gradwitness.claims.text_brackets import Malformed, Nest, Table, read_nest
from gradwitness.claims.text_numbers import GrowingNumbers, parse
from gradwitness.claims.text_runs import Collector
from gradwitness.claims.text_stream import BLOCK, FIRST_BLOCK, Stream, progress

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_DECIMAL = re.compile(rb"\d\.\d")
_MOST_NOTES = 5
_ADVICE = (
    "Expected are lines with a name, each followed by its numbers: in brackets, as NumPy and "
    "PyTorch print them, or in rows."
)


def read_text(path: Path) -> Claims:
    """Read tensors with their names from text.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Claims

    Raises
    ------
    FileFormatError
        If it is not text, or malformed; the message names line and column.
    """
    try:
        with path.open("rb") as file, progress(path, path.stat().st_size) as advanced:
            return _Reader(Stream(file, path, advanced), path).read()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeError as error:
        raise FileFormatError(f"{path}: it begins like UTF-16 text and is none ({error})") from None


class _Reader:
    """Reads one file from its beginning to its end."""

    def __init__(self, stream: Stream, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._found = Collector()
        self._unread = 0
        self._scale = 1.0
        # Rows without brackets wait here: their shape may be told after them. Slices of columns.
        self._tables: list[list[_Rows]] = []
        self._is_joined = False

    def read(self) -> Claims:
        if b"\0" in self._stream.peek(FIRST_BLOCK):
            raise self._stream.error(
                f"this is not text. {_ADVICE} For .npz, .safetensors, .pt and .json files, "
                "keep the name's ending."
            )
        while line := self._stream.peek(labels.LONGEST_LABEL):
            self._line(line.partition(b"\n")[0], is_cut=b"\n" not in line)
        self._flush()
        runs = self._found.runs()
        if not runs:
            raise FileFormatError(f"{self._path}: no numbers in it. {_ADVICE}")
        if self._unread > _MOST_NOTES:
            self._found.notes.append(f"{self._unread - _MOST_NOTES} more lines were taken for text")
        return Claims(self._path.name, runs, tuple(self._found.notes))

    def _line(self, line: bytes, *, is_cut: bool) -> None:
        """Read what stands first in a line, or in what is left of it."""
        ending = labels.trailer(line)
        if ending:
            self._stream.skip(ending[0])
            self._flush(ending[1], ending[2])
            return
        columns = labels.COLUMNS.match(line)
        if columns:
            self._stream.skip(columns.end())
            self._tables = self._tables or [[]]
            self._is_joined = True
            return
        found = labels.look(line)
        if found.kind == "text":
            self._text(line)
            self._skip_line(len(line), is_cut=is_cut)
            return
        label, scale = labels.scale_of(found.label)
        if scale != 1.0:
            self._scale = scale
        name = labels.clean(label)
        if found.kind == "rows":
            self._rows(name, found.at)
            return
        self._flush()
        if found.kind == "scalar":
            self._scalar(name, line, found)
        else:
            self._stream.skip(found.at)
            self._array(name, is_wrapped=label.rstrip().endswith(b"("))

    def _skip_line(self, length: int, *, is_cut: bool) -> None:
        self._stream.skip(length)
        if not is_cut:
            self._stream.skip(1)
            return
        while block := self._stream.peek(BLOCK):
            end = block.find(b"\n")
            self._stream.skip(len(block) if end < 0 else end + 1)
            if end >= 0:
                return

    def _text(self, line: bytes) -> None:
        if not line.strip():
            return
        if labels.SLICE.match(line):
            self._tables.append([])
            self._is_joined = True
            return
        rest, scale = labels.scale_of(line)
        if scale != 1.0:
            # It comes before the numbers, with the name or alone.
            self._flush()
            self._scale = scale
        name = labels.clean(rest)
        if not name:
            return
        self._flush()
        if _DECIMAL.search(rest):
            self._unread += 1
            if self._unread <= _MOST_NOTES:
                self._found.notes.append(
                    f"{self._stream.where()} was taken for text: {name[:80]!r}"
                )
        self._found.text(name)

    def _scalar(self, name: str, line: bytes, found: labels.Found) -> None:
        where = self._stream.where()
        number = line[found.at : found.end]
        values, last = parse(number, np.array([0]), np.array([len(number)]))
        numbers = GrowingNumbers()
        numbers.append(values, last)
        self._stream.skip(found.end)
        dtype = self._end_of_wrapper(is_wrapped=True)[0]
        self._take(name, numbers, (), (), dtype, where)

    def _array(self, name: str, *, is_wrapped: bool) -> None:
        where = self._stream.where()
        nest = Nest()
        read_nest(self._stream, nest)
        dtype, told = self._end_of_wrapper(is_wrapped=is_wrapped)
        shape = told if told is not None and 0 in told and not nest.numbers.size else nest.shape
        self._take(name, nest.numbers, shape, nest.gaps, dtype, where)

    def _end_of_wrapper(self, *, is_wrapped: bool) -> tuple[str, tuple[int, ...] | None]:
        if not is_wrapped:
            return "", None
        length, dtype, size = labels.tail(self._stream.peek(FIRST_BLOCK))
        self._stream.skip(length)
        return dtype, size

    def _rows(self, name: str, at: int) -> None:
        """Read rows without brackets, up to an empty line or one of another kind."""
        if not self._is_joined or name:
            self._flush()
        where = self._stream.where()
        self._stream.skip(at)
        table, size, is_over = Table(), FIRST_BLOCK, False
        while not is_over:
            block, is_last = self._stream.block(size)
            try:
                end = table.read(block, is_last=is_last)
            except Malformed as error:
                raise self._stream.error(f"{error.what}.", error.at) from None
            self._stream.skip(end)
            is_over = is_last or end < len(block)
            size = min(4 * size, BLOCK)
        if not self._tables:
            self._tables.append([])
        self._tables[-1].append(_Rows(name, table, where))

    def _flush(self, dtype: str = "", shape: tuple[int, ...] | None = None) -> None:
        """Hand on the rows that wait, now that their shape is known."""
        slices = [rows for rows in self._tables if rows]
        self._tables, joined, self._is_joined = [], self._is_joined, False
        if not slices:
            return
        first = slices[0][0]
        if not joined:
            table = first.table
            told = table.shape if shape is None else shape
            if math.prod(told) != table.numbers.size:
                raise FileFormatError(
                    f"{self._path}, at {first.where}: {table.numbers.size} numbers, where the line "
                    f"after them says {list(told)}."
                )
            self._take(first.name, table.numbers, told, (), dtype, first.where)
            return
        values, rounding = _joined(slices, self._scale, self._path)
        if shape is not None and math.prod(shape) == values.size:
            values, rounding = values.reshape(shape), rounding.reshape(shape)
        self._scale = 1.0
        self._found.tensor(first.name, Claim("", values, rounding, dtype, (), first.where))

    def _take(
        self,
        name: str,
        numbers: GrowingNumbers,
        shape: tuple[int, ...],
        gaps: tuple[int | None, ...],
        dtype: str,
        where: str,
    ) -> None:
        values, rounding = numbers.take(self._scale)
        self._scale = 1.0
        if isinstance(rounding, np.ndarray):
            rounding = rounding.reshape(shape)
        self._found.tensor(name, Claim("", values.reshape(shape), rounding, dtype, gaps, where))


class _Rows:
    """A table with the name before it."""

    def __init__(self, name: str, table: Table, where: str) -> None:
        self.name = name
        self.table = table
        self.where = where


def _joined(
    slices: list[list[_Rows]], scale: float, path: Path
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Put columns that were printed one below the other side by side, and slices together."""
    parts = []
    for rows in slices:
        pair = []
        for part in rows:
            values, rounding = part.table.numbers.take(scale)
            shape = (part.table.columns.closed, part.table.columns.size or 0)
            spread = np.broadcast_to(rounding, values.shape)
            pair.append(np.stack([values.reshape(shape), spread.reshape(shape)]))
        parts.append(pair)
    try:
        whole = np.stack([np.concatenate(pair, axis=2) for pair in parts], axis=1)
    except ValueError:
        where = slices[0][0].where
        raise FileFormatError(
            f"{path}, at {where}: the columns or slices of this tensor do not fit together."
        ) from None
    if len(parts) == 1:
        whole = whole[:, 0]
    return whole[0], whole[1]
