"""Gradients behind declared approximations tell what reached them, and doubt what has grown."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from gradwitness.rules import declarations

if TYPE_CHECKING:
    from collections.abc import Callable

A, I = gw.Verdict.AGREES, gw.Verdict.INCONCLUSIVE  # noqa: E741
# By which share of itself the derivative below is off at 1, where it is largest and farthest off.
OFF = 1 - (1 + 1 / 1024) ** 1024 / math.e


class Exp(Function):
    """e^x; its derivative is approximate."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return torch.exp(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * (1 + x / 1024) ** 1024


class NumpyExp(Exp):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return torch.from_numpy(np.exp(x.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * (1 + x / 64) ** 64


def judged(loss: Callable[[Any], Any], tolerance: float, function: Any = Exp) -> gw.Witness:
    before = declarations._approximations.copy()
    gw.approximation(function, tolerance)
    x: Any = torch.linspace(-1, 1, 9, dtype=torch.float64).requires_grad_()
    other = torch.ones(9, dtype=torch.float64, requires_grad=True)
    try:
        with gw.watch(names={"x": x, "other": other}, rerun=True) as witness:
            (loss(x) + (other * 3).sum()).backward()
    finally:
        declarations._approximations.clear()
        declarations._approximations.update(before)
    return witness


def of(witness: gw.Witness, name: str) -> Any:
    (row,) = [row for row in witness.report.rows if row.name == name]
    return row


def off(reason: str) -> float:
    found = re.search(r"to (\S+) of the largest number", reason)
    assert found
    return float(found[1])


def test_what_reached_a_gradient_is_told() -> None:
    witness = judged(lambda x: apply(Exp, x * 1).sum(), 1e-3)
    row = of(witness, "x")
    assert row.verdict is A
    assert row.reason.startswith("agrees within the declared approximation of Exp: ")
    assert off(row.reason) == pytest.approx(OFF, rel=0.02)
    assert not of(witness, "other").reason
    assert "approximate (1): agrees within the declared approximation of Exp" in str(witness)


def test_what_grows_within_the_tolerance_agrees() -> None:
    # 1000 of 500 left: twice the share.
    loss = lambda x: 1000 * apply(Exp, x * 1).sum() - 500 * x.exp().sum()  # noqa: E731
    row = of(judged(loss, 1e-3), "x")
    assert row.verdict is A
    assert off(row.reason) == pytest.approx(2 * OFF, rel=0.02)


def test_what_grows_beyond_it_is_in_doubt() -> None:
    # 1000 of 10 left.
    loss = lambda x: 1000 * apply(Exp, x * 1).sum() - 990 * x.exp().sum()  # noqa: E731
    witness = judged(loss, 1e-3)
    row = of(witness, "x")
    assert (witness.verdict, row.verdict, of(witness, "other").verdict) == (I, I, A)
    assert "the declared approximation of Exp has grown to 0.05" in row.reason
    assert "beyond the 0.001 that was declared" in row.reason
    assert row.reason in witness.report.reasons()
    assert 10**-row.digits == pytest.approx(100 * OFF, rel=0.02)


def test_errors_of_several_add_up() -> None:
    # Both are at 1 where the gradient is largest: e^(e^(x - 1)).
    loss = lambda x: apply(Exp, apply(Exp, x - 1.0 + 1.0) / math.e).sum()  # noqa: E731
    row = of(judged(loss, 6e-4), "x")
    assert row.verdict is A
    assert off(row.reason) == pytest.approx(1 - (1 - OFF) ** 2, rel=0.02)
    assert off(row.reason) > 6e-4


def test_what_nothing_is_known_of_is_said() -> None:
    row = of(judged(lambda x: apply(NumpyExp, x * 1).sum(), 2e-2, NumpyExp), "x")
    assert row.verdict is A
    assert row.reason == (
        "agrees within the declared approximation of NumpyExp: how far it has grown on its way is "
        "not known"
    )


WIDE = torch.tensor([1e6, 1.0])


class Scaled(Function):
    """x times a constant; the small element of its gradient is 20 % off on demand."""

    @staticmethod
    def forward(ctx: Any, x: Any, off: float) -> Any:
        ctx.off = off
        return x * WIDE

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * WIDE * torch.tensor([1.0, 1 + ctx.off]), None


@pytest.mark.parametrize("off", [0.0, 0.2])
def test_an_error_that_hides_under_the_largest_number_shows_where_it_is_amplified(
    off: float,
) -> None:
    x = torch.ones(2, requires_grad=True)
    with gw.watch(names={"x": x}) as witness:
        # 0.2 is less than a few roundings of 1e6, and then multiplied by 1e6.
        apply(Scaled, x * torch.tensor([1.0, 1e6]), off).sum().backward()
    (row,) = witness.report.rows
    if not off:
        assert row.verdict is witness.verdict is A
        return
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([1e6, 1.2e6])
    assert row.verdict is witness.verdict is I
    assert row.reason.startswith("an error that Scaled is allowed, relative to the largest number")
    # 0.2 of 1.2 is 0.17.
    assert "has grown to 0.17 of what arrives here" in row.reason
