"""Tables whose columns hold one kind of cell each, read by columns instead of cell by cell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.claims.tables import INDEX, NAMES, NO_CLAIM, RUNS, claim_of, may_count
from gradwitness.claims.text_numbers import digits
from gradwitness.files.printed_numbers import NUMBER_PATTERN

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from gradwitness.claims.claim import Claim
    from gradwitness.claims.table_cells import Cells
    from gradwitness.claims.tables import Integers
    from gradwitness.claims.text_numbers import Numbers

_NUMBER = re.compile(NUMBER_PATTERN.decode(), re.ASCII)
_TEXT = re.compile(r"[^\W\d][\w./-]*")


class Columns:
    """A `Table` of columns of numbers, of words and of indices.

    Parameters
    ----------
    path : Path
    columns : dict of str to int
        The names of those that may hold claims, and which of the cells they are.
    numeric : list of str
        Those of numbers.
    numbers : Numbers
        Theirs, row by row.
    cells : Cells, optional
        None if each column is of numbers, and no more than that.
    """

    def __init__(
        self,
        path: Path,
        columns: dict[str, int],
        numeric: list[str],
        numbers: Numbers,
        cells: Cells | None = None,
    ) -> None:
        self.path = path
        self.columns = list(columns)
        self.rows = cells.rows if cells else len(numbers) // len(numeric)
        self._at = columns
        self._numeric = {name: n for n, name in enumerate(numeric)}
        self._numbers = numbers
        self._cells: Any = cells
        self._words: dict[str, tuple[Integers, list[str]]] = {}

    def is_text(self, column: str) -> bool:
        """Whether all cells of a column are text."""
        return column not in self._numeric

    def words(self, column: str) -> tuple[Integers, list[str]]:
        """Return which of some different words each row holds; numbers are `Digits`."""
        if column not in self._words:
            codes, words = self._cells.words(self._at[column])
            self._words[column] = codes, words if self.is_text(column) else [*map(digits, words)]
        return self._words[column]

    def places(self, column: str) -> Integers:
        """Return the index in each cell of a column, with -1 where one is shorter, or empty."""
        places: Integers = self._cells.places(self._at[column])
        return places

    def has_tensors(self, _column: str) -> bool:
        """Whether a cell of a column is a tensor."""
        return False

    def has_numbers(self, _columns: list[str], _rows: Integers) -> bool:
        """Whether any cell in some rows and columns is more than text, or nothing."""
        return True

    def tensor(self, name: str, columns: list[str], rows: Integers | None = None) -> Claim:
        """Return the vector of the numbers in some rows, by default in all."""
        at, width = [self._numeric[column] for column in columns], len(self._numeric)
        if rows is None and len(at) == 1:
            part = self._numbers.part(slice(at[0], None, width))
        else:
            rows = np.arange(self.rows) if rows is None else rows
            part = self._numbers.part((rows[:, None] * width + np.array(at)).reshape(-1))
        return claim_of(name, *part.take(), self.path)


def are_plain(names: list[str]) -> bool:
    """Whether columns of numbers with these names are no more than that."""
    special = NAMES | RUNS | NO_CLAIM
    return not any(c.lower() in special or may_count(c) or INDEX.fullmatch(c) for c in names)


def columns_of(names: list[str], cells: Cells, path: Path) -> Columns | None:
    """Return a table by its columns, whose names differ; None if the cells of one are odd.

    Odd are cells that are empty, tensors, or of another kind than others of their column.
    """
    used = [
        (n, name)
        for n, name in enumerate(names)
        if name.lower() not in NO_CLAIM
        and not (may_count(name) and cells.are_whole(n) and cells.are_distinct(n))
    ]
    indices = [n for n, name in used if INDEX.fullmatch(name)]
    others = [(n, name) for n, name in used if n not in indices]
    numeric = [(n, name) for n, name in others if _NUMBER.fullmatch(cells.first(n))]
    numbers = cells.numbers([n for n, _ in numeric])
    if numbers is None or not any(are_plain([name]) for _, name in numeric):
        return None  # cells are empty, or the numbers are among the indices
    if any(cells.places(n) is None for n in indices):
        return None
    columns = {name: n for n, name in used}
    table = Columns(path, columns, [name for _, name in numeric], numbers, cells)
    text = (name for _, name in others if table.is_text(name))
    return table if all(_is_text(word) for c in text for word in table.words(c)[1]) else None


def _is_text(cell: str) -> bool:
    return bool(_TEXT.fullmatch(cell)) and not _NUMBER.fullmatch(cell)
