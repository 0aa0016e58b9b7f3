"""Tables whose columns hold one kind of cell each, read by columns instead of cell by cell.

What they say is what `records` says of their rows. Whatever is odd is left to that: cells that are
empty, tensors, or of another kind than others of their column; entries that come twice.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import FileFormatError
from gradwitness.claims.claim import Claims
from gradwitness.claims.records import (
    INDEX,
    INTEGER,
    NAMES,
    NO_CLAIM,
    RUNS,
    UNNAMED,
    as_matrix,
    at_places,
    claim_of,
)
from gradwitness.files.printed_numbers import NUMBER_PATTERN

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gradwitness.claims.claim import Run
    from gradwitness.claims.table_cells import Cells
    from gradwitness.claims.text_numbers import Numbers

_NUMBER = re.compile(NUMBER_PATTERN.decode(), re.ASCII)
_TEXT = re.compile(r"[^\W\d][\w./-]*")


def claims_by_column(
    names: list[str], cells: Cells, path: Path, *, are_placed: bool = False
) -> Claims | None:
    """Return the claims in a table as `claims_of_records` does, or None if that must decide.

    Parameters
    ----------
    names : list of str
        Of its columns, all different.
    cells : Cells
    path : Path
    are_placed : bool
        Whether indices are those of entries, even if they count the rows.
    """
    table = _table(names, cells, path)
    if table is None:
        return None
    try:
        runs = _long(table, are_placed=are_placed) if table.names else _wide(table)
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
    runs = _wide(_Table(path, numeric, numbers, [], {}, names, None))
    return Claims(path.name, tuple(runs)) if runs else None


@dataclass(frozen=True)
class _Column:
    """Text in cells: which of some different words each row holds."""

    codes: NDArray[np.int64]
    words: list[str]


@dataclass(frozen=True)
class _Table:
    path: Path
    numeric: dict[str, int]  # the columns of numbers, in their order
    numbers: Numbers  # row by row
    runs: list[_Column]
    names: dict[str, _Column]
    values: list[str]  # of the columns of numbers
    places: NDArray[np.int64] | None  # row by row

    @cached_property
    def are_entries(self) -> bool:
        """Whether columns of values hold the entries of a tensor side by side, unless placed."""
        return len(self.values) > 1 and all(map(INTEGER.fullmatch, self.values))

    def column(self, name: str, rows: NDArray[np.int64] | None = None) -> Numbers:
        """Return the numbers in some rows of a column, by default in all."""
        at, width = self.numeric[name], len(self.numeric)
        return self.numbers.part(slice(at, None, width) if rows is None else rows * width + at)


def _table(names: list[str], cells: Cells, path: Path) -> _Table | None:
    """Tell columns apart; None if the cells of one are of several kinds."""
    at = {
        name: n
        for n, name in enumerate(names)
        if name.lower() not in NO_CLAIM and not _counts(name, n, cells)
    }
    indices = [name for name in at if INDEX.fullmatch(name)]
    others = [name for name in at if not INDEX.fullmatch(name)]
    numeric = [name for name in others if _NUMBER.fullmatch(cells.first(at[name]))]
    of_rows = [name for name in others if name.lower() in NAMES or name not in numeric]
    of_runs = [name for name in at if name.lower() in RUNS]
    text = {name: _Column(*cells.words(at[name])) for name in {*of_rows, *of_runs}}
    if not all(_is_text(word) for name in text if name not in numeric for word in text[name].words):
        return None
    numbers = cells.numbers([at[name] for name in numeric])
    parts = [part for name in indices if (part := cells.places(at[name])) is not None]
    if numbers is None or len(parts) < len(indices):
        return None
    return _Table(
        path,
        {name: n for n, name in enumerate(numeric)},
        numbers,
        [text[name] for name in of_runs],
        {name: text[name] for name in of_rows},
        [name for name in numeric if name not in text],
        np.concatenate(parts, axis=1) if parts else None,
    )


def _is_text(cell: str) -> bool:
    return bool(_TEXT.fullmatch(cell)) and not _NUMBER.fullmatch(cell)


def _counts(name: str, column: int, cells: Cells) -> bool:
    is_unnamed = name == "" or name.startswith(UNNAMED)
    return is_unnamed and cells.are_whole(column) and cells.are_distinct(column)


def _wide(table: _Table) -> list[Run]:
    vectors: Run = {}
    for name in table.values:
        values, rounding = table.column(name).take()
        if not math.isfinite(values[-1]):
            return []  # it may fill up its column
        vectors[name] = claim_of(name, values, rounding, table.path)
    return [as_matrix(vectors, table.path)] if vectors else []


def _long(table: _Table, *, are_placed: bool) -> list[Run]:
    """Return the tensors of each run; none if it must be told from single cells."""
    names, places = _names(table), table.places
    starts = {n for run in table.runs for n in (np.flatnonzero(np.diff(run.codes)) + 1).tolist()}
    runs = []
    for begin, end in pairwise((0, *sorted(starts), len(names.codes))):
        of_run = _groups(names, begin, end)
        base: int | None = None
        if places is not None:
            here = places[begin:end]
            if not (here >= 0).any(axis=1).all():
                return []
            # If they count the rows, they are not of a tensor's entries.
            if are_placed or len(of_run) == 1 or not _count(here):
                base = int((here != 0).all())
            elif starts:
                return []
        run: Run = {}
        for name, rows in of_run.items():
            run |= _tensors(table, name, rows, base)
        runs.append(run)
    return [run for run in runs if run]


def _names(table: _Table) -> _Column:
    """Return the name of each row, of one column or several."""
    (name, names), *others = table.names.items()
    if not others and name in table.numeric:
        return _Column(names.codes, [name + word for word in names.words])
    for _, column in others:
        both, codes = np.unique(names.codes * len(column.words) + column.codes, return_inverse=True)
        pairs = (divmod(pair, len(column.words)) for pair in both.tolist())
        joined = [f"{names.words[a]}.{column.words[b]}" for a, b in pairs]
        # Those of a.b and c are those of a and b.c.
        numbered = {word: n for n, word in enumerate(dict.fromkeys(joined))}
        names = _Column(np.array([numbered[word] for word in joined])[codes], list(numbered))
    return names


def _groups(names: _Column, begin: int, end: int) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each name, of those from one row to another, as they first come."""
    codes = names.codes[begin:end]
    order = np.argsort(codes, kind="stable")
    found, edges = np.unique(codes[order], return_index=True)
    groups = zip(found.tolist(), np.split(order + begin, edges[1:]), strict=True)
    return {names.words[n]: rows for n, rows in sorted(groups, key=lambda group: group[1][0])}


def _count(places: NDArray[np.int64]) -> bool:
    """Whether indices count the rows."""
    used = places[:, (places >= 0).any(axis=0)]
    return used.shape[1] == 1 and bool((used[:, 0] == np.arange(len(used))).all())


def _tensors(table: _Table, name: str, rows: NDArray[np.int64], base: int | None) -> Run:
    """Return the tensors in rows of one name: one for each column of values.

    Indices count from ``base`` on; None if there are none.
    """
    values = table.values
    if base is None and table.are_entries:
        at = np.array([table.numeric[value] for value in values])
        side_by_side = table.numbers.part((rows[:, None] * len(table.numeric) + at).reshape(-1))
        return {name: claim_of(name, *side_by_side.take(), table.path)}
    run: Run = {}
    for column in values:
        full = name if len(values) == 1 else f"{name}.{column}"
        claim = claim_of(full, *table.column(column, rows).take(), table.path)
        if base is not None and table.places is not None:
            here = table.places[rows]
            is_used = here[0] >= 0
            if ((here >= 0) != is_used).any():
                raise FileFormatError("its indices differ in length")
            claim = at_places(claim, here[:, is_used] - base, table.path)
        run[full] = claim
    return run
