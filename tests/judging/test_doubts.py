"""Doubts are magnitudes: one that cannot move a gradient is none, another is told with its size."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.judging.gradients.doubts import FAINT
from gradwitness.judging.gradients.lost import LOST

if TYPE_CHECKING:
    from collections.abc import Callable

A, D, I = gw.Verdict.AGREES, gw.Verdict.DISAGREES, gw.Verdict.INCONCLUSIVE  # noqa: E741
STEPS = 140


def recurrent(spoil: Callable[[int, Any], Any] = lambda _, h: h) -> tuple[gw.Witness, nn.RNNCell]:
    torch.manual_seed(0)
    cell, h, xs = nn.RNNCell(4, 8), torch.zeros(2, 8), torch.randn(STEPS, 2, 4)
    with gw.watch(cell) as witness:
        for step in range(STEPS):
            h = spoil(step, cell(xs[step], h))
        torch.autograd.backward(h.square().sum())
    return witness, cell


def norms_by_hand(cell: nn.RNNCell) -> list[float]:
    """Return the norms of dL/dh, backwards in time: from 2 h on, times 1 - h^2 and the weight."""
    torch.manual_seed(0)
    nn.RNNCell(4, 8), torch.zeros(2, 8)
    xs = torch.randn(STEPS, 2, 4).double().numpy()
    u, w = (p.detach().double().numpy() for p in (cell.weight_ih, cell.weight_hh))
    b = (cell.bias_ih + cell.bias_hh).detach().double().numpy()
    h = np.zeros((2, 8))
    hs = [h := np.tanh(x @ u.T + h @ w.T + b) for x in xs]
    g, norms = 2 * hs[-1], []
    for state in reversed(hs):
        norms.append(float(np.linalg.norm(g)))
        g = (g * (1 - state * state)) @ w
    return norms


def test_what_has_vanished_leaves_no_gradient_in_doubt() -> None:
    witness, cell = recurrent()
    assert witness.verdict is A
    assert {row.name: row.verdict for row in witness.report.rows} == dict.fromkeys(
        ("weight_ih", "weight_hh", "bias_ih", "bias_hh"), A
    )
    faint = [f for f in witness.report.findings if f.comparison.reason == FAINT]
    assert len(faint) > 40
    (note,) = witness.report.notes
    assert note.kind == "vanishing gradient"
    norms = norms_by_hand(cell)
    seen = max(k for k, norm in enumerate(norms) if norm > 2.0**-24 * norms[0]) + 1
    assert f"more than {seen} of the {STEPS} steps back" in note.text
    share, steps = note.text.removeprefix("the gradient vanishes: ").split(" of its norm is left ")
    left = int(steps.split()[1])
    # Where float32 ends, subnormal numbers have few digits.
    assert float(share) == pytest.approx(norms[left] / norms[0], rel=1)


@pytest.mark.parametrize(
    ("steps", "wrong", "verdict"), [(200, 0.0, A), (200, 1e-38, D), (30, 0.0, D)]
)
def test_a_start_whose_gradient_has_vanished_agrees_by_zeros_alone(
    steps: int, wrong: float, verdict: gw.Verdict
) -> None:
    """Of the start: after 200 steps it is 0 in float32, after 30 it is not."""
    torch.manual_seed(0)
    cell, start, xs = (
        nn.RNNCell(4, 8),
        torch.zeros(2, 8, requires_grad=True),
        torch.randn(200, 2, 4),
    )
    with gw.watch(cell, names={"start": start}) as witness:
        h = start
        for step in range(steps):
            h = cell(xs[step], h)
        torch.autograd.backward(h.square().sum())
    assert start.grad is not None
    assert bool(start.grad.any()) is (steps == 30)
    tape = witness.tape
    sent = next(row.value for row in witness.report.rows if row.name == "start")
    array = np.full((2, 8), wrong, dtype=np.float32)
    values = [replace(v, array=array) if v.id == sent else v for v in tape.values]
    report = gw.judge(replace(tape, values=tuple(values)))
    (row,) = [row for row in report.rows if row.name == "start"]
    assert row.verdict is verdict


class Added(torch.autograd.Function):
    """A factor, whose backward adds an error."""

    @staticmethod
    def forward(ctx: Any, h: Any, error: float) -> Any:
        ctx.error = error
        return h * 0.7

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * 0.7 + ctx.error, None


@pytest.mark.parametrize(("error", "verdict"), [(1e-39, A), (1e-30, D)])
def test_an_error_among_vanished_gradients_is_found_where_it_counts(
    error: float, verdict: gw.Verdict
) -> None:
    """What hides below the smallest float32 number moves no gradient by what its row detects."""
    apply: Any = Added.apply

    def spoil(step: int, h: Any) -> Any:
        return apply(h, error) if step == STEPS - 100 else h

    witness, _ = recurrent(spoil)
    assert witness.verdict is verdict
    assert all(0 < row.doubt < 1e-7 for row in witness.report.rows)


def in_a_branch(other: float) -> gw.Witness:
    """Look a number up often in bfloat16, and use it once more in float32 with another factor.

    Adding 2^16 + 1 gradients in bfloat16, in any order, may be off by 2^16 u = 256 times their sum.
    One after another 256 + 1 stays 256. So long a sum is not added one by one to see that.
    """
    v = torch.tensor([1.0], requires_grad=True)
    with gw.watch(names={"v": v}) as witness:
        table = v.to(torch.bfloat16)[:, None]
        places = torch.zeros(2**16 + 1, dtype=torch.int64)
        found = nn.functional.embedding(places, table).float()
        torch.autograd.backward(found.sum() + other * v.sum())
    return witness


@pytest.mark.parametrize(("other", "verdict"), [(0.0, I), (1e10, A)])
def test_a_doubt_about_a_small_part_is_counted_in_what_the_whole_detects(
    other: float, verdict: gw.Verdict
) -> None:
    witness = in_a_branch(other)
    (row,) = witness.report.rows
    assert (row.verdict, witness.verdict) == (verdict, verdict)
    reasons = {f.comparison.reason.partition(":")[0] for f in witness.report.findings}
    assert (LOST in reasons, FAINT.partition(":")[0] in reasons) == (verdict is I, verdict is A)
    # Of the sum, 256 is left, and twice the bound counts.
    doubt = 2 * 256 * (2**16 + 1) / (256 + other)
    assert row.doubt == pytest.approx(doubt, rel=0.1)
    if verdict is A:
        assert row.comparison.detects_relative == pytest.approx(doubt, rel=0.1)
