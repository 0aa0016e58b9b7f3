"""Left-to-right order within the layers: sweeps by barycentre that keep the fewest crossings."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradwitness.report.picture.layout_layers import LayeredGraph

_ROUNDS = 12
# A round that brings nothing is often followed by one that does; four in a row never were.
_PATIENCE = 4


def order_rows(graph: LayeredGraph) -> list[list[int]]:
    """Order the points of every layer so that few arrows cross.

    Parameters
    ----------
    graph : LayeredGraph
        Its own rows are the first order tried, and are not changed.

    Returns
    -------
    list of list of int
        The points of each layer from left to right.
    """
    rows = [list(row) for row in graph.rows]
    places = [0] * len(graph.widths)
    for row in rows:
        _note_places(row, places)
    best = [list(row) for row in rows]
    fewest = _crossings(rows, graph.lower, places)
    idle = 0
    for round_number in range(_ROUNDS):
        if fewest == 0 or idle == _PATIENCE:
            break
        if round_number % 2 == 0:
            for row in rows[1:]:
                _sort_row(row, graph.upper, places)
        else:
            for row in reversed(rows[:-1]):
                _sort_row(row, graph.lower, places)
        _swap_neighbours(rows, graph, places)
        crossings = _crossings(rows, graph.lower, places)
        idle += 1
        if crossings < fewest:
            fewest, idle = crossings, 0
            best = [list(row) for row in rows]
    return best


def _note_places(row: list[int], places: list[int]) -> None:
    for place, point in enumerate(row):
        places[point] = place


def _sort_row(row: list[int], neighbours: list[list[tuple[int, int]]], places: list[int]) -> None:
    """Sort the points that have neighbours by their barycentre; the others keep their place."""
    keys = {
        point: sum(places[other] for other, _ in neighbours[point]) / len(neighbours[point])
        for point in row
        if neighbours[point]
    }
    movable = iter(sorted(keys, key=keys.__getitem__))
    row[:] = [next(movable) if point in keys else point for point in row]
    _note_places(row, places)


def _swap_neighbours(rows: list[list[int]], graph: LayeredGraph, places: list[int]) -> None:
    """Exchange points that stand side by side where that takes crossings away."""
    for row in rows:
        for left in range(len(row) - 1):
            a, b = row[left], row[left + 1]
            gain = 0
            for neighbours in (graph.upper, graph.lower):
                of_a = [places[other] for other, _ in neighbours[a]]
                of_b = [places[other] for other, _ in neighbours[b]]
                gain += _pairs_over(of_a, of_b) - _pairs_over(of_b, of_a)
            if gain > 0:
                row[left], row[left + 1] = b, a
                places[a], places[b] = left + 1, left


def _pairs_over(first: list[int], second: list[int]) -> int:
    """Count the pairs whose member of ``first`` stands right of that of ``second``."""
    if len(first) == 1 and len(second) == 1:
        return int(first[0] > second[0])
    second = sorted(second)
    return sum(bisect_right(second, place - 1) for place in first)


def _crossings(rows: list[list[int]], lower: list[list[tuple[int, int]]], places: list[int]) -> int:
    crossings = 0
    for row in rows[:-1]:
        seen: list[int] = []
        for point in row:
            ends = sorted(places[below] for below, _ in lower[point])
            # Ends of one point do not cross each other: count first, add afterwards.
            crossings += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return crossings
