"""Writer of standalone SVG pictures: verdicts show by form and words, not only by colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np

from gradwitness.report.picture.layout import lay_out
from gradwitness.report.picture.looks import FONT, PAPER, QUIET, ink_of, number_boxes
from gradwitness.report.picture.svg_labels import place_labels
from gradwitness.report.picture.svg_legend import LEAST_WIDTH, add_legend
from gradwitness.report.picture.svg_shapes import (
    BADGE,
    INSETS,
    add_arrow_heads,
    add_badge,
    add_label,
    add_line,
    add_outline,
    add_text,
    fmt,
    text_width,
)
from gradwitness.report.text import clean, wrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.report.picture.layout import Layout
    from gradwitness.report.picture.picture import Box, Picture

_TITLE_SIZE = 13.0
_LINE_SIZE = 11.5
_TITLE_PITCH = 18.0
_LINE_PITCH = 15.5
_PADDING = 14.0
_BADGE_ROOM = 2 * BADGE + 10.0
_LEAST_BOX = 130.0
_MARGIN = 32.0


def write_svg(picture: Picture) -> str:
    """Draw a picture as one self-contained SVG document; the same picture gives the same text."""
    numbers = number_boxes(picture)
    cards = [_measure(box) for box in picture.boxes]
    layout = lay_out(
        [card.width for card in cards],
        [card.height for card in cards],
        [numbers[arrow.source] for arrow in picture.arrows],
        [numbers[arrow.target] for arrow in picture.arrows],
    )
    sizes = np.array([(card.width, card.height) for card in cards]).reshape(-1, 2)
    labels = place_labels(picture, layout, numbers, sizes)
    left = min([0.0] + [label.left for label in labels])
    right = max([layout.width] + [label.right for label in labels])
    inner = max(right - left, LEAST_WIDTH)
    root, paper = _begin(picture)
    bottom = _add_head(root, picture, inner)
    origin = (_MARGIN - left + (inner - (right - left)) / 2, bottom)
    drawing = ET.SubElement(root, "g", {"transform": f"translate({fmt(*origin)})"})
    _add_arrows(drawing, picture, layout)
    for number, (box, card) in enumerate(zip(picture.boxes, cards, strict=True)):
        group = ET.SubElement(drawing, "g", {"id": f"box-{number}"})
        _add_box(group, box, card, layout.x[number], layout.y[number])
    for label in labels:
        add_label(drawing, label)
    bottom = add_legend(
        root, picture, _MARGIN, bottom + layout.height + _MARGIN, inner, cut=bool(layout.cut.any())
    )
    width, height = fmt(inner + 2 * _MARGIN), fmt(bottom + _MARGIN)
    paper.attrib |= {"width": width, "height": height}
    root.attrib |= {"width": width, "height": height, "viewBox": f"0 0 {width} {height}"}
    ET.indent(root, space="")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _begin(picture: Picture) -> tuple[ET.Element, ET.Element]:
    title = clean(picture.title)
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "role": "img",
            "aria-label": f"{title}: {clean(picture.subtitle)}" if picture.subtitle else title,
            "font-family": f"'{FONT}', 'Menlo', 'Consolas', monospace",
        },
    )
    ET.SubElement(root, "title").text = title
    add_arrow_heads(root)
    # Without its own background, a picture on a dark page would show dark text on dark.
    paper = ET.SubElement(root, "rect", {"fill": PAPER})
    return root, paper


def _add_head(root: ET.Element, picture: Picture, inner: float) -> float:
    """Write headline and subtitle; return the ordinate below them."""
    y = _MARGIN
    for text, size, attributes in (
        (picture.title, 20.0, {"font_weight": "bold"}),
        (picture.subtitle, 13.0, {"fill": QUIET}),
    ):
        for line in wrap(text, int(inner / text_width(" ", size))) if text else []:
            y += 1.3 * size
            add_text(root, _MARGIN, y, line, size, **attributes)
    return y + _MARGIN


@dataclass(frozen=True)
class _Card:
    """The text of a box, broken into lines, and the size it needs."""

    title: list[str]
    lines: list[str]
    verdict: list[str]
    width: float
    height: float


def _measure(box: Box) -> _Card:
    title = wrap(box.title)
    lines = [piece for line in box.lines for piece in wrap(line)]
    verdict = wrap(box.verdict_text) if box.verdict_text else []
    title_width = max(text_width(line, _TITLE_SIZE) for line in title)
    widths = [text_width(line, _LINE_SIZE) for line in lines + verdict]
    if box.verdict is not None:
        title_width += _BADGE_ROOM
    text = max([title_width, *widths])
    return _Card(
        title=title,
        lines=lines,
        verdict=verdict,
        width=max(text + 2 * (_PADDING + INSETS[box.role]), _LEAST_BOX),
        height=2 * _PADDING
        + _TITLE_PITCH * (len(title) - 1)
        + _TITLE_SIZE
        + _LINE_PITCH * len(lines + verdict)
        + (4.0 if lines or verdict else 0.0),
    )


def _add_box(group: ET.Element, box: Box, card: _Card, x: float, y: float) -> None:
    ink = ink_of(box.verdict)
    group.set("class", f"box {box.role.value}")
    if box.note:
        ET.SubElement(group, "title").text = clean(box.note)
    add_outline(group, box.role, (x, y), (card.width, card.height), ink)
    left = x + _PADDING + INSETS[box.role]
    baseline = y + _PADDING + 0.8 * _TITLE_SIZE
    for line in card.title:
        add_text(group, left, baseline, line, _TITLE_SIZE, font_weight="bold")
        baseline += _TITLE_PITCH
    baseline += _LINE_PITCH - _TITLE_PITCH + 4.0
    for line in card.lines:
        add_text(group, left, baseline, line, _LINE_SIZE)
        baseline += _LINE_PITCH
    for line in card.verdict:
        add_text(group, left, baseline, line, _LINE_SIZE, fill=ink.edge, font_weight="bold")
        baseline += _LINE_PITCH
    if box.verdict is not None:
        corner = x + card.width - INSETS[box.role] - BADGE - 8
        add_badge(group, box.verdict, corner, y + _PADDING + 0.4 * _TITLE_SIZE)


def _add_arrows(drawing: ET.Element, picture: Picture, layout: Layout) -> None:
    drawn = set()
    for arrow, pieces in zip(picture.arrows, layout.routes, strict=True):
        for piece in pieces:
            path = _path(piece)
            # Stubs of the same box coincide.
            if len(pieces) > 1 and (path, arrow.flow) in drawn:
                continue
            drawn.add((path, arrow.flow))
            is_stub_start = len(pieces) > 1 and piece is pieces[0]
            add_line(drawing, path, arrow.flow, head=not is_stub_start)


def _path(points: NDArray[np.float64]) -> str:
    path = f"M{fmt(*points[0])}"
    for step in range(1, len(points), 3):
        curve = points[step : step + 3]
        if np.all(curve[:, 0] == points[step - 1, 0]):
            path += f"V{fmt(curve[2, 1])}"
        else:
            path += "C" + " ".join(fmt(*point) for point in curve)
    return path
