"""Custom functions whose forward does more than work out its outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from capture.programs import leaf

ROWS = 3


class FusedLoss(Function):
    """Cross entropy of x W^T, a few rows at a time; works its gradients out in its forward."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, target: Any, forgets: bool) -> Any:
        ctx.forgets = forgets
        loss = torch.zeros((), dtype=x.dtype)
        of_x, of_w = torch.zeros_like(x), torch.zeros_like(w)
        for begin in range(0, len(x), ROWS):
            part, wanted = x[begin : begin + ROWS], target[begin : begin + ROWS, None]
            scores = part @ w.t()
            loss += (scores.logsumexp(-1, keepdim=True) - scores.gather(1, wanted)).sum()
            # In float32 whatever x is: in float64 this forward does not run.
            errors = scores.softmax(-1).scatter_add_(1, wanted, -torch.ones(len(part), 1))
            of_x[begin : begin + ROWS] = errors @ w
            of_w += errors.t() @ part
        ctx.save_for_backward(of_x, of_w)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        of_x, of_w = ctx.saved_tensors
        return grads[0] * of_x, of_w if ctx.forgets else grads[0] * of_w, None, None


def watched(*, forgets: bool) -> gw.Witness:
    x, w = leaf(7, 4), leaf(5, 4)
    target = torch.tensor([0, 4, 2, 2, 1, 3, 0])
    with gw.watch(names={"x": x, "w": w}) as witness:
        (apply(FusedLoss, x, w, target, forgets) / 7).backward()
    return witness


def test_gradients_that_are_worked_out_in_the_forward_are_judged_by_the_rules() -> None:
    witness = watched(forgets=False)
    assert witness.verdict is gw.Verdict.AGREES
    (node,) = [n for n in witness.tape.nodes if n.name == "FusedLossBackward"]
    grades = [f.grade for f in witness.report.findings if f.node == node.id and f.grade]
    assert len(grades) == 2
    assert all(grade.startswith("normwise") for grade in grades)


def test_a_cotangent_that_is_forgotten_there_is_found() -> None:
    (wrong,) = watched(forgets=True).report.wrong
    assert wrong.title.startswith("FusedLossBackward #")
    assert wrong.title.endswith("(input 1)")


class ByRow(Function):
    """sin by NumPy, row by row into memory of its own; keeps to float32."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        if x.dtype != torch.float32:
            raise TypeError("float32 only")
        ctx.save_for_backward(x)
        y = torch.empty_like(x)
        for row in range(len(x)):
            y[row] = torch.from_numpy(np.sin(x[row].detach().numpy()))
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * ctx.saved_tensors[0].cos()


def test_what_its_outputs_are_made_of_is_refused_without_a_claim_of_evidence() -> None:
    x = leaf(4, 3, dtype=torch.float32)
    with gw.watch() as witness:
        apply(ByRow, x).square().sum().backward()
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    (doubt,) = [f for f in witness.report.findings if "ByRow" in f.title and f.comparison.reason]
    assert "its forward leaves torch (outside.numpy)" in doubt.comparison.reason
    assert "float32 only" in doubt.comparison.reason
    # No slope was measured: no count of directions.
    assert doubt.grade == ""
