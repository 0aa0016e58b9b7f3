"""Formulas that are compiled: what they may say, and what becomes of it."""

from __future__ import annotations

import inspect
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradwitness._errors import RuleError
from gradwitness.rules import registry
from gradwitness.rules.formula import GIVEN, Formula
from gradwitness.rules.registry import find
from gradwitness.rules.scalar_rule import scalar_rule

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def scratch() -> Iterator[None]:
    """Take back afterwards what a test enters into the tables."""
    tables: tuple[dict[str, Any], ...] = (registry._RULES, registry._BY_NODE)
    before = [dict(one) for one in tables]
    yield
    for one, old in zip(tables, before, strict=True):
        one.clear()
        one.update(old)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("x", 3),
        ("-x - a * 2", -13),
        ("x - (a - 2)", 0),
        ("x / 2 / a", 0.3),
        ("where(x >= a, x, where(a > x, 11, 12))", 11),
        ("where(x < 3, 1, 2) + where(x <= 3, 10, 20) + where(x == 3, 100, 200)", 112),
        ("abs(-x)", 3),
        ("x * (pi / 180)", 3 * (math.pi / 180)),
        ("float32(1 / 6)", 11184811 / 2**26),
    ],
)
def test_formula_computes_what_it_says(text: str, value: float) -> None:
    used = {"x": np.array(3.0), "a": 5.0}
    formula = Formula(text, ("x",), {"a": 5})
    wanted = inspect.signature(formula).parameters
    given = [used["x"]] if "x" in wanted else []
    assert formula(*given) == pytest.approx(value, rel=1e-15)


def test_formula_takes_what_it_mentions() -> None:
    formula = Formula("g * exp(b * y)", ("g", "y", "x"), {"a": 1, "b": GIVEN, "c": 2})
    assert str(inspect.signature(formula)) == "(g, y, *, b)"
    assert formula(2.0, 1.0, b=3.0) == 2 * math.exp(3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("z + 1", "'z'"),
        ("tann(x)", r"'tann\(x\)'"),
        ("exp", "'exp'"),
        ("__import__('os')", r"\"__import__\('os'\)\""),
        ("x.real", "'x.real'"),
        ("x ** 2", r"'x \*\* 2'"),
        ("x % x", "'x % x'"),
        ("0 < x < 1", "'0 < x < 1'"),
        ("where(x, y=1)", r"'where\(x, y=1\)'"),
        ("'text'", "\"'text'\""),
        ("[x]", r"'\[x\]'"),
        ("(lambda: x)()", ""),
    ],
)
def test_formula_of_anything_else_is_refused(text: str, says: str) -> None:
    with pytest.raises(RuleError, match=f"says {says}.*names x, a, numbers.* words abs, arccos"):
        Formula(text, ("x",), {"a": 1})


def test_formula_that_is_no_expression_is_refused() -> None:
    with pytest.raises(RuleError, match=r"^the formula 'x \+' is not an expression: "):
        Formula("x +", ("x",), {})


@pytest.mark.usefixtures("scratch")
def test_rule_of_two_formulas() -> None:
    made = scalar_rule(
        "mine.scaled",
        "y = exp(a * x)",
        "g * (a * y)",
        meaning="multiplies the gradient by a y",
        parameters={"a": 2},
    )
    assert find("mine.scaled") is made
    assert (made.text, made.gradients["x"].text) == ("y = exp(a * x)", "g * (a * y)")
    assert (made.operands, made.parameters, made.defaults) == (("x",), ("a",), {"a": 2})
    # The result is enough: x can be let go.
    assert made.kept == {"g", "y"}
    assert made.function(np.array(1.5)) == math.exp(3)
    assert made.function(np.array(1.5), a=4) == math.exp(6)
    assert made.gradients["x"](10.0, 3.0, (None,), {}) == 60
    assert made.gradients["x"](10.0, 3.0, (None,), {"a": 4}) == 120


@pytest.mark.usefixtures("scratch")
def test_gradient_that_is_zero() -> None:
    made = scalar_rule("mine.step", "y = floor(x)", "0", meaning="gives 0")
    assert np.array_equal(made.gradients["x"](np.ones(2), None, (np.ones(2),), {}), np.zeros(2))


@pytest.mark.usefixtures("scratch")
def test_vjps_compute_what_their_texts_say() -> None:
    @registry.rule("mine.scaled_product", "y = scale * a * b", meaning="multiplies")
    def product(a: Any, b: Any, *, scale: Any = 2) -> Any:
        return scale * a * b

    product.vjps(a="scale * g * b", b="g * (scale * a)")
    assert [gradient.text for gradient in product.gradients.values()] == [
        "scale * g * b",
        "g * (scale * a)",
    ]
    assert product.gradients["a"].reads == {"g", "b"}
    assert product.kept == {"g", "a", "b"}
    # Once with the default of the rule, once with a scale of 3: 5 * 11 = 55 and 5 * 7 = 35.
    assert product.gradients["a"](5.0, None, (7.0, 11.0), {}) == 110
    assert product.gradients["a"](5.0, None, (7.0, 11.0), {"scale": 3}) == 165
    assert product.gradients["b"](5.0, None, (7.0, 11.0), {"scale": 3}) == 105
    with pytest.raises(RuleError, match="no operand 'c'"):
        product.vjps(c="g")
    with pytest.raises(RuleError, match="says 'd'"):
        registry.rule("mine.same", "y = d", meaning="passes on")(lambda a: a).vjps(a="g * d")


@pytest.mark.usefixtures("scratch")
def test_rule_of_several_operands() -> None:
    made = scalar_rule(
        "mine.blended",
        "y = a + w * (b - a)",
        {"b": "g * w", "a": "g * (1 - w)", "w": "0"},
        meaning="weighs the gradient",
    )
    # In the order in which the gradients name them: b = 7, a = 3, w = 1 / 4.
    assert made.operands == ("b", "a", "w")
    assert made.function(7.0, 3.0, 0.25) == 4
    given = (7.0, 3.0, 0.25)
    assert [made.gradients[name](8.0, None, given, {}) for name in "ba"] == [2, 6]
    assert made.gradients["w"](np.ones(2), None, (None, None, np.ones(2)), {}).tolist() == [0, 0]


def test_formula_of_matrices() -> None:
    A, g = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]])
    assert Formula("A.T @ g", ("g", "A"), {})(g, A).tolist() == [[26, 30], [38, 44]]
    assert Formula("g @ swap(A, 0, 1)", ("g", "A"), {})(g, A).tolist() == [[17, 39], [23, 53]]


@pytest.mark.parametrize("text", ["tan(x)", "z = tan(x)", "y == tan(x)", "y =", "", None])
@pytest.mark.usefixtures("scratch")
def test_formula_that_does_not_say_what_y_is_is_refused(text: Any) -> None:
    says = rf"^the formula of mine.bent is {re.escape(repr(text))}: write it as 'y = \.\.\.'$"
    with pytest.raises(RuleError, match=says):
        scalar_rule("mine.bent", text, "g", meaning="is wrong")
    assert find("mine.bent") is None


@pytest.mark.parametrize(("text", "gradient"), [("y = z", "g"), ("y = x", "g *"), ("y = x", "q")])
@pytest.mark.usefixtures("scratch")
def test_fault_of_a_formula_names_the_rule(text: str, gradient: str) -> None:
    with pytest.raises(RuleError, match=r"^mine\.bent: the formula '.*' (says|is not)"):
        scalar_rule("mine.bent", text, gradient, meaning="is wrong")


@pytest.mark.parametrize("text", ["g * (1 + y)", "g * (1 + x * x)", "g + y * y"])
@pytest.mark.usefixtures("scratch")
def test_wrong_gradient_is_not_the_slope(text: str) -> None:
    """Finite differences tell a wrong formula from tan's own, 1 + y^2, to which they are held."""
    wrong = scalar_rule("mine.bent", "y = tan(x)", text, meaning="is wrong")
    right = find("aten.tan")
    assert right
    x, step = np.array([0.3, -1.2]), 1e-6
    slope = -2.5 * (np.tan(x + step) - np.tan(x - step)) / (2 * step)
    found = [one.gradients["x"](-2.5, np.tan(x), (x,), {}) for one in (right, wrong)]
    assert np.allclose(found[0], slope, rtol=1e-8, atol=0)
    assert not np.any(np.isclose(found[1], slope, rtol=1e-3, atol=0))
