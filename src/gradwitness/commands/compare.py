"""The command ``gradwitness compare``: two saved reports of one program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradwitness._ending import Ended
from gradwitness.report.save import TEXTS, endings, require_ending
from gradwitness.report.save import save as save_file

_REPORT = "a report: check ... --save report.html, or .json"


def compare(
    before: Annotated[str, typer.Argument(metavar="A", help=_REPORT)],
    after: Annotated[str, typer.Argument(metavar="B", help="a later report")],
    save: Annotated[
        list[Path] | None,
        typer.Option(
            help=f"also write a file ({endings(*TEXTS)}; .html shows both, and B's graph if it is "
            "a page); repeatable"
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
) -> None:
    """Compare two saved reports of a program: what became worse, and what better.

    Exit code 1 if something disagrees that did not before, 3 if something is newly in doubt, or a
    gradient that agreed is gone.
    """
    from gradwitness.report.compared import compared
    from gradwitness.report.console import console
    from gradwitness.report.tables.compared import (
        compared_materials,
        compared_record,
        compared_table,
    )

    files = [require_ending(path, *TEXTS) for path in save or ()]
    found = compared(Path(before), Path(after))
    for path in files:
        save_file(path, compared_materials(found))
    if not json:
        console().print(compared_table(found))
    raise Ended(found.verdict.exit_code, compared_record(found) if json else None)
