"""Reports and pictures as files: one table of writers, by the ending of the file's name.

Each writer imports what it needs, so that the list of endings costs nothing where it is only shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gradwitness._errors import InputError
from gradwitness.files.atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gradwitness.judging.finding import Report
    from gradwitness.report.page.subject import Sections
    from gradwitness.tape import Tape

    # What files are made of, by the names that the table has for it; made when it is needed.
    Materials = Mapping[str, Callable[[], Any]]

TEXTS = ("parts", "record", "page")
PICTURE = ("picture",)


class Form(NamedTuple):
    """One kind of file."""

    of: str  # the material that it is made of
    write: Callable[[Path, Any], object]  # called with the path and the material
    everyday: bool = False  # whether a test run that is asked for reports writes it


def _text(path: Path, parts: Any) -> None:
    from gradwitness.report.console import as_text

    write_atomically(path, as_text(*parts))


def _json(path: Path, record: Any) -> None:
    from gradwitness.report.record import dumps

    write_atomically(path, dumps(record))


def _sarif(path: Path, record: Any) -> None:
    from gradwitness.report.sarif import write_sarif

    write_sarif(path, record)


def _svg(path: Path, picture: Any) -> None:
    from gradwitness.report.picture.svg import write_svg

    write_atomically(path, write_svg(picture))


def _dot(path: Path, picture: Any) -> None:
    from gradwitness.report.picture.dot import write_dot

    write_atomically(path, write_dot(picture))


def _typeset(path: Path, picture: Any) -> None:
    from gradwitness.report.picture.svg import write_pages, write_svg
    from gradwitness.report.picture.typeset import write_pdf, write_png

    pages = path.suffix == ".pdf"
    write_atomically(
        path, write_pdf(*write_pages(picture)) if pages else write_png(write_svg(picture))
    )


def _page(path: Path, subject: Any) -> None:
    from gradwitness.report.page.page import write_page

    write_atomically(path, write_page(subject))


def _tape(path: Path, tape: Any) -> None:
    from gradwitness.files.tape_file import save_tape

    save_tape(tape, path)


FORMS = {
    ".txt": Form("parts", _text, everyday=True),
    ".json": Form("record", _json, everyday=True),
    ".sarif": Form("record", _sarif),
    ".html": Form("page", _page),
    ".svg": Form("picture", _svg, everyday=True),
    ".dot": Form("picture", _dot),
    ".pdf": Form("picture", _typeset),
    ".png": Form("picture", _typeset),
    ".npz": Form("tape", _tape),
}
EVERYDAY = tuple(ending for ending, form in FORMS.items() if form.everyday)


def endings(*materials: str) -> str:
    """Return the endings of the files that can be made of some materials, or of all, in a line."""
    return ", ".join(e for e, form in FORMS.items() if not materials or form.of in materials)


def require_ending(path: Path, *materials: str) -> Path:
    """Raise `InputError` unless a file of this name can be made of these materials, or of all.

    Returns the path from the root: a program that is watched may change its folder.
    """
    form = FORMS.get(path.suffix)
    if form is None or (materials and form.of not in materials):
        raise InputError(
            f"{path}: unsupported extension {path.suffix!r}; use {endings(*materials)}"
        )
    return path.absolute()


def save(path: Path, materials: Materials) -> None:
    """Write a file of the form that its ending says.

    Raises `InputError` if the ending is unknown or needs what is not there, or the file cannot be
    written; `MissingExtraError` for a PDF or PNG without the extra that draws them.
    """
    require_ending(path, *materials)
    form = FORMS[path.suffix]
    form.write(path, materials[form.of]())


def materials_of(
    tape: Tape, report: Report, *, redact: bool = False, sections: Sections = ()
) -> Materials:
    """Return what files about a judged tape are made of; only a page can be redacted.

    A page has further ``sections``, as its `Subject` does.
    """
    from gradwitness.report.page.subject import Subject
    from gradwitness.report.picture.graph import draw
    from gradwitness.report.picture.view import view
    from gradwitness.report.record import report_record
    from gradwitness.report.tables.terminal import summary

    title = f"Autograd graph: {report.verdict.value}"
    return {
        "parts": lambda: [summary(report, tape)],
        "record": lambda: report_record(report, tape),
        "page": lambda: Subject(
            tape, report, report.verdict, sections=sections, is_redacted=redact
        ),
        "picture": lambda: view(draw(tape, report, title=title)),
        "tape": lambda: tape,
    }


def save_report(
    path: Path, tape: Tape, report: Report, *, redact: bool = False, sections: Sections = ()
) -> None:
    """Write a judged tape as text, JSON, a page, a picture, or the tape itself; see `save`."""
    if redact:
        require_ending(path, "page")
    save(path, materials_of(tape, report, redact=redact, sections=sections))
