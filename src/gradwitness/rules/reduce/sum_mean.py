"""Sums and means over axes."""

from __future__ import annotations

import math
import string
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness.rules.kernel_ops import converted, is_complex
from gradwitness.rules.registry import Array, Shaped, rule

if TYPE_CHECKING:
    from collections.abc import Mapping

Dim: TypeAlias = "int | tuple[int, ...] | None"


def axes(dim: Dim, ndim: int) -> tuple[int, ...]:
    """Return the axes that a torch ``dim`` names, non-negative: None and () name all."""
    if dim is None or dim == ():
        return tuple(range(ndim))
    named = (dim,) if isinstance(dim, int) else dim
    # A tensor without axes takes dim 0 and -1, and has nothing to reduce.
    return tuple(sorted({d % ndim for d in named})) if ndim else ()


def all_but(x: Array, dim: int) -> tuple[int, ...]:
    """Return all axes but one."""
    return tuple(axis for axis in range(x.ndim) if axis != dim % x.ndim)


def spread(g: Array, x: Shaped, dim: Dim, keepdim: bool) -> Array:
    """Repeat a reduced gradient along the reduced axes, to the shape of x."""
    if not keepdim:
        g = np.expand_dims(g, axes(dim, x.ndim))
    return np.broadcast_to(g, x.shape)


def _kept(shapes: Mapping[str, tuple[int, ...]], parameters: Mapping[str, Any]) -> str:
    """Return the axes that are kept, see `Rule.apart`."""
    count = len(shapes["x"])
    over = axes(parameters.get("dim"), count)
    x = "".join("_" if k in over else c for k, c in enumerate(string.ascii_letters[:count]))
    return f"{x}->{x if parameters.get('keepdim') else x.replace('_', '')}"


@rule(
    "aten.sum",
    "y = sum(x, dim, keepdim)",
    meaning="repeats the gradient along the axes that were summed over",
    apart=_kept,
    moves=True,
)
def sum_(x: Array, *, dim: Dim = None, keepdim: bool = False, dtype: str | None = None) -> Array:
    return np.sum(converted(x, dtype), axis=axes(dim, x.ndim), keepdims=keepdim)


@sum_.vjp("x", "repeat(g, x, dim, keepdim)")
def _(g: Array, x: Shaped, *, dim: Dim, keepdim: bool) -> Array:
    return spread(g, x, dim, keepdim)


@rule(
    "aten.mean",
    "y = sum(x, dim, keepdim) / count(x, dim)",
    meaning="repeats the gradient along the axes that were averaged over, divided by their size",
    apart=_kept,
    moves=True,
)
def mean(x: Array, *, dim: Dim = None, keepdim: bool = False) -> Array:
    over = axes(dim, x.ndim)
    return np.sum(x, axis=over, keepdims=keepdim) / math.prod(x.shape[axis] for axis in over)


@mean.vjp("x", "repeat(g, x, dim, keepdim) / count(x, dim)")
def _(g: Array, x: Shaped, *, dim: Dim, keepdim: bool) -> Array:
    count = math.prod(x.shape[axis] for axis in axes(dim, x.ndim))
    return spread(g / count, x, dim, keepdim)


def _deviations(x: Array, dim: Dim, correction: Any) -> tuple[Array, Any]:
    """Return x less its mean, and the degrees of freedom."""
    over = axes(dim, x.ndim)
    count = math.prod(x.shape[axis] for axis in over)
    freedom = count - (1 if correction is None else correction)
    if freedom > 0:
        return x - np.sum(x, axis=over, keepdims=True) / count, freedom
    if math.prod(x.shape):
        raise NotImplementedError("a variance without degrees of freedom")
    return x, math.nan


def _square(gap: Array) -> Array:
    """Return the squares, of complex numbers those of the moduli."""
    if is_complex(gap):
        return np.real(gap) * np.real(gap) + np.imag(gap) * np.imag(gap)
    return gap * gap


@rule(
    "aten.var",
    "y = variance(x, dim, correction, keepdim)",
    meaning="multiplies the gradient by the distance from the mean, times 2 over the degrees of "
    "freedom",
)
def var(x: Array, *, dim: Dim = None, correction: Any = None, keepdim: bool = False) -> Array:
    gap, freedom = _deviations(x, dim, correction)
    return np.sum(_square(gap), axis=axes(dim, x.ndim), keepdims=keepdim) / freedom


@var.vjp("x", "repeat(g, x, dim, keepdim) * 2 * off_mean(x, dim) / freedom(x, dim, correction)")
def _(g: Array, x: Array, *, dim: Dim, correction: Any, keepdim: bool) -> Array:
    gap, freedom = _deviations(x, dim, correction)
    return (2 / freedom) * spread(g, x, dim, keepdim) * gap


@rule(
    "aten.std",
    "y = sqrt(variance(x, dim, correction, keepdim))",
    meaning="multiplies the gradient by the distance from the mean, over the deviation times the "
    "degrees of freedom; where the deviation is 0, by 0",
)
def std(x: Array, *, dim: Dim = None, correction: Any = None, keepdim: bool = False) -> Array:
    gap, freedom = _deviations(x, dim, correction)
    return np.sqrt(np.sum(_square(gap), axis=axes(dim, x.ndim), keepdims=keepdim) / freedom)


@std.vjp("x", "repeat(g / y, x, dim, keepdim) * off_mean(x, dim) / freedom(x, dim, correction)")
def _(g: Array, y: Array, x: Array, *, dim: Dim, correction: Any, keepdim: bool) -> Array:
    gap, freedom = _deviations(x, dim, correction)
    flat = np.equal(y, 0)
    of_variance = np.where(flat, 0, g / (2 * np.where(flat, 1, y)))
    return (2 / freedom) * spread(of_variance, x, dim, keepdim) * gap
