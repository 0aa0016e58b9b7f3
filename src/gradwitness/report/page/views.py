"""The graph as a page draws it: whole, and folded to several depths."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.report.page.columns import Columns
from gradwitness.report.page.steps import VERDICTS
from gradwitness.report.picture.fold import fold, key_of, visible
from gradwitness.report.picture.graph import draw
from gradwitness.report.picture.groups import Group, grow
from gradwitness.report.picture.layout import lay_out
from gradwitness.report.picture.picture import Flow, Role
from gradwitness.report.tables.terminal import relative

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.judging.finding import Report
    from gradwitness.report.picture.layout import Layout
    from gradwitness.report.picture.picture import Box, Picture
    from gradwitness.tape import Tape

# In pixels, with the script's font: a character, a line, the room around the text of a box.
_CHAR, _LINE, _ROOM = 6.7, 17.0, 24.0
_LONGEST = 44
UNJUDGED = len(VERDICTS)
# Folding deeper than this shows little that the whole does not.
_MOST_DEPTH = 5
# Width over height that a long drawing is broken into columns for, and the tallest that is not.
_SHAPE, _TALLEST = 1.25, 1.6
_BETWEEN_COLUMNS = 140.0


def views(tape: Tape, report: Report) -> list[Columns]:
    """Return the graph folded to each depth that differs from the others, and then whole."""
    picture = draw(tape, report, title="")
    # What the nodes saved stands in the panel.
    picture = replace(
        picture,
        boxes=tuple(box for box in picture.boxes if box.role is not Role.SAVED),
        arrows=tuple(arrow for arrow in picture.arrows if arrow.flow is not Flow.SAVED),
    )
    root = grow(picture)
    made: list[Columns] = []
    last = 0
    for depth in range(_MOST_DEPTH):
        opened = set(_down_to(root, depth))
        folded = fold(picture, root, opened)
        if last < len(folded.boxes) < len(picture.boxes):
            made.append(_columns(folded, _members(picture, root, opened)))
        last = len(folded.boxes)
    return [*made, _columns(picture, {})]


def _down_to(group: Group, depth: int) -> Iterator[Group]:
    yield group
    for member in group.members if depth else ():
        if isinstance(member, Group):
            yield from _down_to(member, depth - 1)


def _members(picture: Picture, root: Group, opened: set[Group]) -> dict[str, list[int]]:
    """Return the nodes in each closed group, by the key of its box."""
    members = {}
    for member in visible(root, opened):
        if isinstance(member, Group):
            numbers = sorted(member.boxes())
            nodes = [_nodes(picture.boxes[number]) for number in numbers]
            members[key_of(numbers)] = [number for own in nodes for number in own]
    return members


def _nodes(box: Box) -> list[int]:
    """Return the number of the node that a box stands for, if it stands for one."""
    return [int(box.key[1:])] if box.role in (Role.OPERATION, Role.CUSTOM, Role.LEAF) else []


def _columns(picture: Picture, members: dict[str, list[int]]) -> Columns:
    """Lay a picture out, and return its boxes and arrows."""
    boxes, arrows = picture.boxes, picture.arrows
    lines = [[_cut(line) for line in _shown(box)] for box in boxes]
    nodes = [members.get(box.key) or _nodes(box) for box in boxes]
    position = {box.key: number for number, box in enumerate(boxes)}
    sources = [position[arrow.source] for arrow in arrows]
    targets = [position[arrow.target] for arrow in arrows]
    widths = np.array([max(map(len, texts)) * _CHAR + _ROOM for texts in lines])
    heights = np.array([len(texts) * _LINE + _ROOM / 2 for texts in lines])
    layout = _laid_out(widths, heights, sources, targets)
    columns = Columns(width=layout.width, height=layout.height)
    # Whole pixels take a third of the room.
    for name, numbers in zip("xywh", (layout.x, layout.y, widths, heights), strict=True):
        columns.numbers(name, np.rint(numbers), np.float32)
    verdicts = [UNJUDGED if b.verdict is None else VERDICTS.index(b.verdict) for b in boxes]
    columns.numbers("verdict", verdicts, np.uint8)
    columns.numbers("inherits", [box.inherits for box in boxes], np.uint8)
    columns.texts("role", (box.role.value for box in boxes))
    columns.texts("lines", ("\n".join(texts) for texts in lines))
    columns.texts("path", (".".join(box.path) for box in boxes))
    columns.texts("about", (_about(box) for box in boxes))
    columns.numbers("nodes_end", np.cumsum([len(own) for own in nodes]), np.uint32)
    columns.numbers("nodes", [number for own in nodes for number in own], np.uint32)
    columns.numbers("source", sources, np.uint32)
    columns.numbers("target", targets, np.uint32)
    columns.numbers("wrong", [arrow.wrong for arrow in arrows], np.uint8)
    columns.numbers("missing", [arrow.flow is Flow.MISSING for arrow in arrows], np.uint8)
    columns.numbers("norm", [max(a.norms, default=math.nan) for a in arrows], np.float32)
    columns.texts("label", (arrow.text for arrow in arrows))
    pieces = [piece for route in layout.routes for piece in route]
    points = np.concatenate([*pieces, np.zeros((0, 2))])
    columns.numbers("points", np.rint(points).ravel(), np.float32)
    columns.numbers("piece_end", np.cumsum([len(piece) for piece in pieces]), np.uint32)
    columns.numbers("route_end", np.cumsum([len(route) for route in layout.routes]), np.uint32)
    return columns


def _laid_out(
    widths: np.ndarray, heights: np.ndarray, sources: list[int], targets: list[int]
) -> Layout:
    """Lay boxes out, in so many columns that they are about as wide as high."""
    layout = lay_out(widths, heights, sources, targets)
    columns = round(math.sqrt(_SHAPE * layout.height / (layout.width + _BETWEEN_COLUMNS)))
    if columns < 2 or layout.height < _TALLEST * layout.width:
        return layout
    return lay_out(widths, heights, sources, targets, columns=columns)


def _shown(box: Box) -> list[str]:
    """Return the lines of a box: the panel has the others."""
    if box.role is Role.GROUP:
        return [box.title, *box.lines[:1], *([box.verdict_text] if box.verdict_text else [])]
    return [box.title, *box.lines[: 2 if box.role in (Role.MISSING, Role.LEAF) else 1]]


def _about(box: Box) -> str:
    """Return what the panel says of a box that is no node, and no group of nodes."""
    if box.role not in (Role.MISSING, Role.RESULT):
        return ""
    where = [relative(box.line)] if box.line else []
    return "\n".join((*box.lines, *where, box.note))


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
