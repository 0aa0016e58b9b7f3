"""The command ``gradwitness compare``: two saved reports of one program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
    from gradwitness.report.record import dumps
    from gradwitness.report.tables.compared import compared_record, compared_table

    found = compared(Path(before), Path(after))
    if json:
        typer.echo(dumps(compared_record(found)), nl=False)
    else:
        console().print(compared_table(found))
    raise typer.Exit(found.verdict.exit_code)
