"""Claims in CSV files, as spreadsheets and pandas write them."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import FileFormatError
from gradwitness._printable import listed
from gradwitness.claims.claim import Claim, Claims
from gradwitness.claims.table_cells import cells_of
from gradwitness.claims.table_columns import Columns, are_plain, columns_of
from gradwitness.claims.table_records import Ambiguous, Records, limited
from gradwitness.claims.tables import NAMES, claims_of_table
from gradwitness.claims.text import read_text, tensors_of
from gradwitness.claims.text_brackets import squeezed
from gradwitness.claims.text_file import MOST_BYTES, read_bytes
from gradwitness.claims.text_numbers import NOTHING, Digits, Numbers, advice, digits
from gradwitness.files.printed_numbers import NUMBER_PATTERN, blocks_of, read_printed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gradwitness.claims.table_cells import Cells
    from gradwitness.claims.table_records import Record
    from gradwitness.claims.tables import Table
    from gradwitness.files.printed_numbers import Printed

# Of ASCII, as in the bytes of other texts: other scripts have digits, too.
_NUMBER = re.compile(NUMBER_PATTERN.decode(), re.ASCII)
_NEWLINE = ord("\n")
_MOST_PLACES = 9  # columns that may hold indices
_NUMBERS = re.compile(rf"{_NUMBER.pattern}(?:[\s,;]+{_NUMBER.pattern})+", re.ASCII)
_INDEX = re.compile(r"[(\[]?\d+(?:,\s*\d+)*,?[)\]]?")
_WHOLE = re.compile(r"-?\d+", re.ASCII)
_ARRAY = re.compile(r"\[|^\s*(?:tensor|array|Array)\(")
_LINE = re.compile(rb"[^\n]*")
_COMMENTS = re.compile(rb"(?:[ \t]*#[^\n]*\n|\s*\n)+")
# What somebody may have meant for a number, with other signs in it; and what makes it no count.
_LIKE_A_NUMBER = re.compile(rf"[-+.]?\d[-+.,;:'%\d\seE]*|{NOTHING}", re.ASCII | re.IGNORECASE)
_NO_COUNT = re.compile(r"\D")
# Numbers with a decimal comma, or with thousands set apart by a comma, a blank or a point.
_UNSURE = re.compile(
    r"[-+]?\d+,\d+(?:e[-+]?\d+)?(?:\s+[-+]?\d+,\d+(?:e[-+]?\d+)?)*"
    r"|[-+]?[1-9]\d{0,2}(?:(?:,\d{3})+|(?:\s\d{3})+|(?:\.\d{3})+,\d+)(?:[.,]\d*)?",
    re.ASCII | re.IGNORECASE,
)


def read_csv(path: Path) -> Claims:
    """Read a table, see `claims_of_table`; without a line of names, one matrix.

    Raises `FileFormatError` if it is not a table of names and numbers.
    """
    comment, content = _without_comments(read_bytes(path))
    line = _first_line(content)
    delimiter = max(b"\t;,", key=lambda letter: line.count(bytes([letter])))
    words = line.split()
    if delimiter not in line and len(words) > 1 and _NUMBER.fullmatch(words[0].decode("latin-1")):
        return read_text(path)  # white space is between its numbers
    before = csv.field_size_limit(MOST_BYTES)
    try:
        return _table(content, chr(delimiter), comment, path)
    except csv.Error as error:
        raise FileFormatError(f"{path}: not a table: {error}") from None
    finally:
        csv.field_size_limit(before)


def _first_line(content: bytes) -> bytes:
    match = _LINE.match(content)
    return match[0] if match else b""


def _without_comments(content: bytes) -> tuple[str, bytes]:
    """Split off lines of comment at the beginning; the last may hold the names of the columns."""
    match = _COMMENTS.match(content)
    if not match:
        return "", content
    comment = match[0].strip().rpartition(b"\n")[2].lstrip(b"# \t").rstrip()
    rest = content[match.end() :]
    line = _first_line(rest)
    counts = [(line.count(letter), comment.count(letter)) for letter in (b"\t", b";", b",")]
    is_delimited = any(count for count, _ in counts) or len(line.split()) == 1
    if comment and is_delimited and all(count == names for count, names in counts):
        return "", comment + b"\n" + rest
    return comment.decode("utf-8", "replace"), rest


def _table(content: bytes, delimiter: str, comment: str, path: Path) -> Claims:
    # Of most files no more than the first row is read so.
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8", "replace", newline="")
    rows = (row for row in csv.reader(text, delimiter=delimiter) if row)
    first = [cell.strip() for cell in next(rows, ())]
    width = max((n for n, cell in enumerate(first, 1) if cell), default=0)
    if width and all(map(_NUMBER.fullmatch, first[:width])) and not _are_counts(first, 0):
        # A delimiter at the end of each row ends it.
        tail = delimiter.encode() * (len(first) - width)
        numbers = _plain_matrix(content, delimiter.encode(), width, tail)
        numbers = numbers or _matrix(first, rows, width, path)
        return _claims_of(numbers, width, comment or path.stem, path)
    _check_names(first, path)
    if _is_headless(first):
        table = _columns_by_name(cells_of(content, delimiter.encode(), len(first)), path)
        return claims_of_table(table or _rows_by_name([first, *limited(rows, path)], path))
    begins: dict[str, int] = {}
    for n, name in enumerate(first):
        begins.setdefault(name, n)
    names = [name if begins[name] == n else f"{name}.{n}" for n, name in enumerate(first)]
    line = _first_line(content)
    below = content[len(line) + 1 :]
    table = None if b'"' in line else _at_once(below, names, delimiter.encode(), path)
    if not table:
        table = Records([record(names, row, path) for row in limited(rows, path)], path, first=2)
    found = claims_of_table(table)
    if _may_be_numbers(names, found):
        note = f"its first row was read as names: {listed([*map(repr, names)], 4)}"
        found = replace(found, notes=(*found.notes, note))
    return found


def _may_be_numbers(names: list[str], found: Claims) -> bool:
    """Whether names of columns may be a row of numbers as well, as those below them are."""
    numeric = [name for name in names if _NUMBER.fullmatch(name)]
    # Beside other names they may count from 1, too.
    begins = (0, 1) if names[:1] != numeric[:1] else (0,)
    if not any(_are_counts(numeric, begin) for begin in begins):
        return True
    if not numeric or names[0] == "" or names[0].lower() in NAMES:
        return False
    # They count, as names do: but whole numbers below them may go on from there.
    arrays = (claim.array for run in found.runs for claim in run.values())
    return len(names) == 1 or all(bool((array == np.rint(array)).all()) for array in arrays)


def _are_counts(cells: list[str], begin: int) -> bool:
    """Whether cells count, as the names of columns that have none do."""
    return cells == [str(n) for n in range(begin, begin + len(cells))]


def _check_names(first: list[str], path: Path) -> None:
    """Refuse a first row that was meant to be numbers."""
    present = [cell for cell in first if cell]
    # Names may be counts, after one that is empty.
    is_amiss = any(map(_NO_COUNT.search, present)) or bool(first and first[0] and "" in first)
    is_amiss = is_amiss and any(map(_WHOLE.search, present))
    if is_amiss and all(map(_LIKE_A_NUMBER.fullmatch, present)):
        cell, at = next((c, n) for n, c in enumerate(first, 1) if not _NUMBER.fullmatch(c))
        raise FileFormatError(
            f"{path}, row 1: expected a number in cell {at}, found {cell[:30]!r}. Write decimals "
            "with a point, nothing between thousands, and nan where there is no number."
        )


def _is_headless(first: list[str]) -> bool:
    """Whether the first row holds a name and its numbers already, and does not count columns."""
    name, *others = first or [""]
    # From 0 on pandas counts them, from 1 on people do below a name for names.
    begins = (0, 1) if name.lower() in NAMES else (0,)
    counts = [[str(n + begin) for n in range(len(others))] for begin in begins]
    numbers = [cell for cell in others if _NUMBER.fullmatch(cell)]
    return (
        bool(name and numbers)
        and not _NUMBER.fullmatch(name)
        and all(cell in numbers or _INDEX.fullmatch(cell) for cell in others)
        and others not in counts
    )


def _at_once(content: bytes, names: list[str], delimiter: bytes, path: Path) -> Table | None:
    """Read the rows below names by columns, or return None."""
    numbers = _plain_matrix(content, delimiter, len(names)) if are_plain(names) else None
    if numbers:
        return Columns(path, {name: n for n, name in enumerate(names)}, names, numbers)
    cells = cells_of(content, delimiter, len(names))
    return columns_of(names, cells, path) if cells else None


def _columns_by_name(cells: Cells | None, path: Path) -> Table | None:
    """Read rows of a name and numbers as `_rows_by_name` does, or return None."""
    if not cells:
        return None
    last = cells.width - 1
    between = range(1, last)
    numbers = [str(n) for n in range(last)]
    if between and all(map(cells.are_whole, between)):
        if len(between) > _MOST_PLACES or cells.are_digits(last):
            return None
        numbers = [*(f"index{n}" for n in range(len(between))), "value"]
    elif any(_may_be_index(cells.first(column)) for column in between):
        return None
    return columns_of(["name", *numbers], cells, path)


def _may_be_index(cell: str) -> bool:
    """Whether a cell is an index, or a negative one, which is refused."""
    return bool(_INDEX.fullmatch(cell) or _WHOLE.fullmatch(cell))


def _are_decimals(rows: list[list[str]]) -> bool:
    """Whether not all rows end with a whole number."""
    return not all(_WHOLE.fullmatch(row[-1].strip()) for row in rows)


def _rows_by_name(rows: list[list[str]], path: Path) -> Table:
    """Read rows of a name and numbers; whole ones before a single other are its index."""
    places = [[cell.strip() for cell in row[1:-1]] for row in rows]
    cells = [cell for place in places for cell in place]
    are_whole = all(map(_WHOLE.fullmatch, cells)) and _are_decimals(rows)
    # One row of a name may well hold a whole number that is negative.
    is_repeated = len({row[0] for row in rows}) < len(rows)
    if is_repeated and are_whole and any(cell.startswith("-") for cell in cells):
        raise FileFormatError(
            f"{path}: an entry with a negative index. Count from the begin of each axis."
        )
    is_placed = any(places) and all(_INDEX.fullmatch(cell) for place in places for cell in place)
    if is_placed and not all(_INDEX.fullmatch(row[-1].strip()) for row in rows):
        rows = [[row[0], " ".join(place), row[-1]] for row, place in zip(rows, places, strict=True)]
        columns = ["name", "index", "value"]
    else:
        columns = ["name", *map(str, range(max(map(len, rows)) - 1))]
    return Records([record(columns, row, path) for row in rows], path)


def record(names: list[str], row: list[str], path: Path) -> Record:
    """Return a row of cells by the names of their columns."""
    if len(row) > len(names):
        raise FileFormatError(f"{path}: a row of {len(row)} cells below {len(names)} names")
    return dict(zip(names, (_cell(text.strip(), path) for text in row), strict=False))


def _cell(text: str, path: Path) -> Digits | Claim | str | None:
    if not text:
        return None
    if _NUMBER.fullmatch(text):
        return digits(text)
    if _UNSURE.fullmatch(text):
        return Ambiguous(text)
    if _NUMBERS.fullmatch(text):
        text = f"[{text.replace(';', ',')}]"
    if _ARRAY.search(text):
        found = tensors_of(text.encode(), path.with_name(f"{path.name}, in a cell"))
        if len(found) == 1:
            return found[0]
    return text


def _plain_matrix(
    content: bytes, delimiter: bytes, width: int, tail: bytes = b""
) -> Numbers | None:
    """Read rows of numbers, many at a time; None if there is anything else, as quotes are.

    Each row may end with ``tail``.
    """
    numbers = Numbers()
    for rows in blocks_of(content, b"\n"):
        block = rows if rows.endswith(b"\n") else rows + b"\n"
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        if tail:
            block = block.replace(tail + b"\n", b"\n")
        try:
            printed = read_printed(block, delimiter)
        except ValueError:
            return None
        if b"\r" in block or not _are_rows(block, printed, delimiter, width):
            return None
        numbers.extend_read(printed, len(printed.ends))
    return numbers


def _are_rows(block: bytes, printed: Printed, delimiter: bytes, width: int) -> bool:
    """Whether one delimiter follows each number, and the end of the line each row."""
    letters, ends = np.frombuffer(block, np.uint8), printed.ends
    after = ends
    if not printed.is_tight:
        after = np.flatnonzero((letters == _NEWLINE) | (letters == delimiter[0]))
        # Before the first letter, too, a line ends: as the last one does.
        is_empty = (letters[after] == _NEWLINE) & (letters[after - 1] == _NEWLINE)
        after = after[~is_empty]
        if len(after) != len(ends) or (after < ends).any() or (after[:-1] >= ends[1:]).any():
            return False
    if len(after) % width:
        return False
    follows = letters[after].reshape(-1, width)
    return bool((follows[:, -1] == _NEWLINE).all() and (follows[:, :-1] == delimiter[0]).all())


def _matrix(first: list[str], rows: Iterable[list[str]], width: int, path: Path) -> Numbers:
    """Read rows of numbers; what is empty after so many is left out."""
    numbers = Numbers()
    for at, row in enumerate(chain([first], rows), 1):
        cells = [cell.strip() for cell in row]
        cells = cells[:width] + [cell for cell in cells[width:] if cell]
        others = [cell for cell in cells if not _NUMBER.fullmatch(cell)]
        if others or len(cells) != width:
            found = next((f", found {x[:30]!r}.{advice(x)}" for x in others if x), "")
            raise FileFormatError(f"{path}, row {at}: expected {width} numbers{found}")
        numbers.extend([cell.encode() for cell in cells])
    return numbers


def _claims_of(numbers: Numbers, width: int, name: str, path: Path) -> Claims:
    values, rounding = numbers.take()
    shape = squeezed((len(values) // width, width))
    rounding = rounding if isinstance(rounding, float) else rounding.reshape(shape)
    return Claims(path.name, ({name: Claim(name, values.reshape(shape), rounding)},))
