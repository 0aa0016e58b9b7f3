"""Words of the formulas of images that are read off at given places, place after place.

Nothing here may come from the rules.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

Plain: TypeAlias = Any


def _place(c: float, size: int, padding: int, align: bool) -> tuple[float, float]:
    """Where a coordinate lies among the pixels of an axis, and the slope of that."""
    slope = (size - 1) / 2 if align else size / 2
    at = (c + 1) * slope - (0 if align else 0.5)
    low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
    if padding == 2:
        while not low <= at <= high:
            at, slope = (2 * low if at < low else 2 * high) - at, -slope
    if padding and not 0 < at < size - 1:
        at, slope = min(max(at, 0.0), size - 1.0), 0.0
    return at, slope


def _corners(at: float, size: int, mode: int) -> Iterator[tuple[int, float, float]]:
    """The pixels beside a place: number, weight, and slope of the weight."""
    if mode == 1:
        yield round(at), 1.0, 0.0
        return
    low = math.floor(at)
    yield low, low + 1 - at, -1.0
    yield low + 1, at - low, 1.0


def _reads(x: Plain, grid: Plain, mode: int, padding: int, align: bool) -> Iterator[Any]:
    """For each place and pixel that it reads: both, the weight, and its slope for each axis."""
    sizes = x.shape[2:]
    for n, *out in np.ndindex(grid.shape[:-1]):
        named = [float(c) for c in grid[(n, *out)]][::-1]
        places = [_place(c, size, padding, align) for c, size in zip(named, sizes, strict=True)]
        axes = [list(_corners(at, size, mode)) for (at, _), size in zip(places, sizes, strict=True)]
        for corner in itertools.product(*axes):
            if all(0 <= i < size for (i, _, _), size in zip(corner, sizes, strict=True)):
                slopes = [
                    slope
                    * places[a][1]
                    * math.prod(w for b, (_, w, _) in enumerate(corner) if b != a)
                    for a, (_, _, slope) in enumerate(corner)
                ]
                pixel = tuple(i for i, _, _ in corner)
                yield n, tuple(out), pixel, math.prod(w for _, w, _ in corner), slopes


def sampled(x: Plain, grid: Plain, *how: Any) -> Plain:
    y = np.zeros((*x.shape[:2], *grid.shape[1:-1]))
    for n, out, pixel, weight, _ in _reads(x, grid, *how):
        for c in range(x.shape[1]):
            y[(n, c, *out)] += weight * x[(n, c, *pixel)]
    return y


def to_image(g: Plain, x: Plain, grid: Plain, *how: Any) -> Plain:
    dx = np.zeros(x.shape)
    for n, out, pixel, weight, _ in _reads(x, grid, *how):
        for c in range(x.shape[1]):
            dx[(n, c, *pixel)] += weight * g[(n, c, *out)]
    return dx


def to_grid(g: Plain, x: Plain, grid: Plain, *how: Any) -> Plain:
    made = np.zeros(grid.shape)
    for n, out, pixel, _, slopes in _reads(x, grid, *how):
        for c in range(x.shape[1]):
            for place, slope in enumerate(reversed(slopes)):
                made[(n, *out, place)] += slope * x[(n, c, *pixel)] * g[(n, c, *out)]
    return made


def _centre(place: int, count: int, align: bool) -> float:
    """The coordinate of a pixel: the middle of its share of -1 to 1, or the ends at the ends."""
    if count == 1:
        return 0.0
    return 2 * place / (count - 1) - 1 if align else (2 * place + 1) / count - 1


def _centres(size: list[int], align: bool) -> Iterator[tuple[tuple[int, ...], list[float]]]:
    for at in itertools.product(*map(range, size[2:])):
        where = [_centre(p, n, align) for p, n in zip(at, size[2:], strict=True)]
        yield at, [*reversed(where), 1.0]


def moved_grid(theta: Plain, size: list[int], align: bool) -> Plain:
    out = np.zeros((len(theta), *size[2:], len(size) - 2))
    for at, place in _centres(size, align):
        for n, matrix in enumerate(theta):
            out[(n, *at)] = [math.fsum(row * place) for row in matrix]
    return out


def to_matrix(g: Plain, theta: Plain, size: list[int], align: bool) -> Plain:
    out = np.zeros(theta.shape)
    for at, place in _centres(size, align):
        for n in range(len(theta)):
            out[n] += np.outer(g[(n, *at)], place)
    return out


GRIDS: dict[str, Any] = {
    word.__name__: word for word in (sampled, to_image, to_grid, moved_grid, to_matrix)
}
