"""Where text goes: a standard stream, or a string for a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.segment import Segment

from gradwitness._printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import ConsoleOptions, RenderableType

# Wide enough for every column of the verdict table.
WIDTH = 132


class Screen(Console):
    """A console on which names and texts of others cannot act: no markup, no escape sequences."""

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
        for segment in super().render(renderable, options):
            shown = segment.text if segment.control else printable(segment.text)
            yield Segment(shown, segment.style, segment.control)

    def on_broken_pipe(self) -> None:
        """Pass on the error that is being handled; rich would end the process with exit code 1."""
        raise


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
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"
