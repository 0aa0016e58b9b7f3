"""The legend of an SVG picture: the meaning of every shape, badge and line in it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from gradwitness.report.picture.looks import (
    CUT_WORDS,
    FLOW_WORDS,
    INKS,
    QUIET,
    ROLE_WORDS,
    UNJUDGED,
    VERDICT_WORDS,
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
_SIZE = 11.5
_PITCH = 30.0
_SAMPLE = 46.0
_GAP = 28.0


def add_legend(
    root: ET.Element, picture: Picture, left: float, top: float, width: float, *, cut: bool
) -> float:
    """Explain everything in the picture, and nothing else; return the ordinate below.

    The legend begins at ``left`` and ``top``, and is one more group of the root.
    """
    group = ET.SubElement(root, "g", {"class": "legend"})
    rule = f"M{fmt(left, top)}H{fmt(left + width)}"
    ET.SubElement(group, "path", {"d": rule, "stroke": "#cbd2d9", "stroke-width": "1"})
    verdicts = {box.verdict for box in picture.boxes}
    roles = {box.role for box in picture.boxes}
    flows = {arrow.flow for arrow in picture.arrows}
    y = top + _PITCH
    for items in (
        [(verdict, VERDICT_WORDS[verdict]) for verdict in Verdict if verdict in verdicts],
        [(role, ROLE_WORDS[role]) for role in Role if role in roles],
        [(flow, FLOW_WORDS[flow]) for flow in Flow if flow in flows],
    ):
        x = left
        for sign, words in items:
            extent = _SAMPLE + text_width(words, _SIZE)
            if x > left and x + extent > left + width:
                x, y = left, y + _PITCH
            _add_sample(group, sign, x, y)
            add_text(group, x + _SAMPLE, y + 4, words, _SIZE)
            x += extent + _GAP
        y += _PITCH if items else 0.0
    for sentence in picture.legend + ((CUT_WORDS,) if cut else ()):
        for line in wrap(sentence, int(width / text_width(" ", _SIZE))):
            add_text(group, left, y, line, _SIZE, fill=QUIET)
            y += 17.0
    return y - 12.0


def _add_sample(group: ET.Element, sign: Verdict | Role | Flow, x: float, y: float) -> None:
    if isinstance(sign, Verdict):
        add_outline(group, Role.OPERATION, (x, y - 11), (36.0, 22.0), INKS[sign])
        add_badge(group, sign, x + 18, y)
    elif isinstance(sign, Role):
        add_outline(group, sign, (x, y - 11), (36.0, 22.0), UNJUDGED)
    else:
        add_line(group, f"M{fmt(x, y)}H{fmt(x + 36)}", sign)
