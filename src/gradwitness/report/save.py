"""Reports and pictures as files: one table of writers, by the ending of the file's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

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
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gradwitness.judging.finding import Report
    from gradwitness.tape import Tape

    # What files are made of, by the names that the table has for it; made when it is needed.
    Materials = Mapping[str, Callable[[], Any]]

TEXTS = ("parts", "record")
PICTURE = ("picture",)


class Form(NamedTuple):
    """One kind of file.

    Attributes
    ----------
    of : str
        The material that it is made of.
    write : callable
        Called with the path and the material.
    everyday : bool
        Whether a test run that is asked for reports writes it.
    """

    of: str
    write: Callable[[Path, Any], object]
    everyday: bool = False


def _content(make: Callable[[Any], str | bytes]) -> Callable[[Path, Any], None]:
    return lambda path, material: write_atomically(path, make(material))


FORMS = {
    ".txt": Form("parts", _content(lambda parts: as_text(*parts)), everyday=True),
    ".json": Form("record", _content(dumps), everyday=True),
    ".svg": Form("picture", _content(write_svg), everyday=True),
    ".dot": Form("picture", _content(write_dot)),
    ".pdf": Form("picture", _content(lambda picture: write_pdf(write_svg(picture)))),
    ".png": Form("picture", _content(lambda picture: write_png(write_svg(picture)))),
    ".npz": Form("tape", lambda path, tape: save_tape(tape, path)),
}
EVERYDAY = tuple(ending for ending, form in FORMS.items() if form.everyday)


def endings(*materials: str) -> str:
    """Return the endings of the files that can be made of some materials, or of all, in a line."""
    return ", ".join(e for e, form in FORMS.items() if not materials or form.of in materials)


def require_ending(path: Path, *materials: str) -> None:
    """Raise `InputError` unless a file of this name can be made of these materials, or of all."""
    form = FORMS.get(path.suffix)
    if form is None or (materials and form.of not in materials):
        raise InputError(
            f"{path}: unsupported extension {path.suffix!r}; use {endings(*materials)}"
        )


def save(path: Path, materials: Materials) -> None:
    """Write a file of the form that its ending says.

    Raises
    ------
    InputError
        If the ending is unknown or needs what is not there, or the file cannot be written.
    MissingExtraError
        For a PDF or PNG without the extra that draws them.
    """
    require_ending(path, *materials)
    form = FORMS[path.suffix]
    form.write(path, materials[form.of]())


def materials_of(tape: Tape, report: Report) -> Materials:
    """Return what files about a judged tape are made of."""
    title = f"Autograd graph: {report.verdict.value}"
    return {
        "parts": lambda: [summary(report, tape)],
        "record": lambda: report_record(report),
        "picture": lambda: draw(tape, report, title=title),
        "tape": lambda: tape,
    }


def save_report(path: Path, tape: Tape, report: Report) -> None:
    """Write a judged tape as text, JSON, a picture, or the tape itself; see `save`."""
    save(path, materials_of(tape, report))
