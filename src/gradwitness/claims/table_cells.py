"""Where the cells of a table are in its text, and what a column of them holds, all at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from gradwitness.claims.tables import MOST_ROWS
from gradwitness.claims.text_numbers import Numbers
from gradwitness.files.printed_digits import EIGHT, Digits, Letters
from gradwitness.files.printed_numbers import read_words, values_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers: TypeAlias = NDArray[np.int64]

_EMPTY_LINES = re.compile(rb"\n\n+")
_NEWLINE, _QUOTE, _SPACE, _TAB = b'\n" \t'
_MOST_BLANKS = 32  # around a cell
_MOST_DIGITS = 9
# Of a name that is compared with others eight letters at a time.
_LONGEST = 256
# Numbers that are read at a time: what is made of them stays in the cache.
_BATCH = 1 << 14
# 3 and (0, 1), each on a line; and what makes spaces of all that is between the numbers.
_PLACE = rb"(?:\d{1,9}|\(\d{1,9}(?:, ?\d{1,9})*+,?\))"
_TUPLES = re.compile(rb"(?:" + _PLACE + rb"\n)*+" + _PLACE)
_APART = bytes.maketrans(b"(,)\n", b"    ")


class Cells:
    """The cells of a table.

    Parameters
    ----------
    text : Letters
    begins, ends : ndarray
        Where each is in it, row by row.
    """

    def __init__(self, text: Letters, begins: Integers, ends: Integers) -> None:
        self._text = text
        self._begins, self._ends = begins, ends
        self._whole: dict[int, Integers | None] = {}
        self._places: dict[int, Integers | None] = {}

    @property
    def rows(self) -> int:
        """How many there are, at least one."""
        return len(self._begins)

    @property
    def width(self) -> int:
        """How many columns there are."""
        return int(self._begins.shape[1])

    def first(self, column: int) -> str:
        """Return the first cell of a column."""
        return self._cell(int(self._begins[0, column]), int(self._ends[0, column]))

    def _cell(self, begin: int, end: int) -> str:
        return self._text.padded[begin:end].decode("utf-8", "replace").strip()

    def numbers(self, columns: list[int]) -> Numbers | None:
        """Return the numbers in columns, row by row; None if a cell holds anything else."""
        begins, ends = self._begins[:, columns].reshape(-1), self._ends[:, columns].reshape(-1)
        if not (begins < ends).all():
            return None
        numbers = Numbers()
        try:
            for at in range(0, len(begins), _BATCH):
                some = slice(at, at + _BATCH)
                numbers.extend_read(read_words(self._text, begins[some], ends[some]))
        except ValueError:
            return None
        return numbers

    def whole(self, column: int) -> Integers | None:
        """Return the whole numbers of few digits in a column, with -1 where a cell is empty.

        None if a cell holds anything else, or all are empty.
        """
        if column not in self._whole:
            ends = self._ends[:, column]
            counts = ends - self._begins[:, column]
            is_empty = counts == 0
            digits = Digits(self._text, (counts > _MOST_DIGITS) | is_empty.all())
            values = digits.before(ends, counts).view(np.int64)
            values[is_empty] = -1
            self._whole[column] = None if digits.odd.any() else values
        return self._whole[column]

    def are_whole(self, column: int) -> bool:
        """Whether all cells of a column are whole numbers of few digits."""
        values = self.whole(column)
        return values is not None and bool((values >= 0).all())

    def are_digits(self, column: int) -> bool:
        """Whether all cells of a column are of digits alone, however many."""
        return not self._lines(column).translate(None, b"0123456789\n")

    def are_distinct(self, column: int) -> bool:
        """Whether no two cells of a column, all whole numbers, are equal."""
        values = self.whole(column)
        assert values is not None  # noqa: S101 (only such columns are asked for)
        counts = self._ends[:, column] - self._begins[:, column]
        return len(np.unique(values * EIGHT * 2 + counts)) == self.rows

    def places(self, column: int) -> Integers | None:
        """Return the index in each cell of a column, with -1 where one is shorter.

        None if a cell holds anything else than one.
        """
        if column not in self._places:
            whole = self.whole(column)
            self._places[column] = self._tuples(column) if whole is None else whole[:, None]
        return self._places[column]

    def words(self, column: int) -> tuple[Integers, list[str]]:
        """Return the different cells of a column, and which of them each row holds."""
        begins, ends = self._begins[:, column], self._ends[:, column]
        counts = ends - begins
        is_new = np.diff(counts, prepend=-1) != 0
        for at in range(0, min(int(counts.max()), _LONGEST), EIGHT):
            letters = self._text.before(ends - at, np.clip(counts - at, 0, EIGHT))
            is_new[1:] |= letters[1:] != letters[:-1]
        if counts.max() > _LONGEST:
            is_new[:] = True
        new = np.flatnonzero(is_new)
        numbered: dict[str, int] = {}
        codes = [
            numbered.setdefault(cell, len(numbered))
            for cell in map(self._cell, begins[new].tolist(), ends[new].tolist())
        ]
        return np.repeat(codes, np.diff(new, append=self.rows)), list(numbered)

    def _tuples(self, column: int) -> Integers | None:
        text = self._lines(column)
        if not _TUPLES.fullmatch(text):
            return None
        text = text.replace(b",)", b")")
        letters = np.frombuffer(text + b"\n", np.uint8)
        # One of these follows each number.
        is_last = letters[(letters == ord(",")) | (letters == _NEWLINE)] == _NEWLINE
        counts = np.diff(np.flatnonzero(is_last), prepend=-1)
        places = np.full((self.rows, counts.max()), -1)
        places[np.arange(counts.max()) < counts[:, None]] = values_of(text.translate(_APART))
        return places

    def _lines(self, column: int) -> bytes:
        """Return the cells of a column, each on a line."""
        begins, ends = self._begins[:, column], self._ends[:, column]
        lengths = ends - begins + 1
        after = np.cumsum(lengths)
        places = np.arange(after[-1]) + np.repeat(begins - (after - lengths), lengths)
        letters: NDArray[np.uint8] = self._text.letters[places]
        letters[after - 1] = _NEWLINE
        return letters[:-1].tobytes()


def cells_of(content: bytes, delimiter: bytes, width: int) -> Cells | None:
    """Return the cells of a table; None if a row is of another length, or quotes are amiss."""
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\n\n" in content:
        content = _EMPTY_LINES.sub(b"\n", content)
    content = content.strip(b"\n") + b"\n"
    if len(content) == 1 or b"\0" in content:
        return None
    text = Letters(content)
    letters = text.letters[: text.end]
    is_mark = (letters == delimiter[0]) | (letters == _NEWLINE)
    quotes: Integers | None = None
    if b'"' in content:
        # What is between quotes ends no cell.
        marks = np.flatnonzero(is_mark | (letters == _QUOTE))
        is_quote = letters[marks] == _QUOTE
        quotes = marks[is_quote]
        ends = marks[~is_quote & (np.cumsum(is_quote) % 2 == 0)]
    else:
        ends = np.flatnonzero(is_mark)
    is_end = letters[ends] == _NEWLINE
    rows = int(np.count_nonzero(is_end))
    if not 0 < rows <= MOST_ROWS or len(ends) != rows * width:
        return None
    if not is_end[width - 1 :: width].all():
        return None
    begins = np.concatenate([[text.begin], ends[:-1] + 1])
    if quotes is not None and not _unquote(begins, ends, quotes):
        return None
    if not _strip(text.letters, begins, ends):
        return None
    return Cells(text, begins.reshape(rows, width), ends.reshape(rows, width))


def _unquote(begins: Integers, ends: Integers, quotes: Integers) -> bool:
    """Leave out the quotes around cells; False if they are in one."""
    opening, closing = quotes[::2], quotes[1::2]
    if len(opening) != len(closing):
        return False
    cells = np.searchsorted(begins, opening, "right") - 1
    if (begins[cells] != opening).any() or (ends[cells] != closing + 1).any():
        return False
    begins[cells] += 1
    ends[cells] -= 1
    return True


def _strip(letters: NDArray[np.uint8], begins: Integers, ends: Integers) -> bool:
    """Leave out the blanks around cells; False if they are too many."""
    for _ in range(_MOST_BLANKS):
        first, last = letters[begins], letters[ends - 1]
        is_before = ((first == _SPACE) | (first == _TAB)) & (begins < ends)
        is_after = ((last == _SPACE) | (last == _TAB)) & (begins + is_before < ends)
        if not (is_before.any() or is_after.any()):
            return True
        begins += is_before
        ends -= is_after
    return False
