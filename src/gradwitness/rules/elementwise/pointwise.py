"""Elementwise operations and activations."""

from __future__ import annotations

import math

import numpy as np

from gradwitness.rules.elementwise.error_function import erf
from gradwitness.rules.kernel_ops import is_complex, over, power, where
from gradwitness.rules.registry import ALWAYS, UNLESS_TWICE, Array, elementwise
from gradwitness.rules.scalar_rule import scalar_rule

scalar_rule(
    "aten.add",
    "y = a + alpha * b",
    {"a": "g", "b": "alpha * g"},
    meaning="passes the gradient on to both summands",
    parameters={"alpha": 1},
    composite=True,
)

_DIFFERENCE = "passes the gradient on to the minuend, and its negative to the subtrahend"
scalar_rule(
    "aten.sub",
    "y = a - alpha * b",
    {"a": "g", "b": "-alpha * g"},
    meaning=_DIFFERENCE,
    parameters={"alpha": 1},
    composite=True,
)
scalar_rule(
    "aten.rsub",
    "y = b - alpha * a",
    {"a": "-alpha * g", "b": "g"},
    meaning=_DIFFERENCE,
    parameters={"alpha": 1},
    composite=True,
)

scalar_rule(
    "aten.mul",
    "y = a * b",
    {"a": "g * b", "b": "g * a"},
    meaning="multiplies the gradient by the other factor",
)


@elementwise(
    "aten.div",
    "y = rounded(a / b, rounding_mode)",
    meaning="divides the gradient by the denominator; the denominator's own gradient is -g a / "
    "b^2; where the quotient is rounded to a whole number, both are 0",
    # In 16 bits the quotient is stored before it is cut off.
    composite=True,
)
def div(a: Array, b: Array, *, rounding_mode: str | None = None) -> Array:
    if rounding_mode == "floor":
        return np.floor_divide(a, b)
    return a / b if rounding_mode is None else np.trunc(a / b)


div.vjp("a", "where(rounding_mode is None, g / b, 0)")(
    lambda g, b, *, rounding_mode: g / b if rounding_mode is None else np.zeros_like(g)
)


@div.vjp("b", "where(rounding_mode is None, -g * ((a / b) / b), 0)")
def _(g: Array, a: Array, b: Array, *, rounding_mode: str | None) -> Array:
    return -g * ((a / b) / b) if rounding_mode is None else np.zeros_like(g)


scalar_rule(
    "aten.neg", "y = -x", "-g", meaning="changes the gradient's sign", aliases=("aten._neg_view",)
)


@elementwise(
    "aten.pow",
    "y = x ** exponent",
    meaning="multiplies the gradient by exponent * x^(exponent - 1)",
    composite=True,
)
def pow_(x: Array, exponent: Array) -> Array:
    return power(x, exponent)


@pow_.vjp("x", "g * (exponent * x ** (exponent - 1))")
def _(g: Array, x: Array, exponent: Array) -> Array:
    # At exponent 0 the gradient is 0 everywhere, also at x = 0, where the formula has 0 * inf.
    zero = np.equal(exponent, 0)
    safe = where(zero, 1, x) if np.any(zero) else x
    return g * (exponent * power(safe, exponent - 1))


@pow_.vjp("exponent", "g * (y * log(x))")
def _(g: Array, y: Array, x: Array, exponent: Array) -> Array:
    # torch's convention: 0 where x is 0 and the exponent is not negative.
    at_zero = np.equal(x, 0) & np.greater_equal(np.real(exponent), 0)
    safe = where(at_zero, 1, x) if np.any(at_zero) else x
    return where(at_zero, 0, g * (y * np.log(safe)))


scalar_rule("aten.exp", "y = exp(x)", "g * y", meaning="multiplies the gradient by the result")

scalar_rule("aten.log", "y = log(x)", "g / x", meaning="divides the gradient by the input")

scalar_rule(
    "aten.sqrt", "y = sqrt(x)", "g / (2 * y)", meaning="divides the gradient by twice the result"
)

scalar_rule(
    "aten.reciprocal", "y = 1 / x", "-g * (y * y)", meaning="multiplies the gradient by -y^2"
)

scalar_rule(
    "aten.rsqrt",
    "y = 1 / sqrt(x)",
    "-0.5 * g * (y * y * y)",
    meaning="multiplies the gradient by -y^3 / 2",
    composite=True,
)

scalar_rule(
    "aten.expm1",
    "y = expm1(x)",
    "g * (y + 1)",
    meaning="multiplies the gradient by the result plus 1",
)

scalar_rule(
    "aten.exp2",
    "y = exp2(x)",
    "g * y * log(2)",
    meaning="multiplies the gradient by log(2) times the result",
)

scalar_rule("aten.log1p", "y = log1p(x)", "g / (1 + x)", meaning="divides the gradient by 1 + x")

scalar_rule(
    "aten.log2", "y = log2(x)", "g / (x * log(2))", meaning="divides the gradient by x log(2)"
)

scalar_rule(
    "aten.log10",
    "y = log10(x)",
    # log(10) lies half way between two doubles, and torch takes this one.
    "g / (x * 2.3025850929940456)",
    meaning="divides the gradient by x log(10)",
)

scalar_rule(
    "aten.erf",
    "y = erf(x)",
    "g * (2 / sqrt(pi) * exp(-(x * x)))",
    meaning="multiplies the gradient by 2 / sqrt(pi) exp(-x^2)",
)


scalar_rule("aten.sin", "y = sin(x)", "g * cos(x)", meaning="multiplies the gradient by cos(x)")

scalar_rule("aten.cos", "y = cos(x)", "-g * sin(x)", meaning="multiplies the gradient by -sin(x)")


@elementwise(
    "aten.abs",
    "y = abs(x)",
    meaning="multiplies the gradient by the sign of the input; by 0 at 0, as torch has it",
)
def absolute(x: Array) -> Array:
    return np.absolute(x)


@absolute.vjp("x", "g * sign(x)")
def _(g: Array, x: Array) -> Array:
    if is_complex(x):
        return g * over(x, np.absolute(x))
    # A selection, not a product: nothing is rounded, so the check is exact.
    # The sign of NaN is 0, as torch has it; 0 times an infinite gradient is NaN.
    none = where(np.isfinite(g), 0, np.nan)
    return where(np.greater(x, 0), g, where(np.less(x, 0), -g, none))


scalar_rule(
    "aten.relu",
    # Not x > 0: torch lets NaN through, both ways.
    "y = where(x <= 0, 0, x)",
    # By the result, which the next layer needs anyway: x can be let go.
    "where(y <= 0, 0, g)",
    meaning="lets the gradient through where the input was positive; at 0 it gives 0",
)


def _falling(x: Array) -> tuple[Array, Array]:
    """Return where x is not negative, and the exponential of -|x|: it does not overflow."""
    front = np.greater_equal(np.real(x), 0)
    return front, np.exp(where(front, -x, x))


def sigmoid_of(x: Array) -> Array:
    """Return the sigmoid, by the exponentials of numbers not above 0."""
    front, e = _falling(x)
    return where(front, 1, e) / (1 + e)


def sigmoid_slope(x: Array) -> Array:
    """Return the sigmoid's derivative: sigmoid(x) sigmoid(-x)."""
    _, e = _falling(x)
    return e / ((1 + e) * (1 + e))


@elementwise(
    "aten.sigmoid", "y = 1 / (1 + exp(-x))", meaning="multiplies the gradient by y (1 - y)"
)
def sigmoid(x: Array) -> Array:
    return sigmoid_of(x)


sigmoid.vjps(x="g * y * (1 - y)")
sigmoid.precisely("x", "g * sigmoid(x) * sigmoid(-x)")(lambda g, x: g * sigmoid_slope(x))


scalar_rule(
    "aten.tanh",
    "y = tanh(x)",
    "g * (1 - y * y)",
    meaning="multiplies the gradient by 1 - y^2",
    kernel=ALWAYS,
).precisely("x", "g / (cosh(x) * cosh(x))")(lambda g, x: g / np.cosh(x) / np.cosh(x))


@elementwise(
    "aten.silu",
    "y = x / (1 + exp(-x))",
    meaning="multiplies the gradient by s (1 + x (1 - s)), s being the sigmoid of the input",
)
def silu(x: Array) -> Array:
    front, e = _falling(x)
    return x * where(front, 1, e) / (1 + e)


@silu.vjp("x", "g * (1 / (1 + exp(-x))) * (1 + x * (1 - 1 / (1 + exp(-x))))", kernel=UNLESS_TWICE)
def _(g: Array, x: Array) -> Array:
    s = sigmoid_of(x)
    return g * s * (1 + x * (1 - s))


_ROOT_HALF = math.sqrt(0.5)
DENSITY = 1 / math.sqrt(2 * math.pi)
# The tanh form: 0.5 x (1 + tanh(TANH_SCALE (x + TANH_CUBE x^3))), Hendrycks and Gimpel 2016.
TANH_SCALE = math.sqrt(2 / math.pi)
TANH_CUBE = 0.044715


@elementwise(
    "aten.gelu",
    "y = x * Phi(x, approximate)",
    meaning="multiplies the gradient by Phi(x) + x phi(x), the normal distribution and its density",
)
def gelu(x: Array, *, approximate: str = "none") -> Array:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(TANH_SCALE * (x + TANH_CUBE * (x * x * x))))
    return 0.5 * x * (1 + erf(x * _ROOT_HALF))


@gelu.vjp("x", "g * (Phi(x, approximate) + x * phi(x, approximate))", kernel=ALWAYS)
def _(g: Array, x: Array, *, approximate: str) -> Array:
    if approximate == "tanh":
        t = np.tanh(TANH_SCALE * (x + TANH_CUBE * (x * x * x)))
        inner = TANH_SCALE * (1 + 3 * TANH_CUBE * (x * x))
        return g * (0.5 * (1 + t) + 0.5 * x * ((1 - t * t) * inner))
    density = DENSITY * np.exp(-0.5 * (x * x))
    return g * (0.5 * (1 + erf(x * _ROOT_HALF)) + x * density)
