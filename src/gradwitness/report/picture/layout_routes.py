"""Curves of arrows: out of a box, through the lanes between boxes, into a box."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PORT_GAP = 26.0
_LEAST_PORT_GAP = 10.0
# Arrows leave and enter within this share of the width, clear of rounded, slanted and cut corners.
_PORT_SHARE = 0.6
STUB = 30.0
# How far an arrow that goes on in the next column turns out below the one and above the other.
TURN = 56.0
_LANE = 16.0


@dataclass(frozen=True)
class Bands:
    """Upper and lower edge of each layer, and of each box."""

    row_of: list[int]  # layer of each box
    tops: list[float]  # of the layers
    bottoms: list[float]
    box_tops: list[float]
    box_bottoms: list[float]
    # By the layer that begins a column: where the first arrow runs up to it.
    gutters: dict[int, float] = field(default_factory=dict)


def draw_routes(
    ends: list[tuple[int, int]],
    chains: list[list[int]],
    centres: list[float],
    xs: list[float],
    widths: list[float],
    bands: Bands,
) -> list[tuple[NDArray[np.float64], ...]]:
    """Draw every arrow from its upper to its lower box, through the points of its chain.

    An arrow has one piece, or two stubs if it is cut: then its chain is empty. The ``3 k + 1``
    points of a piece control ``k`` joined cubic curves. The points are at ``xs``, and were at
    ``centres`` before the drawing was broken into columns.
    """
    leave, enter = _ports(ends, chains, centres, widths)
    lanes = _lanes(ends, chains, centres, bands)
    routes: list[tuple[NDArray[np.float64], ...]] = []
    stubs: dict[tuple[int, bool], NDArray[np.float64]] = {}
    for arrow, (upper, lower) in enumerate(ends):
        start = (leave[arrow] + xs[upper] - centres[upper], bands.box_bottoms[upper])
        stop = (enter[arrow] + xs[lower] - centres[lower], bands.box_tops[lower])
        if not chains[arrow]:
            # The stubs of a box coincide.
            if (upper, False) not in stubs:
                down = bands.bottoms[bands.row_of[upper]] + STUB
                stubs[upper, False] = _curve([start, (start[0], down)])
            if (lower, True) not in stubs:
                up = bands.tops[bands.row_of[lower]] - STUB
                stubs[lower, True] = _curve([(stop[0], up), stop])
            routes.append((stubs[upper, False], stubs[lower, True]))
            continue
        knots = [start]
        turns: list[float] = []
        for layer, point in enumerate(chains[arrow][1:], bands.row_of[upper] + 1):
            x = stop[0] if point == lower else xs[point]
            knots.append((knots[-1][0], bands.bottoms[layer - 1]))
            if layer in bands.gutters:
                lane, of = lanes[layer, arrow]
                gutter = bands.gutters[layer] + _LANE * lane
                knots.append((gutter, bands.bottoms[layer - 1]))
                knots.append((gutter, bands.tops[layer]))
                turns += [TURN * (lane + 1) / of, -TURN * (of - lane) / of]
            knots.append((x, bands.tops[layer]))
        knots.append(stop)
        routes.append((_curve(knots, turns),))
    return routes


def _lanes(
    ends: list[tuple[int, int]], chains: list[list[int]], centres: list[float], bands: Bands
) -> dict[tuple[int, int], tuple[int, int]]:
    """Give each arrow that runs up between two columns a lane, so that none cross there.

    The result has, for each layer that begins a column, and arrow, the lane, and of how many.
    """
    lanes: dict[tuple[int, int], tuple[int, int]] = {}
    for layer in bands.gutters:
        over = []
        for arrow, (upper, lower) in enumerate(ends):
            if chains[arrow] and bands.row_of[upper] < layer <= bands.row_of[lower]:
                place = layer - bands.row_of[upper]
                over.append(
                    (centres[chains[arrow][place - 1]], centres[chains[arrow][place]], arrow)
                )
        # The leftmost turns around all others.
        for lane, (*_, arrow) in enumerate(sorted(over, reverse=True)):
            lanes[layer, arrow] = (lane, len(over))
    return lanes


def _ports(
    ends: list[tuple[int, int]],
    chains: list[list[int]],
    centres: list[float],
    widths: list[float],
) -> tuple[list[float], list[float]]:
    """Spread the arrows along the lower and the upper edge of their boxes."""
    below: dict[int, list[tuple[float, int]]] = {}
    above: dict[int, list[tuple[float, int]]] = {}
    for arrow, (upper, lower) in enumerate(ends):
        chain = chains[arrow]
        # All stubs of a box share a port to the right of the other arrows, where their label is.
        below.setdefault(upper, []).append((centres[chain[1]] if chain else np.inf, arrow))
        above.setdefault(lower, []).append((centres[chain[-2]] if chain else np.inf, arrow))
    leave = [0.0] * len(ends)
    enter = [0.0] * len(ends)
    for side, ports in ((below, leave), (above, enter)):
        for box, arrows in side.items():
            for arrow, x in _fan(sorted(arrows), centres[box], widths[box]).items():
                ports[arrow] = x
    return leave, enter


def _fan(arrows: list[tuple[float, int]], centre: float, width: float) -> dict[int, float]:
    """Return positions of sorted arrows on an edge; a straight one gets the middle."""
    if len(arrows) == 1:
        return {arrows[0][1]: centre}
    slots = [[arrow] for toward, arrow in arrows if toward < np.inf]
    straight = [
        position
        for position, (toward, _) in enumerate(arrows)
        if abs(toward - centre) < PORT_GAP / 2
    ]
    stubs = [arrow for toward, arrow in arrows if toward == np.inf]
    if stubs:
        slots.append(stubs)
    last = len(slots) - 1
    middle = sum(straight) / len(straight) if straight else last / 2
    room = _PORT_SHARE / 2 * width
    if max(middle, last - middle) * _LEAST_PORT_GAP > room:
        # So many that the heads would touch: use the whole width.
        middle = last / 2
    gap = min(PORT_GAP, room / max(middle, last - middle, 1.0))
    return {
        arrow: centre + (position - middle) * gap
        for position, arrows_there in enumerate(slots)
        for arrow in arrows_there
    }


def _curve(knots: list[tuple[float, float]], turns: Sequence[float] = ()) -> NDArray[np.float64]:
    """Join the knots by cubic curves that are vertical at every knot.

    Between two knots of the same height it turns back, by as much as ``turns`` says in their order:
    out below one column, or over the top of the next.
    """
    kept = knots[:1]
    for before, knot in pairwise(knots):
        if knot == before:
            continue
        # A straight run down becomes one piece, however many layers it crosses.
        if len(kept) > 1 and kept[-2][0] == kept[-1][0] == knot[0]:
            kept[-1] = knot
        else:
            kept.append(knot)
    points = [kept[0]]
    deep = iter(turns)
    for (x0, y0), (x1, y1) in pairwise(kept):
        half = (y0 + y1) / 2 if y0 != y1 else y0 + next(deep)
        points += [(x0, half), (x1, half), (x1, y1)]
    return np.array(points)
