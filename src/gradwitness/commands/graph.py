"""The command ``gradwitness graph``: the labelled graph, folded to fit a page or as is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradwitness._errors import InputError
from gradwitness._printable import one_line
from gradwitness.report.save import PICTURE, endings, require_ending, save


def graph(
    target: Annotated[
        str | None, typer.Argument(help="train.py:step or a recording [default: a preset]")
    ] = None,
    preset: Annotated[str, typer.Option(help="default, sigmoid or conv")] = "conv",
    out: Annotated[Path, typer.Option("--out", "-o", help=endings(*PICTURE))] = Path("graph.svg"),
    unfold: Annotated[
        bool, typer.Option("--unfold", help="draw every node; a long PDF has several pages")
    ] = False,
    depth: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="open modules to this depth, or with --around: how far to go [default: as fits "
            "a landscape page; 2]",
        ),
    ] = None,
    module: Annotated[
        str, typer.Option(help="draw one module and what is next to it: features.3")
    ] = "",
    around: Annotated[
        str, typer.Option(metavar="NODE", help="draw what is near a node (12) or a parameter")
    ] = "",
    compact: Annotated[
        bool, typer.Option("--compact", help="only names and shapes, a line for each box")
    ] = False,
    rightward: Annotated[
        bool | None,
        typer.Option("--left-to-right/--top-down", help="[default: what fits a landscape page]"),
    ] = None,
) -> None:
    """Draw the labelled autograd graph."""
    from gradwitness import experiment
    from gradwitness.api.targets import judged
    from gradwitness.report.console import console
    from gradwitness.report.picture.graph import draw
    from gradwitness.report.picture.view import View, view

    file = require_ending(out, *PICTURE)
    chosen = View(unfold, depth, module, around, compact, rightward)
    if target is None:
        outcome = experiment.run(experiment.preset(preset))
        tape, report = outcome.tape, outcome.report
        title, subtitle = f"Autograd graph of the {preset} preset", outcome.config.describe()
    else:
        tape, report = judged(target)
        if not tape.nodes:
            raise InputError(f"{target} has no graph to draw, since nothing ran backward in it")
        title, subtitle = f"Autograd graph of {Path(target).name}", ""
    picture = view(draw(tape, report, title=title, subtitle=subtitle), chosen)
    save(file, {"picture": lambda: picture})
    console().print(
        f"{len(tape.nodes)} nodes, {report.verdict.value}: {one_line(str(out))}", soft_wrap=True
    )
    raise typer.Exit(report.verdict.exit_code)
