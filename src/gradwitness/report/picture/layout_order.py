"""Left-to-right order within the layers: barycentre sweeps, keeping the fewest crossings."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradwitness.report.picture.layout_layers import LayeredGraph

_ROUNDS = 12
# A round without improvement is often followed by one with; four in a row never were.
_PATIENCE = 4


def order_rows(graph: LayeredGraph) -> list[list[int]]:
    """Order the points of every layer so that few arrows cross, starting with the graph's."""
    rows = [list(row) for row in graph.rows]
    positions = [0] * len(graph.widths)
    for row in rows:
        _note_positions(row, positions)
    best = [list(row) for row in rows]
    fewest = _crossings(rows, graph.lower, positions)
    idle = 0
    for round_number in range(_ROUNDS):
        if fewest == 0 or idle == _PATIENCE:
            break
        if round_number % 2 == 0:
            for row in rows[1:]:
                _sort_row(row, graph.upper, positions)
        else:
            for row in reversed(rows[:-1]):
                _sort_row(row, graph.lower, positions)
        _swap_neighbours(rows, graph, positions)
        crossings = _crossings(rows, graph.lower, positions)
        idle += 1
        if crossings < fewest:
            fewest, idle = crossings, 0
            best = [list(row) for row in rows]
    return best


def _note_positions(row: list[int], positions: list[int]) -> None:
    for index, point in enumerate(row):
        positions[point] = index


def _sort_row(
    row: list[int], neighbours: list[list[tuple[int, int]]], positions: list[int]
) -> None:
    """Sort the points that have neighbours by barycentre; the others stay in place."""
    keys = {
        point: sum(positions[other] for other, _ in neighbours[point]) / len(neighbours[point])
        for point in row
        if neighbours[point]
    }
    movable = iter(sorted(keys, key=keys.__getitem__))
    row[:] = [next(movable) if point in keys else point for point in row]
    _note_positions(row, positions)


def _swap_neighbours(rows: list[list[int]], graph: LayeredGraph, positions: list[int]) -> None:
    """Swap adjacent points where that removes crossings."""
    for row in rows:
        for left in range(len(row) - 1):
            a, b = row[left], row[left + 1]
            gain = 0
            for neighbours in (graph.upper, graph.lower):
                of_a = [positions[other] for other, _ in neighbours[a]]
                of_b = [positions[other] for other, _ in neighbours[b]]
                gain += _pairs_over(of_a, of_b) - _pairs_over(of_b, of_a)
            if gain > 0:
                row[left], row[left + 1] = b, a
                positions[a], positions[b] = left + 1, left


def _pairs_over(first: list[int], second: list[int]) -> int:
    """Count the pairs whose member of ``first`` is right of that of ``second``."""
    if len(first) == 1 and len(second) == 1:
        return int(first[0] > second[0])
    second = sorted(second)
    return sum(bisect_right(second, position - 1) for position in first)


def _crossings(
    rows: list[list[int]], lower: list[list[tuple[int, int]]], positions: list[int]
) -> int:
    crossings = 0
    for row in rows[:-1]:
        seen: list[int] = []
        for point in row:
            ends = sorted(positions[below] for below, _ in lower[point])
            # Ends of one point do not cross each other: count first, add afterwards.
            crossings += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return crossings
