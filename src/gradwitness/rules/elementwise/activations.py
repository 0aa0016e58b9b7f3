"""Activation functions that torch runs as one operation."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.elementwise.pointwise import sigmoid_of
from gradwitness.rules.kernel_ops import where
from gradwitness.rules.registry import ALWAYS, UNLESS_TWICE, Array, elementwise, rule
from gradwitness.rules.scalar_rule import GIVEN, scalar_rule

scalar_rule(
    "aten.leaky_relu",
    "y = where(x > 0, x, negative_slope * x)",
    "where(x > 0, g, negative_slope * g)",
    meaning="lets the gradient through where the input was positive, and multiplies it by the "
    "negative slope elsewhere, at 0 too",
    parameters={"negative_slope": 0.01},
)


prelu = scalar_rule(
    "aten._prelu_kernel",
    "y = where(x > 0, x, w * x)",
    {"x": "where(x > 0, g, w * g)", "w": "where(x > 0, 0, x * g)"},
    meaning="lets the gradient through where the input was positive, and multiplies it by the "
    "weight elsewhere, at 0 too; the weight's own gradient is g x where the input was not positive",
)


@elementwise(
    "aten.elu",
    "y = where(x > 0, scale * x, alpha * scale * (exp(input_scale * x) - 1))",
    meaning="multiplies the gradient by the slope: scale where the input was positive, elsewhere, "
    "at 0 too, alpha * scale * input_scale * exp(input_scale * x)",
)
def elu(
    x: Array,
    *,
    alpha: Any = 1,
    scale: Any = 1,
    input_scale: Any = 1,
    in_place: bool = False,  # noqa: ARG001 (the vjp reads it)
) -> Array:
    low = np.minimum(x, 0)  # exponentiate no positive number
    return where(x > 0, scale * x, alpha * scale * np.expm1(input_scale * low))


@elu.vjp(
    "x",
    "g * where(x > 0, scale, input_scale * where(in_place, y + alpha * scale, "
    "alpha * scale * exp(input_scale * minimum(x, 0))))",
    kernel=ALWAYS,
)
def _(
    g: Array, y: Array, x: Array, *, alpha: Any, scale: Any, input_scale: Any, in_place: bool
) -> Array:
    if in_place:
        # All that is left is the rounded result, which is near -alpha * scale far below zero.
        return where(y > 0, g * scale, g * input_scale * (y + alpha * scale))
    low = np.exp(input_scale * np.minimum(x, 0))
    return where(x > 0, g * scale, g * input_scale * (alpha * scale) * low)


def _single(number: Any) -> Any:
    """Return a number as float32 has it: torch keeps some constants so, for float64 too."""
    return float(np.float32(number)) if isinstance(number, int | float) else number


@elementwise(
    "aten.celu",
    "y = where(x > 0, x, alpha * (exp(x / alpha) - 1))",
    meaning="multiplies the gradient by exp(x / alpha) where the input was not positive",
)
def celu(
    x: Array,
    *,
    alpha: Any = 1.0,
    in_place: bool = False,  # noqa: ARG001 (the vjp reads it)
) -> Array:
    return where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))


@celu.vjp(
    "x",
    "g * where(x > 0, 1, where(in_place, y + alpha, alpha * exp(minimum(x, 0) / float32(alpha))) "
    "/ float32(alpha))",
    kernel=ALWAYS,
)
def _(g: Array, y: Array, x: Array, *, alpha: Any, in_place: bool) -> Array:
    # Multiplied and divided by alpha, as torch does, which runs it as an elu.
    inner = 1 / _single(alpha)
    if in_place:
        return where(y > 0, g, g * inner * (y + alpha))
    return where(x > 0, g, g * (inner * alpha * np.exp(np.minimum(x, 0) * inner)))


hardtanh = scalar_rule(
    "aten.hardtanh",
    "y = where(x <= min_val, min_val, where(x >= max_val, max_val, x))",
    "where(x <= min_val, 0, where(x >= max_val, 0, g))",
    meaning="lets the gradient through strictly between the two limits; at a limit it gives 0",
    parameters={"min_val": -1, "max_val": 1},
)

scalar_rule(
    "aten.hardsigmoid",
    "y = where(x <= -3, 0, where(x >= 3, 6, x + 3)) / 6",
    "where(x > -3, where(x < 3, g * float32(1 / 6), 0), 0)",
    meaning="divides the gradient by 6 strictly between -3 and 3, and gives 0 elsewhere",
)


hardswish = scalar_rule(
    "aten.hardswish",
    "y = x * where(x <= -3, 0, where(x >= 3, 6, x + 3)) / 6",
    "where(x <= -3, 0, where(x >= 3, g, g * (x / 3 + 1 / 2)))",
    meaning="multiplies the gradient by x / 3 + 1/2 between -3 and 3, by 0 below, by 1 above",
    kernel=ALWAYS,
)


@elementwise(
    "aten.softplus",
    "y = where(beta * x > threshold, x, log1p(exp(beta * x)) / beta)",
    meaning="multiplies the gradient by the sigmoid of beta x, and passes it on unchanged where "
    "beta x is above the threshold",
)
def softplus(x: Array, *, beta: Any = 1, threshold: Any = 20) -> Array:
    soft = np.log1p(np.exp(beta * x)) / beta
    return where(beta * x > threshold, x, soft)


@softplus.vjp("x", "where(beta * x > threshold, g, g / (1 + exp(-beta * x)))", kernel=ALWAYS)
def _(g: Array, x: Array, *, beta: Any, threshold: Any) -> Array:
    z = np.exp(beta * x)
    return where(beta * x > threshold, g, g * z / (z + 1))


# The tanh of more than this is 1 in every format.
_SATURATED = 100


@elementwise(
    "aten.mish",
    "y = x * tanh(log1p(exp(x)))",
    meaning="multiplies the gradient by t + x s (1 - t^2), s being the sigmoid of the input and t "
    "the tanh of its softplus",
)
def mish(x: Array) -> Array:
    return x * np.tanh(np.log1p(np.exp(np.minimum(x, _SATURATED))))


@mish.vjp(
    "x",
    "g * (tanh(log1p(exp(x))) + x / (1 + exp(-x)) * (1 - tanh(log1p(exp(x))) ** 2))",
    kernel=UNLESS_TWICE,
)
def _(g: Array, x: Array) -> Array:
    t = np.tanh(np.log1p(np.exp(np.minimum(x, _SATURATED))))
    s = sigmoid_of(x)
    return g * (t + x * s * (1 - t * t))


scalar_rule(
    "aten.threshold",
    "y = where(x <= threshold, value, x)",
    "where(x <= threshold, 0, g)",
    meaning="lets the gradient through where the input was above the threshold; at it, it gives 0",
    parameters={"threshold": GIVEN, "value": GIVEN},
)

softshrink = scalar_rule(
    "aten.softshrink",
    "y = where(x > lambd, x - lambd, where(x < -lambd, x + lambd, 0))",
    "where(abs(x) <= lambd, 0, g)",
    meaning="lets the gradient through where the input was further than lambd from 0",
    parameters={"lambd": 0.5},
)

hardshrink = scalar_rule(
    "aten.hardshrink",
    "y = where(abs(x) <= lambd, 0, x)",
    "where(abs(x) <= lambd, 0, g)",
    meaning="lets the gradient through where the input was further than lambd from 0",
    parameters={"lambd": 0.5},
)


_RANDOM_SLOPE = (
    "lets the gradient through where the input was positive, and elsewhere multiplies it by the "
    "slope that was drawn, or, outside of training, by the mean of the limits"
)


def _sloped(x: Array, g: Array, lower: Any, upper: Any) -> Array:
    """Return g where x is positive, and elsewhere g times the mean of two limits."""
    return where(x > 0, g, (lower + upper) / 2 * g)


@rule(
    "aten.rrelu_with_noise",
    "y = rrelu(x, noise, lower, upper, training)",
    meaning=_RANDOM_SLOPE,
    ignores=("generator",),
    doubles=("lower", "upper"),
)
def rrelu(
    x: Array, *, noise: Array, lower: Any = 1 / 8, upper: Any = 1 / 3, training: bool = False
) -> Array:
    if not training:
        return _sloped(x, x, lower, upper)
    # The slopes as they were drawn. Any between the limits is right.
    return where(x > 0, x, np.minimum(np.maximum(noise, lower), upper) * x)


@rrelu.vjp("x", "g * where(x > 0, 1, noise if training else (lower + upper) / 2)")
def _(g: Array, x: Array, *, noise: Array, lower: Any, upper: Any, training: bool) -> Array:
    return where(x > 0, g, noise * g) if training else _sloped(x, g, lower, upper)


def _halves(x: Array, dim: int) -> Any:
    return np.split(x, 2, axis=dim)


@rule(
    "aten.glu",
    "y = half(x, dim, 0) / (1 + exp(-half(x, dim, 1)))",
    meaning="multiplies the gradient by the sigmoid s of the second half for the first, and by "
    "a s (1 - s), a being the first half, for the second",
)
def glu(x: Array, *, dim: int = -1) -> Array:
    a, b = _halves(x, dim)
    return a * sigmoid_of(b)


@glu.vjp(
    "x",
    "join(g / (1 + exp(-half(x, dim, 1))), "
    "g * half(x, dim, 0) * exp(-half(x, dim, 1)) / (1 + exp(-half(x, dim, 1))) ** 2, dim)",
)
def _(g: Array, x: Array, *, dim: int) -> Array:
    a, b = _halves(x, dim)
    s = sigmoid_of(b)
    return np.concatenate([g * s, g * a * s * (1 - s)], axis=dim)
