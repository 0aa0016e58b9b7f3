"""Making any string fit to be drawn: characters, width, line breaks."""

from __future__ import annotations

import textwrap

from rich.cells import cell_len

from gradwitness._printable import printable

WRAP = 64


def clean(text: str) -> str:
    r"""Write out what XML forbids or what cannot be seen; line ends stay, tabs become spaces.

    Written out (``\x1b``) are control characters, lone surrogates, noncharacters and marks that
    reverse the direction of reading.
    """
    return printable(text.replace("\r\n", "\n").replace("\r", "\n").expandtabs(4))


def wrap(text: str, width: int = WRAP) -> list[str]:
    """Clean a text and break it into lines; what is continued is set in by two columns.

    There is at least one line. Words that are longer than a line are broken.
    """
    lines: list[str] = []
    for line in clean(text).split("\n"):
        if cell_len(line) <= width:
            lines.append(line)
            continue
        # A wide character takes two columns: count as if every character did.
        room = width if cell_len(line) == len(line) else width // 2
        lines += textwrap.wrap(line, room, subsequent_indent="  ", break_on_hyphens=False) or [""]
    return lines
