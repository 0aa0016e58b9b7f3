"""Gradients that are infinite at the edge of a domain, for certain."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import gradwitness as gw


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("function", [torch.asin, torch.acos, torch.atanh])
def test_the_slope_at_the_edge_is_infinite(function: Any, dtype: torch.dtype) -> None:
    # 1 - x^2 is 0 there, and no rounding makes it anything else.
    x = torch.tensor([1.0, -1.0, 0.5], dtype=dtype, requires_grad=True)
    with gw.watch(names={"x": x}) as witness:
        (slope,) = torch.autograd.grad(function(x), x, torch.ones_like(x))
    assert [math.isinf(number) for number in slope.tolist()] == [True, True, False]
    findings = [f for f in witness.report.findings if "gradient of x" in f.title]
    assert [f.verdict for f in findings] == [gw.Verdict.AGREES]
