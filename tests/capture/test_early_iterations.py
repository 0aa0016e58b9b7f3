"""Iterations that stop early: their slopes are those of the limit only to some extent."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gradwitness as gw
from capture.functions import apply
from capture.implicit import Root
from gradwitness import Verdict


class HalfSteps(Root):
    """z with z^3 + z = x by half steps until they are short: each leaves half of the error."""

    short = 0.0
    wrong: Any = (0, 0.0)

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        z, moved = torch.zeros_like(x), 1.0
        while moved > HalfSteps.short:
            step = 0.5 * (z**3 + z - x) / (3 * z * z + 1)
            z, moved = z - step, float(step.abs().max())
        ctx.save_for_backward(z)
        return z

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (z,) = ctx.saved_tensors
        element, share = HalfSteps.wrong
        return (
            grads[0] / (3 * z * z + 1) * torch.where(torch.arange(len(z)) == element, 1 + share, 1)
        )


@pytest.mark.parametrize("element", [0, 500, 999])
@pytest.mark.parametrize("short", [1e-4, 1e-5, 1e-9])
def test_one_wrong_element_in_a_thousand_does_not_pass(
    short: float, element: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HalfSteps, "short", short)
    torch.manual_seed(0)
    g = torch.randn(1000, dtype=torch.float64).sign()
    for share in (-1.0, -2.0):
        monkeypatch.setattr(HalfSteps, "wrong", (element, share))
        x = torch.linspace(-0.5, 0.5, 1000, dtype=torch.float64).requires_grad_()
        with gw.watch(rerun=True) as witness:
            apply(HalfSteps, x).backward(g)
        assert witness.verdict is not Verdict.AGREES
    if short == 1e-9:
        monkeypatch.setattr(HalfSteps, "wrong", (element, 0.0))
        with gw.watch(rerun=True) as witness:
            apply(HalfSteps, x).backward(g)
        assert witness.verdict is Verdict.AGREES
