"""Several elementary operations in one call, as optimizers use them."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.registry import Array, rule


@rule(
    "aten.addcmul",
    "y = x + value * a * b",
    meaning="passes the gradient on to the summand, and to each factor times the other factors",
    composite=True,
)
def addcmul(x: Array, a: Array, b: Array, *, value: Any = 1) -> Array:
    return x + value * a * b


@addcmul.vjp("x", "g")
def _(g: Array) -> Array:
    return g


@addcmul.vjp("a", "g * (b * value)")
def _(g: Array, b: Array, *, value: Any) -> Array:
    return g * (b * value)


@addcmul.vjp("b", "g * (a * value)")
def _(g: Array, a: Array, *, value: Any) -> Array:
    return g * (a * value)


@rule(
    "aten.addcdiv",
    "y = x + value * a / b",
    meaning="passes the gradient on to the summand, and through the quotient to its parts",
    composite=True,
)
def addcdiv(x: Array, a: Array, b: Array, *, value: Any = 1) -> Array:
    return x + value * a / b


@addcdiv.vjp("x", "g")
def _(g: Array) -> Array:
    return g


@addcdiv.vjp("a", "g * (value / b)")
def _(g: Array, b: Array, *, value: Any) -> Array:
    return g * (value / b)


@addcdiv.vjp("b", "-g * (value * a / (b * b))")
def _(g: Array, a: Array, b: Array, *, value: Any) -> Array:
    return -g * (value * a / (b * b))


@rule(
    "aten.lerp",
    "y = where(abs(weight) < 0.5, a + weight * (b - a), b - (b - a) * (1 - weight))",
    meaning="sends the gradient to both ends, in shares 1 - weight and weight",
    composite=True,
)
def lerp(a: Array, b: Array, weight: Array) -> Array:
    # torch starts from the nearer end; the two forms round differently.
    near = a + weight * (b - a)
    far = b - (b - a) * (1 - weight)
    return np.where(np.less(np.absolute(weight), 0.5), near, far)


@lerp.vjp("a", "g * (1 - weight)")
def _(g: Array, weight: Array) -> Array:
    return g * (1 - weight)


@lerp.vjp("b", "g * weight")
def _(g: Array, weight: Array) -> Array:
    return g * weight


@lerp.vjp("weight", "g * (b - a)")
def _(g: Array, a: Array, b: Array) -> Array:
    return g * (b - a)
