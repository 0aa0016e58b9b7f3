"""Convolutions, for any number of spatial axes, each as one matrix product.

With s the stride, d the dilation, p the padding and k a position in the kernel:
``y[n, o, i] = b[o] + sum_{c, k} w[o, c, k] x[n, c, s i + d k - p]``. Value and gradients are one
contraction over (c, k), (o, k) or (n, i), so that the bound covers every order of summation.
"""

from __future__ import annotations

import itertools
import math
from typing import TypeAlias

import numpy as np

from gradwitness.rules.registry import Array, rule

Sizes: TypeAlias = tuple[int, ...]


def _padded(x: Array, padding: Sizes) -> Array:
    return np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))


def _grouped(x: Array, groups: int) -> Array:
    """(N, C, ...) to (N, groups, C/groups, points)."""
    return np.reshape(x, (x.shape[0], groups, x.shape[1] // groups, math.prod(x.shape[2:])))


def _columns(
    x: Array, groups: int, kernel: Sizes, out: Sizes, stride: Sizes, dilation: Sizes
) -> Array:
    """Gather what each kernel position meets: (N, groups, K C/groups, points)."""
    met = []
    for k in itertools.product(*map(range, kernel)):
        window = tuple(
            slice(d * at, d * at + s * (n - 1) + 1, s)
            for at, n, s, d in zip(k, out, stride, dilation, strict=True)
        )
        met.append(_grouped(x[(slice(None), slice(None), *window)], groups))
    return np.concatenate(met, axis=2)


def _matrix(w: Array, groups: int) -> Array:
    """(O, C, ...) to (groups, O/groups, K C), kernel position before channel as in _columns."""
    moved = np.transpose(w, (0, *range(2, w.ndim), 1))
    return np.reshape(moved, (groups, w.shape[0] // groups, math.prod(w.shape[1:])))


def _spread_out(g: Array, stride: Sizes, reach: Sizes, sizes: Sizes) -> Array:
    """Put g on a grid of step ``stride``, after ``reach`` zeros, in ``sizes + reach`` places."""
    out = np.zeros_like(
        g, shape=(*g.shape[:2], *(n + r for n, r in zip(sizes, reach, strict=True)))
    )
    grid = tuple(
        slice(r, r + s * (n - 1) + 1, s) for n, s, r in zip(g.shape[2:], stride, reach, strict=True)
    )
    out[(slice(None), slice(None), *grid)] = g
    return out


def _check(transposed: bool) -> None:
    if transposed:
        raise NotImplementedError("transposed convolution")


@rule(
    "aten.convolution",
    "y = conv(x, w, stride, padding, dilation, groups) + channelwise(b)",
    meaning="correlates the gradient with the kernel for the input, and with the input for the "
    "kernel; the bias gets the gradient summed over batch and positions",
)
def convolution(
    x: Array,
    w: Array,
    b: Array | None,
    *,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> Array:
    del output_padding
    _check(transposed)
    xp = _padded(x, padding)
    kernel = w.shape[2:]
    out = tuple(
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(xp.shape[2:], kernel, stride, dilation, strict=True)
    )
    y = _matrix(w, groups) @ _columns(xp, groups, kernel, out, stride, dilation)
    y = np.reshape(y, (x.shape[0], w.shape[0], *out))
    return y if b is None else y + np.reshape(b, (1, -1, *(1,) * len(out)))


@convolution.vjp("x", "conv_input(g, x, w, stride, padding, dilation, groups)")
def _(
    g: Array,
    y: Array,
    x: Array,
    w: Array,
    b: Array | None,
    *,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> Array:
    _check(transposed)
    kernel = w.shape[2:]
    sizes = tuple(n + 2 * p for n, p in zip(x.shape[2:], padding, strict=True))
    reach = tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    # A correlation of the spread-out gradient with the kernel, turned round and transposed.
    turned = np.flip(w, tuple(range(2, w.ndim)))
    turned = np.reshape(turned, (groups, w.shape[0] // groups, *w.shape[1:]))
    turned = np.swapaxes(turned, 1, 2)
    turned = np.reshape(turned, (x.shape[1], w.shape[0] // groups, *kernel))
    ones = (1,) * len(sizes)
    met = _columns(_spread_out(g, stride, reach, sizes), groups, kernel, sizes, ones, dilation)
    dx = np.reshape(_matrix(turned, groups) @ met, (*x.shape[:2], *sizes))
    inside = tuple(slice(p, p + n) for n, p in zip(x.shape[2:], padding, strict=True))
    return dx[(slice(None), slice(None), *inside)]


@convolution.vjp("w", "conv_weight(g, x, w, stride, padding, dilation, groups)")
def _(
    g: Array,
    y: Array,
    x: Array,
    w: Array,
    b: Array | None,
    *,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> Array:
    _check(transposed)
    kernel = w.shape[2:]
    met = _columns(_padded(x, padding), groups, kernel, g.shape[2:], stride, dilation)
    # Batch and positions are summed over in one product.
    dw = _flat(_grouped(g, groups)) @ np.swapaxes(_flat(met), 1, 2)
    dw = np.reshape(dw, (w.shape[0], *kernel, w.shape[1]))
    return np.moveaxis(dw, -1, 1)


def _flat(x: Array) -> Array:
    """(N, groups, C, points) to (groups, C, N points)."""
    moved = np.transpose(x, (1, 2, 0, 3))
    return np.reshape(moved, (*moved.shape[:2], moved.shape[2] * moved.shape[3]))


@convolution.vjp("b", "sum_positions(g)")
def _(
    g: Array,
    y: Array,
    x: Array,
    w: Array,
    b: Array | None,
    *,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> Array:
    return np.sum(g, axis=(0, *range(2, g.ndim)))
