"""Statistics of several results, sums that leave NaN out, and elements chosen by their rank."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.reduce.sum_mean import Dim, axes, mean, spread, std, var
from gradwitness.rules.registry import Array, Shaped, rule
from gradwitness.rules.shape.indexing import along, filled


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
    return np.where(np.eye(x.shape[0], x.shape[1]) == 1, np.broadcast_to(g, x.shape), 0)


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


def _ranked(x: Array, rank: int, dim: int, keepdim: bool) -> tuple[Array, Array]:
    """Return the element of a rank along an axis, and its index."""
    if not x.ndim:
        raise NotImplementedError("a tensor without axes")
    index = np.take(np.argsort(x, axis=dim), [rank], axis=dim)
    element = np.take_along_axis(x, index, axis=dim)
    if np.any(np.sum(np.equal(x, element), axis=dim) > 1) or np.any(np.isnan(x)):
        raise NotImplementedError("a tie, or NaN, among what is ranked")
    return (element, index) if keepdim else (np.squeeze(element, dim), np.squeeze(index, dim))


def _to_ranked(g: Any, y: Any, x: Array, *, dim: int | None, keepdim: bool) -> Array:
    if dim is None:
        return _shared(g, y, x, None, False)
    of_y, place = (item if keepdim else np.expand_dims(item, dim) for item in (g[0], y[1]))
    return filled(np.zeros_like(of_y, shape=x.shape), along(x, dim, place), of_y)


@rule(
    "aten.median",
    "y = of_rank(x, None, dim, keepdim)",
    meaning="gives the gradient to the median, the lower of two, along an axis to the one whose "
    "index the forward pass returned, else in equal shares to all that tie",
)
def median(x: Array, *, dim: int | None = None, keepdim: bool = False) -> Any:
    if dim is not None:
        return _ranked(x, (x.shape[dim] - 1) // 2 if x.ndim else 0, dim, keepdim)
    if np.any(np.isnan(x)):
        raise NotImplementedError("a median of NaN")
    return np.take(np.sort(np.reshape(x, (x.size,)), axis=0), (x.size - 1) // 2)


median.vjp("x", "to_rank(g, y, x, dim, keepdim)")(_to_ranked)


@rule(
    "aten.kthvalue",
    "y = of_rank(x, k, dim, keepdim)",
    meaning="gives the gradient to the k-th smallest, whose index the forward pass returned",
)
def kthvalue(x: Array, *, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Array, Array]:
    return _ranked(x, k - 1, dim, keepdim)


kthvalue.vjp("x", "to_rank(g, y, x, dim, keepdim)")(_to_ranked)
