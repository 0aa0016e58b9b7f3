"""Positions of arrow labels that cover neither boxes nor each other, nor arrows if they can."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from gradwitness.report.picture.looks import GRADIENT
from gradwitness.report.picture.picture import Role
from gradwitness.report.picture.svg_shapes import LABEL_SIZE, Label, ink_of_arrow, text_width
from gradwitness.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from gradwitness.report.picture.layout import Layout
    from gradwitness.report.picture.picture import Picture

_CELL = 200.0
_HALF_HEIGHT = 7.0
LABEL_PITCH = 2 * _HALF_HEIGHT
# Along a curve: its middle first, then alternately towards its two ends.
_TRIES = (0.5, 0.6, 0.4, 0.7, 0.3, 0.8, 0.2, 0.87, 0.13)
_MOST_NAMED = 4
# Beyond so many arrows there are too many to keep clear of; into so many pieces each curve is cut.
_MOST_AVOIDED, _PIECES = 400, 8


class _Ground:
    """The occupied rectangles, looked up by coarse cells."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], list[tuple[float, float, float, float, int]]] = {}

    def occupy(self, left: float, top: float, right: float, bottom: float, owner: int = -1) -> None:
        for cell in self._cells_of(left, top, right, bottom):
            self._cells.setdefault(cell, []).append((left, top, right, bottom, owner))

    def is_free(self, left: float, top: float, right: float, bottom: float, but: int = -2) -> bool:
        """Whether nothing is there but what belongs to one owner."""
        return not any(
            left < other[2]
            and other[0] < right
            and top < other[3]
            and other[1] < bottom
            and other[4] != but
            for cell in self._cells_of(left, top, right, bottom)
            for other in self._cells.get(cell, ())
        )

    @staticmethod
    def _cells_of(
        left: float, top: float, right: float, bottom: float
    ) -> Iterator[tuple[int, int]]:
        for column in range(int(left // _CELL), int(right // _CELL) + 1):
            for row in range(int(top // _CELL), int(bottom // _CELL) + 1):
                yield column, row


def place_labels(
    picture: Picture, layout: Layout, numbers: dict[str, int], sizes: NDArray[np.float64]
) -> list[Label]:
    """Place the label of every arrow and the names at every stub.

    ``numbers`` has the position of each key in ``picture.boxes``, ``sizes`` each box's width and
    height.
    """
    ground = _Ground()
    for x, y, (width, height) in zip(layout.x, layout.y, sizes, strict=True):
        ground.occupy(x, y, x + width, y + height)
    lines = _Ground()
    for number, pieces in enumerate(layout.routes if len(layout.routes) <= _MOST_AVOIDED else ()):
        for piece in pieces:
            for (x0, y0), (x1, y1) in pairwise(_points(piece)):
                lines.occupy(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1), number)
    labels = []
    for texts, spots in _stub_names(picture, layout, numbers):
        labels.append(_settle(ground, lines, texts, spots, GRADIENT))
    routes = zip(picture.arrows, layout.routes, layout.cut, strict=True)
    for number, (arrow, pieces, is_cut) in enumerate(routes):
        if arrow.text and not is_cut:
            text = clean(arrow.text).replace("\n", " ")
            width = text_width(text, LABEL_SIZE)
            spots = [(x - width / 2, y) for x, y in _along(pieces[0])]
            labels.append(_settle(ground, lines, text, spots, ink_of_arrow(arrow), number))
    return labels


def widest_name(picture: Picture, layout: Layout, numbers: dict[str, int]) -> float:
    """Return the width of the widest name at a stub."""
    names = _stub_names(picture, layout, numbers)
    return max(text_width(text, LABEL_SIZE) for text, _ in names)


def _settle(
    ground: _Ground,
    lines: _Ground,
    text: str,
    spots: list[tuple[float, float]],
    ink: str,
    own: int = -2,
) -> Label:
    """Take the first free spot that no other arrow runs through, the first free, or the first."""
    labels = [Label(x, y, text, ink) for x, y in spots]
    rooms = [
        (label.left - 3, label.y - _HALF_HEIGHT, label.right + 3, label.y + _HALF_HEIGHT)
        for label in labels
    ]
    free = [spot for spot, room in enumerate(rooms) if ground.is_free(*room)]
    clear = [spot for spot in free if lines.is_free(*rooms[spot], own)]
    chosen = [*clear, *free, 0][0]
    ground.occupy(*rooms[chosen])
    return labels[chosen]


def _along(points: NDArray[np.float64]) -> Iterator[tuple[float, float]]:
    """Yield points of a route, from its last curve to its first."""
    for start in range(len(points) - 4, -1, -3):
        p0, p1, p2, p3 = points[start : start + 4]
        if max(abs(p3 - p0)) < 4 * _HALF_HEIGHT:
            continue
        for t in _TRIES:
            yield _at(t, p0, p1, p2, p3)


def _points(points: NDArray[np.float64]) -> Iterator[tuple[float, float]]:
    """Yield points of a route, from its begin to its end, near to each other where it bends."""
    for start in range(0, len(points) - 1, 3):
        for step in range(_PIECES + 1):
            yield _at(step / _PIECES, *points[start : start + 4])


def _at(t: float, *controls: NDArray[np.float64]) -> tuple[float, float]:
    """Return a point of a cubic curve."""
    p0, p1, p2, p3 = controls
    s = 1 - t
    x, y = s**3 * p0 + 3 * s * s * t * p1 + 3 * s * t * t * p2 + t**3 * p3
    return float(x), float(y)


def _stub_names(
    picture: Picture, layout: Layout, numbers: dict[str, int]
) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Yield the names at the ends of cut arrows; boxes where these arrive are numbered."""
    leaving: dict[int, list[int]] = {}
    entering: dict[int, list[int]] = {}
    texts: dict[int, list[str]] = {}
    ends: dict[tuple[bool, int], tuple[float, float]] = {}
    for number, arrow in enumerate(picture.arrows):
        if layout.cut[number]:
            source, target = numbers[arrow.source], numbers[arrow.target]
            leaving.setdefault(source, []).append(target)
            texts.setdefault(source, []).append(clean(arrow.text).replace("\n", " "))
            entering.setdefault(target, []).append(source)
            leave, enter = layout.routes[number]
            ends[False, source] = (float(leave[-1, 0]), float(leave[-1, 1]))
            ends[True, target] = (float(enter[0, 0]), float(enter[0, 1]))
    portals = {target: portal for portal, target in enumerate(entering, 1)}
    titles = [
        clean((box.role is Role.LEAF and box.short.partition(" ")[0]) or box.title).replace(
            "\n", " "
        )
        for box in picture.boxes
    ]
    for source, others in leaving.items():
        targets = list(dict.fromkeys(others))
        text = f"{texts[source][0]} " if len(others) == 1 else ""
        text += "to " + " ".join(f"({portals[target]})" for target in targets[:_MOST_NAMED])
        if len(targets) == 1:
            text += f" {titles[targets[0]]}"
        elif len(targets) > _MOST_NAMED:
            text += f" and {len(targets) - _MOST_NAMED} more"
        text = text.strip()
        yield text, _beside(ends[False, source], text, -1)
    for target, others in entering.items():
        sources = list(dict.fromkeys(others))
        origin = titles[sources[0]] if len(sources) == 1 else f"{len(sources)} boxes"
        text = f"({portals[target]}) from {origin}"
        yield text, _beside(ends[True, target], text, 1)


def _beside(end: tuple[float, float], text: str, toward: int) -> list[tuple[float, float]]:
    """Return spots beside the end of a stub, and then on towards its box."""
    x, y = end
    lefts = (x + 5, x - 5 - text_width(text, LABEL_SIZE))
    return [(left, y + toward * further) for further in (0, 6, 12, 18) for left in lefts]
