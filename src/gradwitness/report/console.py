"""Where text goes: a standard stream, or a string for a file."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from gradwitness._printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import ConsoleOptions, RenderableType

# Wide enough for every column of the verdict table.
WIDTH = 132
# The least width of a column whose cells are broken into lines, and what is between columns.
_BROKEN, _GAP = 24, 2
# At the begin of a line, its subject in a column of its own: two spaces or more follow, or one
# where the words fill the column.
LABEL = re.compile(
    r"(?: {0,2}[a-z][\w ]*? {2,}|[a-z]{9} |  [a-z][a-z ]{6}[a-z] )(?=\S)", re.IGNORECASE
)


class Screen(Console):
    """A console on which names and texts of others cannot act: no markup, no escape sequences.

    What is continued on the next line stands below where it began; a table that is too wide is a
    list, one block a row; no line ends in blanks.
    """

    def __init__(self, **options: Any) -> None:
        # In a notebook rich would show the text, and leave the file empty.
        super().__init__(
            **{"highlight": False, "markup": False, "emoji": False, "force_jupyter": False}
            | options
        )

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render, with what cannot be seen written out."""
        chosen = options or self.options
        if isinstance(renderable, Table) and renderable.show_header:
            if _needed(renderable) > chosen.max_width:
                renderable = _blocks(renderable)
        elif isinstance(renderable, Text) and not (renderable.no_wrap or chosen.no_wrap):
            # In the cell of a table, what has no label goes on below its begin.
            renderable = self._hanging(renderable, chosen.max_width, 0 if chosen.justify else 2)
        held: list[Segment] = []
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
                continue
            text = re.sub(r" +(?=\n)", "", printable(segment.text))
            if text.startswith("\n"):
                held.clear()
            if seen := text.rstrip(" "):
                yield from held
                held.clear()
                yield Segment(seen, segment.style)
            if seen != text:
                held.append(Segment(text[len(seen) :], segment.style))
        yield from held

    def _hanging(self, text: Text, width: int, usual: int) -> Text:
        """Break lines that are too long, with what is continued set in."""
        lines = []
        for line in text.split("\n", allow_blank=True):
            label = LABEL.match(line.plain)
            begin = label.end() if label else len(line.plain) - len(line.plain.lstrip(" "))
            inset = begin or usual
            if line.cell_len <= width or not 0 < inset < 0.6 * width:
                lines.append(line)
                continue
            first, rest = line.divide([begin])
            pieces = rest.wrap(self, width - inset)
            lines += [(Text(" " * inset) if n else first) + piece for n, piece in enumerate(pieces)]
        hanging = Text("\n", style=text.style, end=text.end).join(lines)
        hanging.end, hanging.justify, hanging.overflow = text.end, text.justify, text.overflow
        return hanging

    def on_broken_pipe(self) -> None:
        """Pass on the error that is being handled; rich would end the process with exit code 1."""
        raise


def _needed(table: Table) -> int:
    """Return the least width in which a table can be read."""
    needed = -_GAP
    for column in table.columns:
        longest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
        needed += _GAP + (longest if column.no_wrap else min(longest, _BROKEN))
    return needed


def _blocks(table: Table) -> Group:
    """Return the rows of a table below each other, each a list of its cells."""
    names = [str(column.header) for column in table.columns]
    room = max(map(len, names)) + 2
    blocks = []
    for first, *cells in zip(*(column.cells for column in table.columns), strict=True):
        block = first.copy() if isinstance(first, Text) else Text(str(first))
        for name, cell in zip(names[1:], cells, strict=True):
            if str(cell).strip():
                block.append(f"\n  {name:<{room}}")
                block.append(cell if isinstance(cell, Text) else str(cell))
        blocks.append(block)
    return Group(*blocks)


def console(*, stderr: bool = False) -> Console:
    """Return a console for a standard stream: colour on a terminal only, never with NO_COLOR."""
    made = Screen(stderr=stderr)
    return made if made.is_terminal else Screen(stderr=stderr, width=WIDTH)


def as_text(*parts: RenderableType) -> str:
    """Render without colour, for a file."""
    file = io.StringIO()
    out = Screen(file=file, width=WIDTH, color_system=None)
    for part in parts:
        out.print(part)
    return file.getvalue()
