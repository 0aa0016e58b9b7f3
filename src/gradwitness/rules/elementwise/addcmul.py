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


addcmul.vjps(x="g", a="g * (b * value)", b="g * (a * value)")


@rule(
    "aten.addcdiv",
    "y = x + value * a / b",
    meaning="passes the gradient on to the summand, and through the quotient to its parts",
    composite=True,
)
def addcdiv(x: Array, a: Array, b: Array, *, value: Any = 1) -> Array:
    return x + value * a / b


addcdiv.vjps(x="g", a="g * (value / b)", b="-g * (value * a / (b * b))")


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


lerp.vjps(a="g * (1 - weight)", b="g * weight", weight="g * (b - a)")
