"""Circular and hyperbolic functions, their inverses, and lengths."""

from __future__ import annotations

import math

import numpy as np

from gradwitness.rules.registry import Array, rule

_DEGREE = math.pi / 180


@rule("aten.tan", "y = sin(x) / cos(x)", meaning="multiplies the gradient by 1 + y^2")
def tan(x: Array) -> Array:
    return np.tan(x)


@tan.vjp("x", "g * (1 + y * y)")
def _(g: Array, y: Array, x: Array) -> Array:
    return g * (1 + y * y)


@rule(
    "aten.asin",
    "y = arcsin(x)",
    meaning="divides the gradient by sqrt(1 - x^2)",
    aliases=("aten.arcsin",),
)
def asin(x: Array) -> Array:
    return np.arcsin(x)


@asin.vjp("x", "g / sqrt(1 - x * x)")
def _(g: Array, y: Array, x: Array) -> Array:
    return g * (1 / np.sqrt(1 - x * x))


@rule(
    "aten.acos",
    "y = pi / 2 - arcsin(x)",
    meaning="divides the gradient by -sqrt(1 - x^2)",
    aliases=("aten.arccos",),
)
def acos(x: Array) -> Array:
    return np.arccos(x)


@acos.vjp("x", "-g / sqrt(1 - x * x)")
def _(g: Array, y: Array, x: Array) -> Array:
    return -g * (1 / np.sqrt(1 - x * x))


@rule(
    "aten.atan",
    "y = angle(x, 1)",
    meaning="divides the gradient by 1 + x^2",
    aliases=("aten.arctan",),
)
def atan(x: Array) -> Array:
    return np.arctan(x)


@atan.vjp("x", "g / (1 + x * x)")
def _(g: Array, y: Array, x: Array) -> Array:
    return g / (1 + x * x)


@rule(
    "aten.atan2",
    "y = angle(a, b)",
    meaning="multiplies the gradient by b / (a^2 + b^2) for the first operand, and by -a / (a^2 + "
    "b^2) for the second",
    aliases=("aten.arctan2",),
    node="Atan2Backward",
)
def atan2(a: Array, b: Array) -> Array:
    return np.arctan2(a, b)


@atan2.vjp("a", "g * b / (a * a + b * b)")
def _(g: Array, y: Array, a: Array, b: Array) -> Array:
    return g * (b * (1 / (a * a + b * b)))


@atan2.vjp("b", "-g * a / (a * a + b * b)")
def _(g: Array, y: Array, a: Array, b: Array) -> Array:
    return g * (-a * (1 / (a * a + b * b)))


@rule("aten.sinh", "y = (exp(x) - exp(-x)) / 2", meaning="multiplies the gradient by cosh(x)")
def sinh(x: Array) -> Array:
    return np.sinh(x)


@sinh.vjp("x", "g * (exp(x) + exp(-x)) / 2")
def _(g: Array, y: Array, x: Array) -> Array:
    return g * np.cosh(x)


@rule("aten.cosh", "y = (exp(x) + exp(-x)) / 2", meaning="multiplies the gradient by sinh(x)")
def cosh(x: Array) -> Array:
    return np.cosh(x)


@cosh.vjp("x", "g * (exp(x) - exp(-x)) / 2")
def _(g: Array, y: Array, x: Array) -> Array:
    return g * np.sinh(x)


@rule(
    "aten.asinh",
    "y = log(x + sqrt(x * x + 1))",
    meaning="divides the gradient by sqrt(x^2 + 1)",
    aliases=("aten.arcsinh",),
)
def asinh(x: Array) -> Array:
    return np.arcsinh(x)


@asinh.vjp("x", "g / sqrt(x * x + 1)")
def _(g: Array, y: Array, x: Array) -> Array:
    return g * (1 / np.sqrt(x * x + 1))


@rule(
    "aten.acosh",
    "y = log(x + sqrt(x * x - 1))",
    meaning="divides the gradient by sqrt(x^2 - 1)",
    aliases=("aten.arccosh",),
)
def acosh(x: Array) -> Array:
    return np.arccosh(x)


@acosh.vjp("x", "g / sqrt(x * x - 1)")
def _(g: Array, y: Array, x: Array) -> Array:
    return g * (1 / np.sqrt(x * x - 1))


@rule(
    "aten.atanh",
    "y = log((1 + x) / (1 - x)) / 2",
    meaning="divides the gradient by 1 - x^2",
    aliases=("aten.arctanh",),
)
def atanh(x: Array) -> Array:
    return np.arctanh(x)


@atanh.vjp("x", "g / (1 - x * x)")
def _(g: Array, y: Array, x: Array) -> Array:
    return g * (1 / (1 - x * x))


@rule(
    "aten.sinc",
    "y = where(x == 0, 1, sin(pi * x) / (pi * where(x == 0, 1, x)))",
    meaning="multiplies the gradient by (cos(pi x) - y) / x; at 0 it gives 0",
)
def sinc(x: Array) -> Array:
    turned = np.pi * np.where(np.equal(x, 0), 1, x)
    return np.where(np.equal(x, 0), 1, np.sin(turned) / turned)


@sinc.vjp(
    "x",
    "g * where(x == 0, 0, (cos(pi * x) - sin(pi * x) / (pi * where(x == 0, 1, x))) "
    "/ where(x == 0, 1, x))",
)
def _(g: Array, y: Array, x: Array) -> Array:
    # Torch's composition of kernels, each of which rounds.
    safe = np.where(np.equal(x, 0), 1, x)
    turned = safe * np.pi
    square = safe * safe * np.pi
    slope = (turned * np.cos(turned) - np.sin(turned)) / square
    return np.where(np.equal(x, 0), 0, g * slope)


@rule(
    "aten.hypot",
    "y = sqrt(a * a + b * b)",
    meaning="multiplies the gradient by each side over the hypotenuse",
)
def hypot(a: Array, b: Array) -> Array:
    return np.hypot(a, b)


@hypot.vjp("a", "g * a / y")
def _(g: Array, y: Array, a: Array, b: Array) -> Array:
    return g * (a / y)


@hypot.vjp("b", "g * b / y")
def _(g: Array, y: Array, a: Array, b: Array) -> Array:
    return g * (b / y)


@rule("aten.deg2rad", "y = x * pi / 180", meaning="multiplies the gradient by pi / 180")
def deg2rad(x: Array) -> Array:
    return x * _DEGREE


@deg2rad.vjp("x", "g * pi / 180")
def _(g: Array, y: Array, x: Array) -> Array:
    return g * _DEGREE


@rule("aten.rad2deg", "y = x * 180 / pi", meaning="multiplies the gradient by 180 / pi")
def rad2deg(x: Array) -> Array:
    return x * (180 / math.pi)


@rad2deg.vjp("x", "g * 180 / pi")
def _(g: Array, y: Array, x: Array) -> Array:
    return g * (180 / math.pi)
