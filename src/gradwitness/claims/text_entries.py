"""Lines with an entry of a tensor each, as ``fc.weight[0,1] = 0.25``, read as a table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradwitness.claims.table_cells import cells_of
from gradwitness.claims.table_columns import columns_of
from gradwitness.claims.tables import claims_of_table
from gradwitness.claims.text_labels import entry
from gradwitness.files.printed_numbers import NUMBER_PATTERN

if TYPE_CHECKING:
    from pathlib import Path

    from gradwitness.claims.claim import Claims

_LINES = re.compile(
    rb"(?:[A-Za-z_][\w.]{0,99}\[\d{1,9}(?:, ?\d{1,9}){0,31}\]"
    rb"(?:[ \t]*+[:=][ \t]*+|[ \t]++)" + NUMBER_PATTERN + rb"[ \t\r]*+(?:\n|\Z))++"
)
_NEXT = re.compile(rb"\s*+([^\n]*+)")


def read_entries(content: bytes, begin: int, path: Path) -> tuple[Claims, int] | None:
    """Read lines from a place on: the tensors whose entries they are, and where the lines end.

    None if one is of another form, or they are no entries.
    """
    lines = _LINES.match(content, begin)
    if not lines:
        return None
    following = _NEXT.match(content, lines.end())
    if following and entry(following[1]):
        return None
    table = lines[0].translate(None, b":=").replace(b"[", b"=(").replace(b"]", b")=")
    cells = cells_of(table, b"=", 3)
    rows = columns_of(["name", "index", "value"], cells, path) if cells else None
    # [2,3] may also be the shape of what follows, and [2] the number of a layer.
    if not rows or not (
        len(rows.words("name")[1]) < rows.rows or (rows.places("index") == 0).any()
    ):
        return None
    return claims_of_table(rows, are_entries=True), lines.end()
