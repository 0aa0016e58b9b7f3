"""A surrogate that is the derivative of one of torch's functions, and one with a tolerance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from gradwitness.rules import surrogates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from syrupy.assertion import SnapshotAssertion


class Sign(Function):
    """The sign, with a slope that a test chooses."""

    slope: Callable[[Any], Any]

    @staticmethod
    def forward(ctx: Any, x: Any, width: float = 1.0) -> Any:  # noqa: ARG004
        ctx.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * Sign.slope(x), None


class Slanted(Function):
    """Rounding that copies its gradient to a slope beside it."""

    @staticmethod
    def forward(ctx: Any, x: Any, negative_slope: float) -> Any:
        ctx.save_for_backward(x)
        ctx.slope = negative_slope
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, grads[0], grads[0] * ctx.slope), None


@pytest.fixture(autouse=True)
def _scratch() -> Iterator[None]:
    before = dict(surrogates._declared)
    surrogates._declared.pop(Sign, None)
    yield
    surrogates._declared.clear()
    surrogates._declared.update(before)


def watched(function: Any = Sign, *further: Any) -> gw.Witness:
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with gw.watch() as witness:
        apply(function, 1.5 * x, *further).square().sum().mul(0.5).backward()
    return witness


# The derivatives by their formulas; each is off by a factor in turn.
DERIVATIVES: list[tuple[Any, dict[str, Any], Callable[[Any], Any]]] = [
    ("hardtanh", {}, lambda x: (x.abs() < 1).float()),
    ("aten.clamp", {"low": -0.5, "high": 2.0}, lambda x: ((x >= -0.5) & (x <= 2)).float()),
    (torch.tanh, {}, lambda x: 1 / x.cosh() ** 2),
    ("sigmoid", {}, lambda x: 1 / (2 * (x / 2).cosh()) ** 2),
    ("torch.relu", {}, lambda x: (x > 0).float()),
]


@pytest.mark.parametrize(("of", "parameters", "slope"), DERIVATIVES)
def test_the_derivative_of_a_torch_function(
    of: Any,
    parameters: dict[str, Any],
    slope: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gw.surrogate(Sign, "x", of=of, **parameters)
    for factor, verdict in ((1.0, gw.Verdict.AGREES), (1.001, gw.Verdict.DISAGREES)):
        monkeypatch.setattr(
            Sign, "slope", staticmethod(lambda x, k=factor: k * slope(x)), raising=False
        )
        witness = watched()
        assert witness.verdict is verdict
    assert "declared by the program, not derived: dx = the derivative of aten." in str(witness)


def test_its_other_arguments_are_those_of_forward_with_the_same_names() -> None:
    gw.surrogate(Slanted, "x", of="leaky_relu")
    assert watched(Slanted, 0.125).verdict is gw.Verdict.AGREES
    gw.surrogate(Slanted, "x", of="leaky_relu", negative_slope=0.25, replace=True)
    assert watched(Slanted, 0.125).verdict is gw.Verdict.DISAGREES


def test_with_a_tolerance_the_formula_may_call_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.special import expit

    def formula(g: Any, y: Any, x: Any) -> Any:
        assert type(g) is type(x) is np.ndarray
        return g * expit(x) * expit(-x)

    gw.surrogate(Sign, "x", "g s(x) s(-x)", tolerance=1e-3)(formula)
    for off, verdict in ((0.0, "AGREES"), (9e-4, "AGREES"), (1.1e-3, "DISAGREES")):
        slope = staticmethod(lambda x, k=1 + off: k * torch.sigmoid(x) * torch.sigmoid(-x))
        monkeypatch.setattr(Sign, "slope", slope, raising=False)
        assert watched().verdict.value == verdict


def test_without_one_it_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.special import expit

    monkeypatch.setattr(Sign, "slope", staticmethod(torch.sigmoid), raising=False)
    gw.surrogate(Sign, "x", "g s(x)")(lambda g, y, x: g * expit(x))  # noqa: ARG005
    (reason,) = watched().report.reasons()
    assert "expit, which has no rounding bound" in reason
    assert "tolerance=" in reason


@pytest.mark.parametrize(
    "declare",
    [
        lambda: gw.surrogate(Sign, "x", of="hardtahn"),
        lambda: gw.surrogate(Sign, "x", of=3),
        lambda: gw.surrogate(Sign, "x", of="hardtanh", low=2),
        lambda: gw.surrogate(Sign, "x", of="threshold"),
        lambda: gw.surrogate(Sign, "x", of="sign", width=2),
        lambda: gw.surrogate(Sign, "x", of="argmax"),
        lambda: gw.surrogate(Sign, "x"),
        lambda: gw.surrogate(Sign, "x", "g", steepness=2),
        lambda: gw.surrogate(Sign, "x", "g", tolerance=2),
        lambda: gw.surrogate(Sign, "x", of="relu")(lambda g, y: g),  # noqa: ARG005
    ],
)
def test_what_cannot_be_declared_says_what_to_do(
    declare: Callable[[], Any], snapshot: SnapshotAssertion
) -> None:
    with pytest.raises(gw.RuleError) as error:
        declare()
    assert str(error.value) == snapshot
