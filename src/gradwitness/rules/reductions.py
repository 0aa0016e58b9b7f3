"""Sums and means over axes."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from gradwitness.rules.registry import Array, rule

Dim: TypeAlias = "int | tuple[int, ...] | None"


def axes(dim: Dim, ndim: int) -> tuple[int, ...]:
    """Return the axes that a torch ``dim`` names, non-negative: None and () name all."""
    if dim is None or dim == ():
        return tuple(range(ndim))
    named = (dim,) if isinstance(dim, int) else dim
    # A tensor without axes takes dim 0 and -1, and has nothing to reduce.
    return tuple(sorted({d % ndim for d in named})) if ndim else ()


def spread(g: Array, x: Array, dim: Dim, keepdim: bool) -> Array:
    """Repeat a reduced gradient along the reduced axes, to the shape of x."""
    if not keepdim:
        g = np.expand_dims(g, axes(dim, x.ndim))
    return np.broadcast_to(g, x.shape)


@rule(
    "aten.sum",
    "y = sum(x, dim, keepdim)",
    meaning="repeats the gradient along the axes that were summed over",
)
def sum_(x: Array, *, dim: Dim = None, keepdim: bool = False) -> Array:
    return np.sum(x, axis=axes(dim, x.ndim), keepdims=keepdim)


@sum_.vjp("x", "repeat(g, x, dim, keepdim)")
def _(g: Array, y: Array, x: Array, *, dim: Dim = None, keepdim: bool = False) -> Array:
    return spread(g, x, dim, keepdim)


@rule(
    "aten.mean",
    "y = sum(x, dim, keepdim) / count(x, dim)",
    meaning="repeats the gradient along the axes that were averaged over, divided by their size",
)
def mean(x: Array, *, dim: Dim = None, keepdim: bool = False) -> Array:
    over = axes(dim, x.ndim)
    return np.sum(x, axis=over, keepdims=keepdim) / math.prod(x.shape[axis] for axis in over)


@mean.vjp("x", "repeat(g, x, dim, keepdim) / count(x, dim)")
def _(g: Array, y: Array, x: Array, *, dim: Dim = None, keepdim: bool = False) -> Array:
    count = math.prod(x.shape[axis] for axis in axes(dim, x.ndim))
    return spread(g, x, dim, keepdim) / count
