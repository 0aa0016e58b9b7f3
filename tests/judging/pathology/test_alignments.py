"""CTC's gradient is the slope only behind log_softmax: held against differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable

    Form = Callable[[torch.Tensor], torch.Tensor]

TARGETS = torch.tensor([[1, 2, 3], [2, 2, 1]])


def loss_of(x: torch.Tensor, form: Form) -> torch.Tensor:
    heard, long = torch.tensor((7, 5)), torch.tensor((3, 3))
    return F.ctc_loss(form(x), TARGETS, heard, long, zero_infinity=True)


def watched(form: Form, dtype: torch.dtype = torch.float64) -> tuple[gw.Report, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(7, 2, 4, dtype=dtype).log_softmax(2).requires_grad_()
    with gw.watch(names={"x": x}) as witness:
        torch.autograd.backward(loss_of(x, form))
    return witness.report, x


def slope(x: torch.Tensor, form: Form, step: float = 1e-5) -> torch.Tensor:
    out = torch.zeros_like(x)
    for at in torch.cartesian_prod(*map(torch.arange, x.shape)).tolist():
        ends = []
        for sign in (1, -1):
            moved = x.detach().clone()
            moved[tuple(at)] += sign * step
            ends.append(loss_of(moved, form).item())
        out[tuple(at)] = (ends[0] - ends[1]) / (2 * step)
    return out


@pytest.mark.parametrize("form", [lambda x: x, lambda x: 2 * x.log_softmax(2)])
def test_how_far_off_the_slope_it_is_elsewhere(form: Form) -> None:
    report, x = watched(form)
    assert report.verdict is gw.Verdict.AGREES
    truth = slope(x, form)
    assert x.grad is not None
    share = float((x.grad - truth).norm() / truth.norm())
    assert share > 0.1
    (note,) = [note for note in report.notes if note.kind == "not from log_softmax"]
    assert note.text.startswith(f"x is {100 * share:.2g} % off the slope of ctc_loss.")
    assert note.source is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.log_softmax(2),
        lambda x: x.softmax(2).log(),
        lambda x: x - x.logsumexp(2, keepdim=True),
        lambda x: x.transpose(0, 1).log_softmax(-1).transpose(0, 1),
    ],
)
def test_behind_log_softmax_it_is_the_slope(form: Form, dtype: torch.dtype) -> None:
    report, x = watched(form, dtype)
    assert report.notes == ()
    if dtype == torch.float64:
        assert x.grad is not None
        torch.testing.assert_close(x.grad, slope(x, form), rtol=1e-6, atol=1e-9)
