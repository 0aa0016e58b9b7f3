"""Recurrent layers: a result without a rule, many steps, sums in 16 bits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.capture import record
from gradwitness.judging.finding import Step

if TYPE_CHECKING:
    from gradwitness.tape import Tape


def recorded(layer: nn.Module, dtype: torch.dtype = torch.float32) -> Tape:
    """Record one pass forward and backward through a layer, over 6 steps."""
    torch.manual_seed(3)
    layer = layer.to(dtype)
    x = torch.randn(6, 3, 4, dtype=dtype)
    weights = torch.randn(6, 3, 5, dtype=dtype)
    with record(layer) as recorder:
        y, _ = layer(x)
        (y * weights).sum().backward()
    return recorder.tape


def layer_call(tape: Tape) -> Any:
    (call,) = (call for call in tape.calls if "mkldnn_rnn_layer" in call.op)
    return call


def test_what_a_kernel_keeps_for_itself_is_neither_judged_nor_a_doubt() -> None:
    tape = recorded(nn.LSTM(4, 5))
    call = layer_call(tape)
    assert len(call.outputs) == 4
    report = gw.judge(tape)
    assert report.verdict is gw.Verdict.AGREES
    input_nrs = [
        f.tensor_nr for f in report.findings if f.step is Step.FORWARD and f.call == call.id
    ]
    assert input_nrs == [0, 1, 2]
    assert gw.replay(tape).trusted == ()
    assert min(row.digits for row in report.rows) > 5


def test_other_bytes_there_change_nothing() -> None:
    tape = recorded(nn.LSTM(4, 5))
    number = layer_call(tape).outputs[3]
    values = list(tape.values)
    array = values[number].array
    assert array is not None
    values[number] = replace(values[number], array=np.zeros_like(array))
    assert gw.judge(replace(tape, values=tuple(values))).verdict is gw.Verdict.AGREES


@pytest.mark.parametrize("step", range(6))
def test_each_step_starts_from_the_recorded_one_before(step: int) -> None:
    tape = recorded(nn.LSTM(4, 5))
    number = layer_call(tape).outputs[0]
    values = list(tape.values)
    array = np.array(values[number].array)
    array[step, 1, 2] += 1e-4
    values[number] = replace(values[number], array=array)
    report = gw.judge(replace(tape, values=tuple(values)))
    first = report.first_wrong
    assert first is not None
    assert first.call == layer_call(tape).id
    assert first.comparison.index == (step, 1, 2)


def test_bound_of_a_layer_does_not_grow_with_its_steps() -> None:
    def detected(steps: int) -> float:
        torch.manual_seed(0)
        layer = nn.LSTM(16, 64)
        with record(layer) as recorder:
            layer(torch.randn(steps, 2, 16))
        report = gw.judge(recorder.tape)
        call = layer_call(recorder.tape).id
        comparisons = [f.comparison for f in report.findings if f.call == call and f.tensor_nr == 0]
        return comparisons[0].detects_relative

    assert detected(30) < 3 * detected(3) < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layer", [nn.GRU, nn.RNN])
def test_gradient_that_many_steps_share_is_added_up_in_its_format(
    layer: type[nn.Module], dtype: torch.dtype
) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        report = gw.judge(recorded(layer(4, 5, bidirectional=False), dtype))
        assert report.verdict is gw.Verdict.AGREES
