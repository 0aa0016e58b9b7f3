"""Statistics of several results, and sums that leave NaN out."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.reduce.sum_mean import Dim, axes, mean, spread, std, var
from gradwitness.rules.registry import Array, Shaped, rule


@rule(
    "aten.var_mean",
    "y = variance(x, dim, correction, keepdim), sum(x, dim, keepdim) / count(x, dim)",
    meaning="adds the gradients of the variance, along the distance from the mean, and of the mean",
)
def var_mean(
    x: Array, *, dim: Dim = None, correction: Any = None, keepdim: bool = False
) -> tuple[Array, Array]:
    middle = mean.function(x, dim=dim, keepdim=keepdim)
    return var.function(x, dim=dim, correction=correction, keepdim=keepdim), middle


@var_mean.vjp(
    "x",
    "repeat(g[0], x, dim, keepdim) * 2 * off_mean(x, dim) / freedom(x, dim, correction)"
    " + repeat(g[1], x, dim, keepdim) / count(x, dim)",
)
def _(g: Any, x: Array, **how: Any) -> Array:
    return var.gradients["x"](g[0], None, (x,), how) + mean.gradients["x"](g[1], None, (x,), how)


@rule(
    "aten.std_mean",
    "y = sqrt(variance(x, dim, correction, keepdim)), sum(x, dim, keepdim) / count(x, dim)",
    meaning="adds the gradients of the deviation, along the distance from the mean, and of the "
    "mean; where the deviation is 0, its part is 0",
)
def std_mean(
    x: Array, *, dim: Dim = None, correction: Any = None, keepdim: bool = False
) -> tuple[Array, Array]:
    middle = mean.function(x, dim=dim, keepdim=keepdim)
    return std.function(x, dim=dim, correction=correction, keepdim=keepdim), middle


@std_mean.vjp(
    "x",
    "repeat(g[0] / y[0], x, dim, keepdim) * off_mean(x, dim) / freedom(x, dim, correction)"
    " + repeat(g[1], x, dim, keepdim) / count(x, dim)",
)
def _(g: Any, y0: Array, x: Array, **how: Any) -> Array:
    return std.gradients["x"](g[0], y0, (x,), how) + mean.gradients["x"](g[1], None, (x,), how)


@rule(
    "aten.nansum",
    "y = sum(without_nan(x), dim, keepdim)",
    meaning="repeats the gradient along the axes that were summed over, but gives NaN elements 0",
)
def nansum(x: Array, *, dim: Dim = None, keepdim: bool = False) -> Array:
    return np.sum(np.where(np.isnan(x), 0, x), axis=axes(dim, x.ndim), keepdims=keepdim)


nansum.vjp("x", "repeat(g, x, dim, keepdim) * (x == x)")(
    lambda g, x, *, dim, keepdim: np.where(np.isnan(x), 0, spread(g, x, dim, keepdim))
)


@rule(
    "aten.trace", "y = diagonal_sum(x)", meaning="puts the gradient on the diagonal, and 0 beside"
)
def trace(x: Array) -> Array:
    return np.sum(np.diagonal(x))


@trace.vjp("x", "g * on_diagonal(x)")
def _(g: Array, x: Shaped) -> Array:
    diagonal = np.asarray(np.eye(*x.shape, dtype=np.bool_), like=g)
    return np.where(diagonal, np.broadcast_to(g, x.shape), 0)


@rule(
    "aten.aminmax",
    "y = -amax(-x, dim, keepdim), amax(x, dim, keepdim)",
    meaning="shares each of the two gradients evenly among all elements that tie for the smallest, "
    "and for the largest",
)
def aminmax(x: Array, *, dim: int | None = None, keepdim: bool = False) -> tuple[Array, Array]:
    over = axes(dim, x.ndim)
    return np.min(x, axis=over, keepdims=keepdim), np.max(x, axis=over, keepdims=keepdim)


@aminmax.vjp(
    "x", "share_ties(g[0], y[0], x, dim, keepdim) + share_ties(g[1], y[1], x, dim, keepdim)"
)
def _(g: Any, y: Any, x: Array, *, dim: int | None, keepdim: bool) -> Array:
    low, high = (_shared(g[k], y[k], x, dim, keepdim) for k in (0, 1))
    return low + high


def _shared(g: Array, y: Array, x: Array, dim: int | None, keepdim: bool) -> Array:
    hit = np.equal(x, spread(y, x, dim, keepdim))
    count = np.sum(hit, axis=axes(dim, x.ndim), keepdims=True)
    return np.where(hit, spread(g, x, dim, keepdim), 0) / np.maximum(count, 1)
