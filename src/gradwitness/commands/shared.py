"""What several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gradwitness.judging.finding import Report
    from gradwitness.tape import Tape

Json = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]
# What --explain wants that stands alone.
ALL = "all"


def show_all(derivation: str | None, *parts: RenderableType) -> None:
    """Print what there is to say, and then the derivation, if there is one."""
    from gradwitness.report.console import console

    shown = console()
    for part in parts:
        shown.print(part)
    if derivation is not None:
        shown.print()
        shown.print(derivation, soft_wrap=True)


def derivation_of(tape: Tape, report: Report, wanted: str) -> str:
    """Return the derivation of everything, or of one entry."""
    from gradwitness.report.explain import explain as explain_all
    from gradwitness.report.trace import trace

    return explain_all(tape, report) if wanted == ALL else trace(tape, report, wanted)
