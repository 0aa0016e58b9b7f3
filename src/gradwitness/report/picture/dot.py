"""Writer of Graphviz text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.report.picture.looks import (
    FLOW_WORDS,
    GRADIENT,
    MARKS,
    MISSING,
    PAPER,
    ROLE_WORDS,
    SAVED,
    TEXT,
    VERDICT_WORDS,
    WRONG,
    WRONG_WORDS,
    ink_of,
    number_boxes,
    verdict_lines,
)
from gradwitness.report.picture.picture import Direction, Flow, Role
from gradwitness.report.text import clean, wrap
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.report.picture.picture import Arrow, Box, Picture

# The monospace font whose widths every build of Graphviz knows, so that text fits its box.
_FONT = "Courier"
_SHAPES = {
    Role.RESULT: ("box", "filled,rounded", 2),
    Role.OPERATION: ("box", "filled,rounded", 1),
    Role.CUSTOM: ("octagon", "filled", 1),
    Role.LEAF: ("ellipse", "filled", 1),
    Role.SAVED: ("note", "filled,dashed", 1),
    Role.GROUP: ("box3d", "filled", 1),
    Role.MISSING: ("hexagon", "filled,dotted", 1),
}
_SHAPE_WORDS = {
    Role.RESULT: "double box",
    Role.OPERATION: "rounded box",
    Role.CUSTOM: "octagon",
    Role.LEAF: "ellipse",
    Role.SAVED: "dashed note",
    Role.GROUP: "box with depth",
    Role.MISSING: "dotted hexagon",
}
_ARROWS = {
    Flow.GRADIENT: {"style": "solid", "arrowhead": "normal", "color": GRADIENT},
    Flow.SAVED: {"style": "dashed", "arrowhead": "vee", "color": SAVED},
    Flow.MISSING: {"style": "dotted", "arrowhead": "tee", "color": MISSING},
}
_WRONG = {"color": WRONG, "penwidth": "3"}
_LINE_WORDS = {
    Flow.GRADIENT: "solid arrow",
    Flow.SAVED: "dashed arrow",
    Flow.MISSING: "dotted arrow",
}


def write_dot(picture: Picture) -> str:
    """Write a picture as a Graphviz digraph; the same picture gives the same text."""
    numbers = number_boxes(picture)
    font = {"fontname": _FONT, "fontcolor": TEXT}
    rank = "LR" if picture.direction is Direction.RIGHT else "TB"
    graph = {"label": _left(_legend(picture)), "labelloc": "b", "labeljust": "l", "rankdir": rank}
    statements = [
        f"graph {_attributes(graph | {'bgcolor': PAPER, 'fontsize': '12'} | font)};",
        f"node {_attributes({'fontsize': '11', 'margin': '0.16,0.08'} | font)};",
        f"edge {_attributes({'fontsize': '10'} | font)};",
    ]
    statements += [
        f"n{number} {_attributes(_describe_box(box))};" for number, box in enumerate(picture.boxes)
    ]
    statements += [
        f"n{numbers[arrow.source]} -> n{numbers[arrow.target]} "
        f"{_attributes(_describe_arrow(arrow))};"
        for arrow in picture.arrows
    ]
    body = "\n".join(f"  {statement}" for statement in statements)
    return f"digraph gradwitness {{\n{body}\n}}\n"


def _describe_box(box: Box) -> dict[str, str]:
    ink = ink_of(box.verdict, inherits=box.inherits)
    shape, style, rings = _SHAPES[box.role]
    lines = wrap(box.title)
    if box.verdict is not None:
        lines[0] += f"  {MARKS[box.verdict]}"
    for line in (*box.lines, *verdict_lines(box)):
        lines += wrap(line)
    # Graphviz shows the label if the tooltip is empty; a blank shows nothing.
    tooltip = "".join(f"{line}\\n" for line in _escape_lines(wrap(box.note))) if box.note else " "
    return {
        "label": _left(lines),
        "shape": shape,
        "style": style,
        "peripheries": str(rings),
        "color": ink.edge,
        "fillcolor": ink.ground,
        "penwidth": f"{ink.thickness:g}",
        "tooltip": tooltip,
    }


def _describe_arrow(arrow: Arrow) -> dict[str, str]:
    attributes = _ARROWS[arrow.flow] | (_WRONG if arrow.wrong else {})
    if arrow.text:
        attributes["label"] = " ".join(_escape_lines(clean(arrow.text).split("\n")))
    return attributes


def _legend(picture: Picture) -> list[str]:
    """Headline, subtitle and legend: a Graphviz graph has a single label for all."""
    roles = {box.role for box in picture.boxes}
    verdicts = {box.verdict for box in picture.boxes}
    flows = {arrow.flow for arrow in picture.arrows}
    lines = [*wrap(picture.title, 100), *wrap(picture.subtitle, 100), ""]
    lines += [f"{MARKS[v]}  {VERDICT_WORDS[v]}" for v in Verdict if v in verdicts]
    lines += [f"{_SHAPE_WORDS[role]}: {ROLE_WORDS[role]}" for role in Role if role in roles]
    lines += [f"{_LINE_WORDS[flow]}: {FLOW_WORDS[flow]}" for flow in Flow if flow in flows]
    lines += [f"thick arrow: {WRONG_WORDS}"] if any(a.wrong for a in picture.arrows) else []
    return lines + [line for sentence in picture.legend for line in wrap(sentence, 100)]


def _left(lines: list[str]) -> str:
    r"""Join lines by ``\l``, which left-aligns the text before it."""
    return "".join(f"{line}\\l" for line in _escape_lines(lines))


def _escape_lines(lines: list[str]) -> list[str]:
    r"""Escape what Graphviz interprets in a label, such as ``\N`` and ``&lt;``."""
    return [line.replace("\\", "\\\\").replace("&", "&amp;") for line in lines]


def _attributes(attributes: dict[str, str]) -> str:
    return "[" + ", ".join(f"{name}={_quote(value)}" for name, value in attributes.items()) + "]"


def _quote(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'
