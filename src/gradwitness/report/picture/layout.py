"""Layered layout: the result at the top, arrows down, nothing overlapping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy

from gradwitness.report.picture.layout_breaks import choose_breaks, set_columns
from gradwitness.report.picture.layout_columns import BOX_GAP, place_points
from gradwitness.report.picture.layout_layers import (
    assign_layers,
    build_layered,
    choose_cuts,
    downward,
)
from gradwitness.report.picture.layout_order import order_rows
from gradwitness.report.picture.layout_routes import Bands, draw_routes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from gradwitness.report.picture.layout_layers import LayeredGraph

_ROW_GAP = 64.0
# Arrows that lead far to the side get more height; nearly level ones are hard to follow.
_GAP_PER_SHIFT = 0.05
# The labels of arrows that join the same two boxes are stacked.
_GAP_PER_PARALLEL = 16.0
_WIDEST_GAP = 150.0


@dataclass(frozen=True, eq=False)
class Layout:
    """Where everything goes; y grows downwards."""

    # Upper left corner of each box.
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    # The pieces of each arrow, from its source to its target. A piece holds `3 k + 1` control
    # points of `k` joined cubic curves. A whole arrow has one piece; a cut one has two stubs, one
    # that leaves the source and one that enters the target.
    routes: tuple[tuple[NDArray[np.float64], ...], ...]
    cut: NDArray[np.bool_]  # which arrows are cut
    # Extent of boxes and arrows, from the origin.
    width: float
    height: float


def lay_out(
    widths: ArrayLike,
    heights: ArrayLike,
    sources: Sequence[int],
    targets: Sequence[int],
    *,
    lengths: Sequence[float] | None = None,
    rightward: bool = False,
    columns: int = 1,
) -> Layout:
    """Place boxes of these sizes on layers and route the arrows between them.

    Every box stands right under the lowest box that points at it. Arrows that cross a layer run
    through their own lanes between its boxes. If there would be far more lanes than boxes, the
    longest arrows are cut into stubs, and so are those to a box that very many point at, such as a
    parameter that all steps of a loop share. Unconnected parts are laid out separately, side by
    side. The same input gives the same layout.

    ``lengths`` are the least distances between layers that each arrow needs for its label. With
    ``rightward`` the layers are columns, and the arrows lead to the right. ``columns`` breaks a
    long drawing into so many, side by side, as in a newspaper; arrows over a break run up between.

    Several arrows may join the same two boxes. A cycle is broken by letting one of its arrows point
    up. Raises ValueError if an arrow joins a box to itself.
    """
    if rightward:
        down = lay_out(heights, widths, sources, targets, lengths=lengths, columns=columns)
        routes = tuple(tuple(piece[:, ::-1] for piece in pieces) for pieces in down.routes)
        return Layout(down.y, down.x, routes, down.cut, down.height, down.width)
    sizes = np.column_stack([np.asarray(widths, float), np.asarray(heights, float)])
    lengths = lengths or [0.0] * len(sources)
    count = len(sizes)
    if any(source == target for source, target in zip(sources, targets, strict=True)):
        raise ValueError("an arrow joins a box to itself, which the layout does not support")
    order, turned = downward(count, list(sources), list(targets))
    ends = [(t, s) if turn else (s, t) for s, t, turn in zip(sources, targets, turned, strict=True)]
    layers = assign_layers(order, ends)
    cuts = choose_cuts(layers, ends)
    parts = [
        _lay_out_part(boxes, arrows, sizes, layers, ends, cuts, lengths, columns)
        for boxes, arrows in _connected_parts(count, ends)
    ]
    return _pack(parts, sizes, turned, cuts)


@dataclass(frozen=True, eq=False)
class _Part:
    """Layout of one connected part, in its own coordinates."""

    boxes: list[int]
    arrows: list[int]
    corners: NDArray[np.float64]
    routes: list[tuple[NDArray[np.float64], ...]]
    width: float
    height: float


def _connected_parts(count: int, ends: list[tuple[int, int]]) -> list[tuple[list[int], list[int]]]:
    """Return boxes and arrows of each connected part, in the order of their first boxes."""
    pairs = np.array(ends, dtype=np.int64).reshape(-1, 2)
    links = scipy.sparse.coo_array(
        (np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count)
    )
    parts_of = (
        scipy.sparse.csgraph.connected_components(links, directed=False)[1].tolist()
        if count
        else []
    )
    parts: dict[int, tuple[list[int], list[int]]] = {}
    for box, part in enumerate(parts_of):
        parts.setdefault(part, ([], []))[0].append(box)
    for arrow, (upper, _) in enumerate(ends):
        parts[parts_of[upper]][1].append(arrow)
    return list(parts.values())


def _lay_out_part(
    boxes: list[int],
    arrows: list[int],
    sizes: NDArray[np.float64],
    layers: list[int],
    ends: list[tuple[int, int]],
    cuts: list[bool],
    lengths: Sequence[float],
    columns: int,
) -> _Part:
    local = {box: index for index, box in enumerate(boxes)}
    top = min(layers[box] for box in boxes)
    local_ends = [(local[ends[arrow][0]], local[ends[arrow][1]]) for arrow in arrows]
    row_of = [layers[box] - top for box in boxes]
    graph = build_layered(
        sizes[boxes, 0].tolist(),
        row_of,
        local_ends,
        [cuts[arrow] for arrow in arrows],
    )
    centres = place_points(graph, order_rows(graph))
    rooms = [0.0] * len(graph.rows)
    for (upper, lower), arrow in zip(local_ends, arrows, strict=True):
        # A label stands in front of the box that its arrow leads to, of a cut arrow at both ends.
        for row in (row_of[lower] - 1, row_of[upper])[: 1 + cuts[arrow]]:
            rooms[row] = max(rooms[row], lengths[arrow])
    bands = _stack_rows(graph, centres, row_of, sizes[boxes, 1].tolist(), rooms)
    breaks = choose_breaks(bands, row_of, graph.chains, columns)
    xs, bands, width, height = set_columns(graph, centres, bands, breaks)
    corners = np.column_stack([np.array(xs[: len(boxes)]) - sizes[boxes, 0] / 2, bands.box_tops])
    return _Part(
        boxes=boxes,
        arrows=arrows,
        corners=corners,
        routes=draw_routes(local_ends, graph.chains, centres, xs, graph.widths, bands),
        width=width,
        height=height,
    )


def _stack_rows(
    graph: LayeredGraph,
    centres: list[float],
    row_of: list[int],
    heights: list[float],
    rooms: list[float],
) -> Bands:
    """Give every layer the height of its tallest box, with room for arrows in between."""
    row_heights = [0.0] * len(graph.rows)
    for row, height in zip(row_of, heights, strict=True):
        row_heights[row] = max(row_heights[row], height)
    tops, bottoms = [], []
    edge = 0.0
    for points, row_height, room in zip(graph.rows, row_heights, rooms, strict=True):
        tops.append(edge)
        bottoms.append(edge + row_height)
        edge += row_height + max(_gap_below(points, graph, centres), room)
    box_tops = [
        tops[row] + (row_heights[row] - height) / 2
        for row, height in zip(row_of, heights, strict=True)
    ]
    return Bands(
        row_of=row_of,
        tops=tops,
        bottoms=bottoms,
        box_tops=box_tops,
        box_bottoms=[top + height for top, height in zip(box_tops, heights, strict=True)],
    )


def _gap_below(points: list[int], graph: LayeredGraph, centres: list[float]) -> float:
    """Return the height below a layer that keeps the arrows and their labels apart."""
    shift = parallels = 0.0
    for point in points:
        below = [other for other, _ in graph.lower[point]]
        for other in below:
            shift = max(shift, abs(centres[point] - centres[other]))
        parallels = max(parallels, len(below) - len(set(below)))
    return min(_ROW_GAP + _GAP_PER_SHIFT * shift + _GAP_PER_PARALLEL * parallels, _WIDEST_GAP)


def _pack(
    parts: list[_Part], sizes: NDArray[np.float64], turned: list[bool], cuts: list[bool]
) -> Layout:
    """Pack the parts side by side on shelves, into a roughly square area."""
    area = sum((part.width + BOX_GAP) * (part.height + BOX_GAP) for part in parts)
    limit = max([part.width for part in parts] + [math.sqrt(2 * area)])
    corners = np.zeros((len(sizes), 2))
    routes: list[tuple[NDArray[np.float64], ...]] = [()] * len(cuts)
    width = left = shelf = depth = 0.0
    for part in parts:
        if left > 0 and left + part.width > limit:
            left, shelf = 0.0, depth + BOX_GAP
        corner = np.array([left, shelf])
        corners[part.boxes] = part.corners + corner
        for arrow, pieces in zip(part.arrows, part.routes, strict=True):
            moved = tuple(piece + corner for piece in pieces) if corner.any() else pieces
            routes[arrow] = tuple(p[::-1] for p in moved[::-1]) if turned[arrow] else moved
        width = max(width, left + part.width)
        depth = max(depth, shelf + part.height)
        left += part.width + BOX_GAP
    return Layout(
        x=corners[:, 0],
        y=corners[:, 1],
        routes=tuple(routes),
        cut=np.array(cuts, dtype=np.bool_),
        width=width,
        height=depth,
    )
