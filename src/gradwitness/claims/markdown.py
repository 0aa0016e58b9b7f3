"""Claims in the tables of a Markdown text."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

from gradwitness._printable import several
from gradwitness.claims.claim import Claims
from gradwitness.claims.csv_file import record
from gradwitness.claims.table_records import claims_of_records, limited
from gradwitness.claims.text_file import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gradwitness.claims.claim import Run

_BAR = re.compile(r"(?<!\\)\|")
_MARKS = "`* "


def read_tables(path: Path) -> Claims | None:
    """Read all tables of a text, see `claims_of_records`; None if it has none.

    Those with the same columns are one. What stands between them is not read.

    Raises `FileFormatError` if one of them holds no names and numbers.
    """
    content = read_bytes(path)
    if b"|" not in content or b"-" not in content:
        return None
    lines = content.decode("utf-8", "replace").splitlines()
    tables = [list(rows) for rows in _tables(lines)]
    if not tables:
        return None
    joined: dict[tuple[str, ...], list[list[str]]] = {}
    for names, *cells in tables:
        joined.setdefault(tuple(names), []).extend(cells)
    runs: list[Run] = []
    notes: list[str] = []
    for header, rows in joined.items():
        records = [record(list(header), row, path) for row in limited(rows, path)]
        claims = claims_of_records(records, path)
        runs += claims.runs
        notes += claims.notes
    note = several(len(tables), "Markdown table is read", "Markdown tables are read")
    return Claims(path.name, tuple(runs), (f"{note}, and no other text", *notes))


def _tables(lines: list[str]) -> Iterator[Iterator[list[str]]]:
    """Yield the header and rows of each table, as cells."""
    for is_row, group in groupby(lines, lambda line: "|" in line):
        rows = list(group)
        if is_row and len(rows) > 1 and _is_rule(rows[1]):
            yield map(_cells, [rows[0], *rows[2:]])


def _is_rule(line: str) -> bool:
    return "-" in line and not line.strip(" \t|:-")


def _cells(line: str) -> list[str]:
    cells = _BAR.split(line.strip().removeprefix("|").removesuffix("|"))
    return [cell.strip(_MARKS).replace("\\|", "|").replace("\\_", "_") for cell in cells]
