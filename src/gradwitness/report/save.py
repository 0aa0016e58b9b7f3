"""Reports and pictures as files; the ending chooses the form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness._errors import InputError
from gradwitness.files.atomic import write_atomically
from gradwitness.files.tape_file import save_tape
from gradwitness.report.picture.dot import write_dot
from gradwitness.report.picture.graph import draw
from gradwitness.report.picture.svg import write_svg
from gradwitness.report.picture.typeset import write_pdf, write_png
from gradwitness.report.record import dumps, report_record
from gradwitness.report.tables.terminal import as_text, summary

if TYPE_CHECKING:
    from pathlib import Path

    from gradwitness.judging.finding import Report
    from gradwitness.report.picture.picture import Picture
    from gradwitness.tape import Tape

PICTURES = (".svg", ".dot", ".pdf", ".png")


def save_report(path: Path, tape: Tape, report: Report) -> None:
    """Write a judged tape as text, JSON, a picture, or the tape itself.

    Raises
    ------
    InputError
        If the ending is unknown, or the file cannot be written.
    MissingExtraError
        For a PDF or PNG without the extra that draws them.
    """
    if path.suffix == ".txt":
        write_atomically(path, as_text(summary(report, tape)))
    elif path.suffix == ".json":
        write_atomically(path, dumps(report_record(report)))
    elif path.suffix == ".npz":
        save_tape(tape, path)
    elif path.suffix in PICTURES:
        title = f"Autograd graph: {report.verdict.value}"
        save_picture(path, draw(tape, report, title=title))
    else:
        known = ", ".join((".txt", ".json", ".npz", *PICTURES))
        raise InputError(f"{path}: the ending chooses the form, and must be one of {known}")


def save_picture(path: Path, picture: Picture) -> None:
    """Write a picture as SVG, DOT, PDF or PNG."""
    content: str | bytes
    if path.suffix == ".dot":
        content = write_dot(picture)
    elif path.suffix == ".svg":
        content = write_svg(picture)
    elif path.suffix == ".pdf":
        content = write_pdf(write_svg(picture))
    elif path.suffix == ".png":
        content = write_png(write_svg(picture))
    else:
        raise InputError(f"{path}: a picture ends with one of {', '.join(PICTURES)}")
    write_atomically(path, content)
