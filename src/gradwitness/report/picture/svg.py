"""Writer of standalone SVG pictures: verdicts show by form and words, not only by colour."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np

from gradwitness.report.picture.layout import lay_out
from gradwitness.report.picture.layout_routes import STUB
from gradwitness.report.picture.looks import (
    FONT,
    INHERITS_WORDS,
    PAPER,
    QUIET,
    ink_of,
    number_boxes,
)
from gradwitness.report.picture.picture import Direction
from gradwitness.report.picture.svg_labels import LABEL_PITCH, place_labels, widest_name
from gradwitness.report.picture.svg_legend import BESIDE_WIDTH, LEAST_WIDTH, add_legend
from gradwitness.report.picture.svg_shapes import (
    BADGE,
    INSETS,
    LABEL_SIZE,
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
    from gradwitness.report.picture.svg_shapes import Label

_TITLE_SIZE = 13.0
_LINE_SIZE = 11.5
_TITLE_PITCH = 18.0
_LINE_PITCH = 15.5
_PADDING = 14.0
_BADGE_ROOM = 2 * BADGE + 10.0
_LEAST_BOX = 130.0
_WRAP = 48
_MARGIN = 32.0
# Between two layers: room for arrow heads, and for labels.
_LABEL_ROOM = 40.0
_MOST_STAGGERED = 6
# Up to so many boxes, a picture is arranged for a page; a larger one is for scrolling and pages.
_SMALL = 28
# A landscape A4 page, in CSS pixels.
_PAGE = (1122.5, 793.7)
_PAGE_RATIO = 1.4


def write_svg(picture: Picture) -> str:
    """Draw a picture as one self-contained SVG document; the same picture gives the same text."""
    return _text(compose(arrange(picture)))


def write_pages(picture: Picture) -> list[str]:
    """Draw a picture as one document, or, if it is long, as several of one width.

    Pages end between boxes, and arrows go on at the same place of the next page; the headline is on
    the first and the legend on the last.
    """
    sheet = arrange(picture)
    height = _PAGE_RATIO * max(sheet.extent + 2 * _MARGIN, LEAST_WIDTH)
    if sheet.layout.height <= height:
        return [_text(compose(sheet))]
    cuts = [0.0]
    last = 0.0
    for y in _between_boxes(sheet):
        if y - cuts[-1] > height and last > cuts[-1]:
            cuts.append(last)
        last = y
    return [_text(compose(sheet, window)) for window in pairwise([*cuts, sheet.layout.height])]


def _text(root: ET.Element) -> str:
    ET.indent(root, space="")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"


@dataclass(frozen=True)
class Sheet:
    """A picture with everything in its place, but not yet drawn."""

    picture: Picture
    cards: list[_Card]
    layout: Layout
    labels: list[Label]
    beside: bool = False  # whether the legend stands on the right of the drawing, and not below

    @property
    def left(self) -> float:
        """Left end of the drawing, labels included."""
        return min([0.0, *(label.left for label in self.labels)])

    @property
    def extent(self) -> float:
        """Width of the drawing, labels included."""
        return max([self.layout.width, *(label.right for label in self.labels)]) - self.left

    @property
    def scale(self) -> float:
        """The scale at which it fills a landscape page."""
        root = compose(self)
        return min(_PAGE[0] / float(root.attrib["width"]), _PAGE[1] / float(root.attrib["height"]))


def arrange(picture: Picture) -> Sheet:
    """Place boxes, arrows and labels of a picture, a small one as large as on a landscape page."""
    is_small = len(picture.boxes) <= _SMALL
    directions = [picture.direction is Direction.RIGHT]
    if picture.direction is Direction.FIT and is_small:
        directions = [False, True]
    columns = range(1, 4) if is_small else [1]
    sheets = [_arrange(picture, rightward=r, columns=n) for r in directions for n in columns]
    if len(sheets) == 1:
        return sheets[0]
    sheets += [replace(sheet, beside=True) for sheet in sheets]
    return max(sheets, key=lambda sheet: sheet.scale)


def _arrange(picture: Picture, *, rightward: bool, columns: int) -> Sheet:
    numbers = number_boxes(picture)
    cards = [_measure(box) for box in picture.boxes]
    leaving = Counter(arrow.source for arrow in picture.arrows if arrow.text)
    lengths = [
        _LABEL_ROOM
        + (
            text_width(arrow.text, LABEL_SIZE)
            if rightward
            else LABEL_PITCH * min(leaving[arrow.source], _MOST_STAGGERED)
        )
        for arrow in picture.arrows
    ]

    def lay(lengths: list[float]) -> Layout:
        return lay_out(
            [card.width for card in cards],
            [card.height for card in cards],
            [numbers[arrow.source] for arrow in picture.arrows],
            [numbers[arrow.target] for arrow in picture.arrows],
            lengths=lengths,
            rightward=rightward,
            columns=columns,
        )

    layout = lay(lengths)
    if rightward and layout.cut.any():
        # Which arrows are cut does not depend on the lengths; names need room beside the stubs.
        room = _LABEL_ROOM + STUB + widest_name(picture, layout, numbers)
        layout = lay([room if cut else n for n, cut in zip(lengths, layout.cut, strict=True)])
    sizes = np.array([(card.width, card.height) for card in cards]).reshape(-1, 2)
    labels = place_labels(picture, layout, numbers, sizes)
    return Sheet(picture, cards, layout, labels)


def _between_boxes(sheet: Sheet) -> list[float]:
    """Return the heights at which the drawing can be cut without cutting a box."""
    cuts = []
    tops = sheet.layout.y
    bottoms = tops + np.array([card.height for card in sheet.cards])
    lowest = 0.0
    for top, bottom in sorted(zip(tops.tolist(), bottoms.tolist(), strict=True)):
        if top > lowest > 0:
            # Below the labels of the arrows that lead to the box.
            cuts.append(max(lowest, top - _MARGIN / 2))
        lowest = max(lowest, bottom)
    return cuts


def compose(sheet: Sheet, window: tuple[float, float] | None = None) -> ET.Element:
    """Draw a sheet, or of its drawing what is between two heights."""
    picture, layout, left = sheet.picture, sheet.layout, sheet.left
    upper, lower = window or (0.0, layout.height)
    legend_width = BESIDE_WIDTH if sheet.beside else max(sheet.extent, LEAST_WIDTH)
    inner = sheet.extent + _MARGIN + BESIDE_WIDTH if sheet.beside else legend_width
    root, paper = _begin(picture)
    top = _add_head(root, picture, inner) if upper == 0 else _MARGIN
    bottom = top + lower - upper
    spare = 0.0 if sheet.beside else (inner - sheet.extent) / 2
    origin = (_MARGIN - left + spare, top - upper)
    drawing = ET.SubElement(root, "g", {"transform": f"translate({fmt(*origin)})"})
    if window is not None:
        beyond = _MARGIN / 2
        _clip(root, drawing, (left - beyond, upper, sheet.extent + 2 * beyond, lower - upper))
    _add_arrows(drawing, picture, layout, (upper, lower))
    for number, (box, card) in enumerate(zip(picture.boxes, sheet.cards, strict=True)):
        if upper <= layout.y[number] <= lower:
            group = ET.SubElement(drawing, "g", {"id": f"box-{number}"})
            _add_box(group, box, card, layout.x[number], layout.y[number])
    for label in sheet.labels:
        if upper <= label.y <= lower:
            add_label(drawing, label)
    if lower == layout.height:
        beside = (_MARGIN + sheet.extent + _MARGIN, top)
        corner = beside if sheet.beside else (_MARGIN, bottom + _MARGIN)
        bottom = max(
            bottom, add_legend(root, picture, corner, legend_width, cut=bool(layout.cut.any()))
        )
    width, height = fmt(inner + 2 * _MARGIN), fmt(bottom + _MARGIN)
    paper.attrib |= {"width": width, "height": height}
    root.attrib |= {"width": width, "height": height, "viewBox": f"0 0 {width} {height}"}
    return root


def _clip(root: ET.Element, drawing: ET.Element, extent: tuple[float, float, float, float]) -> None:
    """Let nothing of a drawing show beyond its part."""
    path = ET.SubElement(ET.SubElement(root, "defs"), "clipPath", {"id": "page"})
    names = ("x", "y", "width", "height")
    ET.SubElement(path, "rect", dict(zip(names, map(fmt, extent), strict=True)))
    drawing.set("clip-path", "url(#page)")


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
    inherits: list[str]
    width: float
    height: float


def _measure(box: Box) -> _Card:
    title = wrap(box.title)
    lines = [piece for line in box.lines for piece in wrap(line, _WRAP)]
    verdict = wrap(box.verdict_text, _WRAP) if box.verdict_text else []
    inherits = wrap(INHERITS_WORDS, _WRAP) if box.inherits else []
    title_width = max(text_width(line, _TITLE_SIZE) for line in title)
    widths = [text_width(line, _LINE_SIZE) for line in lines + verdict + inherits]
    if box.verdict is not None:
        title_width += _BADGE_ROOM
    text = max([title_width, *widths])
    return _Card(
        title=title,
        lines=lines,
        verdict=verdict,
        inherits=inherits,
        width=max(text + 2 * (_PADDING + INSETS[box.role]), _LEAST_BOX),
        height=2 * _PADDING
        + _TITLE_PITCH * (len(title) - 1)
        + _TITLE_SIZE
        + _LINE_PITCH * len(lines + verdict + inherits)
        + (4.0 if lines or verdict or inherits else 0.0),
    )


def _add_box(group: ET.Element, box: Box, card: _Card, x: float, y: float) -> None:
    ink = ink_of(box.verdict, inherits=box.inherits)
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
    # The step's own verdict in its own colour: only what it runs on is wrong.
    own = ink_of(box.verdict).edge
    for line in card.verdict:
        add_text(group, left, baseline, line, _LINE_SIZE, fill=own, font_weight="bold")
        baseline += _LINE_PITCH
    for line in card.inherits:
        add_text(group, left, baseline, line, _LINE_SIZE, fill=ink.edge)
        baseline += _LINE_PITCH
    if box.verdict is not None:
        corner = x + card.width - INSETS[box.role] - BADGE - 8
        add_badge(group, box.verdict, corner, y + _PADDING + 0.4 * _TITLE_SIZE)


def _add_arrows(
    drawing: ET.Element, picture: Picture, layout: Layout, window: tuple[float, float]
) -> None:
    drawn = set()
    for arrow, pieces in zip(picture.arrows, layout.routes, strict=True):
        for piece in pieces:
            if piece[:, 1].max() < window[0] or piece[:, 1].min() > window[1]:
                continue
            path = _path(piece)
            # Stubs of the same box coincide.
            if len(pieces) > 1 and (path, arrow.flow) in drawn:
                continue
            drawn.add((path, arrow.flow))
            is_stub_start = len(pieces) > 1 and piece is pieces[0]
            add_line(drawing, path, arrow.flow, head=not is_stub_start, wrong=arrow.wrong)


def _path(points: NDArray[np.float64]) -> str:
    path = f"M{fmt(*points[0])}"
    for step in range(1, len(points), 3):
        curve = points[step : step + 3]
        if np.all(curve[:, 0] == points[step - 1, 0]):
            path += f"V{fmt(curve[2, 1])}"
        elif np.all(curve[:, 1] == points[step - 1, 1]):
            path += f"H{fmt(curve[2, 0])}"
        else:
            path += "C" + " ".join(fmt(*point) for point in curve)
    return path
