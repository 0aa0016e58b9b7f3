"""The shapes of an SVG picture: one outline for each role, one badge for each verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from rich.cells import cell_len

from gradwitness.report.picture.looks import GRADIENT, INKS, MISSING, PAPER, SAVED, TEXT, WRONG
from gradwitness.report.picture.picture import Flow, Role
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.report.picture.looks import Ink
    from gradwitness.report.picture.picture import Arrow

CHAR = 0.602  # advance of DejaVu Sans Mono, in em
BADGE = 9.0
LABEL_SIZE = 10.5
_CUT = 14.0
_FOLD = 14.0
_FLOW_INKS = {Flow.GRADIENT: GRADIENT, Flow.SAVED: SAVED, Flow.MISSING: MISSING}
_DASHES = {Flow.SAVED: "5 4", Flow.MISSING: "1.5 4"}
_WRONG = "wrong"
_BEHIND = 4.0  # how far the second edge of a group stands out

# Room that an outline takes on the left and right of a box, in addition to the padding.
INSETS = {
    Role.RESULT: 6.0,
    Role.OPERATION: 0.0,
    Role.CUSTOM: 6.0,
    Role.LEAF: 10.0,
    Role.SAVED: 0.0,
    Role.GROUP: 4.0,
    Role.MISSING: 8.0,
}


@dataclass(frozen=True)
class Label:
    """One line of text next to or on an arrow, by its left end and vertical middle."""

    left: float
    y: float
    text: str
    ink: str

    @property
    def right(self) -> float:
        """Right end of the text."""
        return self.left + text_width(self.text, LABEL_SIZE)


def ink_of_arrow(arrow: Arrow) -> str:
    """Return the colour of an arrow and of its label."""
    return WRONG if arrow.wrong else _FLOW_INKS[arrow.flow]


def fmt(*numbers: float) -> str:
    """Write coordinates with at most one decimal, separated by spaces."""
    return " ".join(f"{number:.1f}".removesuffix(".0") for number in numbers)


def add_text(
    parent: ET.Element, x: float, y: float, text: str, size: float, **attributes: str
) -> ET.Element:
    """Add one line of text with its baseline at ``y``; spaces are kept as they are."""
    element = ET.SubElement(
        parent, "text", {"x": fmt(x), "y": fmt(y), "font-size": fmt(size), "fill": TEXT}
    )
    for name, value in attributes.items():
        element.set(name.replace("_", "-"), value)
    element.set("xml:space", "preserve")
    element.text = text
    return element


def add_outline(
    parent: ET.Element,
    role: Role,
    corner: tuple[float, float],
    size: tuple[float, float],
    ink: Ink,
) -> None:
    """Draw the outline of a box of this role."""
    (x, y), (width, height) = corner, size
    cut, fold = (min(most, height / 3) for most in (_CUT, _FOLD))
    paint = {"fill": ink.ground, "stroke": ink.edge, "stroke-width": fmt(ink.thickness)}
    if ink.dashes:
        paint["stroke-dasharray"] = ink.dashes
    if role is Role.GROUP:
        for left, top in ((x + _BEHIND, y), (x, y + _BEHIND)):
            _add_rect(parent, left, top, width - _BEHIND, height - _BEHIND, 5.0, paint)
        return
    if role in (Role.RESULT, Role.OPERATION, Role.LEAF):
        radius = min(height / 2, 26.0) if role is Role.LEAF else 7.0
        _add_rect(parent, x, y, width, height, radius, paint)
        if role is Role.RESULT:
            inner = paint | {"fill": "none", "stroke-width": "1"}
            _add_rect(parent, x + 4, y + 4, width - 8, height - 8, radius - 3, inner)
        return
    right, bottom = x + width, y + height
    if role is Role.CUSTOM:
        corners = [
            (x + cut, y), (right - cut, y), (right, y + cut), (right, bottom - cut),
            (right - cut, bottom), (x + cut, bottom), (x, bottom - cut), (x, y + cut),
        ]  # fmt: skip
    elif role is Role.MISSING:
        middle = (y + bottom) / 2
        corners = [
            (x + cut, y), (right - cut, y), (right, middle),
            (right - cut, bottom), (x + cut, bottom), (x, middle),
        ]  # fmt: skip
        paint |= {"stroke": MISSING, "stroke-dasharray": _DASHES[Flow.MISSING]}
    else:
        corners = [(x, y), (right - fold, y), (right, y + fold), (right, bottom), (x, bottom)]
        paint["stroke-dasharray"] = "5 3"
    ET.SubElement(parent, "path", {"d": _polygon(corners)} | paint)
    if role is Role.SAVED:
        flap = [(right - fold, y), (right - fold, y + fold), (right, y + fold)]
        ET.SubElement(parent, "path", {"d": _polygon(flap)} | paint | {"stroke-dasharray": "none"})


def _add_rect(
    parent: ET.Element,
    x: float,
    y: float,
    width: float,
    height: float,
    radius: float,
    paint: dict[str, str],
) -> None:
    names = ("x", "y", "width", "height", "rx")
    values = (fmt(value) for value in (x, y, width, height, radius))
    ET.SubElement(parent, "rect", dict(zip(names, values, strict=True)) | paint)


def _polygon(corners: list[tuple[float, float]]) -> str:
    return "M" + "L".join(fmt(*corner) for corner in corners) + "Z"


def add_badge(parent: ET.Element, verdict: Verdict, x: float, y: float) -> None:
    """Draw the badge of a verdict around a centre; its form identifies it without colour."""
    group = ET.SubElement(parent, "g", {"class": f"badge {verdict.name.lower()}"})
    fill = INKS[verdict].edge
    stroke = {"fill": "none", "stroke": PAPER, "stroke-width": "2.2", "stroke-linecap": "round"}
    if verdict is Verdict.AGREES:
        centre = {"cx": fmt(x), "cy": fmt(y), "r": fmt(BADGE)}
        ET.SubElement(group, "circle", centre | {"fill": fill})
        tick = f"M{fmt(x - 4, y)}L{fmt(x - 1, y + 3.5)}L{fmt(x + 4.5, y - 3.5)}"
        ET.SubElement(group, "path", {"d": tick} | stroke)
    elif verdict is Verdict.DISAGREES:
        turns = [math.radians(22.5 + 45 * corner) for corner in range(8)]
        reach = BADGE + 1.2
        octagon = [(x + reach * math.cos(turn), y + reach * math.sin(turn)) for turn in turns]
        ET.SubElement(group, "path", {"d": _polygon(octagon), "fill": fill})
        cross = f"M{fmt(x - 3.5, y - 3.5)}L{fmt(x + 3.5, y + 3.5)}"
        cross += f"M{fmt(x + 3.5, y - 3.5)}L{fmt(x - 3.5, y + 3.5)}"
        ET.SubElement(group, "path", {"d": cross} | stroke)
    else:
        triangle = [
            (x, y - BADGE - 2),
            (x + BADGE + 2, y + BADGE - 1),
            (x - BADGE - 2, y + BADGE - 1),
        ]
        ET.SubElement(
            group, "path", {"d": _polygon(triangle), "fill": fill, "stroke-linejoin": "round"}
        )
        add_text(group, x, y + 6, "?", 12, fill=PAPER, font_weight="bold", text_anchor="middle")


def add_arrow_heads(root: ET.Element) -> None:
    """Define the ends of arrows: filled for gradients, open for saved tensors, barred for none."""
    defs = ET.SubElement(root, "defs")
    for name, path, ink in (
        (Flow.GRADIENT.value, "M0 0L9 4L0 8Z", GRADIENT),
        (_WRONG, "M0 0L9 4L0 8Z", WRONG),
        (Flow.SAVED.value, "M1 0.6L8.4 4L1 7.4", SAVED),
        (Flow.MISSING.value, "M8 0V8M5 0V8", MISSING),
    ):
        marker = ET.SubElement(
            defs,
            "marker",
            {
                "id": f"head-{name}",
                "viewBox": "-1 -1 11 10",
                "refX": "8.6",
                "refY": "4",
                "markerWidth": "11",
                "markerHeight": "10",
                "markerUnits": "userSpaceOnUse",
                "orient": "auto",
            },
        )
        filled = path.endswith("Z")
        head = {"d": path, "fill": ink if filled else "none", "stroke-width": "1.3"}
        ET.SubElement(marker, "path", head | ({} if filled else {"stroke": ink}))


def add_line(
    parent: ET.Element, path: str, flow: Flow, *, head: bool = True, wrong: bool = False
) -> None:
    """Draw the line of an arrow: solid for gradients, thick for wrong ones, else dashed."""
    line = ET.SubElement(
        parent,
        "path",
        {
            "d": path,
            "fill": "none",
            "stroke": WRONG if wrong else _FLOW_INKS[flow],
            "stroke-width": "3" if wrong else "1.4",
        },
    )
    if flow in _DASHES:
        line.set("stroke-dasharray", _DASHES[flow])
    if head:
        line.set("marker-end", f"url(#head-{_WRONG if wrong else flow.value})")


def add_label(parent: ET.Element, label: Label) -> None:
    """Write the label of an arrow on a white ground above the arrow."""
    # A ground for the whole label: the arrow would show between outlined letters.
    paper = {"fill": PAPER, "fill-opacity": "0.93"}
    width = label.right - label.left
    _add_rect(parent, label.left - 2, label.y - 6.5, width + 4, 13.0, 3.0, paper)
    baseline = label.y + 0.35 * LABEL_SIZE
    add_text(parent, label.left, baseline, label.text, LABEL_SIZE, fill=label.ink)


def text_width(text: str, size: float) -> float:
    """Return the width of a line of text."""
    return cell_len(text) * size * CHAR
