"""Claims in CSV files, as spreadsheets and pandas write them."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import FileFormatError
from gradwitness.claims.claim import Claim, Claims
from gradwitness.claims.records import claims_of_records
from gradwitness.claims.text import tensors_of
from gradwitness.claims.text_file import MOST_BYTES, read_bytes
from gradwitness.claims.text_numbers import NUMBER_PATTERN, Digits, Numbers

if TYPE_CHECKING:
    from pathlib import Path

_NUMBER = re.compile(NUMBER_PATTERN.decode())
_ARRAY = re.compile(r"\[|^\s*(?:tensor|array|Array)\(")


def read_csv(path: Path) -> Claims:
    """Read a table, see `claims_of_records`; without a line of names, one matrix.

    Raises `FileFormatError` if it is not a table of names and numbers.
    """
    text = read_bytes(path).decode("utf-8", "replace").removeprefix("# ")
    first = text.partition("\n")[0]
    before = csv.field_size_limit(MOST_BYTES)
    try:
        delimiter = max("\t;,", key=first.count)
        rows = [
            row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row
        ]
    except csv.Error as error:
        raise FileFormatError(f"{path}: not a table: {error}") from None
    finally:
        csv.field_size_limit(before)
    if not rows:
        raise FileFormatError(f"{path}: no numbers found; expected a table of names and numbers")
    wrong = next((n for n, row in enumerate(rows, 1) if len(row) > len(rows[0])), 0)
    if wrong:
        raise FileFormatError(f"{path}, row {wrong}: more cells than the first row has")
    names = [cell.strip() for cell in rows[0]]
    if all(map(_NUMBER.fullmatch, names)) and names != [str(n) for n in range(len(names))]:
        return _matrix(rows, path)
    for n, name in enumerate(names):
        names[n] = name if name not in names[:n] else f"{name}.{n}"
    return claims_of_records(
        [dict(zip(names, (_cell(c, path) for c in row), strict=False)) for row in rows[1:]], path
    )


def _cell(text: str, path: Path) -> Digits | Claim | str | None:
    text = text.strip()
    if not text:
        return None
    if _NUMBER.fullmatch(text):
        return Digits(text)
    if _ARRAY.search(text):
        found = tensors_of(text.encode(), path.with_name(f"{path.name}, in a cell"))
        if len(found) == 1:
            return found[0]
    return text


def _matrix(rows: list[list[str]], path: Path) -> Claims:
    numbers = Numbers()
    for n, row in enumerate(rows, 1):
        for cell in row:
            if len(row) != len(rows[0]) or not _NUMBER.fullmatch(cell.strip()):
                raise FileFormatError(f"{path}, row {n}: expected {len(rows[0])} numbers")
            numbers.append(cell.strip().encode())
    values, rounding = numbers.take()
    shape = tuple(size for size in (len(rows), len(rows[0])) if size != 1)
    claim = Claim(
        path.stem,
        values.reshape(shape),
        np.reshape(rounding, shape) if np.ndim(rounding) else rounding,
    )
    return Claims(path.name, ({path.stem: claim},))
