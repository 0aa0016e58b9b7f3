"""Marks, for a student's terminal and as JSON (schema ``gradwitness-marks``, version 1)."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gradwitness.report.findings import finding_records
from gradwitness.report.page.subject import Texts
from gradwitness.verdict import Fault, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from gradwitness.diagnose.rank import Cause
    from gradwitness.grading.marks import Mark, Marks
    from gradwitness.report.save import Materials

SCHEMA = "gradwitness-marks"
VERSION = 1

_STYLES = {
    "right": "green",
    "wrong": "bold red",
    "wrong by an earlier one": "red",
    "not handed in": "bold red",
    "open": "yellow",
}


def marks_materials(marks: Marks, *, answers: bool = False) -> Materials:
    """Return what files about marks are made of, see `report.save`."""
    table, record = marks_table(marks, answers=answers), marks_record(marks, answers=answers)
    page = Texts(marks.verdict, (("Marks", table),))
    return {"parts": lambda: [table], "record": lambda: record, "page": lambda: page}


def marks_table(marks: Marks, *, answers: bool = False) -> RenderableType:
    """Return marks for a terminal, with the right gradients only if asked."""
    parts: list[RenderableType] = [Text(f"{marks.title}: {marks.submission}\n", style="bold")]
    if marks.failure:
        parts.append(Text(f"Nothing could be graded: {marks.failure}\n", style="bold red"))
    if marks.failure and marks.printed:
        # No line of a submission may pass for one of ours, nor for a command to whoever reads it.
        quoted = "".join(f"| {line}\n" for line in marks.printed.splitlines())
        parts.append(Text(f"It printed:\n{quoted}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, side in (("gradient of", "left"), ("marks", "right"), ("of", "right")):
        table.add_column(column, justify="right" if side == "right" else "left", no_wrap=True)
    table.add_column("it is", no_wrap=True)
    table.add_column("where", overflow="fold")
    for mark in marks.marks:
        table.add_row(*_cells(mark))
    parts.append(table)
    parts += [_cause(cause if answers else _guarded(cause)) for cause in marks.causes]
    lines = Text("\n")
    for note in marks.notes:
        lines.append(f"note   {note}\n")
    if answers:
        for name, array in marks.answers.items():
            lines.append(f"right  {name}\n{np.array2string(array, threshold=64)}\n")
    lines.append(f"marks  {marks.earned:g} of {marks.worth:g}", style="bold")
    if marks.open:
        lines.append(f", {marks.open:g} open: a person has to look", style="yellow")
    return Group(*parts, lines)


def marks_record(marks: Marks, *, answers: bool = False) -> dict[str, Any]:
    """Return marks as plain data; with the right numbers only if asked."""
    causes = [cause if answers else _guarded(cause) for cause in marks.causes]
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "version": VERSION,
        "title": marks.title,
        "submission": marks.submission,
        "verdict": marks.verdict,
        "exit_code": marks.verdict.exit_code,
        "findings": finding_records(_faults(marks, causes)),
        "earned": marks.earned,
        "worth": marks.worth,
        "open": marks.open,
        "failure": marks.failure,
        "printed": marks.printed,
        "marks": [asdict(mark) for mark in marks.marks],
        "causes": [
            {
                "cause": cause.cause,
                "text": cause.text,
                "in": list(cause.guilty),
                "inherited": list(cause.inherited),
                "runner_up": cause.runner_up,
                "experiment": cause.experiment,
            }
            for cause in causes
        ],
        "notes": list(marks.notes),
    }
    if answers:
        record["answers"] = {name: array.tolist() for name, array in marks.answers.items()}
    return record


def _faults(marks: Marks, causes: list[Cause]) -> Iterator[Fault]:
    if marks.failure:
        yield Fault(Verdict.DISAGREES, "nothing to grade", marks.failure, kind="not graded")
    for mark in marks.marks:
        if mark.standing == "right":
            continue
        cause = next((each for each in causes if mark.name in each.explains), None)
        yield Fault(
            Verdict.INCONCLUSIVE if mark.standing == "open" else Verdict.DISAGREES,
            f"{mark.name}: {mark.standing}",
            mark.why,
            kind=mark.standing,
            symbol=mark.name,
            cause=cause.cause if cause else "",
            remedy=cause.experiment if cause else "",
        )


def _cells(mark: Mark) -> tuple[str | Text, ...]:
    standing = Text(mark.standing, style=_STYLES[mark.standing])
    return Text(mark.name), f"{mark.earned:g}", f"{mark.worth:g}", standing, Text(mark.why)


def _guarded(cause: Cause) -> Cause:
    """Return a cause without what the right numbers would follow from: only its name is left."""
    if not cause.reveals:
        return cause
    text = f"The mistake is of this kind: {cause.cause}."
    return replace(cause, text=text, coefficient=math.nan, runner_up="", experiment="")


def _cause(cause: Cause) -> Text:
    """Return a cause as a student needs it: what was done, where it shows, what to try."""
    lines = Text(f"\n{cause.text}\n", style="bold")
    lines.append(f"  shows in  {', '.join(cause.guilty)}\n", style="not bold")
    if cause.inherited:
        lines.append(f"  inherited {', '.join(cause.inherited)}\n", style="not bold")
    if not math.isnan(cause.coefficient):
        lines.append(f"  factor    {cause.coefficient:.6g}\n", style="not bold")
    if cause.experiment:
        lines.append(f"  try       {cause.experiment}\n", style="not bold")
    lines.right_crop(1)
    return lines
