"""The printed formulas evaluate to what the code computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradwitness.capture.memory.arrays import dtype_name
from gradwitness.engine.binding import over_complex
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, numpy_dtype
from gradwitness.judging.comparing.compare import Comparison, compare
from gradwitness.rules.elementwise.complex_numbers import gradient_text
from gradwitness.verdict import Verdict
from rules.harness import Case, make, name, pairs
from rules.samples import SAMPLES
from rules.words import WORDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rules.samples import Sample

ARITHMETIC = Arithmetic.stepwise("float64")


def evaluate(text: str, case: Case) -> Any:
    """Evaluate a formula over a case's operands, parameters, cotangent and result."""
    bound = case.plain
    # An overload that lacks a parameter leaves it at the rule's default.
    names = bound.rule.defaults | bound.parameters
    names |= dict(zip(bound.rule.operands, bound.operands, strict=True))
    names |= {"g": case.cotangent, "y": case.result}
    clashes = names.keys() & WORDS.keys()
    assert not clashes, f"{clashes} are words of the formulas and names of the rule"
    # The text is the rule's own, and sees nothing but these names.
    return eval(text, {"__builtins__": {}}, {**WORDS, **names})  # noqa: S307


def gradient(text: str, case: Case, operand: str) -> NDArray[Any]:
    """Evaluate the formula of an operand's gradient; that of a list gives a list.

    Of a real operand's gradient only the real part counts.
    """
    found = evaluate(text, case)
    if text == "0":  # for each number of the operand
        found = np.zeros(case.operand(operand).shape)
    place = operand.rstrip("]").partition("[")[2]
    array = np.asarray(found[int(place)] if place else found)
    real = not case.leaves[operand].is_complex()
    return np.asarray(array.real if real else array, np.float64 if real else np.complex128)


def right_hand_side(text: str) -> str:
    left, equals, right = text.partition("=")
    assert (left.strip(), equals) == ("y", "=")
    return right.strip()


def summed_to(g: NDArray[np.float64], sizes: tuple[int, ...]) -> NDArray[np.float64]:
    """Add up the numbers that belong to one number of an operand that was broadcast."""
    out = np.zeros(sizes, g.dtype)
    extra = g.ndim - len(sizes)
    for at in np.ndindex(g.shape):
        out[tuple(0 if n == 1 else i for i, n in zip(at[extra:], sizes, strict=True))] += g[at]
    return out


def judged(evaluated: NDArray[Any], computed: Any, dtype: str = "") -> Comparison:
    """Compare within the bound of the code's own roundings, each counted twice.

    The arithmetic of Bounded counts one rounding of the witness and one of the other side, here the
    formula, for each operation that the two have in common.
    """
    return compare(evaluated, computed, dtype or evaluated.dtype.name)


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_text_is_the_value(sample: Sample) -> None:
    case = make(sample, seed=2)
    text = right_hand_side(case.bound().rule.text)
    found = evaluate(text, case)
    found = found if isinstance(found, (tuple, list)) else (found,)
    for one, computed, tensor in zip(found, case.values(), case.outputs, strict=True):
        if computed is None:  # a result that the rule does not speak of
            assert one is None
            continue
        dtype = dtype_name(tensor)
        numbers = np.asarray(one, dtype=numpy_dtype(dtype))
        if tensor.numel() == 0:
            assert numbers.shape == np.shape(computed) == tensor.shape
            continue
        assert judged(numbers, computed, dtype).verdict is Verdict.AGREES


@pytest.mark.parametrize("pair", pairs(), ids=name)
def test_text_is_the_gradient(pair: tuple[Sample, str]) -> None:
    sample, operand = pair
    case = make(sample, seed=2)
    mixed = over_complex(case.tape, case.call)
    text = gradient_text(case.bound().rule, operand.partition("[")[0], mixed)
    found = summed_to(gradient(text, case, operand), case.operand(operand).shape)
    computed = case.gradient(operand, ARITHMETIC)
    assert judged(found, computed).verdict is Verdict.AGREES
    # Narrow enough to tell formulas apart: nine digits below the numbers that it belongs to.
    assert isinstance(computed, Bounded)
    if computed.rigorous is not None:
        assert np.max(computed.rigorous) <= 1e-9 * np.max(np.abs(computed.value))


@pytest.mark.parametrize(
    ("sample", "operand", "text"),
    [
        ("sub.Tensor", "b", "alpha * g"),
        ("div.Tensor", "b", "-g * (a / b)"),
        ("mm square", "A", "g.T @ B.T"),
        ("tanh", "x", "g * (1 - y)"),
        ("sum.dim_IntList one axis", "x", "g / count(x, dim) + 0 * x[:, 0]"),
        (
            "convolution 2-d padded",
            "w",
            "conv_weight(g, x, w, stride, [0, 0], dilation, transposed, output_padding, groups)",
        ),
    ],
)
def test_wrong_text_is_refuted(sample: str, operand: str, text: str) -> None:
    case = make(next(s for s in SAMPLES if s.name == sample), seed=2)
    found = gradient(text, case, operand)
    assert judged(found, case.gradient(operand, ARITHMETIC)).verdict is Verdict.DISAGREES


def test_formula_sees_nothing_but_its_names() -> None:
    case = make(SAMPLES[0])
    with pytest.raises(NameError, match="open"):
        evaluate("open('file')", case)
