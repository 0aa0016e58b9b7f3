"""Products, whole and running, and across; running extremes."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.kernel_ops import accumulate_in_format, running_places
from gradwitness.rules.reduce.sum_mean import axes, spread
from gradwitness.rules.registry import Array, Shaped, rule
from gradwitness.rules.shape.indexing import added_up, along


def _others(x: Array, dim: int) -> Array:
    """Return, for each element, the product of all others along an axis: before it, after it."""
    ends = [1 if axis == dim % x.ndim else n for axis, n in enumerate(x.shape)]
    one = np.ones_like(x, shape=ends)
    count = x.shape[dim]
    before = np.concatenate([one, np.take(x, np.arange(count - 1), axis=dim)], axis=dim)
    after = np.concatenate([np.take(x, np.arange(1, count), axis=dim), one], axis=dim)
    running = np.flip(np.cumprod(np.flip(after, dim), axis=dim), dim)
    return np.cumprod(before, axis=dim) * running


@rule(
    "aten.prod",
    "y = product(x, dim, keepdim)",
    meaning="multiplies the gradient by the product of all other elements",
)
def prod(x: Array, *, dim: int | None = None, keepdim: bool = False) -> Array:
    return np.prod(accumulate_in_format(x), axis=axes(dim, x.ndim), keepdims=keepdim)


@prod.vjp("x", "repeat(g, x, dim, keepdim) * other_factors(x, dim)")
def _(g: Array, x: Array, *, dim: int | None, keepdim: bool) -> Array:
    if not x.ndim:
        return g
    spread_g = spread(g, x, dim, keepdim)
    zero = np.equal(x, 0)
    if not np.any(zero):
        # torch divides the result that it stored, or multiplies what stands before and after: as
        # many roundings as in the product itself, which is why its own y is not used here.
        total = np.prod(accumulate_in_format(x), axis=axes(dim, x.ndim), keepdims=True)
        return spread_g * (total / x)
    if dim is not None:
        return spread_g * _others(x, dim)
    if np.sum(zero) > 1:
        return np.zeros_like(x)
    return spread_g * np.reshape(_others(np.reshape(x, (x.size,)), 0), x.shape)


@rule(
    "aten.cumprod",
    "y = running_product(x, dim)",
    meaning="adds the gradients, times the results, from the end on, and divides by the input",
    composite=True,
)
def cumprod(x: Array, *, dim: int) -> Array:
    return np.cumprod(x, axis=dim) if x.ndim else x


@cumprod.vjp("x", "running_product_input(g, x, dim)")
def _(g: Array, y: Array, x: Array, *, dim: int) -> Array:
    if x.size < 2:
        return g
    zero = np.equal(x, 0)
    if not np.any(zero):
        return np.flip(np.cumsum(np.flip(g * y, dim), axis=dim), dim) / x
    # Behind the first factor 0 no factor counts; it has the others for its own gradient.
    count = np.cumsum(zero, axis=dim)
    first = zero & (count == 1)
    before = np.flip(np.cumsum(np.flip(np.where(count == 0, g * y, 0), dim), axis=dim), dim)
    others = np.cumprod(np.where(first, 1.0, x), axis=dim)
    own = np.sum(np.where(count == 1, g * others, 0), axis=dim, keepdims=True)
    return np.where(count == 0, before / np.where(zero, 1, x), np.where(first, own, 0))


def _reached(extreme: np.ufunc, x: Array, dim: int) -> tuple[Array, Array]:
    """Return running extremes and where each stands: the last of those that tie."""
    if not x.ndim:
        return x, np.zeros((), dtype=np.int64, like=x)
    places = running_places(x, extreme=extreme, axis=dim)
    return np.take_along_axis(x, places, dim), places


def _back(g: Any, y1: Array, x: Shaped, *, dim: int) -> Array:
    """Add up the gradients that belong to each place along an axis."""
    return added_up(g[0], along(x, dim, y1), x)


_MEANING = "adds to each element the gradients of all places where it was the {} so far"


@rule("aten.cummax", "y = running_extreme(x, dim, 1)", meaning=_MEANING.format("largest"))
def cummax(x: Array, *, dim: int) -> tuple[Array, Array]:
    return _reached(np.maximum, x, dim)


cummax.vjp("x", "to_running_extreme(g[0], x, dim, 1)")(_back)


@rule("aten.cummin", "y = running_extreme(x, dim, -1)", meaning=_MEANING.format("smallest"))
def cummin(x: Array, *, dim: int) -> tuple[Array, Array]:
    return _reached(np.minimum, x, dim)


cummin.vjp("x", "to_running_extreme(g[0], x, dim, -1)")(_back)


def _crossed(a: Array, b: Array, dim: int) -> Array:
    def turned(x: Array, by: int) -> Array:
        return np.roll(x, -by, axis=dim)

    return turned(a, 1) * turned(b, 2) - turned(a, 2) * turned(b, 1)


@rule(
    "aten.linalg_cross",
    "y = crossed(a, b, dim)",
    meaning="sends to each factor the cross product of the gradient with the other one",
    composite=True,
)
def cross(a: Array, b: Array, *, dim: int = -1) -> Array:
    return _crossed(a, b, dim)


cross.vjp("a", "crossed(b, g, dim)")(lambda g, b, *, dim: _crossed(b, g, dim))
cross.vjp("b", "crossed(g, a, dim)")(lambda g, a, *, dim: _crossed(g, a, dim))
