"""assert_gradients: of a step, of a witness, of somebody else's numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable


class Double(torch.autograd.Function):
    """x, with twice the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 1

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return 2 * grads[0]


@pytest.fixture
def case() -> tuple[nn.Module, Callable[[], None], dict[str, np.ndarray[Any, Any]]]:
    """Return a linear model, a step that runs it, and its gradients by hand."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    x, c = torch.randn(4, 3), torch.randn(4, 2)

    def step() -> None:
        model.zero_grad()
        (model(x) * c).sum().backward()

    wide_x, wide_c = x.double().numpy(), c.double().numpy()
    # y = x W^T + b and L = <c, y>, so dW = c^T x and db = sum of c over the batch.
    return model, step, {"weight": wide_c.T @ wide_x, "bias": wide_c.sum(axis=0)}


def test_right_gradients(case: Any) -> None:
    model, step, claims = case
    gw.assert_gradients(step)
    gw.assert_gradients(step, None, model)
    with gw.watch(model, keep=None) as witness:
        step()
    gw.assert_gradients(witness)
    for program in (step, witness):
        rounded = {name: array.astype(np.float32) for name, array in claims.items()}
        gw.assert_gradients(rounded, program, *([model] if program is step else []))
        gw.assert_gradients(lambda: rounded, program)  # noqa: B023 (called at once)


def test_a_wrong_step() -> None:
    def step() -> None:
        x = torch.ones(3, requires_grad=True)
        apply: Any = Double.apply
        (apply(x.sin()) * 3).sum().backward()

    with pytest.raises(AssertionError, match=r"(?s)^DISAGREES\n.*backward: DoubleBackward #2") as e:
        gw.assert_gradients(step)
    assert isinstance(e.value, gw.GradientDisagreement)
    said = str(e.value)
    for what in (
        "  wrong in Double.backward, ",
        "  worst    ",
        "that rounding allows",
        "  next     ",
    ):
        assert what in said
    assert [fault.title for fault in e.value.faults] == [
        "DoubleBackward #2, gradient of x (input 0)"
    ]


def test_a_wrong_claim(case: Any) -> None:
    model, step, claims = case
    wrong = claims | {"weight": 2 * claims["weight"]}
    with pytest.raises(gw.GradientDisagreement, match=r"(?s)^DISAGREES\n.*weight +2x3 +DISAGREES"):
        gw.assert_gradients(wrong, step, model)


def test_what_was_not_claimed_does_not_pass(case: Any) -> None:
    model, step, claims = case
    with pytest.raises(gw.GradientDisagreement, match=r"^INCONCLUSIVE\n"):
        gw.assert_gradients({"weight": claims["weight"]}, step, model)


def test_no_gradient_does_not_pass() -> None:
    with pytest.raises(gw.GradientDisagreement, match=r"^INCONCLUSIVE\n"):
        gw.assert_gradients(lambda: None)


def test_bad_input(case: Any) -> None:
    model, step, claims = case
    with pytest.raises(gw.InputError, match=r"not dict: assert_gradients\(step\), or"):
        gw.assert_gradients(claims)
    with pytest.raises(gw.InputError, match="not int"):
        gw.assert_gradients(claims, 3)  # type: ignore[arg-type]
    with gw.watch(model) as witness:
        step()
    with pytest.raises(gw.InputError, match="a Witness already has its names"):
        gw.assert_gradients(witness, None, model)
    with pytest.raises(gw.GradwitnessError, match="no verdict before the watched block has ended"):
        gw.assert_gradients(gw.watch())
