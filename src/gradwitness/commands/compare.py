"""The command ``gradwitness compare``: two saved reports of one program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradwitness._ending import Ended


def compare(
    before: Annotated[str, typer.Argument(metavar="A.json", help="a report: check ... --json")],
    after: Annotated[str, typer.Argument(metavar="B.json", help="a later report")],
    json: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
) -> None:
    """Compare two saved reports of a program: what became worse, and what better.

    Exit code 1 if something disagrees that did not before, 3 if something is newly in doubt.
    """
    from gradwitness.report.compared import compared
    from gradwitness.report.console import console
    from gradwitness.report.tables.compared import compared_record, compared_table

    found = compared(Path(before), Path(after))
    if not json:
        console().print(compared_table(found))
    raise Ended(found.verdict.exit_code, compared_record(found) if json else None)
