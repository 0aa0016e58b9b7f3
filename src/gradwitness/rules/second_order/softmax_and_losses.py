"""Backward kernels as operations of their own: what a gradient of a gradient runs through.

A program that differentiates a gradient once more (a penalty on it, a differential equation) makes
torch record the backward pass itself. There g stands for the gradient of that pass's result.
"""

from __future__ import annotations

import numpy as np

from gradwitness.rules.registry import Array, rule
from gradwitness.rules.scalar_rule import GIVEN, scalar_rule


@rule(
    "aten.tanh_backward",
    "y = dy * (1 - o * o)",
    meaning="multiplies the gradient by 1 - o^2 for the gradient that was sent through a tanh, and "
    "by -2 o times that gradient for the tanh's result o",
)
def tanh_backward(dy: Array, o: Array) -> Array:
    return dy * (1 - o * o)


tanh_backward.vjps(dy="g * (1 - o * o)")
tanh_backward.vjp("o", "-2 * g * o * dy")(lambda g, dy, o: g * (-2 * o * dy))


scalar_rule(
    "aten.sigmoid_backward",
    "y = dy * (1 - o) * o",
    {"dy": "g * (1 - o) * o", "o": "g * dy * (1 - 2 * o)"},
    meaning="multiplies the gradient by o (1 - o) for the gradient that was sent through a "
    "sigmoid, and by 1 - 2 o times that gradient for the sigmoid's result o",
)

scalar_rule(
    "aten.threshold_backward",
    "y = where(x > threshold, dy, 0)",
    {"dy": "where(x > threshold, g, 0)", "x": "0"},
    meaning="lets the gradient through where the input of a ReLU was above the threshold; that "
    "input itself gets 0",
    parameters={"threshold": GIVEN},
)

scalar_rule(
    "aten.leaky_relu_backward",
    "y = where(x > 0, dy, negative_slope * dy)",
    {"dy": "where(x > 0, g, negative_slope * g)", "x": "0"},
    meaning="multiplies the gradient by the negative slope where the input of a leaky ReLU was not "
    "positive; that input itself gets 0",
    # The result has the input's sign, as long as the slope is positive, which torch asks for then.
    ignores=("self_is_result",),
    parameters={"negative_slope": GIVEN},
)


def _sum(x: Array, dim: int) -> Array:
    return np.sum(x, axis=dim, keepdims=True) if x.ndim else x


@rule(
    "aten._softmax_backward_data",
    "y = o * (dy - repeat(sum(dy * o, dim, True), o, dim, True))",
    meaning="sends o (g - sum(g o)) to the gradient that was sent through a softmax, and g dy - "
    "g sum(dy o) - dy sum(g o) to the softmax's result o",
    ignores=("input_dtype",),
    composite=True,
)
def softmax_backward(dy: Array, o: Array, *, dim: int) -> Array:
    return o * (dy - _sum(dy * o, dim))


softmax_backward.vjp("dy", "o * (g - repeat(sum(g * o, dim, True), o, dim, True))")(
    lambda g, o, *, dim: o * (g - _sum(g * o, dim))
)


@softmax_backward.vjp(
    "o",
    "g * dy - g * repeat(sum(dy * o, dim, True), o, dim, True)"
    " - dy * repeat(sum(g * o, dim, True), o, dim, True)",
)
def _(g: Array, dy: Array, o: Array, *, dim: int) -> Array:
    return g * dy - g * _sum(dy * o, dim) - dy * _sum(g * o, dim)


@rule(
    "aten._log_softmax_backward_data",
    "y = dy - exp(o) * repeat(sum(dy, dim, True), o, dim, True)",
    meaning="sends g - sum(g exp(o)) to the gradient that was sent through a log-softmax, and "
    "-g exp(o) sum(dy) to the log-softmax's result o",
    ignores=("input_dtype",),
    composite=True,
)
def log_softmax_backward(dy: Array, o: Array, *, dim: int) -> Array:
    return dy - np.exp(o) * _sum(dy, dim)


log_softmax_backward.vjp("dy", "g - repeat(sum(g * exp(o), dim, True), o, dim, True)")(
    lambda g, o, *, dim: g - _sum(g * np.exp(o), dim)
)
log_softmax_backward.vjp("o", "-repeat(sum(dy, dim, True), o, dim, True) * exp(o) * g")(
    lambda g, dy, o, *, dim: -_sum(dy, dim) * np.exp(o) * g
)
