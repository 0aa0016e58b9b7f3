"""A gradient near float64's agrees in 16 bits, though rounding might have moved it further."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.judging.comparing.compare import COARSE, TOO_LITTLE, compare
from gradwitness.judging.comparing.comparison import NEAR, Comparison, in_turn
from gradwitness.judging.gradients.lost import LOST
from gradwitness.verdict import Verdict

A, D, I = Verdict.AGREES, Verdict.DISAGREES, Verdict.INCONCLUSIVE  # noqa: E741


def settled(off: float, bound: float, dtype: str = "bfloat16", likely: float = 1.0) -> Comparison:
    """Judge 4 and 1, the second of which is off, within bounds that show no tenth of 4."""
    bounds = np.full(2, bound)
    expected = Bounded(np.array([4.0, 1.0]), Arithmetic.stepwise(dtype), bounds, likely * bounds)
    found = compare(np.array([4.0, 1.0 + off]), expected, dtype)
    coarse = replace(found, verdict=I, reason=COARSE) if found.verdict is A else found
    return in_turn(coarse, lambda _: (coarse, expected), expected)[0]


@pytest.mark.parametrize(
    ("off", "verdict"),
    # A twentieth of 4 is 0.2; of the bound, 1, all may be error.
    [(0.0, A), (0.19, A), (-0.19, A), (0.21, I), (-0.21, I), (0.99, I), (1.01, D)],
)
def test_what_lies_within_a_twentieth_agrees(off: float, verdict: Verdict) -> None:
    found = settled(off, 1.0)
    assert found.verdict is verdict
    assert (found.reason == NEAR) is (verdict is A)
    # What would no longer agree is at most a twentieth more; in doubt, only what is refuted counts.
    shown = 0.2 + abs(off) if verdict is A else 2.0
    assert found.detects == pytest.approx(shown, rel=1e-7)
    assert found.detects_relative == pytest.approx(shown / 4, rel=1e-7)


def test_the_witness_counts_its_own_rounding() -> None:
    # 2^-29 of a bound of 2^27 is 1/4, more than a twentieth of 4; of 2^26 it is 1/8.
    assert settled(0.0, 2.0**27).verdict is I
    assert settled(0.0, 2.0**26).verdict is A


def test_what_is_unlikely_stays_in_doubt() -> None:
    assert settled(0.19, 1.0, likely=0.1).verdict is I
    assert settled(0.19, 1.0, likely=0.2).verdict is A


def test_bounds_that_differ_in_the_last_bit_are_the_same_second_look() -> None:
    # As where the first were derived in pieces, and no sum is added in turn.
    bounds = np.full(2, 1.0)
    expected = Bounded(np.array([4.0, 1.0]), Arithmetic.stepwise("bfloat16"), bounds, bounds)
    coarse = replace(compare(np.array([4.0, 1.0]), expected, "bfloat16"), verdict=I, reason=COARSE)
    looks = []

    def again(threads: int) -> tuple[Comparison, Any]:
        looks.append(threads)
        return replace(coarse, detects=coarse.detects * (1 + 2.0**-52)), expected

    assert in_turn(coarse, again, expected)[0].reason == NEAR
    assert looks == [1]


@pytest.mark.parametrize(
    ("dtype", "off", "verdict"),
    # Half of the digits: the root of 2^-24, of 4, is 2^-10.
    [("float32", 2.0**-11, A), ("float32", 2.0**-9, I), ("float32", 0.19, I), ("float64", 0.0, I)],
)
def test_in_wider_formats_a_twentieth_is_no_rounding_error(
    dtype: str, off: float, verdict: Verdict
) -> None:
    assert settled(off, 1.0, dtype).verdict is verdict


@pytest.mark.parametrize(
    # 1e-57 is 0 in float32, whatever was lost on the way; 1e-44 is not, and may not be lost.
    ("expected", "there", "verdict"),
    [(1e-57, 0.0, A), (1e-57, 2.0**-127, A), (1e-57, 2.0**-124, I), (1e-44, 0.0, I)],
)
def test_zeros_are_right_where_the_format_holds_nothing_smaller(
    expected: float, there: float, verdict: Verdict
) -> None:
    bound = np.full(1, 2e-30)
    ours = Bounded(np.full(1, expected), Arithmetic.stepwise("float32"), bound, bound)
    found = compare(np.full(1, there), ours, "float32")
    assert found.reason == TOO_LITTLE
    found = in_turn(found, lambda _: (found, ours), ours)[0]
    assert found.verdict is verdict
    # Only an underflow would pass.
    assert (found.detects_relative == 0) is (verdict is A)


def bias_off(share: float) -> tuple[Verdict, str]:
    """Judge what a bfloat16 LSTM sends to its bias, with one number off by so much of the largest.

    A bias gets a sum over steps and sequences, whose terms cancel.
    """
    torch.manual_seed(0)
    model, x = nn.LSTM(8, 12, dtype=torch.bfloat16), torch.randn(16, 4, 8, dtype=torch.bfloat16)
    g = torch.randn(16, 4, 12, dtype=torch.bfloat16)
    with gw.watch(model) as witness:
        torch.autograd.backward(model(x)[0], g)
    tape = witness.tape
    fused = [n for n in tape.nodes if n.name.startswith("MkldnnRnnLayer")]
    if not fused:
        pytest.skip("torch has no fused LSTM in bfloat16 on this processor")
    (node,) = fused
    (run,) = (run for run in tape.sweeps[0].node_runs if run.node == node.id)
    number = run.outgoing[3]
    assert number is not None
    value = tape.values[number]
    assert value.array is not None
    array = value.array.copy()
    largest = np.argmax(np.abs(array.astype(float)))
    array.flat[largest] = (array.flat[largest].astype(float) * (1 + share)).astype(array.dtype)
    values = (*tape.values[:number], replace(value, array=array), *tape.values[number + 1 :])
    findings = gw.judge(replace(tape, values=values)).findings
    (finding,) = (f for f in findings if f.node == node.id and f.tensor_nr == 3)
    return finding.verdict, finding.comparison.reason.partition(":")[0]


@pytest.mark.low_precision
@pytest.mark.parametrize(
    ("share", "found"), [(0, (A, "by distance")), (0.1, (I, LOST)), (-2, (D, ""))]
)
def test_a_recurrent_layer_agrees_until_a_tenth_is_wrong(
    share: float, found: tuple[Verdict, str]
) -> None:
    assert bias_off(share) == found
