"""Words of the formulas of normalisation: one row, or one channel, at a time.

Nothing here may come from the rules.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

Plain: TypeAlias = Any
Sizes: TypeAlias = tuple[int, ...]


def _statistics(row: Plain, eps: float) -> tuple[float, float]:
    """Mean and inverse deviation of some numbers."""
    mean = math.fsum(row) / len(row)
    return mean, 1 / math.sqrt(math.fsum((x - mean) ** 2 for x in row) / len(row) + eps)


def _rows_of(x: Plain, normalized_shape: Sizes) -> Plain:
    return x.reshape(-1, math.prod(normalized_shape))


def normal(x: Plain, normalized_shape: Sizes, eps: float) -> Plain:
    rows = []
    for row in _rows_of(x, normalized_shape):
        mean, r = _statistics(row, eps)
        rows.append([(number - mean) * r for number in row])
    return np.array(rows).reshape(x.shape)


def _each_row(which: int, x: Plain, normalized_shape: Sizes, eps: float) -> Plain:
    found = [_statistics(row, eps)[which] for row in _rows_of(x, normalized_shape)]
    kept = x.ndim - len(normalized_shape)
    return np.array(found).reshape(*x.shape[:kept], *(1,) * len(normalized_shape))


def mean(x: Plain, normalized_shape: Sizes) -> Plain:
    return _each_row(0, x, normalized_shape, 1.0)


def inverse_deviation(x: Plain, normalized_shape: Sizes, eps: float) -> Plain:
    return _each_row(1, x, normalized_shape, eps)


def affine(x: Plain, w: Plain | None, b: Plain | None) -> Plain:
    x = x if w is None else x * w
    return x if b is None else x + b


def _through(g: Plain, row: Plain, eps: float) -> Plain:
    """The normalisation's Jacobian, r (I - 1/n - n n^T / n), times g."""
    average, r = _statistics(row, eps)
    n = np.array([(number - average) * r for number in row])
    return r * (np.eye(len(row)) - (1 + np.outer(n, n)) / len(row)) @ g


def normal_input(g: Plain, x: Plain, normalized_shape: Sizes, eps: float) -> Plain:
    pairs = zip(_rows_of(g, normalized_shape), _rows_of(x, normalized_shape), strict=True)
    return np.array([_through(of_g, row, eps) for of_g, row in pairs]).reshape(x.shape)


def add_up(g: Plain, sizes: Sizes) -> Plain:
    """Add what lies before the last axes, which have the sizes."""
    return np.array([math.fsum(c) for c in g.reshape(-1, math.prod(sizes)).T]).reshape(sizes)


def _channels(x: Plain) -> Plain:
    return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)


def _like(rows: Any, x: Plain) -> Plain:
    moved = np.array(rows).reshape(x.shape[1], x.shape[0], *x.shape[2:])
    return np.moveaxis(moved, 0, 1)


def _batch(
    x: Plain, means: Plain | None, variances: Plain | None, training: bool, eps: float
) -> list[tuple[float, float]]:
    if training:
        return [_statistics(row, eps) for row in _channels(x)]
    assert means is not None
    assert variances is not None
    return [(m, 1 / math.sqrt(v + eps)) for m, v in zip(means, variances, strict=True)]


def batch_norm(
    x: Plain, w: Plain | None, b: Plain | None, *rest: Any
) -> tuple[Plain, Plain, Plain]:
    found = _batch(x, *rest)
    rows = [(row - m) * r for row, (m, r) in zip(_channels(x), found, strict=True)]
    rows = rows if w is None else [row * v for row, v in zip(rows, w, strict=True)]
    rows = rows if b is None else [row + v for row, v in zip(rows, b, strict=True)]
    saved = found if rest[2] else []
    return _like(rows, x), np.array([m for m, _ in saved]), np.array([r for _, r in saved])


def batch_norm_input(g: Plain, x: Plain, w: Plain | None, *rest: Any) -> Plain:
    rows = []
    for of_g, row, (_, r) in zip(_channels(g), _channels(x), _batch(x, *rest), strict=True):
        rows.append(_through(of_g, row, rest[3]) if rest[2] else of_g * r)
    rows = rows if w is None else [row * v for row, v in zip(rows, w, strict=True)]
    return _like(rows, x)


def batch_norm_weight(g: Plain, x: Plain, *rest: Any) -> Plain:
    triples = zip(_channels(g), _channels(x), _batch(x, *rest), strict=True)
    return np.array([math.fsum(of_g * (row - m) * r) for of_g, row, (m, r) in triples])


NORMALISATION: dict[str, Any] = {
    word.__name__: word
    for word in (
        normal, mean, inverse_deviation, affine, normal_input, add_up,
        batch_norm, batch_norm_input, batch_norm_weight,
    )
}  # fmt: skip
