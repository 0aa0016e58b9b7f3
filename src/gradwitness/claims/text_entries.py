"""Lines with an entry of a tensor each, as ``fc.weight[0,1] = 0.25``, read as a table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradwitness.claims.table_cells import cells_of
from gradwitness.claims.table_columns import claims_by_column
from gradwitness.claims.text_labels import entry
from gradwitness.files.printed_numbers import NUMBER_PATTERN

if TYPE_CHECKING:
    from pathlib import Path

    from gradwitness.claims.claim import Run

_LINES = re.compile(
    rb"(?:[A-Za-z_][\w.]{0,99}\[\d{1,9}(?:, ?\d{1,9}){0,31}\]"
    rb"(?:[ \t]*+[:=][ \t]*+|[ \t]++)" + NUMBER_PATTERN + rb"[ \t\r]*+(?:\n|\Z))++"
)
_NEXT = re.compile(rb"\s*+([^\n]*+)")


def read_entries(content: bytes, begin: int, path: Path) -> tuple[list[Run], int] | None:
    """Read lines from a place on: the tensors whose entries they are, and where the lines end.

    None if they must be read one by one: if one is of another form, an entry comes twice, or some
    are missing.
    """
    lines = _LINES.match(content, begin)
    if not lines:
        return None
    following = _NEXT.match(content, lines.end())
    if following and entry(following[1]):
        return None
    table = lines[0].translate(None, b":=").replace(b"[", b"=(").replace(b"]", b")=")
    cells = cells_of(table, b"=", 3)
    claims = (
        claims_by_column(["name", "index", "value"], cells, path, are_placed=True)
        if cells
        else None
    )
    # [2] may also be the number of a layer.
    if not claims or all(claim.array.size == 1 for run in claims.runs for claim in run.values()):
        return None
    return list(claims.runs), lines.end()
