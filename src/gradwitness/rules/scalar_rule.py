"""Rules number by number whose code is their text: the printed formula is compiled, and runs.

So text and code cannot part. Where the two must differ, for the digits in a tail or because torch
rounds in another order, a rule says both: see `registry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness.rules.formula import GIVEN as GIVEN
from gradwitness.rules.formula import named_formula
from gradwitness.rules.registry import Rule, elementwise, right_hand_side

if TYPE_CHECKING:
    from collections.abc import Mapping


def scalar_rule(
    name: str,
    text: str,
    gradients: str | Mapping[str, str],
    *,
    meaning: str,
    parameters: Mapping[str, Any] | None = None,
    kernel: str = "",
    **options: Any,
) -> Rule:
    """Enter the rule of a function that works number by number, by its formulas alone.

    The ``gradients`` of the operands, which are named in their order, are over g, y and all of
    them, as torch rounds; that of x alone needs no name. It is ``0`` where the function does not
    change with an operand. ``parameters`` have their defaults, `GIVEN` where each call gives one;
    ``kernel`` is that of `Rule.vjp`, and ``options`` are those of `registry.rule`.
    """
    formulas = {"x": gradients} if isinstance(gradients, str) else gradients
    enter = elementwise(name, text, meaning=meaning, **options)
    rule = enter(named_formula(name, right_hand_side(text), tuple(formulas), parameters or {}))
    for operand, formula in formulas.items():
        if formula == "0":
            rule.constant_in(operand)
        else:
            rule.vjps(kernel=kernel, **{operand: formula})
    return rule
