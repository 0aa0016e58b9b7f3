"""Python numbers that the format cannot hold: torch rounds them first, and then compares."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

import gradwitness as gw
from gradwitness.judging.finding import Step


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


def test_a_power_of_two_below_1_that_torch_rounds_to_0_is_refuted() -> None:
    # Torch 2.13 raises 2 to a whole exponent among whole numbers: 2^-1 is 0 in its backward.
    x = torch.tensor([3.0, 5.0], requires_grad=True)
    with gw.watch(names={"x": x}) as witness:
        torch.ldexp(x, torch.tensor([-1, 2])).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    right = x.grad.tolist() == [0.5, 4.0]
    assert witness.verdict is (gw.Verdict.AGREES if right else gw.Verdict.DISAGREES), str(witness)
    assert len(witness.report.wrong) == (0 if right else 1)


def _drawn_slopes(x: torch.Tensor, lower: float, upper: float) -> gw.Witness:
    with gw.watch(names={"x": x}) as witness:
        made = torch.nn.functional.rrelu(x, lower, upper, training=True)
        (made * torch.linspace(1, 2, x.numel())).sum().backward()  # type: ignore[no-untyped-call]
    return witness


def test_slopes_that_are_drawn_are_taken_from_the_result() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, requires_grad=True)
    witness = _drawn_slopes(x, 0.1, 0.4)
    assert witness.verdict is gw.Verdict.AGREES, str(witness)


def test_the_slope_at_0_is_the_one_that_was_drawn() -> None:
    torch.manual_seed(0)
    x = torch.zeros(50, requires_grad=True)
    witness = _drawn_slopes(x, 0.1, 0.4)
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
    # Another slope between the limits is not the one.
    call = next(c for c in witness.tape.calls if "rrelu" in c.op)
    noise: Any = call.arguments["noise"]
    values = [
        replace(v, array=np.full(50, 0.25, np.float32)) if v.id == noise.value else v
        for v in witness.tape.values
    ]
    report = gw.judge(replace(witness.tape, values=tuple(values)))
    assert [f.step for f in report.wrong] == [Step.BACKWARD]


def test_a_slope_outside_of_the_limits_is_refuted() -> None:
    torch.manual_seed(0)
    witness = _drawn_slopes(torch.randn(50, requires_grad=True), 0.1, 0.4)
    call = next(c for c in witness.tape.calls if "rrelu" in c.op)
    narrow = replace(call, arguments={**call.arguments, "upper": 0.2})
    calls = tuple(narrow if c is call else c for c in witness.tape.calls)
    report = gw.judge(replace(witness.tape, calls=calls))
    assert [f.step for f in report.wrong] == [Step.FORWARD]
