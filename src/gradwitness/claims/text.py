"""Gradients in text as NumPy and PyTorch print it, and as people write it."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import FileFormatError, InputError
from gradwitness.claims import text_labels as labels
from gradwitness.claims.claim import Claim, Claims
from gradwitness.claims.text_brackets import Nest, Table, read_blocks, read_nest
from gradwitness.claims.text_numbers import GrowingNumbers, parse
from gradwitness.claims.text_runs import Collector
from gradwitness.claims.text_stream import BLOCK, FIRST_BLOCK, Stream, progress

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_DECIMAL = re.compile(rb"\d\.\d")
_MOST_NOTES = 5
_ADVICE = (
    "Expected lines with a name, each followed by its numbers: in brackets, as NumPy and PyTorch "
    "print them, or in rows."
)


def read_text(path: Path) -> Claims:
    """Read named tensors from text.

    Raises `FileFormatError`, with line and column, if it is not text, or malformed.
    """
    try:
        with path.open("rb") as file, progress(path, path.stat().st_size) as advanced:
            return _Reader(Stream(file, path, advanced), path).read()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise FileFormatError(f"{path}: begins like UTF-16 text, but is not ({error})") from None


class _Reader:
    """Reads one file."""

    def __init__(self, stream: Stream, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._collector = Collector()
        self._unread = 0
        self._scale = 1.0
        # Rows without brackets wait here, as slices of columns: their shape may follow them.
        self._tables: list[list[_Rows]] = []
        self._is_joined = False

    def read(self) -> Claims:
        if b"\0" in self._stream.peek(FIRST_BLOCK):
            raise self._stream.error(
                f"this is not text. {_ADVICE} Files in .npz, .safetensors, .pt and .json format "
                "are recognised by their extension."
            )
        while line := self._stream.peek(labels.LONGEST_LABEL):
            self._line(line.partition(b"\n")[0], is_cut=b"\n" not in line)
        self._flush()
        runs = self._collector.runs()
        if not runs:
            raise FileFormatError(f"{self._path}: no numbers found. {_ADVICE}")
        if self._unread > _MOST_NOTES:
            self._collector.notes.append(
                f"{self._unread - _MOST_NOTES} more lines were read as text"
            )
        return Claims(self._path.name, runs, tuple(self._collector.notes))

    def _line(self, line: bytes, *, is_cut: bool) -> None:
        """Read the first item of a line, or of the rest of one."""
        trailer = labels.trailer(line)
        if trailer:
            self._stream.skip(trailer[0])
            self._flush(trailer[1], trailer[2])
            return
        columns = labels.COLUMNS.match(line)
        if columns:
            self._stream.skip(columns.end())
            self._tables = self._tables or [[]]
            self._is_joined = True
            return
        parts = labels.classify(line)
        if parts.kind == "text":
            self._text(line)
            self._skip_line(len(line), is_cut=is_cut)
            return
        label, scale = labels.scale_of(parts.label)
        if scale != 1.0:
            self._scale = scale
        name = labels.clean(label)
        if parts.kind == "rows":
            self._rows(name, parts.at)
            return
        self._flush()
        if parts.kind == "scalar":
            self._scalar(name, line, parts)
        else:
            self._stream.skip(parts.at)
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
            # It precedes the numbers, after the name or alone.
            self._flush()
            self._scale = scale
        name = labels.clean(rest)
        if not name:
            return
        self._flush()
        if _DECIMAL.search(rest):
            self._unread += 1
            if self._unread <= _MOST_NOTES:
                self._collector.notes.append(
                    f"{self._stream.where()} was read as text: {name[:80]!r}"
                )
        self._collector.text(name)

    def _scalar(self, name: str, line: bytes, parts: labels.LineParts) -> None:
        where = self._stream.where()
        number = line[parts.at : parts.end]
        values, last = parse(number, np.array([0]), np.array([len(number)]))
        numbers = GrowingNumbers()
        numbers.append(values, last)
        self._stream.skip(parts.end)
        dtype = self._end_of_wrapper(is_wrapped=True)[0]
        self._add(name, numbers, (), (), dtype, where)

    def _array(self, name: str, *, is_wrapped: bool) -> None:
        where = self._stream.where()
        nest = Nest()
        read_nest(self._stream, nest)
        dtype, declared = self._end_of_wrapper(is_wrapped=is_wrapped)
        shape = (
            declared
            if declared is not None and 0 in declared and not nest.numbers.size
            else nest.shape
        )
        self._add(name, nest.numbers, shape, nest.gaps, dtype, where)

    def _end_of_wrapper(self, *, is_wrapped: bool) -> tuple[str, tuple[int, ...] | None]:
        if not is_wrapped:
            return "", None
        length, dtype, size = labels.tail(self._stream.peek(FIRST_BLOCK))
        self._stream.skip(length)
        return dtype, size

    def _rows(self, name: str, at: int) -> None:
        """Read rows without brackets, up to a line that is empty or of another kind."""
        if not self._is_joined or name:
            self._flush()
        where = self._stream.where()
        self._stream.skip(at)
        table = Table()
        read_blocks(self._stream, table.read)
        if not self._tables:
            self._tables.append([])
        self._tables[-1].append(_Rows(name, table, where))

    def _flush(self, dtype: str = "", shape: tuple[int, ...] | None = None) -> None:
        """Hand on the pending rows, now that their shape is known."""
        slices = [rows for rows in self._tables if rows]
        self._tables, joined, self._is_joined = [], self._is_joined, False
        if not slices:
            return
        first = slices[0][0]
        if not joined:
            table = first.table
            declared = table.shape if shape is None else shape
            if math.prod(declared) != table.numbers.size:
                raise FileFormatError(
                    f"{self._path}, at {first.where}: {table.numbers.size} numbers, but the line "
                    f"after them declares the shape {list(declared)}."
                )
            self._add(first.name, table.numbers, declared, (), dtype, first.where)
            return
        values, rounding = _joined(slices, self._scale, self._path)
        if shape is not None and math.prod(shape) == values.size:
            values, rounding = values.reshape(shape), rounding.reshape(shape)
        self._scale = 1.0
        self._collector.tensor(first.name, Claim("", values, rounding, dtype, (), first.where))

    def _add(
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
        self._collector.tensor(name, Claim("", values.reshape(shape), rounding, dtype, gaps, where))


class _Rows:
    """A table and the name before it."""

    def __init__(self, name: str, table: Table, where: str) -> None:
        self.name = name
        self.table = table
        self.where = where


def _joined(
    slices: list[list[_Rows]], scale: float, path: Path
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Join columns that were printed one below the other, and stack slices."""
    blocks = []
    for rows in slices:
        columns = []
        for table_rows in rows:
            values, rounding = table_rows.table.numbers.take(scale)
            shape = (table_rows.table.columns.closed, table_rows.table.columns.size or 0)
            roundings = np.broadcast_to(rounding, values.shape)
            columns.append(np.stack([values.reshape(shape), roundings.reshape(shape)]))
        blocks.append(columns)
    try:
        joined = np.stack([np.concatenate(columns, axis=2) for columns in blocks], axis=1)
    except ValueError:
        where = slices[0][0].where
        raise FileFormatError(
            f"{path}, at {where}: the columns or slices of this tensor differ in size"
        ) from None
    if len(blocks) == 1:
        joined = joined[:, 0]
    return joined[0], joined[1]
