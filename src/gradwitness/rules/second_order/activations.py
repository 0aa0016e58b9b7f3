"""Backward kernels of activation functions, as operations.

Each is ``dy f'(x)``, by the rule of the function f itself; differentiated once more, it sends
``g f'(x)`` to dy and ``g dy f''(x)`` to x.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.elementwise.activations import (
    elu,
    glu,
    hardshrink,
    hardswish,
    hardtanh,
    prelu,
    softplus,
    softshrink,
)
from gradwitness.rules.elementwise.pointwise import DENSITY, TANH_CUBE, TANH_SCALE, gelu, sigmoid_of
from gradwitness.rules.reduce.softmax import log_sigmoid
from gradwitness.rules.registry import Array, Rule, elementwise, rule
from gradwitness.rules.second_order.transposed_parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Callable


def _twice(
    forward: Rule,
    does: str,
    text: str = "",
    bend: Callable[..., Array] | None = None,
    **renamed: str,
) -> None:
    """Enter the backward of an elementwise function.

    ``does`` is the meaning's words for what it does to the gradient. ``bend`` is the second
    derivative, of x and the function's parameters, and ``text`` its formula; without them the
    function is linear in pieces. ``renamed`` says what the backward calls those parameters.
    """
    parameters = Parameters(forward, renamed)

    def slope(dy: Array, x: Array, **how: Any) -> Array:
        return forward.gradients["x"](dy, x, (x,), parameters.own(how))

    formula = forward.gradients["x"].text
    entered = elementwise(
        f"{forward.name}_backward",
        "y = " + parameters.worded(formula, g="dy", y="x"),
        meaning=f"multiplies the gradient by {does}",
        doubles=forward.doubles,
    )(parameters.given_to(slope, "dy", "x"))

    entered.vjp("dy", parameters.worded(formula, y="x"))(lambda g, x, **how: slope(g, x, **how))
    if bend is None:
        entered.constant_in("x")
        return

    @entered.vjp("x", f"g * dy * {text}")
    def _(g: Array, dy: Array, x: Array, **how: Any) -> Array:
        return g * dy * bend(x, **parameters.own(how))


def _sigmoid(x: Array) -> tuple[Array, Array]:
    """Return the sigmoid s and its slope, a difference as torch makes it: s (1 - s)."""
    s = sigmoid_of(x)
    return s, s * (1 - s)


def _of_elu(
    x: Array, *, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1, in_place: bool = False
) -> Array:
    if in_place:  # x is the result, whose slope is input_scale (x + alpha scale)
        return np.where(x < 0, input_scale * np.ones_like(x), 0)
    low = input_scale * input_scale * (alpha * scale) * np.exp(input_scale * np.minimum(x, 0))
    return np.where(x < 0, low, 0)


def _of_gelu(x: Array, *, approximate: str = "none") -> Array:
    if approximate == "tanh":
        t = np.tanh(TANH_SCALE * (x + TANH_CUBE * (x * x * x)))
        inner = TANH_SCALE * (1 + 3 * TANH_CUBE * (x * x))
        steep = 1 - t * t
        return steep * inner + 0.5 * x * steep * (6 * TANH_SCALE * TANH_CUBE * x - 2 * t * inner**2)
    density = DENSITY * np.exp(-0.5 * (x * x))
    return 2 * density - x * x * density


def _of_softplus(x: Array, *, beta: Any = 1, threshold: Any = 20) -> Array:
    return np.where(beta * x < threshold, beta * _sigmoid(beta * x)[1], 0)


def _of_hardswish(x: Array) -> Array:
    return np.where((x > -3) & (x < 3), np.ones_like(x) / 3, 0)


_twice(
    elu,
    "the slope, and the slope's own slope for the input",
    "where(x < 0, where(is_result, input_scale, "
    "input_scale * input_scale * alpha * scale * exp(input_scale * minimum(x, 0))), 0)",
    _of_elu,
    in_place="is_result",
)
_twice(
    gelu,
    "Phi(x) + x phi(x), and for the input by 2 phi(x) + x phi'(x)",
    "(2 * phi(x, approximate) + x * phi_slope(x, approximate))",
    _of_gelu,
)
_twice(
    softplus,
    "the sigmoid s of beta x, and for the input by beta s (1 - s)",
    "where(beta * x < threshold, beta * exp(-beta * x) / (1 + exp(-beta * x)) ** 2, 0)",
    _of_softplus,
)
_twice(
    hardswish,
    "x / 3 + 1/2, and for the input by 1/3, between -3 and 3",
    "where(abs(x) < 3, 1 / 3, 0)",
    _of_hardswish,
)
_twice(hardtanh, "1 strictly between the two limits, and by 0 elsewhere and for the input")
_twice(softshrink, "1 further than lambd from 0, and by 0 elsewhere and for the input")
_twice(hardshrink, "1 further than lambd from 0, and by 0 elsewhere and for the input")


@rule(
    "aten.log_sigmoid_backward",
    "y = dy / (1 + exp(x))",
    meaning="multiplies the gradient by the sigmoid s of -x, and for the input by -s (1 - s) times "
    "the gradient that was sent through",
    ignores=("buffer",),
    composite=True,  # the buffer holds exp(-|x|) in the tensor's format
)
def log_sigmoid_backward(dy: Array, x: Array) -> Array:
    return log_sigmoid.gradients["x"]((dy,), None, (x,), {})


log_sigmoid_backward.vjp("dy", "g / (1 + exp(x))")(
    lambda g, x: log_sigmoid.gradients["x"]((g,), None, (x,), {})
)
log_sigmoid_backward.vjp("x", "-g * dy * exp(x) / (1 + exp(x)) ** 2")(
    lambda g, dy, x: -(g * dy * _sigmoid(x)[1])
)


@rule(
    "aten.glu_backward",
    "y = join(dy / (1 + exp(-half(x, dim, 1))), "
    "dy * half(x, dim, 0) * exp(-half(x, dim, 1)) / (1 + exp(-half(x, dim, 1))) ** 2, dim)",
    meaning="weighs the gradient's two halves by the sigmoid of the second half of the input and "
    "by its slope, and has their products with the gradient that was sent through for the input",
    composite=True,
)
def glu_backward(dy: Array, x: Array, *, dim: int) -> Array:
    return glu.gradients["x"](dy, None, (x,), {"dim": dim})


@glu_backward.vjp(
    "dy",
    "half(g, dim, 0) / (1 + exp(-half(x, dim, 1))) + half(g, dim, 1) * half(x, dim, 0) "
    "* exp(-half(x, dim, 1)) / (1 + exp(-half(x, dim, 1))) ** 2",
)
def _(g: Array, x: Array, *, dim: int) -> Array:
    a, b = np.split(x, 2, axis=dim)
    of_a, of_b = np.split(g, 2, axis=dim)
    s, slope = _sigmoid(b)
    return of_a * s + of_b * a * slope


@glu_backward.vjp(
    "x",
    "join(half(g, dim, 1) * dy * exp(-half(x, dim, 1)) / (1 + exp(-half(x, dim, 1))) ** 2, "
    "(half(g, dim, 0) + half(g, dim, 1) * half(x, dim, 0) * (1 - 2 / (1 + exp(-half(x, dim, 1)))))"
    " * dy * exp(-half(x, dim, 1)) / (1 + exp(-half(x, dim, 1))) ** 2, dim)",
)
def _(g: Array, dy: Array, x: Array, *, dim: int) -> Array:
    a, b = np.split(x, 2, axis=dim)
    of_a, of_b = np.split(g, 2, axis=dim)
    s, slope = _sigmoid(b)
    to_gate = of_a * dy * slope + of_b * dy * a * slope * (1 - 2 * s)
    return np.concatenate([of_b * dy * slope, to_gate], axis=dim)


@rule(
    "aten._prelu_kernel_backward",
    "y = where(x > 0, dy, w * dy), where(x > 0, 0, x * dy)",
    meaning="lets the gradient through where the input was positive; elsewhere it adds w times "
    "that for the input and x times that for the weight, of which each gets the other's times the "
    "gradient that was sent through",
)
def prelu_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
    to_x, to_w = (prelu.gradients[name](dy, None, (x, w), {}) for name in "xw")
    return to_x, to_w


prelu_backward.vjp("dy", "where(x > 0, g[0], w * g[0] + x * g[1])")(
    lambda g, x, w: np.where(x > 0, g[0], w * g[0] + x * g[1])
)
prelu_backward.vjp("x", "where(x > 0, 0, dy * g[1])")(
    lambda g, dy, x: np.where(x > 0, 0, dy * g[1])
)
prelu_backward.vjp("w", "where(x > 0, 0, dy * g[0])")(
    lambda g, dy, x: np.where(x > 0, 0, dy * g[0])
)


# As torch has it: a range of slopes that is no wider than this is none.
_NO_RANGE = 1e-6


@rule(
    "aten.rrelu_with_noise_backward",
    "y = where(training, noise, where(x > 0, 1, (lower + upper) / 2)) * dy",
    meaning="multiplies the gradient by the slope that was drawn, or, outside of training, by the "
    "mean of the limits where the input was not positive; that input itself gets 0",
    # Of the result the signs are the same, for the slopes are positive.
    ignores=("self_is_result",),
    doubles=("lower", "upper"),
)
def rrelu_backward(
    dy: Array, x: Array, noise: Array, *, lower: Any, upper: Any, training: bool
) -> Array:
    if training and np.all(upper - lower > _NO_RANGE):
        return noise * dy
    return np.where(x > 0, dy, (lower + upper) / 2 * dy)


@rrelu_backward.vjp("dy", "where(training, noise, where(x > 0, 1, (lower + upper) / 2)) * g")
def _(g: Array, x: Array, noise: Array, *, lower: Any, upper: Any, training: bool) -> Array:
    return rrelu_backward.function(g, x, noise, lower=lower, upper=upper, training=training)


rrelu_backward.constant_in("x")
