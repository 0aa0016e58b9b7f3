"""Custom functions whose bound by the rules is too wide to tell: their slopes may acquit them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from gradwitness import Verdict
from gradwitness.judging.comparing.compare import TOO_WIDE


class Projector(Function):
    """The projector P on the dominant eigenvector, by squaring the matrix 55 times.

    Each squaring doubles the relative bound, though the numbers soon stand still: 2^55 roundings.
    Each result has one dimension more, so that no loop of one operation is seen.
    With the other eigenvalue mu and S = (I - P) / (lambda - mu), dP = S dA P + P dA S.
    """

    sign = 1

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        power = a
        for _ in range(55):
            power = (power[..., None] * power[..., None, :, :]).sum(-2)[None]
            power = power / (power * torch.eye(2)).sum((-2, -1), keepdim=True)
        projector = power.reshape(2, 2)
        ctx.save_for_backward(a, projector)
        return projector.clone()

    @classmethod
    def backward(cls, ctx: Any, *grads: Any) -> Any:
        ((a, p), (g,)) = ctx.saved_tensors, grads
        largest = (a @ p).trace()
        s = (torch.eye(2) - p) / (2 * largest - a.trace())
        return cls.sign * (s.T @ g @ p.T + p.T @ g @ s.T)


class WrongSign(Projector):
    sign = -1


def matrix(dtype: torch.dtype = torch.float64) -> Any:
    return torch.tensor([[2.0, 0.3], [0.4, 1.0]], dtype=dtype).requires_grad_()


def judged(function: Any, dtype: torch.dtype = torch.float64, **options: Any) -> gw.Report:
    a, weights = matrix(dtype), torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=dtype)
    with gw.watch(names={"a": a}, **options) as witness:
        (apply(function, a) * weights).sum().backward()
    return witness.report


@pytest.mark.parametrize("function", [Projector, WrongSign])
def test_differences_tell_which_is_right(function: Any) -> None:
    right = torch.autograd.gradcheck(
        lambda a: apply(function, a), [matrix()], raise_exception=False
    )
    assert right is (function is Projector)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_right_by_slopes_agrees(dtype: Any) -> None:
    report = judged(Projector, dtype)
    assert report.verdict is Verdict.AGREES
    grades = [finding.grade for finding in report.findings if "Projector" in finding.title]
    assert any("numerical" in grade for grade in grades)


@pytest.mark.parametrize(
    ("function", "options", "said"),
    [
        (WrongSign, {}, "its slopes differ, but within the bound"),
        (Projector, {"rerun": False}, "with rerun=False nothing runs again"),
    ],
)
def test_the_rest_is_in_doubt(function: Any, options: Any, said: str) -> None:
    # Rounding alone may move numbers by so much, as where a variance is 0.
    report = judged(function, **options)
    assert report.verdict is Verdict.INCONCLUSIVE
    (reason,) = report.reasons()
    assert reason.startswith(TOO_WIDE)
    assert reason.endswith(said)
