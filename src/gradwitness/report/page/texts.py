"""What terminals show as lines and tables, as the parts of a page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gradwitness._printable import printable
from gradwitness.report.console import LABEL
from gradwitness.report.tables.terminal import FittingTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from gradwitness.report.page.subject import Texts

# What is indented further than a label goes on with the line before.
_GOES_ON = re.compile(r" {8,}(\S.*)")


def sections_of(subject: Texts) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the headings, and what stands under them: facts, tables, lines."""
    return [(heading, list(_parts(shown))) for heading, shown in subject.sections]


def _parts(shown: RenderableType) -> Iterator[dict[str, Any]]:
    if isinstance(shown, Group):
        for part in shown.renderables:
            yield from _parts(part)
    elif isinstance(shown, FittingTable):
        yield _table(shown.whole())
    elif isinstance(shown, Table):
        yield _table(shown)
    else:
        yield from _lines(printable(shown.plain if isinstance(shown, Text) else str(shown)))


def _table(table: Table) -> dict[str, Any]:
    columns = [[printable(_plain(cell)).strip() for cell in c.cells] for c in table.columns]
    rows = list(zip(*columns, strict=True))
    if not table.show_header:
        return {"kind": "facts", "facts": rows}
    head = [(_plain(column.header), column.justify) for column in table.columns]
    return {"kind": "table", "head": head, "rows": rows}


def _plain(cell: RenderableType) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)


def _lines(text: str) -> Iterator[dict[str, Any]]:
    facts: list[tuple[str, str]] = []
    for line in text.split("\n"):
        label, more = LABEL.match(line), _GOES_ON.fullmatch(line)
        if label:
            facts.append((label[0].strip(), line[label.end() :]))
        elif more and facts:
            facts[-1] = facts[-1][0], f"{facts[-1][1]}\n{more[1]}"
        else:
            if facts:
                yield {"kind": "facts", "facts": facts}
            facts = []
            if line.strip():
                yield {"kind": "line", "text": line}
    if facts:
        yield {"kind": "facts", "facts": facts}
