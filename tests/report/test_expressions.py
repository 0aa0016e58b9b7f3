"""Rule texts with other names in them: read as on paper, and worth the same number."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gradwitness.report.expressions import expression, transposed

NAMES = {"A": "x2", "B": "W1^T", "b": "b1", "x": "x4 - x5", "t": "y", "g": "g", "v": "x3"}


@pytest.mark.parametrize(
    ("text", "parameters", "written"),
    [
        ("y = alpha * (A @ B) + beta * b", {"alpha": 1, "beta": 1}, "x2 W1^T + b1"),
        ("y = alpha * (A @ B) + beta * b", {"alpha": 2.5, "beta": 2}, "2.5 * (x2 W1^T) + 2 * b1"),
        # The transpose of a transpose is the original.
        ("alpha * (g @ B.T)", {"alpha": 1}, "g W1"),
        ("alpha * (A.T @ g)", {"alpha": 1}, "x2^T g"),
        ("y = v - alpha * b", {"alpha": 1}, "x3 - b1"),
        ("y = x.T", {}, "(x4 - x5)^T"),
        ("y = x ** exponent", {"exponent": 2}, "(x4 - x5)^2"),
        ("y = x ** exponent", {"exponent": -1}, "(x4 - x5)^(-1)"),
        ("y = v ** exponent", {"exponent": 0.5}, "x3^0.5"),
        ("g * (exponent * v ** (exponent - 1))", {"exponent": 2}, "g * (2 * x3)"),
        ("g * (exponent * v ** (exponent - 1))", {"exponent": 3}, "g * (3 * x3^2)"),
        ("y = sum(v, dim, keepdim)", {"dim": None, "keepdim": False}, "sum(x3)"),
        ("y = sum(v, dim, keepdim)", {"dim": (0, 1), "keepdim": True},
         "sum(x3, dim=(0,1), keepdim=True)"),
        ("y = conv(v, b, stride, padding)", {"stride": (1, 1), "padding": (1, 0)},
         "conv(x3, b1, padding=(1,0))"),
        ("-alpha * g", {"alpha": 1}, "-g"),
        ("-alpha * g", {"alpha": 2}, "-2 * g"),
        ("y = v * x", {}, "x3 * (x4 - x5)"),
        ("y = v - x", {}, "x3 - (x4 - x5)"),
        ("y = x - v", {}, "x4 - x5 - x3"),
        ("y = v / (b * t)", {}, "x3 / (b1 * y)"),
        ("y = (v / b) / t", {}, "x3 / b1 / y"),
        ("y = -x", {}, "-(x4 - x5)"),
        ("y = 1 / (1 + exp(-v))", {}, "1 / (1 + exp(-x3))"),
        ("y = where(v > 0, v, 0)", {}, "where(x3 > 0, x3, 0)"),
        ("where(v <= 0, 0, g)", {}, "where(x3 <= 0, 0, g)"),
        ("where(v != 0, 0, g)", {}, "where(x3 != 0, 0, g)"),
        # A condition on a parameter is decided.
        ("where(mode is None, g / v, 0)", {"mode": None}, "g / x3"),
        ("where(mode is None, g / v, 0)", {"mode": "floor"}, "0"),
        ("where(mode is not None, g / v, 0)", {"mode": "floor"}, "g / x3"),
        # What a student reads of a loss: the number of terms, and no option's number.
        ("y = reduce((v - t) ** 2, reduction)", {"reduction": 1}, "mean((x3 - y)^2)"),
        ("y = reduce((v - t) ** 2, reduction)", {"reduction": 2}, "sum((x3 - y)^2)"),
        ("y = reduce((v - t) ** 2, reduction)", {"reduction": 0}, "(x3 - y)^2"),
        ("2 / share(x, reduction) * g", {"reduction": 1}, "2 / n * g"),
        ("2 / share(x, reduction) * g", {"reduction": 2}, "2 * g"),
        ("-g * t / share(x, reduction)", {"reduction": 0}, "-g * y"),
        ("y = nll(v, t, reduction)", {"reduction": 1}, "nll(x3, y, reduction=mean)"),
        ("y = weighed((1 - t) * v + raised(p, t) * v, w)", {"p": None, "w": None},
         "(1 - y) * x3 + x3"),
        ("y = (*batch_norm(v, None, eps), None)", {"eps": 0.1}, "batch_norm(x3, None, eps=0.1)"),
        ("y = fill_value * ones(size)", {"fill_value": 0.1, "size": (2,)}, "0.1 * ones(size=(2,))"),
    ],
)  # fmt: skip
def test_written_as_on_paper(text: str, parameters: dict[str, Any], written: str) -> None:
    assert expression(text, NAMES, parameters) == written


def test_transposes() -> None:
    assert transposed("W1") == "W1^T"
    assert transposed("W1^T") == "W1"


# Operands: single letters that stand for sums, so that parentheses matter.
VALUES = {"p": 1.75, "q": -0.5, "r": 3.0, "s": 0.25}
OPERANDS = {"a": "p - q", "b": "r + s", "c": "p"}
PARAMETERS = {"alpha": 1, "beta": -1, "k": 2, "half": 0.5}


def trees() -> st.SearchStrategy[str]:
    leaves = st.sampled_from([*OPERANDS, *PARAMETERS, "1", "2", "4"])

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        pair = st.tuples(inner, st.sampled_from("+-*/"), inner)
        return st.one_of(
            pair.map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
            inner.map(lambda t: f"(-{t})"),
            st.tuples(inner, st.integers(1, 3)).map(lambda t: f"({t[0]} ** {t[1]})"),
        )

    return st.recursive(leaves, grow, max_leaves=6)


def worth(text: str, names: dict[str, float]) -> float:
    code = compile(ast.parse(text, mode="eval"), "<expression>", "eval")
    try:
        value = eval(code, {"__builtins__": {}}, names)  # noqa: S307 (made by the test)
    except (ZeroDivisionError, OverflowError):
        assume(False)
    assume(not isinstance(value, complex) and 1e-3 < abs(value) < 1e4)
    return float(value)


@settings(max_examples=300)
@given(trees())
def test_parentheses_keep_the_value(text: str) -> None:
    values = {name: worth(operand, VALUES) for name, operand in OPERANDS.items()}
    expected = worth(text, values | PARAMETERS)
    written = expression(text, OPERANDS, PARAMETERS)
    assert not set(PARAMETERS) & set(written.replace("(", " ").replace(")", " ").split())
    # Numbers are folded to six digits, and differences of them may lose three.
    assert worth(written.replace("^", "**"), VALUES) == pytest.approx(expected, rel=2e-3)
