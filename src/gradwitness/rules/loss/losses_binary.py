"""Losses over two classes that torch runs at once. ``reduction``: 0 none, 1 mean, 2 sum."""

from __future__ import annotations

import math

import numpy as np

from gradwitness.rules.elementwise.pointwise import sigmoid_of
from gradwitness.rules.kernel_ops import round_as_kernel, where
from gradwitness.rules.loss.losses import MEAN, reduced, share
from gradwitness.rules.registry import Array, rule

# Torch's limits: no logarithm of a probability below this, and no smaller variance under a slope.
_LEAST_LOG = -100
_LEAST_VARIANCE = float(np.float32(1e-12))  # a float32 number for float64 too


def _limited_log(p: Array) -> Array:
    """Return the logarithm of a probability, or -100 where it is less."""
    least = p <= math.exp(_LEAST_LOG)
    return where(least, _LEAST_LOG, np.log(where(least, 1, p)))


def _limited_log1p(x: Array) -> Array:
    """Return the logarithm of 1 + x, or -100 where it is less: where 1 + x is 0 in every format."""
    return where(x <= -1, _LEAST_LOG, np.log1p(where(x <= -1, 0, x)))


def _weighed(terms: Array, weight: Array | None) -> Array:
    return terms if weight is None else terms * weight


def shared(terms: Array, x: Array, weight: Array | None, reduction: int) -> Array:
    """Return the gradients that terms of a loss get, by their weights and its reduction."""
    return _weighed(terms, weight) * share(x.size, reduction)


@rule(
    "aten.binary_cross_entropy",
    "y = reduce(weighed((t - 1) * limited_log(1 - x) - t * limited_log(x), weight), reduction)",
    meaning="multiplies the gradient by (x - t) / (x (1 - x)), the denominator being 10^-12 at "
    "least, and by the weight, divided by the number of terms for a mean",
    composite=True,
)
def binary_cross_entropy(
    x: Array, t: Array, weight: Array | None, *, reduction: int = MEAN
) -> Array:
    terms = (t - 1) * _limited_log1p(-x) - t * _limited_log(x)
    return reduced(_weighed(terms, weight), reduction)


@binary_cross_entropy.vjp(
    "x", "weighed(g * (x - t) / at_least(x * (1 - x), 1e-12), weight) / share(x, reduction)"
)
def _(g: Array, x: Array, t: Array, weight: Array | None, *, reduction: int) -> Array:
    slope = g * (x - t) / np.maximum((1 - x) * x, _LEAST_VARIANCE)
    return shared(slope, x, weight, reduction)


@binary_cross_entropy.vjp("t", "weighed(g * (log(1 - x) - log(x)), weight) / share(x, reduction)")
def _(g: Array, x: Array, weight: Array | None, *, reduction: int) -> Array:
    # Without limits, here.
    slope = g * (np.log1p(-x) - np.log(x))
    return shared(slope, x, weight, reduction)


def _log_sigmoid(x: Array) -> Array:
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


@rule(
    "aten.binary_cross_entropy_with_logits",
    "y = reduce(weighed((1 - t) * x + raised(pos_weight, t) * log1p(exp(-x)), weight), reduction)",
    meaning="multiplies the gradient by the sigmoid of the input less the target, where a positive "
    "target counts by its weight, divided by the number of terms for a mean",
    composite=True,
)
def binary_cross_entropy_with_logits(
    x: Array,
    t: Array,
    weight: Array | None,
    pos_weight: Array | None,
    *,
    reduction: int = MEAN,
) -> Array:
    down = _log_sigmoid(x)
    if pos_weight is not None:
        down = down * ((pos_weight - 1) * t + 1)
    return reduced(_weighed((1 - t) * x - down, weight), reduction)


@binary_cross_entropy_with_logits.vjp(
    "x",
    "weighed(g * ((1 - t) - raised(pos_weight, t) / (1 + exp(x))), weight) / share(x, reduction)",
)
def _(
    g: Array, x: Array, t: Array, weight: Array | None, pos_weight: Array | None, *, reduction: int
) -> Array:
    if pos_weight is None:
        slope = sigmoid_of(x) - t
    else:
        slope = (pos_weight * t + 1 - t) * sigmoid_of(x) - pos_weight * t
    return shared(slope * g, x, weight, reduction)


@binary_cross_entropy_with_logits.vjp(
    "t",
    "weighed(g * ((raised(pos_weight, 1) - 1) * log1p(exp(-x)) - x), weight) / share(x, reduction)",
)
def _(
    g: Array, x: Array, weight: Array | None, pos_weight: Array | None, *, reduction: int
) -> Array:
    slope = -x if pos_weight is None else _log_sigmoid(-x) - pos_weight * _log_sigmoid(x)
    return shared(slope * g, x, weight, reduction)


# From here on, e^z may be off by more than itself in 16 bits: what is off is counted in z.
_STEEP = 16


def _log_of_exp(z: Array) -> Array:
    """Return z as e^z holds it: a rounding of e^z, also by a library, is less than one of z."""
    return round_as_kernel(z)


@rule(
    "aten.soft_margin_loss",
    "y = reduce(log1p(exp(-t * x)), reduction)",
    meaning="multiplies the gradient by -t z / (1 + z), z being exp(-t x), divided by the number "
    "of terms for a mean",
    composite=True,
)
def soft_margin_loss(x: Array, t: Array, *, reduction: int = MEAN) -> Array:
    z = -t * x
    large = _log_of_exp(np.maximum(z, _STEEP))
    large = large + np.log1p(np.exp(-large))
    return reduced(where(z > _STEEP, large, np.log1p(np.exp(np.minimum(z, _STEEP)))), reduction)


@soft_margin_loss.vjp("x", "-g * t * exp(-t * x) / (1 + exp(-t * x)) / share(x, reduction)")
def _(g: Array, x: Array, t: Array, *, reduction: int) -> Array:
    z = -t * x
    e = np.exp(np.minimum(z, _STEEP))
    part = where(z > _STEEP, sigmoid_of(_log_of_exp(np.maximum(z, _STEEP))), e / (1 + e))
    return -t * part * share(x.size, reduction) * g
