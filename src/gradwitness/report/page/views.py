"""The graph as a page draws it: whole, and folded to several depths."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.judging.finding import Step
from gradwitness.report.page.columns import Columns
from gradwitness.report.page.steps import VERDICTS
from gradwitness.report.page.tree import Tree
from gradwitness.report.picture.fold import fold
from gradwitness.report.picture.graph import draw
from gradwitness.report.picture.groups import Group, grow
from gradwitness.report.picture.layout import lay_out
from gradwitness.report.picture.picture import Flow, Role
from gradwitness.report.tables.terminal import relative

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from gradwitness.judging.finding import Report
    from gradwitness.report.picture.layout import Layout
    from gradwitness.report.picture.picture import Arrow, Box, Picture
    from gradwitness.tape import Tape

# In pixels, with the script's font: a character, a line, the room around the text of a box.
_CHAR, _LINE, _ROOM = 6.7, 17.0, 24.0
_LONGEST = 44
UNJUDGED = len(VERDICTS)
# Folding deeper than this shows little that the whole does not.
_MOST_DEPTH = 5
# Nor does a folded graph of more boxes.
_MOST_FOLDED = 6000
# Width over height that a long drawing is broken into columns for, and the tallest that is not.
_SHAPE, _TALLEST = 1.25, 1.6
_BETWEEN_COLUMNS = 140.0


def views(tape: Tape, report: Report) -> tuple[list[Columns], Columns]:
    """Return the graph folded to each depth that differs from the others, and then whole.

    And what is in each group, drawn for itself: with it a page unfolds one box alone.
    """
    picture = draw(tape, report, title="")
    # What the nodes saved stands in the panel.
    picture = replace(
        picture,
        boxes=tuple(box for box in picture.boxes if box.role is not Role.SAVED),
        arrows=tuple(arrow for arrow in picture.arrows if arrow.flow is not Flow.SAVED),
    )
    root = grow(picture)
    tree = Tree(picture, root)
    steps = _steps_by_norm(report)
    made: list[Columns] = []
    last = 0
    for depth in range(_MOST_DEPTH):
        folded = fold(picture, root, set(_down_to(root, depth)))
        if last < len(folded.boxes) < min(len(picture.boxes), _MOST_FOLDED):
            made.append(_columns([folded], tree, steps))
        last = len(folded.boxes)
    return [*made, _columns([picture], tree, steps)], _columns(tree.insides(), tree, steps)


def _down_to(group: Group, depth: int) -> Iterator[Group]:
    yield group
    for member in group.members if depth else ():
        if isinstance(member, Group):
            yield from _down_to(member, depth - 1)


def _steps_by_norm(report: Report) -> dict[float, int]:
    """Return, for each norm that an arrow may have, the number of a step that has it."""
    steps: dict[float, int] = {}
    for number, finding in enumerate(report.findings):
        if finding.step is Step.BACKWARD:
            steps.setdefault(finding.comparison.norm, number)
    return steps


def _columns(drawings: list[Picture], tree: Tree, steps: dict[float, int]) -> Columns:
    """Lay pictures out, each for itself, and return their boxes and arrows."""
    boxes = [box for drawing in drawings for box in drawing.boxes]
    arrows = [arrow for drawing in drawings for arrow in drawing.arrows]
    lines = [[_cut(line) for line in _shown(box)] for box in boxes]
    nodes = [tree.nodes(box) for box in boxes]
    widths = np.array([max(map(len, texts)) * _CHAR + _ROOM for texts in lines])
    heights = np.array([len(texts) * _LINE + _ROOM / 2 for texts in lines])
    ends: list[tuple[int, int]] = []
    layouts = []
    first = 0
    for drawing in drawings:
        position = {box.key: number for number, box in enumerate(drawing.boxes)}
        own = [(position[arrow.source], position[arrow.target]) for arrow in drawing.arrows]
        here = slice(first, first + len(drawing.boxes))
        layouts.append(_laid_out(widths[here], heights[here], *_unzipped(own)))
        ends += [(first + source, first + target) for source, target in own]
        first = here.stop
    columns = Columns()
    columns.numbers("width", [layout.width for layout in layouts], np.float32)
    columns.numbers("height", [layout.height for layout in layouts], np.float32)
    columns.numbers("boxes_end", np.cumsum([len(d.boxes) for d in drawings]), np.uint32)
    columns.numbers("arrows_end", np.cumsum([len(d.arrows) for d in drawings]), np.uint32)
    # Whole pixels take a third of the room.
    corners = [np.concatenate([*(getattr(each, c) for each in layouts), []]) for c in "xy"]
    for name, numbers in zip("xywh", (*corners, widths, heights), strict=True):
        columns.numbers(name, np.rint(numbers), np.int32)
    verdicts = [UNJUDGED if b.verdict is None else VERDICTS.index(b.verdict) for b in boxes]
    columns.numbers("verdict", verdicts, np.uint8)
    columns.numbers("inherits", [box.inherits for box in boxes], np.uint8)
    columns.texts("role", (box.role.value for box in boxes))
    columns.texts("lines", ("\n".join(texts) for texts in lines))
    columns.texts("path", (".".join(box.path) for box in boxes))
    columns.texts("about", (_about(box) for box in boxes))
    columns.numbers("group", [tree.number(box) for box in boxes], np.int32)
    for name, places in zip(("begin", "end"), _unzipped(map(tree.stretch, boxes)), strict=True):
        columns.numbers(name, places, np.uint32)
    columns.numbers("nodes_end", np.cumsum([len(own) for own in nodes]), np.uint32)
    columns.numbers("nodes", [number for own in nodes for number in own], np.uint32)
    _arrow_columns(columns, arrows, ends, steps, [r for layout in layouts for r in layout.routes])
    return columns


def _arrow_columns(
    columns: Columns,
    arrows: list[Arrow],
    ends: list[tuple[int, int]],
    steps: dict[float, int],
    routes: list[tuple[NDArray[np.float64], ...]],
) -> None:
    for name, boxes in zip(("source", "target"), _unzipped(ends), strict=True):
        columns.numbers(name, boxes, np.uint32)
    columns.numbers("wrong", [arrow.wrong for arrow in arrows], np.uint8)
    columns.numbers("missing", [arrow.flow is Flow.MISSING for arrow in arrows], np.uint8)
    for name, end in (("low", min), ("high", max)):
        columns.numbers(name, [steps[end(a.norms)] if a.norms else -1 for a in arrows], np.int32)
    columns.texts("what", (" ".join(filter(None, (a.label, a.shape))) for a in arrows))
    pieces = [piece for route in routes for piece in route]
    points = np.concatenate([*pieces, np.zeros((0, 2))])
    columns.numbers("points", np.rint(points).ravel(), np.int32, apart=2)
    columns.numbers("piece_end", np.cumsum([len(piece) for piece in pieces]), np.uint32)
    columns.numbers("route_end", np.cumsum([len(route) for route in routes]), np.uint32)


def _unzipped(pairs: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    pairs = list(pairs)
    return [one for one, _ in pairs], [other for _, other in pairs]


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
