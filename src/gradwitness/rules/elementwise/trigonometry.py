"""Circular and hyperbolic functions, their inverses, and lengths."""

from __future__ import annotations

import numpy as np

from gradwitness.rules.kernel_ops import is_complex
from gradwitness.rules.registry import IN_BACKWARD, Array, elementwise, rule
from gradwitness.rules.scalar_rule import scalar_rule

scalar_rule(
    "aten.tan", "y = tan(x)", "g * (1 + y * y)", meaning="multiplies the gradient by 1 + y^2"
)

scalar_rule(
    "aten.asin",
    "y = arcsin(x)",
    "g * (1 / sqrt(1 - x * x))",
    meaning="divides the gradient by sqrt(1 - x^2)",
    aliases=("aten.arcsin",),
)

scalar_rule(
    "aten.acos",
    "y = arccos(x)",
    "-g * (1 / sqrt(1 - x * x))",
    meaning="divides the gradient by -sqrt(1 - x^2)",
    aliases=("aten.arccos",),
)

scalar_rule(
    "aten.atan",
    "y = arctan(x)",
    "g / (1 + x * x)",
    meaning="divides the gradient by 1 + x^2",
    aliases=("aten.arctan",),
)


@rule(
    "aten.atan2",
    "y = angle(a, b)",
    meaning="multiplies the gradient by b / (a^2 + b^2) for the first operand, and by -a / (a^2 + "
    "b^2) for the second",
    aliases=("aten.arctan2",),
    # The squares are made in the format of what is squared.
    composite=IN_BACKWARD,
    node="Atan2Backward",
)
def atan2(a: Array, b: Array) -> Array:
    return np.arctan2(a, b)


atan2.vjp("a", "g * b / (a * a + b * b)")(lambda g, a, b: g * (b * (1 / (a * a + b * b))))
atan2.vjp("b", "-g * a / (a * a + b * b)")(lambda g, a, b: g * (-a * (1 / (a * a + b * b))))


scalar_rule("aten.sinh", "y = sinh(x)", "g * cosh(x)", meaning="multiplies the gradient by cosh(x)")

scalar_rule("aten.cosh", "y = cosh(x)", "g * sinh(x)", meaning="multiplies the gradient by sinh(x)")

scalar_rule(
    "aten.asinh",
    "y = arcsinh(x)",
    "g * (1 / sqrt(x * x + 1))",
    meaning="divides the gradient by sqrt(x^2 + 1)",
    aliases=("aten.arcsinh",),
)


@elementwise(
    "aten.acosh",
    "y = arccosh(x)",
    meaning="divides the gradient by sqrt(x^2 - 1), of complex numbers by sqrt(x - 1) sqrt(x + 1)",
    aliases=("aten.arccosh",),
)
def acosh(x: Array) -> Array:
    return np.arccosh(x)


@acosh.vjp("x", "g / (sqrt(x - 1) * sqrt(x + 1))")
def _(g: Array, x: Array) -> Array:
    # The same for real numbers, as torch rounds.
    root = np.sqrt(x - 1) * np.sqrt(x + 1) if is_complex(x) else np.sqrt(x * x - 1)
    return g * (1 / root)


scalar_rule(
    "aten.atanh",
    "y = arctanh(x)",
    "g * (1 / (1 - x * x))",
    meaning="divides the gradient by 1 - x^2",
    aliases=("aten.arctanh",),
)


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
def _(g: Array, x: Array) -> Array:
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


hypot.vjp("a", "g * a / y")(lambda g, y, a: g * a / y)
hypot.vjp("b", "g * b / y")(lambda g, y, b: g * b / y)


scalar_rule(
    "aten.deg2rad",
    "y = x * (pi / 180)",
    "g * (pi / 180)",
    meaning="multiplies the gradient by pi / 180",
)

scalar_rule(
    "aten.rad2deg",
    "y = x * (180 / pi)",
    "g * (180 / pi)",
    meaning="multiplies the gradient by 180 / pi",
)
