"""Functions whose backward is not their derivative, on purpose: judged against what is declared."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from gradwitness.judging.finding import Step
from gradwitness.rules import surrogates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from syrupy.assertion import SnapshotAssertion


class Through(Function):
    """Rounding, straight through."""

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return grads[0] * Through.factor


class Reversed(Function):
    """The identity, reversed by a number that is no tensor."""

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, x: Any, rate: float) -> Any:
        ctx.rate = rate
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return -ctx.rate * grads[0] * Reversed.factor, None


class Spike(Function):
    """A step with a smooth slope declared, and a weight with its own derivative."""

    factor = 1.0

    @staticmethod
    def forward(x: Any, w: Any, steep: float = 3.0) -> Any:  # noqa: ARG004
        return (x > 0).to(x.dtype) * w

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs[:2])
        (ctx.steep,) = inputs[2:]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, w = ctx.saved_tensors
        slope = w / (1 + ctx.steep * x.abs()) ** 2
        return Spike.factor * grads[0] * slope, grads[0] * (x > 0), None


class NumpyStep(Function):
    """A step that NumPy makes."""

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return torch.from_numpy(np.heaviside(x.detach().numpy(), 0))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return NumpyStep.factor * grads[0] / (1 + x.abs()) ** 2


def leaf() -> Any:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()


RUNS: dict[Any, Callable[[], Any]] = {
    Through: lambda: apply(Through, 3 * leaf()),
    Reversed: lambda: apply(Reversed, 3 * leaf(), 0.5),
    Spike: lambda: apply(Spike, leaf(), 2 * leaf()),
    NumpyStep: lambda: apply(NumpyStep, leaf()),
}


@pytest.fixture
def scratch() -> Iterator[None]:
    """Take back afterwards what a test declares."""
    before = dict(surrogates._declared)
    yield
    surrogates._declared.clear()
    surrogates._declared.update(before)


@pytest.fixture
def declared(scratch: None) -> None:
    gw.surrogate(Through, "x", "g")(lambda g, y: g)  # noqa: ARG005
    gw.surrogate(Reversed, "x", "-rate g")(lambda g, y, rate: -rate * g)  # noqa: ARG005
    gw.surrogate(Spike, "x", "g w / (1 + steep |x|)^2")(
        lambda g, y, x, w, steep: g * w / (1 + steep * np.abs(x)) ** 2  # noqa: ARG005
    )
    gw.surrogate(NumpyStep, "x", "g / (1 + |x|)^2")(
        lambda g, y, x: g / (1 + np.abs(x)) ** 2  # noqa: ARG005
    )


def watched(run: Callable[[], Any]) -> gw.Witness:
    with gw.watch() as witness:
        run().square().sum().backward()
    return witness


@pytest.mark.parametrize("function", RUNS)
def test_undeclared_it_is_not_the_derivative(function: Any) -> None:
    report = watched(RUNS[function]).report
    assert report.first_wrong is not None
    assert report.first_wrong.title.startswith(f"{function.__name__}Backward")


@pytest.mark.parametrize("function", RUNS)
def test_declared_it_is_judged_against_that(function: Any, declared: None) -> None:
    witness = watched(RUNS[function])
    assert witness.verdict is gw.Verdict.AGREES
    told = [f for f in witness.report.findings if f.grade.startswith("declared by the program")]
    assert [f.step for f in told] == [Step.BACKWARD]
    assert "1 step was judged against declared gradients" in str(witness)


@pytest.mark.parametrize("function", RUNS)
def test_a_fault_of_a_declared_gradient_is_found(
    function: Any, declared: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(function, "factor", 1.01)
    witness = watched(RUNS[function])
    (wrong,) = witness.report.wrong
    assert wrong.title.endswith("(input 0)")
    assert "evidence declared by the program, not derived: dx = " in str(witness)


def test_inputs_without_a_declaration_are_judged_as_ever(declared: None) -> None:
    grades = [f.grade for f in watched(RUNS[Spike]).report.findings if "Spike" in f.title]
    assert [grade.partition(":")[0] for grade in grades] == [
        "",
        "declared by the program, not derived",
        "normwise",
    ]


def test_one_tensor_twice_is_left_open(declared: None) -> None:
    def run() -> Any:
        x = leaf()
        return apply(Spike, x, x)

    reasons = watched(run).report.reasons()
    assert dict(reasons) == {
        "a tensor is passed in twice, and only one of its gradients is declared": 1
    }


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        (lambda g, y: "g", "the declared gradient of Through's 'x' returns str"),  # noqa: ARG005
        (lambda g, y: None, "returns None: is a return missing?"),  # noqa: ARG005
        (lambda g, y: g.nothing, "declared gradient of Through's 'x' failed: AttributeError"),  # noqa: ARG005
        (lambda g, y: np.sum(g), "has shape (), but x has shape (4, 5)"),  # noqa: ARG005
        (lambda g, y: 1.0, "has shape (), but x has shape (4, 5)"),  # noqa: ARG005
    ],
)
def test_a_declaration_that_fails_is_left_open(
    formula: Callable[..., Any], said: str, scratch: None
) -> None:
    gw.surrogate(Through, "x", "g")(formula)
    witness = watched(RUNS[Through])
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    (reason,) = witness.report.reasons()
    assert said in reason
    # Where it was declared, and what to do.
    assert re.search(r"test_surrogates\.py:\d+", reason) or "returns" in reason


def test_what_cannot_be_declared(scratch: None, snapshot: SnapshotAssertion) -> None:
    with pytest.raises(gw.RuleError) as error:
        gw.surrogate("Through", "x", "g")
    assert str(error.value) == snapshot
    with pytest.raises(gw.RuleError) as error:
        gw.surrogate(Through, "z", "g")
    assert str(error.value) == snapshot
    with pytest.raises(gw.RuleError) as error:
        gw.surrogate(Through, "x", "g")(lambda g: g)
    assert str(error.value) == snapshot
    with pytest.raises(gw.RuleError) as error:
        gw.surrogate(Reversed, "x", "g")(lambda g, y, speed: speed * g)  # noqa: ARG005
    assert str(error.value) == snapshot
    gw.surrogate(Through, "x", "g")(lambda g, y: g)  # noqa: ARG005
    with pytest.raises(gw.RuleError) as error:
        gw.surrogate(Through, "x", "2 g")
    assert str(error.value) == snapshot
    gw.surrogate(Through, "x", "2 g", replace=True)(lambda g, y: 2 * g)  # noqa: ARG005
    assert surrogates.declared(Through)["x"].text == "2 g"


def test_another_function_of_the_same_name_is_not_meant(declared: None) -> None:
    other: Any = type("Through", (Through,), {"__module__": __name__})
    report = watched(lambda: apply(other, 3 * leaf())).report
    assert [f.grade.partition(":")[0] for f in report.wrong] == ["normwise"]
