"""Claims in CSV files, as spreadsheets and pandas write them."""

from __future__ import annotations

import csv
import io
import re
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import FileFormatError
from gradwitness.claims.claim import Claim, Claims
from gradwitness.claims.records import claims_of_records, limited
from gradwitness.claims.text import tensors_of
from gradwitness.claims.text_brackets import squeezed
from gradwitness.claims.text_file import MOST_BYTES, read_bytes
from gradwitness.claims.text_numbers import Digits, Numbers, digits
from gradwitness.files.printed_numbers import NUMBER_PATTERN, blocks_of, read_printed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gradwitness.claims.records import Record

# Of ASCII, as in the bytes of other texts: other scripts have digits, too.
_NUMBER = re.compile(NUMBER_PATTERN.decode(), re.ASCII)
_NEWLINE = ord("\n")
_BATCH = 1 << 8  # rows that are read at a time
_NUMBERS = re.compile(rf"{_NUMBER.pattern}(?:[\s,;]+{_NUMBER.pattern})+", re.ASCII)
_INDEX = re.compile(r"[(\[]?\d+(?:,\s*\d+)*,?[)\]]?")
_ARRAY = re.compile(r"\[|^\s*(?:tensor|array|Array)\(")


def read_csv(path: Path) -> Claims:
    """Read a table, see `claims_of_records`; without a line of names, one matrix.

    Raises `FileFormatError` if it is not a table of names and numbers.
    """
    content = read_bytes(path).removeprefix(b"# ")
    text = content.decode("utf-8", "replace")
    delimiter = max("\t;,", key=text.partition("\n")[0].count)
    before = csv.field_size_limit(MOST_BYTES)
    try:
        rows = (
            row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row
        )
        first = [cell.strip() for cell in next(rows, ())]
        if all(map(_NUMBER.fullmatch, first)) and first != [str(n) for n in range(len(first))]:
            numbers = _plain_matrix(content, delimiter.encode(), len(first))
            return _claims_of(numbers or _matrix(first, rows, path), len(first), path)
        if _is_headless(first):
            return _rows_by_name([first, *limited(rows, path)], path)
        names = [name if name not in first[:n] else f"{name}.{n}" for n, name in enumerate(first)]
        return claims_of_records([record(names, row, path) for row in limited(rows, path)], path)
    except csv.Error as error:
        raise FileFormatError(f"{path}: not a table: {error}") from None
    finally:
        csv.field_size_limit(before)


def _is_headless(first: list[str]) -> bool:
    """Whether the first row holds a name and its numbers already, and does not count columns."""
    name, *others = first or [""]
    counts = [[str(n + begin) for n in range(len(others))] for begin in (0, 1)]
    numbers = [cell for cell in others if _NUMBER.fullmatch(cell)]
    return (
        bool(name and numbers)
        and not _NUMBER.fullmatch(name)
        and all(cell in numbers or _INDEX.fullmatch(cell) for cell in others)
        and others not in counts
    )


def _rows_by_name(rows: list[list[str]], path: Path) -> Claims:
    """Read rows of a name and numbers; whole ones before a single other are its index."""
    places = [[cell.strip() for cell in row[1:-1]] for row in rows]
    is_placed = any(places) and all(_INDEX.fullmatch(cell) for place in places for cell in place)
    if is_placed and not all(_INDEX.fullmatch(row[-1].strip()) for row in rows):
        rows = [[row[0], " ".join(place), row[-1]] for row, place in zip(rows, places, strict=True)]
        columns = ["name", "index", "value"]
    else:
        columns = ["name", *map(str, range(max(map(len, rows)) - 1))]
    return claims_of_records([record(columns, row, path) for row in rows], path)


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
    if _NUMBERS.fullmatch(text):
        text = f"[{text.replace(';', ',')}]"
    if _ARRAY.search(text):
        found = tensors_of(text.encode(), path.with_name(f"{path.name}, in a cell"))
        if len(found) == 1:
            return found[0]
    return text


def _is_row(row: list[str], width: int) -> bool:
    return len(row) == width and all(_NUMBER.fullmatch(cell.strip()) for cell in row)


def _plain_matrix(content: bytes, delimiter: bytes, width: int) -> Numbers | None:
    """Read rows of numbers, many at a time; None if there is anything else, as quotes are."""
    numbers = Numbers()
    for block in blocks_of(content, b"\n"):
        try:
            printed = read_printed(block.replace(delimiter, b" "))
        except ValueError:
            return None
        block += b"\n" * (not block.endswith(b"\n"))
        letters = np.frombuffer(block, np.uint8)
        is_newline = letters == _NEWLINE
        after = np.flatnonzero(is_newline | (letters == delimiter[0]))
        rows, ends = np.count_nonzero(is_newline), printed.ends
        # One delimiter follows each number, and the end of the line each row.
        if (
            not len(after) == len(ends) == rows * width
            or (after < ends).any()
            or (after[:-1] >= ends[1:]).any()
            or not is_newline[after[width - 1 :: width]].all()
        ):
            return None
        numbers.extend_read(printed, len(ends))
    return numbers


def _matrix(first: list[str], rows: Iterable[list[str]], path: Path) -> Numbers:
    numbers, count = Numbers(), 0
    rows = chain([first], rows)
    while batch := list(islice(rows, _BATCH)):
        try:
            if all(len(row) == len(first) for row in batch):
                numbers.extend([cell.strip().encode() for row in batch for cell in row])
                numbers.read()
                count += len(batch)
                continue
        except ValueError:
            pass
        wrong = (n for n, row in enumerate(batch, count + 1) if not _is_row(row, len(first)))
        raise FileFormatError(f"{path}, row {next(wrong)}: expected {len(first)} numbers")
    return numbers


def _claims_of(numbers: Numbers, width: int, path: Path) -> Claims:
    values, rounding = numbers.take()
    shape = squeezed((len(values) // width, width))
    rounding = rounding if isinstance(rounding, float) else rounding.reshape(shape)
    return Claims(path.name, ({path.stem: Claim(path.stem, values.reshape(shape), rounding)},))
