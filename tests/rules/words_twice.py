"""Words of the formulas of backward kernels that are operations of their own.

Nothing here may come from the rules.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, TypeAlias

import numpy as np
from scipy import stats

from rules.words_grids import multiplied, pixels
from rules.words_normalisation import _batch, _channels, _like

Plain: TypeAlias = Any


def looked_up(g: Plain, indices: Plain, padding: int, shared: bool) -> Plain:
    """The rows of g that indices name; none for the padding, and a share of those named often."""
    named = indices.reshape(-1).tolist()
    out = []
    for i in named:
        part = 0.0 if i == padding else 1 / (named.count(i) if shared else 1)
        out.append([part * number for number in g[i]])
    return np.array(out).reshape(*indices.shape, g.shape[1])


def phi_slope(x: Plain, approximate: str) -> Plain:
    """The derivative of the density, and of what stands for it in the tanh form."""
    if approximate == "none":
        return -x * stats.norm.pdf(x)
    k, c = math.sqrt(2 / math.pi), 0.044715
    found = []
    for z in np.ravel(x):
        u, du, ddu = k * (z + c * z**3), k * (1 + 3 * c * z**2), 6 * k * c * z
        found.append((ddu / 2 - math.tanh(u) * du**2) / math.cosh(u) ** 2)
    return np.array(found).reshape(x.shape)


def _jacobian(n: Plain, r: float) -> Plain:
    """How normalised numbers move with the input's: r (I - 1/n - n n^T / n)."""
    return r * (np.eye(len(n)) - (1 + np.outer(n, n)) / len(n))


def _bend(v: Plain, h: Plain, n: Plain, r: float) -> Plain:
    """The gradient of v^T J h, one number of the input after the other: J moves by n and J."""
    J = _jacobian(n, r)
    found = []
    for k in range(len(n)):
        moved = -r / len(n) * (n[k] * J + np.outer(J[:, k], n) + np.outer(n, J[:, k]))
        found.append(v @ moved @ h)
    return np.array(found)


def _rows(x: Plain, mean: Plain, r: Plain) -> list[tuple[Plain, float]]:
    """Each row that has a mean: normalised, and its inverse deviation."""
    found = zip(x.reshape(mean.size, -1), mean.flat, r.flat, strict=True)
    return [((row - m) * of_row, of_row) for row, m, of_row in found]


def row_back(h: Plain, x: Plain, mean: Plain, r: Plain) -> Plain:
    pairs = zip(h.reshape(mean.size, -1), _rows(x, mean, r), strict=True)
    return np.array([_jacobian(*of) @ row for row, of in pairs]).reshape(x.shape)


def row_bend(v: Plain, h: Plain, x: Plain, mean: Plain, r: Plain) -> Plain:
    two = (item.reshape(mean.size, -1) for item in (v, h))
    made = [_bend(a, b, *of) for a, b, of in zip(*two, _rows(x, mean, r), strict=True)]
    return np.array(made).reshape(x.shape)


def batch_norm_bend(v: Plain, h: Plain, x: Plain, w: Plain, *rest: Any) -> Plain:
    if not rest[2]:
        return 0 * x
    rows = zip(_channels(v), _channels(h), _channels(x), _batch(x, *rest), w, strict=True)
    return _like([of_w * _bend(a, b, (c - m) * r, r) for a, b, c, (m, r), of_w in rows], x)


def sampled_along(u: Plain, x: Plain, grid: Plain, *how: Any) -> Plain:
    """How what is read moves where the places move by u."""
    y = np.zeros((*x.shape[:2], *grid.shape[1:-1]))
    for n, out, pixel, factors in pixels(x, grid, *how):
        for c, axis in np.ndindex(x.shape[1], len(pixel)):
            moved = u[(n, *out, -1 - axis)] * multiplied(factors, axis)
            y[(n, c, *out)] += moved * x[(n, c, *pixel)]
    return y


def to_image_along(u: Plain, g: Plain, x: Plain, grid: Plain, *how: Any) -> Plain:
    dx = np.zeros(x.shape)
    for n, out, pixel, factors in pixels(x, grid, *how):
        for c, axis in np.ndindex(x.shape[1], len(pixel)):
            dx[(n, c, *pixel)] += (
                u[(n, *out, -1 - axis)] * multiplied(factors, axis) * g[(n, c, *out)]
            )
    return dx


def to_grid_along(u: Plain, g: Plain, x: Plain, grid: Plain, *how: Any) -> Plain:
    """How each place's own gradient moves where it moves by u along another axis."""
    made = np.zeros(grid.shape)
    for n, out, pixel, factors in pixels(x, grid, *how):
        seen = math.fsum(x[(n, c, *pixel)] * g[(n, c, *out)] for c in range(x.shape[1]))
        for a, b in itertools.product(range(len(pixel)), repeat=2):
            made[(n, *out, -1 - a)] += u[(n, *out, -1 - b)] * multiplied(factors, a, b) * seen
    return made


TWICE: dict[str, Any] = {
    word.__name__: word
    for word in (
        looked_up, phi_slope, row_back, row_bend, batch_norm_bend,
        sampled_along, to_image_along, to_grid_along,
    )
}  # fmt: skip
