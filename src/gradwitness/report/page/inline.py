"""What a notebook shows of a judged program: the verdict, the gradients and the folded graph."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from gradwitness.report.names import Names
from gradwitness.report.page.first_screen import first_screen
from gradwitness.report.page.page import template
from gradwitness.report.page.subject import Subject
from gradwitness.report.picture.graph import draw
from gradwitness.report.picture.svg import write_svg
from gradwitness.report.picture.view import view

if TYPE_CHECKING:
    from gradwitness.judging.finding import Report
    from gradwitness.tape import Tape

# A cell is shown without being asked for: a graph that takes longer to draw is for `save`.
_MOST_NODES = 3_000


def write_inline(tape: Tape, report: Report) -> str:
    """Write a judgement as HTML for the output of a cell: no script, no style sheet.

    The graph is an image of its own, so that the pictures of several cells share no names.
    """
    picture = ""
    if 0 < len(tape.nodes) <= _MOST_NODES:
        drawn = write_svg(view(draw(tape, report, title="Autograd graph")))
        picture = base64.b64encode(drawn.encode()).decode("ascii")
    screen = first_screen(Subject(tape, report, report.verdict), Names(tape))
    return template("inline.html.jinja").render(screen, picture=picture)
