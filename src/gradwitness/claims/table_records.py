"""Tables whose cells are read one by one: numbers, tensors, other text, or nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from gradwitness._errors import FileFormatError
from gradwitness.claims.claim import Claim, Claims
from gradwitness.claims.tables import (
    INDEX,
    INTEGER,
    MOST_ROWS,
    NAMES,
    NO_CLAIM,
    RUNS,
    claim_of,
    claims_of_table,
    may_count,
)
from gradwitness.claims.text_numbers import Digits, Numbers, advice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from gradwitness.claims.tables import Integers

Row = TypeVar("Row")
Cell: TypeAlias = "Digits | Claim | str | None"
# A row by the names of its columns.
Record: TypeAlias = "dict[str, Cell]"

# A dash between two numbers is no sign.
_NEGATIVE = re.compile(r"(?<![\w)\]])-\s*\d")
_ADVICE = (
    " Write decimals with a point and exponents with e, nothing between thousands, several "
    "numbers in brackets, and nan where there is no number."
)


class Ambiguous(str):
    """Text of a cell that is one number or several."""

    __slots__ = ()


def limited(rows: Iterable[Row], path: Path) -> Iterator[Row]:
    """Yield the rows of a table; raise `FileFormatError` if there are too many."""
    for count, row in enumerate(rows):
        if count == MOST_ROWS:
            raise FileFormatError(
                f"{path}: more than {MOST_ROWS:,} rows. Save so many numbers as arrays: by "
                "numpy.savez, or as .safetensors or .pt."
            )
        yield row


def is_table(records: list[Any]) -> bool:
    """Whether records have a column of names; else each is a run by itself."""
    return (
        bool(records)
        and all(isinstance(record, dict) for record in records)
        and any(
            key.lower() in NAMES and all(_is_text(record.get(key)) for record in records)
            for key in records[0]
        )
    )


def claims_of_records(records: list[Record], path: Path, first: int = 1) -> Claims:
    """Return the claims in a table whose first record is this row, see `claims_of_table`."""
    return claims_of_table(Records(records, path, first))


class Records:
    """A `Table` of any cells.

    Raises `FileFormatError` if a cell should be a number, and is none or may be several.
    """

    def __init__(self, records: list[Record], path: Path, first: int = 1) -> None:
        self.path = path
        self.rows = len(records)
        self._records = records
        columns = dict.fromkeys(key for record in records for key in record)
        self.columns = [c for c in columns if c.lower() not in NO_CLAIM and not self._counts(c)]
        special = NAMES | RUNS
        others = {c for c in self.columns if c.lower() not in special and not INDEX.fullmatch(c)}
        # A column of text that no row fills with a number is a remark.
        numeric = {c for c in others if any(isinstance(x, Digits | Claim) for x in self._cells(c))}
        for row, record in enumerate(records, first):
            for column, cell in record.items():
                if isinstance(cell, Ambiguous) and column in others:
                    problem, told = f"{cell[:30]!r} may be one number or two", _ADVICE
                elif column in numeric and _is_text(cell):
                    problem = f"expected a number, found {str(cell)[:30]!r}"
                    told = advice(str(cell)) or _ADVICE
                else:
                    continue
                raise FileFormatError(f"{path}, row {row}, {column[:80]}: {problem}.{told}")

    def _cells(self, column: str, rows: Integers | None = None) -> list[Any]:
        if rows is None:
            return [record.get(column) for record in self._records]
        return [self._records[n].get(column) for n in rows.tolist()]

    def is_text(self, column: str) -> bool:
        """Whether all cells of a column are text."""
        return all(map(_is_text, self._cells(column)))

    def _counts(self, column: str) -> bool:
        counts = self._cells(column) if may_count(column) else [""]
        are_whole = all(isinstance(n, Digits) and INTEGER.fullmatch(n) for n in counts)
        return are_whole and len(set(counts)) == len(counts)

    def words(self, column: str) -> tuple[Integers, list[str]]:
        """Return which of some different words each row holds; numbers are `Digits`."""
        numbered: dict[str, int] = {}
        shown = (x if isinstance(x, str) else str(_shown(x)) for x in self._cells(column))
        codes = np.array([numbered.setdefault(word, len(numbered)) for word in shown])
        return codes, list(numbered)

    def places(self, column: str) -> Integers:
        """Return the index in each cell of a column, with -1 where one is shorter, or empty."""
        found = [_index(cell, self.path) for cell in self._cells(column)]
        width = max(1, *map(len, found))
        return np.array([place + [-1] * (width - len(place)) for place in found], np.int64)

    def has_tensors(self, column: str) -> bool:
        """Whether a cell of a column is a tensor."""
        return any(isinstance(cell, Claim) for cell in self._cells(column))

    def has_numbers(self, columns: list[str], rows: Integers) -> bool:
        """Whether any cell in some rows and columns is more than text, or nothing."""
        cells = (cell for column in columns for cell in self._cells(column, rows))
        return not all(cell is None or _is_text(cell) for cell in cells)

    def tensor(self, name: str, columns: list[str], rows: Integers | None = None) -> Claim:
        """Return the tensor in a cell, or the vector of several; empty cells at the end fill up.

        Raises `FileFormatError` if a cell holds anything else.
        """
        cells = self._cells(columns[0], rows)
        if len(columns) > 1:
            at = range(self.rows) if rows is None else rows.tolist()
            cells = [self._records[n][c] for n in at for c in columns if c in self._records[n]]
        while cells and cells[-1] is None:
            cells.pop()
        if len(cells) == 1 and isinstance(cells[0], Claim):
            claim = cells[0]
            return Claim(name, claim.array, claim.rounding, claim.dtype, claim.gaps, self.path.name)
        numbers = Numbers()
        for cell in cells:
            if not isinstance(cell, Digits) and cell is not None:
                raise FileFormatError(
                    f"{self.path}, {name[:80]}: expected a number, found {str(_shown(cell))[:30]!r}"
                )
            # pandas leaves out NaN.
            numbers.append((cell or "nan").encode())
        return claim_of(name, *numbers.take(), self.path)


def _index(cell: Cell, path: Path) -> list[int]:
    if isinstance(cell, Claim):
        index = [int(n) for n in cell.array.reshape(-1)]
    else:
        index = [-1] * bool(_NEGATIVE.search(cell or ""))
        index += map(int, INTEGER.findall(cell or ""))
    if any(n < 0 for n in index):
        raise FileFormatError(
            f"{path}: an entry with a negative index. Count from the begin of each axis."
        )
    return index


def _shown(cell: Any) -> Any:
    return cell.array.tolist() if isinstance(cell, Claim) else cell


def _is_text(cell: Any) -> bool:
    return isinstance(cell, str) and not isinstance(cell, Digits)
