"""Writer of the HTML page."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jinja2

from gradwitness.report.compared import Compared
from gradwitness.report.names import Names
from gradwitness.report.page.columns import packed
from gradwitness.report.page.derivations import derivation_columns
from gradwitness.report.page.error_maps import error_columns
from gradwitness.report.page.first_screen import first_screen, text_screen
from gradwitness.report.page.nodes import node_columns
from gradwitness.report.page.sides import sides_blocks, sides_screen
from gradwitness.report.page.steps import gradient_columns, step_columns
from gradwitness.report.page.subject import Texts, redacted
from gradwitness.report.page.views import views
from gradwitness.report.record import dumps, report_record

if TYPE_CHECKING:
    from gradwitness.report.page.subject import Subject

# Beyond this the whole record as JSON would be most of the page.
_MOST_IN_RECORD = 20_000


def write_page(subject: Subject | Texts | Compared) -> str:
    """Write judgements as one self-contained HTML page; the same subject, the same text."""
    if isinstance(subject, Texts):
        return _rendered(text_screen(subject), {})
    if isinstance(subject, Compared):
        return _rendered(sides_screen(subject), sides_blocks(subject) | _licences())
    if subject.is_redacted:
        subject = redacted(subject)
    tape, report = subject.tape, subject.report
    names = Names(tape)
    blocks = {
        "steps": step_columns(tape, report).packed(),
        "gradients": gradient_columns(report).packed(),
        "nodes": node_columns(tape, names).packed(),
        "errors": error_columns(tape, report).packed(),
        "derivations": derivation_columns(tape, report).packed(),
    }
    drawings, insides = views(tape, report)
    for number, view in enumerate(drawings):
        blocks[f"view{number}"] = view.packed()
    blocks["insides"] = insides.packed()
    if len(report.findings) <= _MOST_IN_RECORD:
        blocks["record"] = packed(dumps(report_record(report, tape)).encode())
    return _rendered(first_screen(subject, names), blocks | _licences())


def _licences() -> dict[str, str]:
    return {"licences": packed(_asset("page.licences.txt").encode())}


def _rendered(screen: dict[str, Any], blocks: dict[str, str]) -> str:
    """Fill the template; without data there is no script either."""
    script, style = _asset("page.js") if blocks else "", _asset("page.css")
    policy = _policy(script, style)
    return template("page.html.jinja").render(
        screen, blocks=blocks, script=script, style=style, policy=policy
    )


def _policy(script: str, style: str) -> str:
    """Return a content security policy: this script and this style sheet, and no network at all."""
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def template(name: str) -> jinja2.Template:
    """Return one of the templates; what it is filled with stays text."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
