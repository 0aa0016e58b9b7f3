"""Surrogates are recognised, and the declaration that is printed can be pasted."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from capture.functions import apply
from gradwitness.rules import surrogates
from judging import surrogate_functions as functions
from judging.surrogate_functions import Surrogate

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 0
# Name: arguments besides the first, what it is recognised as, and the formula.
KINDS: dict[str, tuple[tuple[Any, ...], str, str]] = {
    "Rounded": ((), "the identity", "g"),
    "Sign": ((), "the identity, clipped", "g where |x| <= 1"),
    "HalfRange": ((), "the identity, clipped", "g where 0 <= x <= 1.5"),
    "FastSigmoid": ((), "a fast sigmoid's slope", "g / (1 + 25 |x|)^2"),
    "SigmoidSlope": ((), "a sigmoid's slope", "4 g s (1 - s), s = sigmoid(4 x)"),
    "Arctan": ((), "an arctangent's slope", "g / (1 + (np.pi x)^2)"),
    "Triangle": ((), "a triangle", "0.3 g max(0, 1 - |x|)"),
    "Gaussian": ((), "a Gaussian", "0.7978846 g exp(-2 x^2)"),  # sqrt(2 / pi)
    "Exponential": ((), "an exponential", "g exp(-5 |x|)"),
    "Rectangle": ((), "a rectangle", "2 g where |x| <= 0.25"),
    "Damped": ((), "the identity, scaled", "0.1 g"),
    "Leaky": ((), "two levels", "1 g where x >= 0, else 0.1 g"),
    "Logarithm": ((), "the slope of a logarithm", "g / (1 + 4 |x|)"),
    "SteepSigmoid": ((), "a sigmoid's slope", "25 g s (1 - s), s = sigmoid(25 x)"),
    "Threshold": ((0.75, 10.0), "a fast sigmoid's slope", "g / (1 + alpha |(v - theta)|)^2"),
    "FakeQuantise": (
        (0.25, -4, 3),
        "the identity within the range",
        "g where low <= round(w / step) <= high",
    ),
    "HardChoice": ((), "the softmax's gradient", "s (g - sum(g s)), s = softmax(x)"),
    "InNumpy": ((), "a fast sigmoid's slope", "g / (1 + |x|)^2"),
    "TwoResults": ((), "the identity", "g[0]"),
    "Odd": ((), "", "what it is meant to send"),
}


@pytest.fixture(autouse=True)
def _scratch() -> Iterator[None]:
    before = {function: dict(gradients) for function, gradients in surrogates._declared.items()}
    yield
    surrogates._declared.clear()
    surrogates._declared.update(before)


def leaf(*shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(SEED)).requires_grad_()


def watched(name: str, *further: Any) -> gw.Witness:
    function = getattr(functions, name)
    x = leaf(40, 5)
    weights = leaf(40, 5).detach() + 0.5
    with gw.watch(names={"x": x}) as witness:
        y = apply(function, 1 * x, *further)
        ((y[0] if isinstance(y, tuple) else y) * weights).sum().backward()
    return witness


def printed(witness: gw.Witness) -> str:
    """Return the first declaration that a report prints, as a user would copy it."""
    lines = str(witness).splitlines()
    begin = next(k for k, line in enumerate(lines) if line.strip() == "import gradwitness")
    end = next(k for k in range(begin, len(lines)) if lines[k].strip().startswith("return"))
    return textwrap.dedent("\n".join(lines[begin : end + 1]))


@pytest.mark.parametrize("name", KINDS)
def test_it_is_recognised_and_its_declaration_can_be_pasted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    further, kind, text = KINDS[name]
    witness = watched(name, *further)
    assert witness.verdict is gw.Verdict.DISAGREES
    said = " ".join(str(witness).split())
    assert re.search("(only rounds or compares|runs outside torch): this looks like a ", said)
    assert ("straight-through estimator" + (f", {kind}" if kind else "") + "; if it is ") in said
    code = printed(witness)
    assert f'"{text}"' in code
    assert "tolerance" not in code
    exec(code, {})  # noqa: S102 (it is there to be run)
    if name == "Odd":
        assert watched(name).verdict is gw.Verdict.DISAGREES
        return
    assert watched(name, *further).verdict is gw.Verdict.AGREES
    monkeypatch.setattr(Surrogate, "off", 0.01)
    assert watched(name, *further).verdict is gw.Verdict.DISAGREES


def test_a_codebook_is_copied_through() -> None:
    def run() -> gw.Witness:
        z, book = leaf(30, 4), leaf(6, 4)
        with gw.watch() as witness:
            (apply(functions.Nearest, z * 1, book * 1) ** 2).sum().backward()
        return witness

    witness = run()
    (wrong,) = witness.report.wrong
    assert wrong.title.endswith("gradient of z (input 0)")
    assert "straight-through estimator, the identity" in wrong.advice
    exec(printed(witness), {})  # noqa: S102
    assert run().verdict is gw.Verdict.AGREES


def test_an_auxiliary_loss_is_a_constant_for_an_input_that_the_result_does_not_use() -> None:
    def run() -> gw.Witness:
        w, aux = leaf(6, 2), leaf(1)
        with gw.watch() as witness:
            (apply(functions.Auxiliary, w * 1, aux.square().sum()) ** 2).sum().backward()
        return witness

    witness = run()
    (wrong,) = witness.report.wrong
    assert "its result does not use this input: this looks like an auxiliary loss" in wrong.advice
    exec(printed(witness), {})  # noqa: S102
    assert run().verdict is gw.Verdict.AGREES


@pytest.mark.parametrize("compares", [False, True])
def test_a_wrong_derivative_is_no_surrogate(compares: bool) -> None:
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * (x > 0) if compares else x * x

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return grads[0] * ctx.saved_tensors[0]

    with gw.watch() as witness:
        apply(Half, 1 * leaf(9)).sum().backward()
    (wrong,) = witness.report.wrong
    assert not wrong.advice
    # It has a cause instead: 2 x without the 2, or the value in the place of the mask.
    assert wrong.cause == ("wrong value in the derivative" if compares else "missing factor 2")
    assert "derive this step's forward by hand" not in str(witness)


def test_a_bound_that_is_not_included_is_not() -> None:
    class Inside(functions.Rounded):
        @classmethod
        def slope(cls, x: Any) -> Any:
            return (x.abs() < 1).to(x.dtype)

    x = torch.linspace(-2, 2, 9, requires_grad=True)
    with gw.watch() as witness:
        apply(Inside, x * 1).sum().backward()
    assert '"g where |x| < 1")' in printed(witness)


def test_numbers_with_more_digits_than_are_printed_get_a_tolerance() -> None:
    def run() -> gw.Witness:
        with gw.watch() as witness:
            # sqrt(2 / pi) exp(-2 x^2), in float64.
            (apply(functions.Gaussian, 1 * leaf(50).double()) * 2).sum().backward()
        return witness

    code = printed(run())
    assert "0.7978846" in code
    assert "tolerance=1e-07" in code
    exec(code, {})  # noqa: S102
    assert run().verdict is gw.Verdict.AGREES


def test_a_declaration_is_printed_once() -> None:
    x = leaf(20)
    with gw.watch() as witness:
        apply(functions.Rounded, 3 * apply(functions.Rounded, 5 * x)).sum().backward()
    assert str(witness).count("import gradwitness") == 1
    assert str(witness).count("if it is meant:") == 2


def test_a_class_within_a_function_says_where_the_declaration_belongs() -> None:
    class Local(functions.Rounded):
        pass

    with gw.watch() as witness:
        apply(Local, 5 * leaf(20)).sum().backward()
    code = printed(witness)
    assert "\n# in test_a_class_within_a_function_says_where_the_declaration_belongs, " in code
    exec(code, {"Local": Local})  # noqa: S102
    assert surrogates.declared(Local)


def test_a_fault_behind_a_declared_surrogate_is_felt() -> None:
    """The rule of rounding is 0, but what is declared sends the fault on."""

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, x: Any) -> Any:
            return 2 * x

        @staticmethod
        def backward(_: Any, *grads: Any) -> Any:
            return grads[0]

    gw.surrogate(functions.Rounded, "x", "g")(lambda g, _: g)
    with gw.watch() as witness:
        apply(Doubled, apply(functions.Rounded, 5 * leaf(20))).sum().backward()
    (wrong,) = witness.report.wrong
    assert wrong.title.startswith("DoubledBackward")
