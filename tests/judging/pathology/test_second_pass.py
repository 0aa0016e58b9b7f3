"""Custom functions whose backward is differentiated again, with and without what that takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint

import gradwitness as gw
from gradwitness.judging.gradients.second_derivatives import KIND
from judging.pathology.watching import at, leaf


class Base(Function):
    """exp(x) |x|, whose derivative is exp(x) |x| + exp(x) sign(x)."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.exp, ctx.sign, ctx.size = x.exp(), x.sign(), x.shape
        y = ctx.exp * x.abs()
        ctx.save_for_backward(x, y)
        return y


class InBetween(Base):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        _, y = ctx.saved_tensors
        return grads[0] * (y + ctx.exp * ctx.sign)


class Detached(Base):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, y = ctx.saved_tensors
        constant = x.detach().exp() * ctx.sign
        return grads[0] * (y + constant)


class DetachedCotangent(Base):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, y = ctx.saved_tensors
        return grads[0].detach() * (y + x.exp() * ctx.sign)


class Whole(Base):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, y = ctx.saved_tensors
        return grads[0] * (y + x.exp() * ctx.sign)


def penalty(function: Any) -> tuple[Any, gw.Witness]:
    """Return the gradient of a gradient penalty, and the witness."""
    x = leaf(0.25, -1.5, 2.0)
    with gw.watch(names={"x": x}) as witness:
        y = function(x.sin())
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        slope.square().sum().backward()
    return x.grad, witness


def truth() -> Any:
    return penalty(lambda x: x.exp() * x.abs())[0]


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (InBetween, "ctx.exp * ctx.sign"),
        (Detached, "x.detach()"),
        (DetachedCotangent, "grads[0].detach()"),
    ],
)
def test_what_is_a_constant_for_the_second_pass_is_noted(function: Any, line: str) -> None:
    gradient, witness = penalty(function.apply)
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    (note,) = witness.report.notes
    assert not torch.allclose(gradient, truth(), rtol=1e-2)
    assert note.kind == KIND
    assert function.__name__ in note.text
    assert at(note, function.backward, line)


def through_a_checkpoint(x: Any) -> Any:
    return checkpoint(lambda z: Whole.apply(z), x, use_reentrant=False)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("function", [Whole.apply, through_a_checkpoint])
def test_what_is_whole_is_not(function: Any) -> None:
    gradient, witness = penalty(function)
    assert witness.verdict is gw.Verdict.AGREES
    torch.testing.assert_close(gradient, truth())
    assert witness.report.notes == ()


def test_first_derivatives_may_use_what_they_like() -> None:
    x = leaf(0.25, -1.5, 2.0)
    with gw.watch(names={"x": x}) as witness:
        for function in (InBetween, Detached):
            function.apply(x.sin()).square().sum().backward()  # type: ignore[no-untyped-call]
            # It runs its forward again in backward, on detached numbers, and a pass within.
            checkpoint(function.apply, x.sin(), use_reentrant=True).sum().backward()
    assert witness.verdict is gw.Verdict.AGREES
    assert KIND not in [note.kind for note in witness.report.notes]
