"""Tables whose columns hold one kind of cell each, read by columns instead of cell by cell.

What they say is what `records` says of their rows. Whatever is odd is left to that: cells that are
empty, tensors, or of another kind than others of their column; entries that come twice.
"""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import FileFormatError
from gradwitness.claims.claim import Claims
from gradwitness.claims.records import (
    INDEX,
    INTEGER,
    MOST_ROWS,
    NAMES,
    NO_CLAIM,
    RUNS,
    UNNAMED,
    as_matrix,
    at_places,
    claim_of,
)
from gradwitness.claims.text_numbers import Numbers
from gradwitness.files.printed_numbers import NUMBER_PATTERN, blocks_of, read_printed, values_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gradwitness.claims.claim import Run

_NUMBER = re.compile(NUMBER_PATTERN.decode(), re.ASCII)
_TEXT = re.compile(r"[^\W\d][\w./-]*")
_EMPTY_LINES = re.compile(rb"\n\n+")
# 3 and (0, 1), each on a line; and what makes spaces of all that is between the numbers.
_PLACE = rb"(?:\d{1,9}|\(\d{1,9}(?:, ?\d{1,9})*+,?\))"
_TUPLES = re.compile(rb"(?:" + _PLACE + rb"\n)*+" + _PLACE)
_APART = bytes.maketrans(b"(,)\n", b"    ")
# Between words; a line end is between cells.
_BETWEEN = b" ", b"\t", b"\r"
_MOST_DIGITS = 9


def columns_of(content: bytes, delimiter: bytes, width: int) -> list[list[str]] | None:
    """Return the cells of a table, column by column; None if a row is of another length."""
    if b'"' in content or b"\0" in content:
        lines = io.StringIO(content.decode("utf-8", "replace"), newline="")
        rows = (row for row in csv.reader(lines, delimiter=delimiter.decode()) if row)
        some = list(islice(rows, MOST_ROWS + 1))
        if not 0 < len(some) <= MOST_ROWS or any(len(row) != width for row in some):
            return None
        return [list(map(str.strip, column)) for column in zip(*some, strict=True)]
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\n\n" in content:
        content = _EMPTY_LINES.sub(b"\n", content)
    content = content.strip(b"\n")
    letters = np.frombuffer(content + b"\n", np.uint8)
    is_end = letters[(letters == delimiter[0]) | (letters == ord("\n"))] == ord("\n")
    count = int(np.count_nonzero(is_end))
    if not content or count > MOST_ROWS or len(is_end) != count * width:
        return None
    if not is_end[width - 1 :: width].all():
        return None
    text = content.replace(b"\n", delimiter).decode("utf-8", "replace")
    cells = list(map(str.strip, text.split(delimiter.decode())))
    return [cells[n::width] for n in range(width)]


def are_whole(cells: list[str]) -> bool:
    """Whether all cells are whole numbers of few digits."""
    text = "".join(cells)
    lengths = {*map(len, cells)}
    return text.isascii() and text.isdigit() and 0 not in lengths and max(lengths) <= _MOST_DIGITS


def claims_by_column(columns: dict[str, list[str]], path: Path) -> Claims | None:
    """Return the claims in a table as `claims_of_records` does, or None if that must decide.

    Parameters
    ----------
    columns : dict of str to list of str
        The cells below each name, at least one.
    path : Path
    """
    table = _table(columns, path)
    if table is None:
        return None
    try:
        runs = _long(table) if table.names else _wide(table)
    except FileFormatError:
        return None
    return Claims(path.name, tuple(runs)) if runs else None


def are_plain(names: list[str]) -> bool:
    """Whether columns of numbers with these names are no more than that."""
    special = NAMES | RUNS | NO_CLAIM | {""}
    return not any(
        c.lower() in special or c.startswith(UNNAMED) or INDEX.fullmatch(c) for c in names
    )


def claims_of_numbers(names: list[str], numbers: Numbers, path: Path) -> Claims | None:
    """Do so where all cells are numbers, row by row, and the names of their columns are plain."""
    numeric = {name: n for n, name in enumerate(names)}
    runs = _wide(_Table(path, {name: [] for name in names}, numeric, numbers, [], [], [], None))
    return Claims(path.name, tuple(runs)) if runs else None


@dataclass(frozen=True)
class _Table:
    path: Path
    cells: dict[str, list[str]]
    numeric: dict[str, int]  # the columns of numbers; others hold text, or indices
    numbers: Numbers  # row by row
    runs: list[str]
    names: list[str]
    indices: list[str]
    places: NDArray[np.int64] | None  # row by row

    @property
    def values(self) -> list[str]:
        others = {*self.runs, *self.names, *self.indices}
        return [name for name in self.cells if name not in others]

    def column(self, name: str, rows: NDArray[np.int64] | None = None) -> Numbers:
        """Return the numbers in some rows of a column, by default in all."""
        at, width = self.numeric[name], len(self.numeric)
        return self.numbers.part(slice(at, None, width) if rows is None else rows * width + at)


def _table(columns: dict[str, list[str]], path: Path) -> _Table | None:
    """Tell columns apart; None if the cells of one are of several kinds."""
    cells = {
        name: column
        for name, column in columns.items()
        if name.lower() not in NO_CLAIM and not _counts(name, column)
    }
    indices = [name for name in cells if INDEX.fullmatch(name)]
    others = [name for name in cells if not INDEX.fullmatch(name)]
    numbered = [name for name in others if _NUMBER.fullmatch(cells[name][0])]
    numeric = {name: n for n, name in enumerate(numbered)}
    text = {cell for name in others if name not in numeric for cell in cells[name]}
    numbers = _numbers([cells[name] for name in numeric])
    places = _places([cells[name] for name in indices])
    if indices and places is None:
        return None
    if numbers is None or any(_NUMBER.fullmatch(x) or not _TEXT.fullmatch(x) for x in text):
        return None
    names = [name for name in others if name.lower() in NAMES or name not in numeric]
    runs = [name for name in cells if name.lower() in RUNS]
    return _Table(path, cells, numeric, numbers, runs, names, indices, places)


def _counts(name: str, cells: list[str]) -> bool:
    is_unnamed = name == "" or name.startswith(UNNAMED)
    return is_unnamed and are_whole(cells) and len({*cells}) == len(cells)


def _numbers(columns: list[list[str]]) -> Numbers | None:
    """Return the numbers in columns, row by row; None if a cell holds anything else than one."""
    cells = (
        columns[0] if len(columns) == 1 else list(chain.from_iterable(zip(*columns, strict=True)))
    )
    text, numbers = "\n".join(cells).encode(), Numbers()
    if "" in cells or any(map(text.count, _BETWEEN)):
        return None
    try:
        for block in blocks_of(text, b"\n"):
            printed = read_printed(block)
            numbers.extend_read(printed, len(printed.ends))
    except ValueError:
        return None
    return numbers if len(numbers) == len(cells) else None


def _wide(table: _Table) -> list[Run]:
    vectors: Run = {}
    for name in table.values:
        values, rounding = table.column(name).take()
        if not math.isfinite(values[-1]):
            return []  # it may fill up its column
        vectors[name] = claim_of(name, values, rounding, table.path)
    return [as_matrix(vectors, table.path)] if vectors else []


def _long(table: _Table) -> list[Run]:
    """Return the tensors of each run; none if it must be told from single cells."""
    names, places = _names(table), table.places
    told = list(zip(*(table.cells[name] for name in table.runs), strict=True))
    starts = [n for n, (a, b) in enumerate(pairwise(told), 1) if a != b]
    runs = []
    for begin, end in pairwise((0, *starts, len(names))):
        of_run = _groups(names[begin:end], begin)
        where = places
        if places is not None:
            if not (places[begin:end] >= 0).any(axis=1).all():
                return []
            if len(of_run) > 1 and _count(places[begin:end]):
                if starts:
                    return []
                where = None  # they count the rows, not a tensor's entries
            else:
                where = places - int((places[begin:end] != 0).all()) * (places > 0)
        run: Run = {}
        for name, rows in of_run.items():
            run |= _tensors(table, name, rows, where)
        runs.append(run)
    return [run for run in runs if run]


def _names(table: _Table) -> list[str]:
    columns = [table.cells[name] for name in table.names]
    if len(columns) > 1:
        return list(map(".".join, zip(*columns, strict=True)))
    prefix = table.names[0] if table.names[0] in table.numeric else ""
    return [prefix + cell for cell in columns[0]] if prefix else columns[0]


def _groups(names: list[str], begin: int) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each name, which begin at some row."""
    numbered = {name: n for n, name in enumerate(dict.fromkeys(names))}
    codes = np.fromiter(map(numbered.__getitem__, names), np.int64, len(names))
    order = np.argsort(codes, kind="stable") + begin
    edges = np.searchsorted(codes[order - begin], np.arange(len(numbered) + 1))
    return {name: order[edges[n] : edges[n + 1]] for name, n in numbered.items()}


def _places(columns: list[list[str]]) -> NDArray[np.int64] | None:
    """Return an index a row, with -1 where one is shorter; None if a cell holds anything else."""
    parts = []
    for cells in columns:
        some = list(filter(None, cells))
        if some and are_whole(some):
            numbers = np.full((len(cells), 1), -1)
            which = slice(None) if len(some) == len(cells) else [*map(bool, cells)]
            numbers[which, 0] = values_of(" ".join(some).encode())
        elif (tuples := _tuples(cells)) is not None:
            numbers = tuples
        else:
            return None
        parts.append(numbers)
    return np.concatenate(parts, axis=1) if parts else None


def _tuples(cells: list[str]) -> NDArray[np.int64] | None:
    text = "\n".join(cells).encode()
    if not _TUPLES.fullmatch(text):
        return None
    text = text.replace(b",)", b")")
    letters = np.frombuffer(text + b"\n", np.uint8)
    # One of these follows each number.
    is_last = letters[(letters == ord(",")) | (letters == ord("\n"))] == ord("\n")
    counts = np.diff(np.flatnonzero(is_last), prepend=-1)
    places = np.full((len(cells), counts.max()), -1)
    places[np.arange(counts.max()) < counts[:, None]] = values_of(text.translate(_APART))
    return places


def _count(places: NDArray[np.int64]) -> bool:
    """Whether indices count the rows."""
    used = places[:, (places >= 0).any(axis=0)]
    return used.shape[1] == 1 and bool((used[:, 0] == np.arange(len(used))).all())


def _tensors(
    table: _Table, name: str, rows: NDArray[np.int64], places: NDArray[np.int64] | None
) -> Run:
    """Return the tensors in rows of one name: one for each column of values."""
    values = table.values
    if places is None and len(values) > 1 and all(map(INTEGER.fullmatch, values)):
        at = np.array([table.numeric[value] for value in values])
        side_by_side = table.numbers.part((rows[:, None] * len(table.numeric) + at).reshape(-1))
        return {name: claim_of(name, *side_by_side.take(), table.path)}
    run: Run = {}
    for column in values:
        full = name if len(values) == 1 else f"{name}.{column}"
        claim = claim_of(full, *table.column(column, rows).take(), table.path)
        if places is not None:
            here = places[rows]
            is_used = here >= 0
            if (is_used != is_used[0]).any():
                raise FileFormatError("its indices differ in length")
            claim = at_places(claim, here[:, is_used[0]], table.path)
        run[full] = claim
    return run
