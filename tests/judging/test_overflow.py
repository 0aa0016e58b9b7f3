"""What overflows a format on the way is no fault; infinities out of nothing are."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import gradwitness as gw
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, first_infinite, unit_roundoff
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

# The largest numbers: (2 - 2^-23) 2^127, (2 - 2^-7) 2^127, (2 - 2^-10) 2^15.
LARGEST = {
    "float32": (2 - 2.0**-23) * 2.0**127,
    "bfloat16": (2 - 2.0**-7) * 2.0**127,
    "float16": 65504.0,
}


def large(dtype: str, shares: Any) -> torch.Tensor:
    """Numbers that are these shares of the largest one."""
    kind = getattr(torch, dtype)
    return (torch.tensor(shares, dtype=torch.float64) * LARGEST[dtype]).to(kind)


def summed(x: torch.Tensor) -> torch.Tensor:
    return x[:, None] + torch.zeros(3, dtype=x.dtype)


@pytest.mark.parametrize("dtype", LARGEST)
@pytest.mark.parametrize(
    "function",
    [
        summed,
        torch.mean,
        torch.sum,
        torch.prod,
        torch.rsqrt,
        torch.square,
        torch.var,
        F.hardswish,
        F.selu,
        lambda x: torch.div(x, x.flip(0)),
        lambda x: torch.atan2(x, x.flip(0)),
        lambda x: torch.hypot(x, x.flip(0)),
        lambda x: x.cumsum(0),
        lambda x: F.avg_pool1d(x[None], 2, 1),
        lambda x: x[None] @ x,
        lambda x: F.layer_norm(x, x.shape),
    ],
)
def test_right_steps_of_large_numbers_are_not_refuted(
    function: Callable[[Any], Any], dtype: str
) -> None:
    for shares in ([0.9, 0.5, -0.7, -0.8], [0.9, 0.5, 0.7, 0.8]):
        for slope in (0.9, -0.9, 1e-3):
            x = large(dtype, shares).requires_grad_()
            with gw.watch(names={"x": x}) as witness:
                y = function(x)
                torch.autograd.backward(y, large(dtype, slope).expand(y.shape))
            assert not witness.report.wrong, str(witness)


def gradient_of_repeated(g: list[float], recorded: float | None = None) -> gw.Verdict:
    """The verdict on the sum of what came in for a repeated number, as torch made it or not."""
    x = torch.zeros(1, requires_grad=True)
    with gw.watch(names={"x": x}, keep=None) as witness:
        torch.autograd.backward(x.expand(len(g)) + torch.zeros(len(g)), large("float32", g))
    tape = witness.tape
    if recorded is not None:
        (sent,) = next(
            node_run.outgoing
            for node_run in tape.sweeps[0].node_runs
            if tape.nodes[node_run.node].name == "ExpandBackward0"
        )
        array = np.full(1, recorded, np.float32)
        tape = replace(
            tape, values=[replace(v, array=array) if v.id == sent else v for v in tape.values]
        )
    report = gw.judge(tape)
    title = r"ExpandBackward0 .*, gradient of x"
    return next(f.verdict for f in report.findings if re.match(title, f.title))


def test_a_sum_that_must_overflow_is_infinite() -> None:
    # 1.5 times the largest number, in any order.
    assert gradient_of_repeated([0.75, 0.75]) is Verdict.AGREES
    assert gradient_of_repeated([0.75, 0.75], np.inf) is Verdict.AGREES


@pytest.mark.parametrize("recorded", [np.inf, -np.inf, np.nan])
def test_a_partial_sum_that_may_overflow_may_leave_anything(recorded: float) -> None:
    assert gradient_of_repeated([0.75, 0.75, -0.75, -0.75], recorded) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("recorded", [np.inf, -np.inf, np.nan])
def test_where_nothing_can_overflow_they_are_refuted(recorded: float) -> None:
    # All terms together are less than the largest number.
    assert gradient_of_repeated([0.25, 0.25, -0.2, -0.2], recorded) is Verdict.DISAGREES


def test_a_right_number_agrees_though_its_terms_might_have_overflowed() -> None:
    # x^2 overflows float32 on its way to x / (1 + x^2), and the reciprocal of that is 0.
    x: Any = Bounded(np.array([2.0**70, 2.0**20]), Arithmetic.stepwise("float32"))
    y = x / (1 + x * x)
    assert y.rigorous[0] == np.inf
    assert y.rigorous[1] < 1e-6 * y.value[1]
    assert (y.probable < 1e-6 * y.value).all()
    # In one kernel 16-bit numbers are float32's.
    for arithmetic, overflows in ((Arithmetic.stepwise, True), (Arithmetic.fused, False)):
        x = Bounded(np.array([300.0]), arithmetic("float16"))
        assert np.isinf((x * x / x).rigorous[0]) == overflows


def test_an_exact_number_does_not_overflow() -> None:
    x: Any = Bounded(np.array([LARGEST["float32"]]), Arithmetic.stepwise("float32"))
    for y in (-x, np.abs(x), x * 0.5, np.maximum(x, 0), x + 0, np.sum(x[None], axis=0)):
        assert y.is_exact or y.rigorous[0] == 0
    assert np.isinf((x * 2).rigorous[0])


@pytest.mark.parametrize("dtype", LARGEST)
def test_a_mask_of_the_lowest_number_does_not_overflow(dtype: str) -> None:
    arithmetic = Arithmetic.stepwise(dtype)
    low: Any = Bounded(np.array([-LARGEST[dtype], 0.0, 1.0]), arithmetic)
    scores = low + Bounded(np.array([-3.0, 0.5, 2.0]), arithmetic)
    assert np.isfinite(scores.rigorous).all()
    e: Any = np.exp(scores - 3.0)
    assert np.isfinite((e / np.sum(e)).rigorous).all()
    # One step more than the lowest number, and it is rounded to infinity.
    step = LARGEST[dtype] * unit_roundoff(dtype)
    assert np.isinf((low - Bounded(np.array(step), arithmetic)).rigorous[0])


@pytest.mark.parametrize(
    ("dtype", "beyond"),
    [
        ("float32", 2.0**128 - 2.0**103),
        ("bfloat16", 2.0**128 - 2.0**119),
        ("float16", 65520.0),
    ],
)
def test_the_end_of_a_format_is_told_by_its_roundoff(dtype: str, beyond: float) -> None:
    own = unit_roundoff(dtype)
    for unit in (own, Arithmetic.stepwise(dtype).unit, own + 2.0**-25):
        assert first_infinite(unit) == beyond
    assert first_infinite(2.0**-53) == np.inf


def test_what_an_infinity_on_the_way_makes_0_is_in_doubt() -> None:
    # Torch's gradient of atan2 is b / (a^2 + b^2). The square of 2^60 is 2^120, that of 2^66
    # infinite, which leaves 0 of 2^-66.
    for exponent, verdict in ((60, Verdict.AGREES), (66, Verdict.INCONCLUSIVE)):
        x = torch.tensor([1.0], requires_grad=True)
        with gw.watch(names={"x": x}) as witness:
            torch.autograd.backward(torch.atan2(x, torch.tensor([2.0**exponent])).sum())
        assert witness.verdict is verdict


@pytest.mark.parametrize("wrong", [0.0, 1.0])
def test_gates_that_huge_sums_saturate_are_judged(wrong: float) -> None:
    # Sums of 1e9, rounded by some 60: each sigmoid is 0 or 1 to within e^-88.
    torch.manual_seed(0)
    layer = torch.nn.LSTM(4, 5)
    x = (1e9 * torch.randn(3, 2, 4)).requires_grad_()
    with gw.watch(layer, keep=None) as witness:
        y, _ = layer(x)
        torch.autograd.backward(y, torch.randn_like(y))
    assert witness.verdict is Verdict.AGREES
    tape = witness.tape
    (node_run,) = (n for n in tape.sweeps[0].node_runs if tape.nodes[n.node].call is not None)
    sent = node_run.outgoing[0]
    assert sent is not None
    array = np.array(tape.values[sent].array)
    array[0, 0, 0] += wrong
    values = [replace(v, array=array) if v.id == sent else v for v in tape.values]
    report = gw.judge(replace(tape, values=values))
    assert bool(report.wrong) == bool(wrong)
