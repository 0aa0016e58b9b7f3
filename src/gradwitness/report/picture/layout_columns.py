"""Horizontal positions of the points of each layer, once their order is fixed."""

from __future__ import annotations

import math
from heapq import heappop, heappush, heapreplace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradwitness.report.picture.layout_layers import LayeredGraph

BOX_GAP = 40.0
LANE_TO_BOX = 24.0
LANE_GAP = 16.0
_ROUNDS = 4


def place_points(graph: LayeredGraph, rows: list[list[int]]) -> list[float]:
    """Choose the centres that leave the arrows as straight as the order of the rows allows.

    Sweeps down and up: each layer in turn takes the positions with the least weighted sum of
    horizontal distances to the neighbours, under the minimal separations. Unlike a sum of squares,
    that sum is least where most arrows are exactly straight. The leftmost edge of all is at 0.
    """
    centres = [0.0] * len(graph.widths)
    offsets = [_offsets(graph, row) for row in rows]
    for row, offset in zip(rows, offsets, strict=True):
        for point, x in zip(row, offset, strict=True):
            centres[point] = x - offset[-1] / 2
    down = list(zip(rows, offsets, strict=True))
    up = down[::-1]
    best, least = centres, math.inf
    # One-sided sweeps can drive side branches far out, layer by layer: keep the best.
    for _ in range(_ROUNDS):
        before = least
        for sweep, side in ((down[1:], graph.upper), (up[1:], graph.lower)):
            for row, offset in sweep:
                _settle(row, offset, (side,), centres)
            cost = _cost(graph, centres)
            if cost < least:
                best, least = list(centres), cost
        if least == before:
            break
    # From there, two-sided sweeps can only improve it.
    for row, offset in down + up:
        _settle(row, offset, (graph.upper, graph.lower), best)
    left = min(centre - width / 2 for centre, width in zip(best, graph.widths, strict=True))
    return [centre - left for centre in best]


def _cost(graph: LayeredGraph, centres: list[float]) -> float:
    """Return the weighted sum of the horizontal distances of all arrows."""
    return sum(
        pull * abs(centres[other] - centre)
        for centre, below in zip(centres, graph.lower, strict=True)
        for other, pull in below
    )


def _offsets(graph: LayeredGraph, row: list[int]) -> list[float]:
    """Return the centres of a row packed as tightly as allowed, the first at 0."""
    offsets = [0.0]
    for a, b in pairwise(row):
        boxes = (a < graph.boxes) + (b < graph.boxes)
        gap = (LANE_GAP, LANE_TO_BOX, BOX_GAP)[boxes]
        offsets.append(offsets[-1] + (graph.widths[a] + graph.widths[b]) / 2 + gap)
    return offsets


def _settle(
    row: list[int],
    offsets: list[float],
    sides: tuple[list[list[tuple[int, int]]], ...],
    centres: list[float],
) -> None:
    """Move one row to its best positions."""
    if len(row) == 1:
        # Most rows of a long chain: straight below and above the neighbours.
        above = {centres[other] for side in sides for other, _ in side[row[0]]}
        if len(above) <= 1:
            centres[row[0]] = next(iter(above), centres[row[0]])
            return
    wishes = []
    for point, offset in zip(row, offsets, strict=True):
        wish = [(centres[other] - offset, pull) for side in sides for other, pull in side[point]]
        # A point that nothing pulls stays where it is unless it is pushed.
        wishes.append(wish or [(centres[point] - offset, 1)])
    for point, offset, x in zip(row, offsets, nearest_rising(wishes), strict=True):
        centres[point] = x + offset


def nearest_rising(wishes: list[list[tuple[float, int]]]) -> list[float]:
    """Find the non-decreasing sequence that is nearest to weighted wishes.

    Minimises ``sum(weight * |y[i] - value|)`` over all wishes ``(value, weight)`` of all ``i``, at
    least one for each and weights positive, by the slope trick: the cost so far, as a function of
    the last element, is convex and piecewise linear, and a heap keeps the points where its slope
    changes. Where a whole interval is equally good, its middle is taken.
    """
    bends: list[tuple[float, int]] = []
    bests = []
    for wish in wishes:
        rising = 0
        for value, weight in wish:
            heappush(bends, (-value, 2 * weight))
            rising += weight
        # Cut off the part with rising slope: the next element may always be larger.
        while rising >= bends[0][1]:
            value, weight = heappop(bends)
            rising -= weight
            best = -value if rising else -(value + bends[0][0]) / 2
        if rising:
            value, weight = bends[0]
            heapreplace(bends, (value, weight - rising))
            best = -value
        bests.append(best)
    for i in range(len(bests) - 2, -1, -1):
        bests[i] = min(bests[i], bests[i + 1])
    return bests
