"""Long drawings in columns, as a newspaper sets long texts: a chain of layers fits a screen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradwitness.report.picture.layout import Layout

# The shape that is aimed at, width over height, and the tallest that is left as it is.
_SHAPE, _TALLEST = 1.25, 1.6
# Between columns there is room for the arrows that go on at the top of the next one.
_GAP, _LANE = 110.0, 7.0
_MOST_LANES = 40
_TURN = 42.0
# How far from its ideal place a column may end, as a share of its height.
_SLACK = 0.3


@dataclass(frozen=True, eq=False)
class Drawing:
    """Corners of boxes, the pieces of each arrow, and the extent of all."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    routes: Sequence[Sequence[NDArray[np.float64]]]
    width: float
    height: float


def wrapped(layout: Layout, heights: NDArray[np.float64]) -> Drawing:
    """Return a layout in so many columns that it is about as wide as high, if it is tall.

    It is cut only between layers, where few arrows cross; those are led to the top of the next
    column.
    """
    columns = round(math.sqrt(_SHAPE * layout.height / max(layout.width + _GAP, 1.0)))
    cuts: list[float] = []
    if layout.height > _TALLEST * layout.width and columns > 1:
        cuts = _cuts(layout, heights, columns)
    if not cuts:
        return Drawing(layout.x, layout.y, layout.routes, layout.width, layout.height)
    return _Columns(layout, heights, cuts).drawing()


def _cuts(layout: Layout, heights: NDArray[np.float64], columns: int) -> list[float]:
    """Return where columns end: of the gaps between layers near each ideal place, the emptiest."""
    order = np.argsort(layout.y, kind="stable")
    bottoms = np.maximum.accumulate((layout.y + heights)[order])
    tops = layout.y[order][1:]
    is_gap = tops > bottoms[:-1]
    gaps = (tops[is_gap] + bottoms[:-1][is_gap]) / 2
    crossings = _crossings(layout, gaps)
    ideal = layout.height / columns
    cuts: list[float] = []
    for number in range(1, columns):
        near = np.abs(gaps - number * ideal) <= _SLACK * ideal
        near &= gaps > (cuts[-1] if cuts else 0.0)
        if near.any():
            cost = crossings[near] + np.abs(gaps[near] - number * ideal) / ideal
            cuts.append(float(gaps[near][np.argmin(cost)]))
    return cuts


def _crossings(layout: Layout, ordinates: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many whole arrows cross each ordinate."""
    ends = np.array([(r[0][0, 1], r[0][-1, 1]) for r in layout.routes if len(r) == 1])
    lows, highs = np.sort(ends.reshape(-1, 2), axis=1).T
    begun, ended = (np.searchsorted(np.sort(side), ordinates) for side in (lows, highs))
    return begun - ended


class _Columns:
    def __init__(self, layout: Layout, heights: NDArray[np.float64], cuts: list[float]) -> None:
        self._layout = layout
        self._starts = np.array([0.0, *cuts])
        self._heights = heights
        self._cuts = cuts
        self._lanes = [0] * len(cuts)
        most = int(_crossings(layout, self._starts[1:]).max())
        self._step = layout.width + _GAP + _LANE * min(most, _MOST_LANES)

    def drawing(self) -> Drawing:
        layout = self._layout
        column = np.searchsorted(self._cuts, layout.y)
        routes = [self._route(pieces) for pieces in layout.routes]
        ends = np.array([*self._cuts, layout.height]) - self._starts
        return Drawing(
            layout.x + column * self._step,
            layout.y - self._starts[column] + _TURN,
            routes,
            layout.width + len(self._cuts) * self._step,
            float(ends.max()) + 2 * _TURN,
        )

    def _route(self, pieces: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        if len(pieces) > 1:
            # A stub goes with the box that it belongs to.
            tops = [pieces[0][0, 1], *(piece[-1, 1] for piece in pieces[1:])]
            return [self._moved(p, self._column(y)) for p, y in zip(pieces, tops, strict=True)]
        (points,) = pieces
        if points[0, 1] > points[-1, 1]:
            return [self._led(points[::-1])[::-1]]
        return [self._led(points)]

    def _column(self, y: float) -> int:
        return int(np.searchsorted(self._cuts, y))

    def _moved(self, points: NDArray[np.float64], column: int) -> NDArray[np.float64]:
        shift = np.array((column * self._step, _TURN - self._starts[column]))
        moved: NDArray[np.float64] = points + shift
        return moved

    def _led(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a route from its upper to its lower end, through the lanes between columns."""
        first, last = self._column(points[0, 1]), self._column(points[-1, 1])
        led: list[NDArray[np.float64]] = []
        rest = points
        for column in range(first, last):
            upper, rest = _split(rest, self._cuts[column])
            leaving = self._moved(upper, column)
            entering = self._moved(rest[:1], column + 1)[0]
            led += [
                leaving if not led else leaving[1:],
                self._around(leaving[-1], entering, column),
            ]
        lower = self._moved(rest, last)
        return np.concatenate([*led, lower if not led else lower[1:]])

    def _around(
        self, leaving: NDArray[np.float64], entering: NDArray[np.float64], column: int
    ) -> NDArray[np.float64]:
        """Return the curves from the foot of a column to the head of the next, but their start."""
        lane_nr = self._lanes[column] % _MOST_LANES
        self._lanes[column] += 1
        lane = self._layout.width + column * self._step + 0.7 * _GAP + _LANE * lane_nr
        (x0, y0), (x1, y1) = leaving, entering
        foot, head = y0 + _TURN, y1 - _TURN
        return np.array(
            [
                (x0, foot), (lane, foot), (lane, y0),
                (lane, (2 * y0 + y1) / 3), (lane, (y0 + 2 * y1) / 3), (lane, y1),
                (lane, head), (x1, head), (x1, y1),
            ]
        )  # fmt: skip


def _split(
    points: NDArray[np.float64], y: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split joined cubic curves that run downwards where they pass an ordinate."""
    curve = 3 * min(int(np.searchsorted(points[::3, 1], y, side="right")) - 1, len(points) // 3 - 1)
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        upper, lower = _halves(points[curve : curve + 4], middle)
        low, high = (middle, high) if upper[-1, 1] < y else (low, middle)
    return (
        np.concatenate([points[: curve + 1], upper[1:]]),
        np.concatenate([lower, points[curve + 4 :]]),
    )


def _halves(p: NDArray[np.float64], t: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split one cubic curve at a parameter, by de Casteljau's construction."""
    a = p[:-1] + t * np.diff(p, axis=0)
    b = a[:-1] + t * np.diff(a, axis=0)
    c = b[0] + t * (b[1] - b[0])
    return np.array([p[0], a[0], b[0], c]), np.array([c, b[1], a[2], p[3]])
