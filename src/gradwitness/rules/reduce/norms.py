"""Lengths of vectors, and distances of tensors.

A length is no smooth function: where it is 0, torch's gradient is 0; so is that of an element 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwitness.rules import kernel_ops
from gradwitness.rules.kernel_ops import is_complex
from gradwitness.rules.reduce.sum_mean import Dim, all_but, axes, spread
from gradwitness.rules.registry import Array, rule

# Differences that lie nearer than this, of their size, may be equal once they are rounded: to any
# format; to float32.
_NEAR, NEAR_SINGLE = 2.0**-6, 2.0**-20


def length(x: Array, p: Any, over: tuple[int, ...], keepdims: bool = False) -> Array:
    """Return the p-norm over some axes: a count for p = 0, an extreme for an infinite p."""
    if p == 0:
        counted = np.where(np.equal(x, 0), np.zeros_like(x), np.ones_like(x))
        return np.sum(counted, axis=over, keepdims=keepdims)
    if p in (math.inf, -math.inf):
        extreme = np.max if p > 0 else np.min
        return extreme(np.abs(x), axis=over, keepdims=keepdims)
    if p == 1:
        return np.sum(np.abs(x), axis=over, keepdims=keepdims)
    if p == 2:
        size = np.abs(x) if is_complex(x) else x
        return np.sqrt(np.sum(size * size, axis=over, keepdims=keepdims))
    return np.power(np.sum(np.power(np.abs(x), p), axis=over, keepdims=keepdims), 1 / p)


def signed(g: Array, x: Array) -> Array:
    """Return g times the sign of x, which of real numbers rounds nothing."""
    if is_complex(x):
        return g * kernel_ops.over(x, np.abs(x))
    return np.where(x > 0, g, np.where(x < 0, -g, np.where(np.isnan(x), x, 0)))


def slope(g: Array, y: Array, x: Array, p: Any, over: tuple[int, ...]) -> Array:
    """Return the gradient of a p-norm y of x, whose axes have g and y too, with length 1."""
    if p == 0:
        return np.zeros_like(g, shape=x.shape)
    if p == 1:
        return signed(g, x)
    if p in (math.inf, -math.inf):
        size = np.abs(x)
        if is_complex(x):
            # Their moduli were rounded.
            clear(size if p > 0 else -size, over, NEAR_SINGLE)
            y = length(x, p, over, keepdims=True)
        hit = np.equal(size, y)
        # None hits where there is NaN.
        share = np.where(hit, g, 0) / np.maximum(np.sum(hit, axis=over, keepdims=True), 1)
        return signed(share, x)
    none = np.equal(y, 0)
    divisor = np.where(none, 1, y)
    if p == 2:
        return np.where(none, 0, g * (x / divisor))
    zero = np.equal(x, 0)
    size = np.where(zero, 1, np.abs(x))
    grown = np.where(zero, 0, signed(np.power(size, p - 1), x))
    if p < 1:
        return grown * g * np.power(divisor, 1 - p)
    return np.where(none, 0, grown * (g / np.power(divisor, p - 1)))


_MEANING = (
    "multiplies the gradient by the input over its length, for p = 2, else by sign(x) "
    "(|x| / length)^(p - 1); the largest elements share it for p = inf, and a length 0 gives 0"
)


@rule("aten.linalg_vector_norm", "y = length_of(x, ord, dim, keepdim)", meaning=_MEANING)
def vector_norm(
    x: Array,
    *,
    ord: Any = 2,  # noqa: A002, the schema's name
    dim: Dim = None,
    keepdim: bool = False,
) -> Array:
    return length(x, ord, axes(dim, x.ndim), keepdim)


@vector_norm.vjp("x", "repeat(g, x, dim, keepdim) * length_slope(x, ord, dim)")
def _(
    g: Array,
    y: Array,
    x: Array,
    *,
    ord: Any,  # noqa: A002
    dim: Dim,
    keepdim: bool,
) -> Array:
    of_y, size = (spread(item, x, dim, keepdim) for item in (g, y))
    return slope(of_y, size, x, ord, axes(dim, x.ndim))


@rule("aten.norm", "y = length_of(x, p, dim, keepdim)", meaning=_MEANING)
def norm(x: Array, *, p: Any = 2, dim: Dim = None, keepdim: bool = False) -> Array:
    return length(x, 2 if p is None else p, axes(dim, x.ndim), keepdim)


@norm.vjp("x", "repeat(g, x, dim, keepdim) * length_slope(x, p, dim)")
def _(g: Array, y: Array, x: Array, *, p: Any, dim: Dim, keepdim: bool) -> Array:
    of_y, size = (spread(item, x, dim, keepdim) for item in (g, y))
    return slope(of_y, size, x, 2 if p is None else p, axes(dim, x.ndim))


def clear(size: Array, over: tuple[int, ...], near: float = _NEAR) -> None:
    """Refuse magnitudes of differences of which rounding decides which one is the largest."""
    top = np.max(size, axis=over, keepdims=True)
    if np.any(np.less(size, top) & np.greater(size, top - near * np.abs(top))):
        raise NotImplementedError("rounding decides which difference is the largest")


def _distance_slope(g: Array, y: Array, a: Array, b: Array, *, p: Any) -> Array:
    gap = a - b
    over = axes(None, gap.ndim)
    if p in (math.inf, -math.inf):
        size = np.abs(gap)
        clear(size if p > 0 else -size, over)
        y = length(gap, p, over)
    return slope(g, y, gap, p, over)


@rule(
    "aten.dist",
    "y = length_of(a - b, p, None, False)",
    meaning="multiplies the gradient by the difference over the distance, for p = 2, and gives "
    "the other tensor the negative of that; a distance 0 gives 0",
    composite=True,
)
def dist(a: Array, b: Array, *, p: Any = 2) -> Array:
    gap = a - b
    return length(gap, p, axes(None, gap.ndim))


dist.vjp("a", "g * length_slope(a - b, p, None)")(_distance_slope)
dist.vjp("b", "-g * length_slope(a - b, p, None)")(
    lambda g, y, a, b, *, p: -_distance_slope(g, y, a, b, p=p)
)


# What torch adds to a length before it divides by it.
_SHY = 1e-7


@rule(
    "aten.renorm",
    "y = shortened(x, p, dim, maxnorm)",
    meaning="passes the gradient on where the slice was short enough; elsewhere takes out its "
    "part along the slice, and multiplies by the largest length over the slice's",
    composite=True,
)
def renorm(x: Array, *, p: Any, dim: int, maxnorm: Any) -> Array:
    size = length(x, p, all_but(x, dim), keepdims=True)
    return x * np.where(size > maxnorm, maxnorm / (size + _SHY), 1)


@renorm.vjp("x", "shortened_input(g, x, p, dim, maxnorm)")
def _(g: Array, x: Array, *, p: Any, dim: int, maxnorm: Any) -> Array:
    over = all_but(x, dim)
    size = length(x, p, over, keepdims=True)
    along = np.sum(np.real(np.conjugate(x) * g), axis=over, keepdims=True)
    along = slope(along, size, x, p, over)
    inverse = 1 / (size + _SHY)
    return np.where(size > maxnorm, maxnorm * inverse * (g - inverse * along), g)
