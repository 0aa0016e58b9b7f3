"""Gradients in text as NumPy and PyTorch print it, and as people write it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import FileFormatError
from gradwitness._printable import listed, several
from gradwitness.claims import text_labels as labels
from gradwitness.claims.claim import Claim, Claims
from gradwitness.claims.table_records import Records
from gradwitness.claims.tables import claims_of_table
from gradwitness.claims.text_bare import BareLines
from gradwitness.claims.text_brackets import Tensor, read_nest, read_rows, squeezed
from gradwitness.claims.text_entries import read_entries
from gradwitness.claims.text_file import Cursor, read_bytes
from gradwitness.claims.text_named_rows import named_rows
from gradwitness.claims.text_numbers import Numbers, digits
from gradwitness.claims.text_runs import Collector
from gradwitness.claims.text_tree import BEGIN, read_tree
from gradwitness.claims.text_unread import unread_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.claims.table_records import Record

_DECIMAL = re.compile(rb"\d\.\d|\d%\s*\Z")
_WITH_NUMBER = re.compile(rb"(?<!\S)[-+(\[]*\d")
_MOST_NOTES = 5
# Text that begins like a tree so often, and is none, is not worth the time.
_MOST_FAILURES = 100
_ADVICE = (
    "Expected lines with a name, each followed by its numbers: in brackets, as NumPy and PyTorch "
    "print them, or in rows."
)


def read_text(path: Path) -> Claims:
    """Read named tensors from text.

    Raises `FileFormatError`, with line and column, if it is not text, or malformed.
    """
    content = read_bytes(path)
    return _Reader(Cursor(content, path), path).read()


def tensors_of(content: bytes, path: Path) -> list[Claim]:
    """Return the tensors of a piece of text, such as a cell of a table."""
    reader = _Reader(Cursor(content, path), path)
    reader.scan()
    return [claim for run in reader.collector.runs() for claim in run.values()]


class _Reader:
    """Reads one text."""

    def __init__(self, text: Cursor, path: Path) -> None:
        self._text = text
        self._path = path
        self.collector = Collector()
        self._bare = BareLines(text.content)
        self._unread = 0
        self._headings: list[str] = []  # with a number each
        self._no_trees = 0
        self._scale = 1.0
        # Rows without brackets wait here, as slices of columns: their shape may follow them.
        self._tables: list[list[_Rows]] = []
        self._is_joined = False
        self._columns: list[str] = []  # of lines with an entry each
        self._no_entries = self._no_named_rows = 0  # before here

    def read(self) -> Claims:
        self.scan()
        runs = self.collector.runs(self._path.stem)
        if not runs:
            why = next(iter(self.collector.notes), "no numbers found")
            raise FileFormatError(f"{self._path}: {why}. {_ADVICE}")
        if self._unread > _MOST_NOTES:
            self.collector.notes.append(
                f"{self._unread - _MOST_NOTES} more lines were read as text"
            )
        # Some are names of what is below them.
        names = {name for run in runs for name in run}
        passed = [line for line in self._headings if line not in names]
        if passed:
            count = several(len(passed), "line with a number was", "lines with a number were")
            lines = listed([repr(line[:80]) for line in passed], 4)
            self.collector.notes.append(
                f"{count} read as {'a heading' if len(passed) == 1 else 'headings'}: {lines}"
            )
        return Claims(self._path.name, runs, tuple(self.collector.notes))

    def scan(self) -> None:
        while self._text.at < len(self._text.content):
            self._line(self._text.line())
        self._flush()

    def _line(self, line: bytes) -> None:
        """Read the first item of a line, or of the rest of one."""
        if self._text.at >= self._no_named_rows and self._named_rows():
            return
        begin = labels.beginning(line)
        trailer = labels.trailer(begin)
        if trailer:
            self._text.at += trailer[0]
            self._flush(trailer[1], trailer[2])
            return
        columns = labels.COLUMNS.match(begin)
        if columns:
            self._text.at += columns.end()
            self._tables = self._tables or [[]]
            self._is_joined = True
            return
        tree = BEGIN.search(begin) if self._no_trees < _MOST_FAILURES else None
        if tree and self._is_tree(begin[: tree.start()], tree.start()):
            return
        if self._is_entry(line):
            return
        parts = self._parts(line, begin)
        if parts.kind == "text":
            self._line_of_text(begin)
            self._text.at += len(line) + 1
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
            self._scalar(name, begin, parts)
        else:
            self._text.at += parts.at
            self._array(name, is_wrapped=label.rstrip().endswith(b"("))

    def _parts(self, line: bytes, begin: bytes) -> labels.LineParts:
        parts = labels.classify(begin)
        if parts.kind == "text" and (at := self._bare.numbers_at(line, self._text.at)) is not None:
            return labels.LineParts("rows", line[:at], at)
        return parts

    def _named_rows(self) -> bool:
        """Read lines with a name and its numbers each, if there are many."""
        rows, end = named_rows(self._text.content, self._text.at)
        self._no_named_rows = end + 1
        if not rows:
            return False
        self._flush()
        if self._scale != 1.0:
            return False  # it is of the first
        for at, name, numbers in rows:
            self._text.at = at
            shape = () if len(numbers) == 1 else (len(numbers),)
            self._add(name, numbers, shape, (), "", self._text.where())
        self._text.at = end
        return True

    def _is_tree(self, label: bytes, at: int) -> bool:
        """Read a tree, if one begins there."""
        where, begin = self._text.where(), self._text.at
        self._text.at += at
        leaves = read_tree(self._text)
        if leaves is None:
            self._text.at = begin
            self._no_trees += 1
            return False
        self._flush()
        if name := labels.clean(label):
            self.collector.text(name)
        for path, tensor, factor, dtype in leaves:
            self._scale *= factor
            self._add(path, tensor.numbers, tensor.shape, tensor.gaps, dtype, where)
        return True

    def _is_entry(self, line: bytes) -> bool:
        """Read lines with an entry each, if this is one."""
        if labels.NEGATIVE_ENTRY.match(line):
            raise self._text.error(
                "an entry with a negative index. Count from the begin of each axis."
            )
        return self._text.at >= self._no_entries and bool(labels.entry(line)) and self._entries()

    def _entries(self) -> bool:
        """Read lines with one entry of a tensor each, if these are such lines."""
        where, begin = self._text.where(), self._text.at
        at_once = read_entries(self._text.content, begin, Path(self._path.name))
        if at_once:
            self._flush()
            self._columns = self._columns[:1] or ["1"]
            self._add_claims(at_once[0], where)
            self._text.at = at_once[1]
            return True
        entries = []
        while self._text.at < len(self._text.content):
            line = self._text.line()
            if entry := labels.entry(line):
                entries.append(entry)
            elif line.strip():
                break
            self._text.at += len(line) + 1
        names, places, rows = map(list, zip(*entries, strict=True))
        # [2,3] may also be the shape of what follows, and [2] the number of a layer.
        is_placed = len({*names}) < len(names) or any(0 in place for place in places)
        width = len(rows[0])
        if is_placed and all(len(row) == width for row in rows):
            self._flush()
            named = self.collector.take_columns(width)
            self._columns = named or self._columns[:width]
            if len(self._columns) != width and (width == 1 or any(p[1:] for p in places)):
                self._columns = [str(n) for n in range(1, width + 1)]
            if len(self._columns) == width:
                self._add_entries(names, places, rows, where)
                return True
        self._no_entries, self._text.at = self._text.at, begin
        return False

    def _add_entries(
        self, names: list[str], places: list[list[int]], rows: list[list[str]], where: str
    ) -> None:
        records: list[Record] = [
            {
                "name": name,
                "index": str(place),
                **dict(zip(self._columns, map(digits, row), strict=True)),
            }
            for name, place, row in zip(names, places, rows, strict=True)
        ]
        table = Records(records, Path(self._path.name))
        self._add_claims(claims_of_table(table, are_entries=True), where)

    def _add_claims(self, claims: Claims, where: str) -> None:
        self.collector.notes += claims.notes
        for run in claims.runs:
            for name, claim in run.items():
                self.collector.tensor(name, replace(claim, where=where))

    def _line_of_text(self, line: bytes) -> None:
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
        unread = unread_name(line)
        if _DECIMAL.search(rest) or labels.is_like_numbers(rest) or unread:
            self._unread += 1
            if self._unread <= _MOST_NOTES:
                self.collector.notes.append(f"{self._text.where()} was read as text: {name[:80]!r}")
        elif _WITH_NUMBER.search(rest):
            self._headings.append(name)
        if unread:
            self.collector.unread(unread, self._text.where())
        else:
            self.collector.text(name)

    def _scalar(self, name: str, line: bytes, parts: labels.LineParts) -> None:
        where, numbers = self._text.where(), Numbers()
        numbers.append(line[parts.at : parts.end])
        self._text.at += parts.end
        dtype = self._end_of_wrapper(is_wrapped=True)[0]
        self._add(name, numbers, (), (), dtype, where)

    def _array(self, name: str, *, is_wrapped: bool) -> None:
        where = self._text.where()
        tensor = read_nest(self._text)
        dtype, declared = self._end_of_wrapper(is_wrapped=is_wrapped)
        is_empty = declared is not None and 0 in declared and not len(tensor.numbers)
        shape = declared if is_empty and declared is not None else tensor.shape
        self._add(name, tensor.numbers, shape, tensor.gaps, dtype, where)

    def _end_of_wrapper(self, *, is_wrapped: bool) -> tuple[str, tuple[int, ...] | None]:
        if not is_wrapped:
            return "", None
        at = self._text.at
        length, dtype, size = labels.tail(self._text.content[at : at + labels.LONGEST_LABEL])
        self._text.at += length
        return dtype, size

    def _rows(self, name: str, at: int) -> None:
        """Read rows without brackets, up to a line that is empty or of another kind."""
        if not self._is_joined or name:
            self._flush()
        where = self._text.where()
        self._text.at += at
        if not self._tables:
            self._tables.append([])
        self._tables[-1].append(_Rows(name, read_rows(self._text), where))

    def _flush(self, dtype: str = "", shape: tuple[int, ...] | None = None) -> None:
        """Hand on the pending rows, now that their shape is known."""
        slices = [rows for rows in self._tables if rows]
        self._tables, joined, self._is_joined = [], self._is_joined, False
        if not slices:
            return
        first = slices[0][0]
        if not joined:
            numbers = first.table.numbers
            declared = squeezed(first.table.shape) if shape is None else shape
            if math.prod(declared) != len(numbers):
                raise FileFormatError(
                    f"{self._path}, at {first.where}: {len(numbers)} numbers, but the line after "
                    f"them declares the shape {list(declared)}."
                )
            self._add(first.name, numbers, declared, (), dtype, first.where)
            return
        values, rounding = _joined(slices, self._scale, self._path)
        if shape is not None and math.prod(shape) == values.size:
            values, rounding = values.reshape(shape), rounding.reshape(shape)
        self._scale = 1.0
        self.collector.tensor(first.name, Claim("", values, rounding, dtype, (), first.where))

    def _add(
        self,
        name: str,
        numbers: Numbers,
        shape: tuple[int, ...],
        gaps: tuple[int | None, ...],
        dtype: str,
        where: str,
    ) -> None:
        values, rounding = numbers.take(self._scale)
        self._scale = 1.0
        if isinstance(rounding, np.ndarray):
            rounding = rounding.reshape(shape)
        self.collector.tensor(name, Claim("", values.reshape(shape), rounding, dtype, gaps, where))


@dataclass(frozen=True)
class _Rows:
    """A table and the name before it."""

    name: str
    table: Tensor
    where: str


def _joined(
    slices: list[list[_Rows]], scale: float, path: Path
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Join columns that were printed one below the other, and stack slices."""
    blocks = []
    for rows in slices:
        columns = []
        for table_rows in rows:
            values, rounding = table_rows.table.numbers.take(scale)
            shape = table_rows.table.shape
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
