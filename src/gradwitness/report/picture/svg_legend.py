"""The legend of an SVG picture: the meaning of every shape, badge and line in it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from gradwitness.report.picture.looks import (
    CUT_WORDS,
    FLOW_WORDS,
    INHERITS_WORDS,
    INKS,
    QUIET,
    ROLE_WORDS,
    UNJUDGED,
    VERDICT_WORDS,
    WRONG_WORDS,
    ink_of,
)
from gradwitness.report.picture.picture import Flow, Role
from gradwitness.report.picture.svg_shapes import (
    add_badge,
    add_line,
    add_outline,
    add_text,
    fmt,
    text_width,
)
from gradwitness.report.text import wrap
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.report.picture.picture import Picture

LEAST_WIDTH = 640.0
BESIDE_WIDTH = 420.0
_SIZE = 11.5
_PITCH = 30.0
_SAMPLE = 46.0
_GAP = 28.0
_LINE = 17.0
_TWO_COLUMNS = 960.0


def add_legend(
    root: ET.Element, picture: Picture, corner: tuple[float, float], width: float, *, cut: bool
) -> float:
    """Explain everything in the picture, and nothing else; return the ordinate below.

    The legend begins at the corner, and is one more group of the root. Sentences stand in two
    columns where there is room.
    """
    left, top = corner
    group = ET.SubElement(root, "g", {"class": "legend"})
    rule = f"M{fmt(left, top)}H{fmt(left + width)}"
    ET.SubElement(group, "path", {"d": rule, "stroke": "#cbd2d9", "stroke-width": "1"})
    y = top + _PITCH
    for signs in _signs(picture):
        x = left
        for sign, words in signs:
            extent = _SAMPLE + text_width(words, _SIZE)
            if x > left and x + extent > left + width:
                x, y = left, y + _PITCH
            _add_sample(group, sign, x, y)
            add_text(group, x + _SAMPLE, y + 4, words, _SIZE)
            x += extent + _GAP
        y += _PITCH if signs else 0.0
    columns = 2 if width >= _TWO_COLUMNS else 1
    column = (width - (columns - 1) * _GAP) / columns
    sentences = [
        wrap(sentence, int(column / text_width(" ", _SIZE)))
        for sentence in picture.legend + ((CUT_WORDS,) if cut else ())
    ]
    half = -(-sum(map(len, sentences)) // columns)
    row = column_nr = most = 0
    for lines in sentences:
        if row >= half:
            row, column_nr = 0, 1
        for line in lines:
            x = left + column_nr * (column + _GAP)
            add_text(group, x, y + _LINE * row, line, _SIZE, fill=QUIET)
            row += 1
        most = max(most, row)
    return y + _LINE * most - 12.0


Sign = Verdict | Role | Flow | str


def _signs(picture: Picture) -> list[list[tuple[Sign, str]]]:
    """Return the signs in the picture and their meanings, a row for each kind."""
    verdicts = {box.verdict for box in picture.boxes}
    roles = {box.role for box in picture.boxes}
    flows = {arrow.flow for arrow in picture.arrows}
    spread: list[tuple[Sign, str]] = []
    if any(box.inherits for box in picture.boxes):
        spread.append((INHERITS_WORDS, INHERITS_WORDS))
    if any(arrow.wrong for arrow in picture.arrows):
        spread.append((WRONG_WORDS, WRONG_WORDS))
    return [
        [(verdict, VERDICT_WORDS[verdict]) for verdict in Verdict if verdict in verdicts],
        [(role, ROLE_WORDS[role]) for role in Role if role in roles],
        [(flow, FLOW_WORDS[flow]) for flow in Flow if flow in flows] + spread,
    ]


def _add_sample(group: ET.Element, sign: Sign, x: float, y: float) -> None:
    if isinstance(sign, Verdict):
        add_outline(group, Role.OPERATION, (x, y - 11), (36.0, 22.0), INKS[sign])
        add_badge(group, sign, x + 18, y)
    elif isinstance(sign, Role):
        add_outline(group, sign, (x, y - 11), (36.0, 22.0), UNJUDGED)
    elif sign == INHERITS_WORDS:
        ink = ink_of(None, inherits=True)
        add_outline(group, Role.OPERATION, (x, y - 11), (36.0, 22.0), ink)
    elif isinstance(sign, str):
        add_line(group, f"M{fmt(x, y)}H{fmt(x + 36)}", Flow.GRADIENT, wrong=True)
    else:
        add_line(group, f"M{fmt(x, y)}H{fmt(x + 36)}", sign)
