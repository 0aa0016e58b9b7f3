"""A histogram as a standalone SVG picture."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from gradwitness.report.picture.looks import FONT, INKS, PAPER, QUIET
from gradwitness.report.picture.svg_shapes import add_text, fmt
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH, _HEIGHT = 640.0, 320.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 40.0, 72.0, 60.0
_SIZE = 11.5


def write_histogram(
    title: str, axis: str, edges: Sequence[float], counts: Sequence[int], remark: str
) -> str:
    """Draw one bar for each count, between its two edges; the same numbers give the same text."""
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": fmt(_WIDTH),
            "height": fmt(_HEIGHT),
            "viewBox": f"0 0 {fmt(_WIDTH, _HEIGHT)}",
            "font-family": f"{FONT}, monospace",
            "role": "img",
        },
    )
    ET.SubElement(root, "title").text = title
    size = {"width": fmt(_WIDTH), "height": fmt(_HEIGHT), "fill": PAPER}
    ET.SubElement(root, "rect", size)
    add_text(root, _LEFT, 26, title, 13.0, font_weight="bold")
    add_text(root, _LEFT, 46, remark, _SIZE, fill=QUIET)
    floor, most = _HEIGHT - _BOTTOM, max(counts, default=1)
    pitch = (_WIDTH - _LEFT - _RIGHT) / max(len(counts), 1)
    ink = INKS[Verdict.AGREES]
    for place, count in enumerate(counts):
        height = (floor - _TOP) * count / most
        bar = {
            "x": fmt(_LEFT + place * pitch),
            "y": fmt(floor - height),
            "width": fmt(max(pitch - 2, 1)),
            "height": fmt(height),
            "fill": ink.ground,
            "stroke": ink.edge,
        }
        shape = ET.SubElement(root, "rect", bar)
        if count:
            middle = _LEFT + (place + 0.5) * pitch
            add_text(root, middle, floor - height - 4, f"{count:,}", 9.0, text_anchor="middle")
        ET.SubElement(shape, "title").text = f"{edges[place]:g} to {edges[place + 1]:g}: {count:,}"
    line = {"d": f"M{fmt(_LEFT, floor)}H{fmt(_WIDTH - _RIGHT)}", "stroke": QUIET}
    ET.SubElement(root, "path", line)
    every = max(1, len(counts) // 5)
    for place, edge in enumerate(edges):
        if place % every == 0:
            x = _LEFT + place * pitch
            add_text(root, x, floor + 18, f"{edge:g}", _SIZE, text_anchor="middle")
    add_text(root, _WIDTH / 2, floor + 42, axis, _SIZE, text_anchor="middle", fill=QUIET)
    ET.indent(root, space="")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"
