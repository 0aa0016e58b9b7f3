"""Python numbers that the format cannot hold: torch rounds them first, and then compares."""

from __future__ import annotations

import numpy as np
import torch

import gradwitness as gw


def test_a_limit_that_float32_cannot_hold_is_compared_after_rounding() -> None:
    # float32(0.7) is 0.699999988, below 0.7: compared in float64 it would be outside the limit.
    edge = float(np.float32(0.7))
    assert edge < 0.7
    x = torch.tensor([edge, 0.0, 1.0], requires_grad=True)
    with gw.watch(names={"x": x}) as witness:
        (x.clamp(min=0.7) * torch.tensor([2.0, 3.0, 5.0])).sum().backward()  # type: ignore[no-untyped-call]
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
    # At the edge torch passes the gradient on.
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 0.0, 5.0]


def test_an_optimizer_step_in_the_block_is_judged_too() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    with gw.watch(layer) as witness:
        for _ in range(2):
            optimizer.zero_grad()
            (layer(torch.rand(4, 3)) * torch.rand(4, 2)).sum().backward()
            optimizer.step()
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
    assert len(witness.report.rows) == 4
