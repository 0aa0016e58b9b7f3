"""Words of the formulas of group norms and weight norms: one group, or one row, at a time.

Nothing here may come from the rules.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

Plain: TypeAlias = Any


def _groups(x: Plain, group: int) -> Iterator[tuple[int, int, slice]]:
    size = x.shape[1] // group
    for sample in range(x.shape[0]):
        for k in range(group):
            yield sample, k, slice(k * size, (k + 1) * size)


def _moments(numbers: Plain, eps: float) -> tuple[float, float]:
    row = np.ravel(numbers)
    mean = math.fsum(row) / len(row)
    return mean, 1 / math.sqrt(math.fsum((x - mean) ** 2 for x in row) / len(row) + eps)


def _normal(x: Plain, group: int, eps: float) -> Plain:
    out = np.empty(x.shape)
    for sample, _, at in _groups(x, group):
        mean, r = _moments(x[sample, at], eps)
        out[sample, at] = (x[sample, at] - mean) * r
    return out


def group_mean(x: Plain, group: int) -> Plain:
    out = np.empty((x.shape[0], group))
    for sample, k, at in _groups(x, group):
        out[sample, k] = _moments(x[sample, at], 1.0)[0]
    return out


def group_rate(x: Plain, group: int, eps: float) -> Plain:
    out = np.empty((x.shape[0], group))
    for sample, k, at in _groups(x, group):
        out[sample, k] = _moments(x[sample, at], eps)[1]
    return out


def channel_times(g: Plain, w: Plain) -> Plain:
    return np.stack([g[:, c] * w[c] for c in range(len(w))], axis=1)


def group_norm(x: Plain, w: Plain | None, b: Plain | None, group: int, eps: float) -> Plain:
    y = _normal(x, group, eps)
    y = y if w is None else channel_times(y, w)
    return y if b is None else np.stack([y[:, c] + b[c] for c in range(len(b))], axis=1)


def group_norm_input(g: Plain, x: Plain, group: int, eps: float) -> Plain:
    """The normalisation's Jacobian, r (I - 1/n - n n^T / n), times g, group by group."""
    out = np.empty(x.shape)
    for sample, _, at in _groups(x, group):
        mean, r = _moments(x[sample, at], eps)
        n = np.ravel((x[sample, at] - mean) * r)
        jacobian = r * (np.eye(n.size) - (1 + np.outer(n, n)) / n.size)
        out[sample, at] = (jacobian @ np.ravel(g[sample, at])).reshape(out[sample, at].shape)
    return out


def group_statistics_input(
    of_mean: Plain, of_rate: Plain, x: Plain, group: int, eps: float
) -> Plain:
    """What each number does to its group's mean, 1/n, and inverse deviation, -r^3 (x - m) / n."""
    out = np.empty(x.shape)
    for sample, k, at in _groups(x, group):
        mean, r = _moments(x[sample, at], eps)
        n = x[sample, at].size
        by_rate = of_rate[sample, k] * r**3 * (x[sample, at] - mean)
        out[sample, at] = (of_mean[sample, k] - by_rate) / n
    return out


def group_norm_weight(g: Plain, x: Plain, group: int, eps: float) -> Plain:
    products = g * _normal(x, group, eps)
    return np.array([math.fsum(np.ravel(products[:, c])) for c in range(x.shape[1])])


def _each_row(v: Plain, dim: int) -> list[Plain]:
    return [np.ravel(row) for row in np.moveaxis(v, dim, 0)]


def _column(numbers: list[float], v: Plain, dim: int) -> Plain:
    sizes = [1] * v.ndim
    sizes[dim] = v.shape[dim]
    return np.array(numbers).reshape(sizes)


def length(v: Plain, dim: int) -> Plain:
    return _column([math.hypot(*row) for row in _each_row(v, dim)], v, dim)


def along_direction(g: Plain, v: Plain, dim: int) -> Plain:
    rows = zip(_each_row(g, dim), _each_row(v, dim), strict=True)
    return _column([math.fsum(a * b) / math.hypot(*b) for a, b in rows], v, dim)


def off_direction(g: Plain, v: Plain, dim: int) -> Plain:
    return g - along_direction(g, v, dim) * v / length(v, dim)


GROUPED: dict[str, Any] = {
    word.__name__: word
    for word in (
        group_mean, group_rate, channel_times, group_norm, group_norm_input, group_norm_weight,
        group_statistics_input, length, along_direction, off_direction,
    )
}  # fmt: skip
