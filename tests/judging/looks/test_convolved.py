"""Convolutions held against random combinations along two axes: what is seen, and how often not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.special import iti0k0
from torch import nn

import gradwitness as gw
from gradwitness.capture import record
from gradwitness.judging.comparing.comparison import PROJECTED, SAMPLED
from gradwitness.judging.finding import Step as Where
from gradwitness.judging.looks import convolved as module
from gradwitness.judging.looks.convolved import Convolutions
from gradwitness.judging.looks.norms import norm_of
from gradwitness.judging.looks.projected import MISSED
from gradwitness.judging.looks.step import Step, step_of
from gradwitness.judging.looks.sums import Sums
from gradwitness.tape import Call, Layout, Ref, Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.tape import Tape

TRIALS = 400
IMAGES, INTO, OUT, LENGTH = 12, 16, 20, 9


def convolution() -> tuple[Step, Value]:
    """Return a convolution of float32 numbers, and its result as float64 has it, rounded."""
    random = np.random.default_rng(3)
    x = random.standard_normal((IMAGES, INTO, LENGTH)).astype(np.float32)
    w = random.standard_normal((OUT, INTO, 1)).astype(np.float32)
    y = np.einsum("oc,ncp->nop", w[:, :, 0].astype(np.float64), x.astype(np.float64))
    values = [
        Value(n, array.shape, "float32", array, Layout(n, 0, array.strides))
        for n, array in enumerate((x, w, y.astype(np.float32)))
    ]
    given: dict[str, Any] = {"input": Ref(0), "weight": Ref(1), "bias": None}
    given |= {"stride": (1,), "padding": (0,), "dilation": (1,), "output_padding": (0,)}
    given |= {"transposed": False, "groups": 1}
    return step_of(values, Call(0, "aten.convolution.default", given, (2,))), values[2]


def looked(step: Step, y: Value, seed: int) -> Comparison | None:
    step.combined.clear()
    sums = Sums(INTO, math.sqrt(INTO))
    assert y.array is not None
    look = Convolutions(np.random.default_rng(seed)).look
    return look(step, "", None, y, sums, norm_of(y.array))


def misses(size: float, rank: int, share: float) -> int:
    """Count how often errors of a norm over images and channels are missed at one position.

    They are where the step agrees, though twice its bound over the share is less than that norm.
    """
    step, y = convolution()
    assert y.array is not None
    random = np.random.default_rng(5)
    error = random.standard_normal((IMAGES, rank)) @ random.standard_normal((rank, OUT))
    if rank == 1:
        error = np.zeros((IMAGES, OUT))
        error[7, 3] = 1
    wrong = y.array.astype(np.float64)
    wrong[:, :, 4] += error * size / np.linalg.norm(error)
    value = Value(3, y.shape, "float32", wrong.astype(np.float32), y.layout)
    agreed = [looked(step, value, seed) for seed in range(TRIALS)]
    return sum(c is not None and 2 * c.bound / share < size for c in agreed)


def test_what_is_right_agrees_and_an_error_of_what_is_detected_is_not_missed() -> None:
    step, y = convolution()
    right = [looked(step, y, seed) for seed in range(50)]
    assert all(c is not None and c.reason == PROJECTED and c.share == 1 for c in right)
    assert right[0] is not None
    assert (right[0].missed, right[0].size) == (MISSED, y.array.size if y.array is not None else 0)
    assert 0 < right[0].detects_relative < 0.1
    detects = max(c.detects for c in right if c is not None)
    share = 2 * right[0].bound / right[0].detects
    assert misses(1.01 * detects, 1, share) == misses(1.01 * detects, 5, share) == 0


def chance(share: float) -> float:
    """Return how often one combination is so small at most, by the formula that is stated."""
    return 2 / math.pi * share * (math.log(1 / share) + 1.63)


@pytest.mark.parametrize("rank", [1, 5])
def test_a_smaller_error_is_missed_less_often_than_the_formula_says(rank: int) -> None:
    """Four combinations of an error d miss it with a probability below chance(2 a / d)^4."""
    step, y = convolution()
    right = [looked(step, y, seed) for seed in range(20)]
    allowed = max(c.bound for c in right if c is not None)
    share = 0.25
    stated = chance(share) ** module._VECTORS
    assert 0.01 < stated < 0.2
    spread = math.sqrt(stated * (1 - stated) / TRIALS)
    assert misses(2 * allowed / share, rank, share) / TRIALS <= stated + 4 * spread


def test_an_error_as_small_as_the_allowance_is_often_missed() -> None:
    """The measurement can fail: all of four products of normal numbers may stay below 4."""
    step, y = convolution()
    right = looked(step, y, 0)
    assert right is not None
    assert misses(right.bound / 4, 1, math.inf) > TRIALS / 4


@pytest.mark.parametrize("share", [1e-6, 1e-3, 0.0077, 0.05, 0.15])
def test_the_chance_that_is_stated_is_above_the_true_one(share: float) -> None:
    """``|a b|`` of two normal numbers has the density 2 K0 / pi; other errors are seen more often.

    The worst error is that of rank 1. Of rank 2 and 5, with equal singular values, by trial.
    """
    exact = 2 / math.pi * iti0k0(share)[1]
    assert exact <= chance(share) <= 1.5 * exact
    random = np.random.default_rng(1)
    for rank in (2, 5):
        a, b = random.standard_normal((2, 200_000, rank))
        rate = np.mean(np.abs((a * b).sum(axis=1)) / math.sqrt(rank) <= share)
        assert rate <= chance(share) + 4 * math.sqrt(chance(share) / len(a))


def test_what_is_seen_has_the_probability_that_is_stated() -> None:
    assert chance(module._seen(2)) ** module._VECTORS == pytest.approx(MISSED, rel=1e-6)
    one = math.sqrt(2 / math.pi) * module._seen(1)
    assert one**module._VECTORS == pytest.approx(MISSED, rel=1e-6)


KINDS = {
    "plain": (nn.Conv2d(12, 16, 3, padding=1), (16, 12, 14, 14)),
    "without bias": (nn.Conv2d(12, 16, 3, bias=False), (16, 12, 14, 14)),
    "strided": (nn.Conv2d(12, 16, 4, 2, 1), (16, 12, 20, 20)),
    "dilated": (nn.Conv1d(12, 16, 3, padding=4, dilation=4), (16, 12, 200)),
    "transposed": (nn.ConvTranspose2d(12, 16, 4, 2, 1), (16, 12, 10, 10)),
    "in three dimensions": (nn.Conv3d(12, 16, 3, padding=1), (8, 12, 6, 6, 6)),
    "of few channels": (nn.Conv2d(3, 16, 3, padding=1), (8, 3, 32, 32)),
    "to few channels": (nn.Conv2d(24, 3, 3, padding=1), (8, 24, 16, 16)),
    "of one image": (nn.Conv2d(16, 24, 3, padding=1), (1, 16, 40, 40)),
    "in groups": (nn.Conv2d(32, 32, 3, padding=1, groups=4), (16, 32, 12, 12)),
    "of single points": (nn.Conv2d(32, 64, 1), (16, 32, 12, 12)),
}


def taped(kind: str) -> Tape:
    torch.manual_seed(0)
    layer, shape = KINDS[kind]
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(*shape, requires_grad=True)
    with record(layer) as recorder:
        y = layer(x)
        torch.autograd.backward((y * torch.randn_like(y)).sum())
    return recorder.tape


def places(tape: Tape) -> list[tuple[tuple[Where, int], int]]:
    """Return the values that a convolution and its node make, with the finding about each."""
    (call,) = (c for c in tape.calls if c.op == "aten.convolution.default")
    (run,) = (r for r in tape.sweeps[0].node_runs if tape.nodes[r.node].call == call.id)
    assert call.outputs[0] is not None
    sent = [((Where.BACKWARD, k), n) for k, n in enumerate(run.outgoing) if n is not None]
    return [((Where.FORWARD, 0), call.outputs[0]), *sent]


def comparisons(tape: Tape) -> dict[tuple[Where, int], Comparison]:
    (call,) = (c for c in tape.calls if c.op == "aten.convolution.default")
    (node,) = (n for n in tape.nodes if n.call == call.id)
    return {
        (f.step, f.tensor_nr): f.comparison
        for f in gw.judge(tape, depth="fast").findings
        if (f.step is Where.FORWARD and f.call == call.id)
        or (f.step is Where.BACKWARD and f.node == node.id)
    }


@pytest.mark.parametrize("kind", KINDS)
def test_convolutions_of_all_kinds_agree_and_a_wrong_number_does_not(kind: str) -> None:
    tape = taped(kind)
    right = comparisons(tape)
    by_projection = 0
    for place, number in places(tape):
        assert right[place].verdict is gw.Verdict.AGREES
        if right[place].reason != PROJECTED:
            continue
        by_projection += 1
        array: NDArray[Any] | None = tape.values[number].array
        assert array is not None
        wrong = array.copy()
        wrong[tuple(n // 2 for n in wrong.shape)] += 1.5 * right[place].detects
        values = [*tape.values]
        values[number] = replace(values[number], array=wrong)
        now = comparisons(replace(tape, values=tuple(values)))[place]
        assert now.reason != PROJECTED
    assert by_projection >= (1 if kind == "in groups" else 2)


def test_channels_that_are_convolved_apart_are_sampled() -> None:
    KINDS["apart"] = nn.Conv2d(64, 64, 3, padding=1, groups=64), (16, 64, 12, 12)
    try:
        found = comparisons(taped("apart"))
    finally:
        del KINDS["apart"]
    reasons = [c.reason for c in found.values()]
    assert reasons[:3] == [SAMPLED] * 3
    assert all(c.verdict is gw.Verdict.AGREES for c in found.values())
    assert all(c.share < 0.2 for c in found.values() if c.reason == SAMPLED)
