"""Convolutions over complex numbers: of torch's, and by functions that leave out a conjugate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

import gradwitness as gw
from capture.functions import apply

# By name: the operation, the shapes of input and weight, and its options.
CASES: dict[str, tuple[Any, Any, Any, dict[str, int]]] = {
    "1d": (
        functional.conv1d,
        (2, 4, 9),
        (6, 4, 3),
        {"stride": 2, "padding": 1, "dilation": 2},
    ),
    "1d in groups": (functional.conv1d, (2, 4, 9), (6, 2, 3), {"groups": 2}),
    "2d in groups": (
        functional.conv2d,
        (2, 4, 6, 6),
        (4, 2, 3, 3),
        {"padding": 1, "groups": 2, "dilation": 2},
    ),
    "transposed 1d": (functional.conv_transpose1d, (2, 4, 5), (4, 3, 3), {"stride": 2}),
    "transposed 2d in groups": (
        functional.conv_transpose2d,
        (2, 4, 4, 4),
        (4, 2, 3, 3),
        {"stride": 2, "groups": 2, "output_padding": 1},
    ),
}


class ByHand(torch.autograd.Function):
    """A convolution whose gradients are those of another input and weight."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, case: Any, conjugated: Any) -> Any:
        ctx.save_for_backward(x, w)
        ctx.case, ctx.conjugated = case, conjugated
        return case[0](x, w, **case[3])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, w = (t.detach() for t in ctx.saved_tensors)
        run, _, _, options = ctx.case
        other_x = x.conj().resolve_conj() if ctx.conjugated == "x" else x
        other_w = w.conj().resolve_conj() if ctx.conjugated == "w" else w
        with torch.enable_grad():
            a, b = x.requires_grad_(), w.requires_grad_()
            (to_x,) = torch.autograd.grad(run(a, other_w.detach(), **options), a, grads)
            (to_w,) = torch.autograd.grad(run(other_x.detach(), b, **options), b, grads)
        return to_x, to_w, None, None


def operands(name: str, dtype: Any) -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    case = CASES[name]
    x, w = (torch.randn(s, dtype=dtype, requires_grad=True) for s in case[1:3])
    return case, x, w


def of_random(y: Any) -> Any:
    return (y * torch.randn_like(y)).real.sum()


@pytest.mark.parametrize("depth", ["full", "fast"])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("name", CASES)
def test_those_of_torch_agree_also_twice(name: str, dtype: Any, depth: str) -> None:
    case, x, w = operands(name, dtype)
    with gw.watch(depth=depth) as witness:
        y = case[0](x, w, **case[3])
        of_random(y).backward(retain_graph=True)
        loss = (y * torch.randn_like(y)).abs().square().sum()
        of_random(torch.autograd.grad(loss, x, create_graph=True)[0]).backward()
    assert witness.verdict is gw.Verdict.AGREES, str(witness)


@pytest.mark.parametrize("depth", ["full", "fast"])
@pytest.mark.parametrize("conjugated", ["", "x", "w"])
@pytest.mark.parametrize("name", CASES)
def test_a_conjugate_left_out_is_refuted(name: str, conjugated: str, depth: str) -> None:
    case, x, w = operands(name, torch.complex64)
    with gw.watch(depth=depth) as witness:
        of_random(apply(ByHand, x, w, case, conjugated)).backward()
    # What belongs to x is computed from the weight, and the other way round.
    wrong = {"": [], "x": ["w (input 1)"], "w": ["x (input 0)"]}[conjugated]
    assert [f.title.partition("gradient of ")[2] for f in witness.report.wrong] == wrong
    assert wrong or witness.verdict is gw.Verdict.AGREES
