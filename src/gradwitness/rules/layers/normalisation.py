"""Normalisation over a layer, over groups of channels, over a batch.

Each is ``(x - m) r w + b`` with the mean m and ``r = 1 / sqrt(variance + eps)``. Kernels multiply
this out, ``x (r w) + (b - m r w)``, and backward too; so do the rules, because a mean that is large
against the deviation costs digits that way, and the bound has to say so.
"""

from __future__ import annotations

import math
import string
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness.rules.kernel_ops import (
    added_in_turn,
    corrected_mean,
    ignore_error,
    mean_over,
    round_to_format,
)
from gradwitness.rules.registry import ALWAYS, IN_ORDER, Array, Shaped, rule

if TYPE_CHECKING:
    from collections.abc import Mapping

Sizes: TypeAlias = tuple[int, ...]


def _moments(x: Array, mean: Array, over: Sizes, eps: Any) -> tuple[Array, Array]:
    """Return mean and inverse deviation over some axes, which stay with length 1.

    The deviation is that from the mean as it is stored.
    """
    gap = x - mean
    return mean, 1 / np.sqrt(mean_over(gap * gap, over) + eps)


def _input_gradient(g: Array, x: Array, mean: Array, r: Array, over: Sizes) -> Array:
    """Return ``r (g - mean(g) - n mean(g n))``, n being ``(x - mean) r``, multiplied out."""
    count = math.prod(x.shape[axis] for axis in over)
    of_x = np.sum(g * x, axis=over, keepdims=True)
    of_1 = np.sum(g, axis=over, keepdims=True)
    slope = (of_1 * mean - of_x) * (r * r * r) / count
    return g * r + slope * x + (-slope * mean - of_1 * r / count)


def _last(x: Array, normalized_shape: Sizes) -> Sizes:
    return tuple(range(x.ndim - len(normalized_shape), x.ndim))


def _row_by_row(terms: Array, shape: Sizes) -> Array:
    """Add up what lies before the last axes.

    On the CPU each thread adds its rows one by one into a buffer of the input's format, bfloat16
    too, and the buffers are added at the end.
    """
    rows = math.prod(terms.shape[: terms.ndim - len(shape)])
    return added_in_turn(np.reshape(terms, (rows, *shape)))


def _layer_apart(shapes: Mapping[str, Sizes], parameters: Mapping[str, Any]) -> str:
    """Return the axes that layer normalisation leaves apart, see `Rule`: the first ones, if any."""
    normalised = len(parameters["normalized_shape"])
    rows = string.ascii_letters[: len(shapes["x"]) - normalised] + "_" * normalised
    return f"{rows},,->{rows},{rows},{rows}" if rows.strip("_") else ""


def _elements_apart(shapes: Mapping[str, Sizes], parameters: Mapping[str, Any]) -> str:
    """Return those that the gradients of weight and bias leave apart: the last ones."""
    own = string.ascii_letters[: len(parameters["normalized_shape"])]
    x = "_" * (len(shapes["x"]) - len(own)) + own
    rows = "_" * len(x)
    return f"{x},{own},{own}->{x},{rows},{rows}"


@rule(
    "aten.native_layer_norm",
    "y = affine(normal(x, normalized_shape, eps), w, b), mean(x, normalized_shape), "
    "inverse_deviation(x, normalized_shape, eps)",
    meaning="takes out of the gradient, times the weight, its mean and its part along the "
    "normalised input, and divides by the deviation; weight and bias get sums over the batch",
    apart=_layer_apart,
    apart_for={"w": _elements_apart, "b": _elements_apart},
)
def layer_norm(
    x: Array, w: Array | None, b: Array | None, *, normalized_shape: Sizes, eps: Any
) -> tuple[Array, Array, Array]:
    over = _last(x, normalized_shape)
    mean, r = _moments(x, corrected_mean(x, over=over), over, eps)
    y = x * r - mean * r
    y = y if w is None else y * w
    return y if b is None else y + b, mean, r


@layer_norm.vjp(
    "x",
    "normal_input(g[0] if w is None else g[0] * w, x, normalized_shape, eps)",
    kernel=ALWAYS,
)
def _(g: Any, y1: Array, y2: Array, x: Array, w: Array | None, *, normalized_shape: Sizes) -> Array:
    scaled = g[0] if w is None else g[0] * w
    return _input_gradient(scaled, x, y1, y2, _last(x, normalized_shape))


@layer_norm.vjp("w", "add_up(g[0] * normal(x, normalized_shape, eps), shape(w))", kernel=ALWAYS)
def _(g: Any, y1: Array, y2: Array, x: Array, w: Shaped) -> Array:
    return _row_by_row(g[0] * (x * y2 - y1 * y2), w.shape)


@layer_norm.vjp("b", "add_up(g[0], shape(b))", kernel=ALWAYS)
def _(g: Any, b: Shaped) -> Array:
    return _row_by_row(g[0], b.shape)


def per_channel(w: Array, x: Array) -> Array:
    """Give one number for each channel, which is axis 1 of x, the axes of x."""
    return np.reshape(w, (1, w.shape[0], *(1,) * (x.ndim - 2)))


def _but_channel(x: Array) -> Sizes:
    return (0, *range(2, x.ndim))


def _statistics(
    x: Array, mean: Array | None, variance: Array | None, training: bool, eps: Any
) -> tuple[Array, Array]:
    if training or mean is None or variance is None:
        over = _but_channel(x)
        return _moments(x, round_to_format(mean_over(x, over)), over, eps)
    return per_channel(mean, x), 1 / np.sqrt(per_channel(variance, x) + eps)


@rule(
    "aten.native_batch_norm",
    "y = batch_norm(x, w, b, running_mean, running_var, training, eps)",
    meaning="takes out of the gradient its mean over the batch and its part along the normalised "
    "input, in training, and multiplies by weight over deviation; weight and bias get sums",
    aliases=("aten._native_batch_norm_legit", "aten._native_batch_norm_legit_no_training"),
    ignores=("momentum",),
    apart="_c,c,c,c,c->_c,c,c",
)
def batch_norm(
    x: Array,
    w: Array | None,
    b: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    *,
    training: bool = False,
    eps: Any,
) -> tuple[Array, Array, Array]:
    mean, r = map(round_to_format, _statistics(x, running_mean, running_var, training, eps))
    # The kernel for strides of any kind rounds the gap and its product with r as well.
    scale = round_to_format(round_to_format(r if w is None else r * per_channel(w, x)))
    # An error of the scale, which x and mean share, acts on the gap between them.
    factor = ignore_error(scale)
    shift = -mean * factor if b is None else per_channel(b, x) - mean * factor
    y = x * factor + shift
    if factor is not scale:
        y = y + (x - mean) * (scale - factor)
    kept = (mean, r) if training else (np.zeros_like(x, shape=(0,)),) * 2
    return (y, *(np.reshape(statistic, (statistic.size,)) for statistic in kept))


def _kept(
    saved_mean: Array,
    saved_inverse: Array,
    x: Array,
    mean: Array | None,
    variance: Array | None,
    training: bool,
    eps: Any,
) -> tuple[Array, Array]:
    """Return the statistics that backward starts from: in training the recorded ones."""
    if training:
        return per_channel(saved_mean, x), per_channel(saved_inverse, x)
    return _statistics(x, mean, variance, training, eps)


@batch_norm.vjp(
    "x",
    "batch_norm_input(g[0], x, w, running_mean, running_var, training, eps)",
    kernel=IN_ORDER,
)
def _(
    g: Any,
    y1: Array,
    y2: Array,
    x: Array,
    w: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    *,
    training: bool,
    eps: Any,
) -> Array:
    mean, r = _kept(y1, y2, x, running_mean, running_var, training, eps)
    scale = r if w is None else r * per_channel(w, x)
    if not training:
        return g[0] * scale
    over = _but_channel(x)
    count = math.prod(x.shape[axis] for axis in over)
    gap = x - mean
    along = np.sum(g[0] * gap, axis=over, keepdims=True) * r * r / count
    return (g[0] - np.sum(g[0], axis=over, keepdims=True) / count - gap * along) * scale


@batch_norm.vjp(
    "w", "batch_norm_weight(g[0], x, running_mean, running_var, training, eps)", kernel=IN_ORDER
)
def _(
    g: Any,
    y1: Array,
    y2: Array,
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    *,
    training: bool,
    eps: Any,
) -> Array:
    mean, r = _kept(y1, y2, x, running_mean, running_var, training, eps)
    return np.sum(g[0] * (x - mean), axis=_but_channel(x)) * np.reshape(r, (r.size,))


batch_norm.vjp("b", "sum_positions(g[0])", kernel=IN_ORDER)(
    lambda g, x: np.sum(g[0], axis=_but_channel(x))
)


# The form that always trains, and updates the running statistics.

_to_x, _to_w, _to_b = (batch_norm.gradients[operand].function for operand in ("x", "w", "b"))


@rule(
    "aten._batch_norm_with_update",
    "y = (*batch_norm(x, w, b, None, None, True, eps), None)",
    meaning="takes out of the gradient its mean over the batch and its part along the normalised "
    "input, and multiplies by weight over deviation; weight and bias get sums",
    ignores=("momentum", "running_mean", "running_var"),
)
def batch_norm_with_update(
    x: Array, w: Array | None, b: Array | None, *, eps: Any
) -> tuple[Array, Array, Array, None]:
    return *batch_norm.function(x, w, b, None, None, training=True, eps=eps), None


batch_norm_with_update.vjp(
    "x", "batch_norm_input(g[0], x, w, None, None, True, eps)", kernel=IN_ORDER
)(lambda g, y1, y2, x, w, *, eps: _to_x(g, y1, y2, x, w, None, None, training=True, eps=eps))
batch_norm_with_update.vjp(
    "w", "batch_norm_weight(g[0], x, None, None, True, eps)", kernel=IN_ORDER
)(lambda g, y1, y2, x, *, eps: _to_w(g, y1, y2, x, None, None, training=True, eps=eps))
batch_norm_with_update.vjp("b", "sum_positions(g[0])", kernel=IN_ORDER)(_to_b)
