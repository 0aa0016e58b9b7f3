"""Several elementary operations in one call, as optimizers use them."""

from __future__ import annotations

from gradwitness.rules.scalar_rule import scalar_rule

scalar_rule(
    "aten.addcmul",
    "y = x + value * a * b",
    {"x": "g", "a": "g * (b * value)", "b": "g * (a * value)"},
    meaning="passes the gradient on to the summand, and to each factor times the other factors",
    parameters={"value": 1},
    composite=True,
)

scalar_rule(
    "aten.addcdiv",
    "y = x + value * a / b",
    {"x": "g", "a": "g * (value / b)", "b": "-g * (value * a / (b * b))"},
    meaning="passes the gradient on to the summand, and through the quotient to its parts",
    parameters={"value": 1},
    composite=True,
)

scalar_rule(
    "aten.lerp",
    # torch starts from the nearer end; the two forms round differently.
    "y = where(abs(weight) < 0.5, a + weight * (b - a), b - (b - a) * (1 - weight))",
    {"a": "g * (1 - weight)", "b": "g * weight", "weight": "g * (b - a)"},
    meaning="sends the gradient to both ends, in shares 1 - weight and weight",
    composite=True,
)
