"""Normalisation over groups of channels, and of a weight's rows.

A group norm is multiplied out as a layer norm is (see `normalisation`), with sums over each
channel first, which the weights of the channels then weigh.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwitness.rules.kernel_ops import corrected_mean, mean_over
from gradwitness.rules.reduce.sum_mean import all_but
from gradwitness.rules.registry import UNLESS_TWICE, Array, Shaped, rule


def _channels(x: Array, group: int) -> Array:
    """Give x the axes sample, group, channel of the group, position."""
    samples, channels = x.shape[:2]
    return np.reshape(x, (samples, group, channels // group, math.prod(x.shape[2:])))


def _of_channels(w: Array, group: int) -> Array:
    """Give one number for each channel those axes."""
    return np.reshape(w, (1, group, w.shape[0] // group, 1))


def _of_groups(kept: Array) -> Array:
    """Give one number for each group of a sample those axes."""
    return np.reshape(kept, (*kept.shape, 1, 1))


@rule(
    "aten.native_group_norm",
    "y = group_norm(x, w, b, group, eps), group_mean(x, group), group_rate(x, group, eps)",
    meaning="takes out of the gradient, times the weight, its mean over a group of channels and "
    "its part along the normalised input, and divides by the deviation; weight and bias get sums",
    ignores=("N", "C", "HxW"),
    apart="n,,->n,n,n",
)
def group_norm(
    x: Array, w: Array | None, b: Array | None, *, group: int, eps: Any
) -> tuple[Array, Array, Array]:
    split = _channels(x, group)
    mean = corrected_mean(split, over=(2, 3))
    gap = split - mean
    r = 1 / np.sqrt(mean_over(gap * gap, (2, 3)) + eps)
    scale = r if w is None else r * _of_channels(w, group)
    shift = -mean * scale if b is None else _of_channels(b, group) - mean * scale
    mean, r = (np.reshape(statistic, split.shape[:2]) for statistic in (mean, r))
    return np.reshape(split * scale + shift, x.shape), mean, r


def _by_statistics(g: Any, split: Array, r: Array) -> Array:
    """Return what comes in by the mean and the deviation, when a backward is differentiated."""
    count = split.shape[2] * split.shape[3]
    gap = split - np.sum(split, axis=(2, 3), keepdims=True) / count
    of_mean, of_r = _of_groups(g[1]), _of_groups(g[2])
    return of_mean / count - of_r * (r * r * r) / count * gap


@group_norm.vjp(
    "x",
    "group_norm_input(g[0] if w is None else channel_times(g[0], w), x, group, eps)"
    " + group_statistics_input(g[1], g[2], x, group, eps)",
    kernel=UNLESS_TWICE,
)
def _(g: Any, y1: Array, y2: Array, x: Array, w: Array | None, *, group: int) -> Array:
    split, of_y = _channels(x, group), _channels(g[0], group)
    count = split.shape[2] * split.shape[3]
    mean, r = _of_groups(y1), _of_groups(y2)
    of_x = np.sum(of_y * split, axis=3, keepdims=True)
    of_1 = np.sum(of_y, axis=3, keepdims=True)
    scale = r
    if w is not None:
        weight = _of_channels(w, group)
        of_x, of_1, scale = of_x * weight, of_1 * weight, r * weight
    of_x, of_1 = np.sum(of_x, axis=2, keepdims=True), np.sum(of_1, axis=2, keepdims=True)
    slope = (of_1 * mean - of_x) * (r * r * r) / count
    dx = of_y * scale + slope * split + (-slope * mean - of_1 * r / count)
    if np.any(np.not_equal(g[1], 0)) or np.any(np.not_equal(g[2], 0)):
        dx = dx + _by_statistics(g, split, r)
    return np.reshape(dx, x.shape)


@group_norm.vjp("w", "group_norm_weight(g[0], x, group, eps)", kernel=UNLESS_TWICE)
def _(g: Any, y1: Array, y2: Array, x: Array, *, group: int) -> Array:
    split, of_y = _channels(x, group), _channels(g[0], group)
    of_x, of_1 = np.sum(of_y * split, axis=3), np.sum(of_y, axis=3)
    mean, r = np.expand_dims(y1, 2), np.expand_dims(y2, 2)
    return np.reshape(np.sum((of_x - of_1 * mean) * r, axis=0), (x.shape[1],))


@group_norm.vjp("b", "sum_positions(g[0])", kernel=UNLESS_TWICE)
def _(g: Any, x: Shaped, *, group: int) -> Array:
    # In two steps, as torch does it where the backward is to be differentiated.
    return np.reshape(np.sum(np.sum(_channels(g[0], group), axis=3), axis=0), (x.shape[1],))


@rule(
    "aten._weight_norm_interface",
    "y = v * (s / length(v, dim)), length(v, dim)",
    meaning="takes out of the gradient its part along each row of the direction, and multiplies "
    "by magnitude over length; the magnitude gets the part along the unit vector",
)
def weight_norm(v: Array, s: Array, *, dim: int = 0) -> tuple[Array, Array]:
    length = np.sqrt(np.sum(v * v, axis=all_but(v, dim), keepdims=True))
    return v * (s / length), length


@weight_norm.vjp("v", "s / length(v, dim) * off_direction(g[0], v, dim)")
def _(g: Any, y1: Array, v: Array, s: Array, *, dim: int) -> Array:
    along = np.sum(g[0] * v, axis=all_but(v, dim), keepdims=True)
    return (s / y1) * (g[0] - v * (along / (y1 * y1)))


weight_norm.vjp("s", "along_direction(g[0], v, dim)")(
    lambda g, y1, v, *, dim: np.sum(g[0] * v, axis=all_but(v, dim), keepdims=True) / y1
)
