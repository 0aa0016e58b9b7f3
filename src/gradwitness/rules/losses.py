"""Loss functions that torch runs as one operation. ``reduction``: 0 none, 1 mean, 2 sum."""

from __future__ import annotations

import numpy as np

from gradwitness.rules.registry import Array, rule

_MEAN = 1


def reduced(terms: Array, reduction: int) -> Array:
    """Apply a torch reduction to the terms of a loss."""
    if reduction == 0:
        return terms
    total = np.sum(terms)
    return total / terms.size if reduction == _MEAN else total


@rule(
    "aten.mse_loss",
    "y = reduce((x - t) ** 2, reduction)",
    meaning="multiplies the gradient by 2 (x - t), divided by the number of terms for a mean",
    composite=True,
)
def mse_loss(x: Array, t: Array, *, reduction: int = _MEAN) -> Array:
    return reduced((x - t) * (x - t), reduction)


def _slope(g: Array, x: Array, t: Array, reduction: int) -> Array:
    gap = x - t
    count = gap.size if reduction == _MEAN else 1
    return (2 / count) * gap * g


@mse_loss.vjp("x", "2 / share(x - t, reduction) * (x - t) * g")
def _(g: Array, y: Array, x: Array, t: Array, *, reduction: int = _MEAN) -> Array:
    return _slope(g, x, t, reduction)


@mse_loss.vjp("t", "-2 / share(x - t, reduction) * (x - t) * g")
def _(g: Array, y: Array, x: Array, t: Array, *, reduction: int = _MEAN) -> Array:
    return -_slope(g, x, t, reduction)
