"""What a hook or a custom function puts in question is decided at the inputs, by slopes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = [torch.float32, torch.float64]


def equilibrium(factor: Any) -> Callable[[Any], Any]:
    """Return z = tanh(z) / 2 + x, whose hook sends g / (1 - (1 - tanh(z)^2) / 2) times a factor."""

    def layer(x: Any) -> Any:
        with torch.no_grad():
            z = x
            for _ in range(60):
                z = torch.tanh(z) / 2 + x
        z = torch.tanh(z) / 2 + x
        if z.requires_grad:
            slope = (1 - torch.tanh(z.detach()) ** 2) / 2
            z.register_hook(lambda g: None if g is None else factor * g / (1 - slope))
        return z * z

    return layer


def given(dtype: torch.dtype) -> Any:
    return torch.linspace(-1, 1.2, 9, dtype=dtype).requires_grad_()


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_hook_that_solves_for_the_equilibrium_passes(dtype: torch.dtype) -> None:
    # By implicit differentiation dz/dx = 1 / (1 - (1 - tanh(z)^2) / 2).
    assert gw.gradcheck(equilibrium(1.0), given(dtype))


ONE = torch.ones(9, dtype=torch.float64)
ONE[4] = 1.01


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("factor", [-1.0, 0.0, 1.001, ONE], ids=["sign", "none", "0.1 %", "one"])
def test_one_that_does_not_is_refuted(factor: Any, dtype: torch.dtype) -> None:
    factor = factor.to(dtype) if isinstance(factor, torch.Tensor) else factor
    with pytest.raises(gw.GradientDisagreement, match="DISAGREES") as error:
        gw.gradcheck(equilibrium(factor), given(dtype))
    assert "gradient of inputs[0]: not the derivative of the function" in str(error.value)


class Scaled(Function):
    """The identity, whose gradient is multiplied."""

    @staticmethod
    def forward(ctx: Any, x: Any, factor: float) -> Any:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return ctx.factor * grads[0], None


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("factor", [2.0, 1.001, 1 + 1e-5])
def test_a_wrong_function_stays_wrong(factor: float, dtype: torch.dtype) -> None:
    with pytest.raises(gw.GradientDisagreement, match="ScaledBackward"):
        gw.gradcheck(lambda x: apply(Scaled, x.sin(), factor) * x, given(dtype))


def test_a_parameter_that_is_no_input_is_not_acquitted_by_the_inputs() -> None:
    w = torch.tensor(0.5, dtype=torch.float64).requires_grad_()
    with pytest.raises(gw.GradientDisagreement, match="INCONCLUSIVE"):
        gw.gradcheck(lambda x: equilibrium(1.0)(x) + equilibrium(1.01)(w) * x, given(torch.float64))
