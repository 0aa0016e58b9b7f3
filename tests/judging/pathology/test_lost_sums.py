"""Sums that torch's narrow format spoils: how far off they are, by sums in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import gradwitness as gw


def bias_of_rows(g: torch.Tensor) -> tuple[gw.Report, Any]:
    """The gradient of a layer norm's bias, which is the sum of the rows that come in."""
    bias = torch.zeros(g.shape[1], dtype=g.dtype, requires_grad=True)
    torch.manual_seed(1)
    with gw.watch(names={"bias": bias}) as witness:
        y = F.layer_norm(torch.randn(g.shape, dtype=g.dtype), bias.shape, bias=bias)
        torch.autograd.backward(y, g)
    assert bias.grad is not None
    return witness.report, bias.grad


@pytest.mark.low_precision
@pytest.mark.parametrize("rows", [64, 1024, 4096])
def test_how_far_off_a_sum_in_bfloat16_is_and_what_to_do(rows: int) -> None:
    torch.manual_seed(rows)
    g = torch.randn(rows, 8).bfloat16()
    report, found = bias_of_rows(g)
    right = g.double().sum(0)
    share = float((found.double() - right).norm() / right.norm())
    # A quarter of the 2.1 digits that a spacing of 2^-7 leaves.
    lost = share > 2.0 ** (-7 * 0.75)
    notes = [note for note in report.notes if note.kind == "digits lost"]
    assert len(notes) == lost
    for note in notes:
        assert note.text.startswith("torch's bfloat16 sum lost it: bias is ")
        assert f" {100 * share:.2g} % off the float64 result" in note.text
        assert "Accumulate in float32" in note.text


@pytest.mark.low_precision
def test_this_processor_loses_a_sum() -> None:
    report, _ = bias_of_rows(torch.full((4096, 8), 0.01, dtype=torch.bfloat16))
    assert [note.kind for note in report.notes] == ["digits lost"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_lost_in_a_wider_format(dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    report, _ = bias_of_rows(torch.randn(4096, 8, dtype=dtype))
    assert report.verdict is gw.Verdict.AGREES
    assert report.notes == ()


@pytest.mark.low_precision
def test_terms_that_cancel_are_not_lost() -> None:
    torch.manual_seed(3)
    half = torch.randn(2048, 8).bfloat16()
    # Each pair differs by one rounding at most: that is all that is left.
    report, _ = bias_of_rows(torch.stack([half, -half * 1.001], 1).flatten(0, 1))
    assert report.notes == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_what_is_too_small_for_its_format_is_no_lost_sum(dtype: torch.dtype) -> None:
    # 0.54 (cos 1) times the smallest number rounds to that number: 85 % off. Nothing was added.
    x = torch.ones(8, dtype=dtype, requires_grad=True)
    least = torch.full_like(x, torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps)
    with gw.watch(names={"x": x}) as witness:
        torch.autograd.backward(x.sin(), least)
    assert x.grad is not None
    assert torch.equal(x.grad, least)
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert witness.report.notes == ()
