"""Long drawings broken into columns side by side."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING

from gradwitness.report.picture.layout_routes import TURN, Bands

if TYPE_CHECKING:
    from gradwitness.report.picture.layout_layers import LayeredGraph

GUTTER = 120.0
LANE = 16.0


def choose_breaks(
    bands: Bands, row_of: list[int], chains: list[list[int]], columns: int
) -> list[int]:
    """Choose the layers that begin a new column, where few arrows cross and columns are alike."""
    layers = len(bands.tops)
    if columns < 2 or layers < 2 * columns:
        return []
    crossing = [0] * (layers + 1)
    for chain in chains:
        if chain:
            crossing[row_of[chain[0]] + 1] += 1
            crossing[row_of[chain[-1]] + 1] -= 1
    for layer in range(layers):
        crossing[layer + 1] += crossing[layer]
    length = bands.bottoms[-1] / columns
    breaks: list[int] = []
    for column in range(1, columns):
        first = breaks[-1] + 1 if breaks else 1
        breaks.append(
            min(
                range(first, layers - (columns - column) + 1),
                key=lambda layer: (
                    abs(bands.tops[layer] / length - column) + 0.3 * crossing[layer],
                    layer,
                ),
            )
        )
    return breaks


def set_columns(
    graph: LayeredGraph, centres: list[float], bands: Bands, breaks: list[int]
) -> tuple[list[float], Bands, float, float]:
    """Move the layers into their columns: the new centres, bands, width and height."""
    right = max(c + w / 2 for c, w in zip(centres, graph.widths, strict=True))
    if not breaks:
        return centres, bands, right, bands.bottoms[-1]
    crossing = [0] * len(breaks)
    for chain in graph.chains:
        if chain:
            upper, lower = bands.row_of[chain[0]], bands.row_of[chain[-1]]
            for index in range(bisect_right(breaks, upper), bisect_right(breaks, lower)):
                crossing[index] += 1
    xs = list(centres)
    tops, bottoms = list(bands.tops), list(bands.bottoms)
    gutters: dict[int, float] = {}
    down = [0.0] * len(tops)
    edge = 0.0
    ends = [*breaks, len(tops)]
    for column, (start, stop) in enumerate(zip([0, *breaks], ends, strict=True)):
        points = [point for row in graph.rows[start:stop] for point in row]
        left = min(centres[point] - graph.widths[point] / 2 for point in points)
        right = max(centres[point] + graph.widths[point] / 2 for point in points)
        for point in points:
            xs[point] += edge - left
        for layer in range(start, stop):
            # Room for the arrows that turn down into the column.
            down[layer] = (TURN if column else 0.0) - bands.tops[start]
            tops[layer] += down[layer]
            bottoms[layer] += down[layer]
        edge += right - left
        if column < len(breaks):
            gutters[stop] = edge + GUTTER / 2
            edge += GUTTER + LANE * (crossing[column] - 1)
    moved = replace(
        bands,
        tops=tops,
        bottoms=bottoms,
        box_tops=[y + down[r] for y, r in zip(bands.box_tops, bands.row_of, strict=True)],
        box_bottoms=[y + down[r] for y, r in zip(bands.box_bottoms, bands.row_of, strict=True)],
        gutters=gutters,
    )
    return xs, moved, edge, max(bottoms[-1], *(bottoms[stop - 1] + TURN for stop in breaks))
