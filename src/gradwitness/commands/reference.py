"""The commands that say what gradwitness knows: ``rules`` and ``schema``."""

from __future__ import annotations

from typing import Annotated

import typer


def rules(
    name: Annotated[
        str | None, typer.Argument(help="an operation or an autograd node [default: all]")
    ] = None,
) -> None:
    """Show the rules: formulas, gradients, and what each autograd node means."""
    from gradwitness.report.console import console
    from gradwitness.report.tables.rules_text import rule_text, rules_table

    console().print(rules_table() if name is None else rule_text(name))


def schema() -> None:
    """Print the JSON Schema of every record that --json prints."""
    from gradwitness.report.record import schema_text

    typer.echo(schema_text(), nl=False)
