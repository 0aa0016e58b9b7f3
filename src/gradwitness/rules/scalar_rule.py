"""Rules of one operand whose code is their text: the printed formula is compiled, and runs.

So text and code cannot part. Where the two must differ, for the digits in a tail or because torch
rounds in another order, a rule says both: see `registry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness.rules.formula import GIVEN as GIVEN
from gradwitness.rules.formula import Formula
from gradwitness.rules.registry import Rule, elementwise

if TYPE_CHECKING:
    from collections.abc import Mapping


def scalar_rule(
    name: str,
    text: str,
    gradient: str,
    *,
    meaning: str,
    parameters: Mapping[str, Any] | None = None,
    **options: Any,
) -> Rule:
    """Enter the rule of a function that works on each number x alone, by its two formulas.

    The ``gradient`` of x is over g, y and x, in the order in which torch rounds; ``0`` where the
    function is constant between its steps. ``parameters`` have their defaults, `GIVEN` where each
    call gives one; ``options`` are those of `registry.rule`.
    """
    value = Formula(text.removeprefix("y = "), ("x",), parameters or {})
    rule = elementwise(name, text, meaning=meaning, **options)(value)
    if gradient == "0":
        rule.constant_in("x")
    else:
        rule.vjps(x=gradient)
    return rule
