"""Sums of which next to nothing is left are held against their own terms, number by number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.capture.recorder import record
from gradwitness.judging.comparing.comparison import CANCELS
from gradwitness.judging.finding import Finding, Step
from judging.looks.test_fast import changed, place_of, value_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.tape import Tape

UNIT = 2.0**-24


def before_a_norm() -> tuple[Tape, NDArray[Any]]:
    """Record a convolution before a normalisation, and what arrives at it."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
    arrived: list[torch.Tensor] = []
    with record(conv, norm) as recorder:
        y = conv(torch.randn(32, 3, 18, 18))
        y.register_hook(arrived.append)
        z = norm(y)
        torch.autograd.backward((z * torch.randn_like(z)).sum())
    return recorder.tape, arrived[0].double().numpy()


def of_bias(tape: Tape, depth: str) -> Finding:
    found = gw.judge(tape, depth=depth).findings
    sent = [f for f in found if f.step is Step.BACKWARD and "Convolution" in f.title]
    (bias,) = (f for f in sent if f.comparison.size == 8)
    return bias


@pytest.mark.parametrize("depth", ["full", "fast"])
def test_a_bias_before_a_normalisation_is_zero_within_rounding_of_its_own_terms(depth: str) -> None:
    tape, g = before_a_norm()
    bias = of_bias(tape, depth)
    assert (bias.verdict, bias.comparison.reason) == (gw.Verdict.AGREES, CANCELS)
    # 32 x 16 x 16 terms: a quarter of a rounding for each, of the root of the sum of squares.
    sizes = np.sqrt(np.square(g).sum(axis=(0, 2, 3)))
    seen = 2 * (32 * 16 * 16 / 4) * UNIT * sizes
    assert bias.comparison.detects == pytest.approx(seen.max(), rel=1e-5)


@pytest.mark.parametrize("depth", ["full", "fast"])
@pytest.mark.parametrize("channel", [0, 7])
def test_what_is_larger_in_any_is_left_to_the_bounds(depth: str, channel: int) -> None:
    tape, g = before_a_norm()
    bias = of_bias(tape, depth)
    array = tape.values[value_of(tape, bias)].array
    assert array is not None
    size = np.sqrt(np.square(g[:, channel]).sum())
    for error in (1.1 * 2 * 2048 * UNIT, 0.2):
        wrong = array.copy()
        wrong[channel] += error * size
        now = of_bias(changed(tape, value_of(tape, bias), wrong), depth)
        assert place_of(now) == place_of(bias)
        # At worst each of 8,192 terms is rounded by all before it.
        assert now.comparison.detects > 10 * bias.comparison.detects
    assert now.verdict is gw.Verdict.DISAGREES


@pytest.mark.parametrize("depth", ["full", "fast"])
def test_a_factor_of_the_terms_is_no_part_of_their_squares(depth: str) -> None:
    """With beta = 1e-6, the sum of squares by the rule would be a million times as large."""
    torch.manual_seed(0)
    b = torch.randn(4, requires_grad=True)
    x, w, g = torch.randn(4096, 4), torch.randn(4, 4), torch.randn(4096, 4)
    g -= g.mean(dim=0)
    with record(names={"b": b}) as recorder:
        torch.autograd.backward((torch.addmm(b, x, w, beta=1e-6) * g).sum())
    tape = recorder.tape
    (row,) = gw.judge(tape, depth=depth).rows
    assert row.verdict is not gw.Verdict.DISAGREES
    (number,) = {
        v.id
        for v in tape.values
        if v.shape == (4,) and v.id in tape.sweeps[0].node_runs[-1].incoming
    }
    array: NDArray[Any] | None = tape.values[number].array
    assert array is not None
    # Of 4,096 terms of 1e-6 rounding leaves less than 4,096^2 u 1e-6 = 1e-6; of terms of 1e-3, as
    # the root of 1e-6 would have them, a quarter of 4,096 roundings of 64 times that is 4e-6.
    wrong = array.copy()
    wrong += np.float32(3e-6)
    (row,) = gw.judge(changed(tape, number, wrong), depth=depth).rows
    assert row.verdict is not gw.Verdict.AGREES
