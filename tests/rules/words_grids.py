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


def _cubic(t: float) -> tuple[float, float, float]:
    """Keys' cubic with -3/4 at a distance with its sign, and its derivatives by that."""
    s, sign = abs(t), -1.0 if t < 0 else 1.0
    if s <= 1:
        return 1.25 * s**3 - 2.25 * s**2 + 1, sign * (3.75 * s**2 - 4.5 * s), 7.5 * s - 4.5
    return (
        -0.75 * (s - 1) * (s - 2) ** 2,
        -0.75 * sign * ((s - 2) ** 2 + 2 * (s - 1) * (s - 2)),
        -0.75 * (4 * (s - 2) + 2 * (s - 1)),
    )


def _corners(
    at: float, size: int, mode: int, padding: int, align: bool
) -> Iterator[tuple[int, float, float, float]]:
    """The pixels beside a place: number, weight, and slope and bend of the weight."""
    low = math.floor(at)
    if mode == 2:
        for pixel in range(low - 1, low + 3):
            where = float(pixel)
            if padding:
                coordinate = (2 * pixel / (size - 1) if align else (2 * pixel + 1) / size) - 1
                where = _place(coordinate, size, padding, align)[0]
            yield round(where), *_cubic(at - pixel)
    elif mode == 1:
        yield round(at), 1.0, 0.0, 0.0
    else:
        yield low, low + 1 - at, -1.0, 0.0
        yield low + 1, at - low, 1.0, 0.0


def pixels(x: Plain, grid: Plain, mode: int, padding: int, align: bool) -> Iterator[Any]:
    """For each place and pixel that it reads: both; for each axis the weight, slope and bend."""
    sizes = x.shape[2:]
    # A cubic meets the padding pixel by pixel.
    outside = 0 if mode == 2 else padding
    for n, *out in np.ndindex(grid.shape[:-1]):
        named = [float(c) for c in grid[(n, *out)]][::-1]
        places = [_place(c, size, outside, align) for c, size in zip(named, sizes, strict=True)]
        axes = [
            list(_corners(at, size, mode, padding, align))
            for (at, _), size in zip(places, sizes, strict=True)
        ]
        for corner in itertools.product(*axes):
            if all(0 <= i < size for (i, *_), size in zip(corner, sizes, strict=True)):
                pairs = zip(corner, places, strict=True)
                factors = [(w, slope * by, bend * by**2) for (_, w, slope, bend), (_, by) in pairs]
                yield n, tuple(out), tuple(i for i, *_ in corner), factors


def multiplied(factors: list[tuple[float, float, float]], *along: int) -> float:
    """The weights of all axes, but the slopes along some, and the bend along one named twice."""
    return math.prod(of_axis[along.count(axis)] for axis, of_axis in enumerate(factors))


def _reads(x: Plain, grid: Plain, *how: Any) -> Iterator[Any]:
    """For each place and pixel that it reads: both, the weight, and its slope for each axis."""
    for n, out, pixel, factors in pixels(x, grid, *how):
        slopes = [multiplied(factors, axis) for axis in range(len(pixel))]
        yield n, out, pixel, multiplied(factors), slopes


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
