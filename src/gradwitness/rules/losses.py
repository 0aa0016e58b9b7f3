"""Loss functions that torch runs as one operation. ``reduction``: 0 none, 1 mean, 2 sum."""

from __future__ import annotations

from typing import Any

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


def _weights(target: Array, weight: Array | None, ignore_index: int) -> tuple[Array, Array]:
    """Return the class of each target, and its weight: 0 where it is ignored."""
    kept = np.not_equal(target, ignore_index)
    safe = np.where(kept, target, 0)
    if weight is None:
        return safe, np.where(kept, 1.0, 0.0)
    return safe, np.where(kept, np.take(weight, safe), 0)


def _weighted(w: Array, terms: Array, weight: Array | None) -> Array:
    """Multiply by weights; where there are none, leave out what is ignored."""
    return np.where(w > 0, terms, 0) if weight is None else w * terms


@rule(
    "aten.nll_loss_forward",
    "y = nll(x, target, weight, reduction, ignore_index)",
    meaning="puts minus the gradient, times the class's weight and over the sum of the weights "
    "for a mean, at the place of each target, among zeros",
    node="NllLossBackward",
    composite=True,
)
def nll_loss(
    x: Array, target: Array, weight: Array | None, *, reduction: int, ignore_index: int
) -> tuple[Array, Array]:
    at, w = _weights(target, weight, ignore_index)
    chosen = np.squeeze(np.take_along_axis(x, np.expand_dims(at, -1), axis=-1), -1)
    terms = _weighted(w, -chosen, weight)
    if reduction == 0:
        return terms, np.zeros_like(x, shape=())
    total, weights = np.sum(terms), np.sum(w)
    return (total / weights if reduction == _MEAN else total), weights


@nll_loss.vjp("x", "nll_input(g[0], x, target, weight, reduction, ignore_index)")
def _(
    g: Any,
    y: Any,
    x: Array,
    target: Array,
    weight: Array | None,
    *,
    reduction: int,
    ignore_index: int,
) -> Array:
    at, w = _weights(target, weight, ignore_index)
    down = _weighted(w, -g[0], weight)
    down = down / y[1] if reduction == _MEAN else down
    hit = np.equal(np.arange(x.shape[-1]), np.expand_dims(at, -1))
    return np.where(hit, np.expand_dims(down, -1), 0)
