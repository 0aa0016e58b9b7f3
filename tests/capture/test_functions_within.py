"""Custom functions that are applied while a backward pass runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from capture.programs import leaf, weighted

if TYPE_CHECKING:
    import pytest


class Slope(Function):
    """(g, x) to 3 g x^2: the backward of a cube, with a backward of its own."""

    factor = 6.0

    @staticmethod
    def forward(ctx: Any, g: Any, x: Any) -> Any:
        ctx.save_for_backward(g, x)
        return 3 * g * x * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (h,), (g, x) = grads, ctx.saved_tensors
        return h * 3 * x * x, h * Slope.factor * g * x


class Cube(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return apply(Slope, grads[0], *ctx.saved_tensors)


class SlopeAtOnce(Function):
    """x^2, whose forward runs a backward pass and keeps what came of it."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        with torch.enable_grad():
            inner = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(inner.square().sum(), inner)
        ctx.save_for_backward(slope)
        return x * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * ctx.saved_tensors[0]


def penalised() -> gw.Witness:
    x = leaf(5)
    with gw.watch(names={"x": x}) as witness:
        (g,) = torch.autograd.grad(weighted(apply(Cube, x)), x, create_graph=True)
        g.square().sum().backward()
    return witness


def test_a_backward_that_applies_a_function_is_judged_when_differentiated_again() -> None:
    witness = penalised()
    assert witness.verdict is gw.Verdict.AGREES
    assert {f.verdict for f in witness.report.findings} == {gw.Verdict.AGREES}


def test_its_wrong_second_derivative_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slope, "factor", 3.0)
    (wrong,) = penalised().report.wrong
    assert wrong.title.startswith("SlopeBackward #")
    assert wrong.title.endswith("(input 1)")
    assert wrong.source is not None
    assert "test_functions_within.py" in wrong.source.line


def test_a_pass_inside_a_forward_is_no_part_of_that_forward() -> None:
    x = leaf(5)
    with gw.watch() as witness:
        weighted(apply(SlopeAtOnce, x.sin())).backward()
    assert witness.verdict is gw.Verdict.AGREES
    own = [node.inner for node in witness.tape.nodes if node.name == "SlopeAtOnceBackward"]
    (inner,) = own
    assert all(witness.tape.calls[call].during is None for call in inner)
