"""Steps without a form, held against float64: what is said to be detected is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.capture import record
from gradwitness.judging.comparison import CLOSE
from gradwitness.judging.finding import Step
from gradwitness.judging.looks.close import close
from gradwitness.report.tables.depth import looked_at
from gradwitness.tape import Value
from judging.looks.test_fast import found, place_of, value_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradwitness.tape import Tape

PLACES = {"first": 0, "middle": 30, "last": 59}


def value_of_array(array: NDArray[Any]) -> Value:
    return Value(0, array.shape, str(array.dtype), array)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("place", PLACES)
def test_an_error_of_any_number_is_seen(place: str, dtype: str) -> None:
    expected = np.linspace(-3, 2, 60).reshape(5, 12).astype(dtype).astype("complex128")
    expected = expected if dtype == "complex64" else expected.real
    right = close(value_of_array(expected.astype(dtype)), expected)
    assert right is not None
    # 64 roundings of 2^-24, of the largest number, 3, and of the root mean square of all; twice.
    middle = math.sqrt(float(np.mean(np.abs(expected) ** 2)))
    assert right.detects == pytest.approx(2 * 64 * 2**-24 * (3 + middle))
    assert (right.reason, right.share, right.size) == (CLOSE, 1, 60)
    wrong = expected.astype(dtype)
    wrong.reshape(-1)[PLACES[place]] += 1.01 * right.detects
    assert close(value_of_array(wrong), expected) is None
    wrong.reshape(-1)[PLACES[place]] = np.nan
    assert close(value_of_array(wrong), expected) is None


def test_whole_numbers_are_the_same_or_not() -> None:
    numbers = np.arange(12)
    right = close(value_of_array(numbers), numbers)
    assert right is not None
    assert (right.reason, right.detects) == ("", 0)
    assert close(value_of_array(numbers), np.where(numbers == 11, 0, numbers)) is None


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_only_what_float64_is_far_finer_than_is_held_against_it(dtype: str) -> None:
    assert close(value_of_array(np.ones(5, dtype)), np.ones(5)) is None


def test_of_zeros_alone_and_of_nothing_it_says_nothing() -> None:
    assert close(value_of_array(np.zeros(5, "float32")), np.zeros(5)) is None
    assert close(value_of_array(np.zeros(0, "float32")), np.zeros(0)) is None
    assert close(value_of_array(np.ones((5, 1), "float32")), np.ones((1, 5))) is None
    assert close(value_of_array(np.ones((), "float32")), None) is None


def recurrent() -> Tape:
    model = nn.LSTM(8, 16)
    return taped(model, lambda: model(torch.randn(7, 4, 8))[0])


def groups() -> Tape:
    model = nn.GroupNorm(4, 16)
    return taped(model, lambda: model(torch.randn(8, 16, 9)))


def waves() -> Tape:
    model = nn.Linear(16, 32)
    return taped(model, lambda: torch.fft.rfft(model(torch.randn(20, 16))).abs())


def bags() -> Tape:
    model = nn.EmbeddingBag(50, 16, mode="mean")
    return taped(model, lambda: model(torch.arange(300).reshape(60, 5) % 50))


def taped(model: nn.Module, y: Callable[[], torch.Tensor]) -> Tape:
    with record(model) as recorder:
        torch.autograd.backward(y().square().mean())
    return recorder.tape


@pytest.mark.parametrize("make", [recurrent, groups, waves, bags])
def test_what_is_said_to_be_detected_is_found(make: Callable[[], Tape]) -> None:
    torch.manual_seed(0)
    tape = make()
    report = gw.judge(tape, depth="fast")
    assert report.verdict is gw.Verdict.AGREES
    bounds = {place_of(f): f.comparison.detects for f in gw.judge(tape).findings}
    kinds = Step.FORWARD, Step.BACKWARD
    steps = [f for f in report.findings if f.comparison.reason == CLOSE and f.step in kinds]
    assert len(steps) >= 4
    assert f"{len(steps)} steps against float64" in looked_at(report)
    for finding in steps:
        array = tape.values[value_of(tape, finding)].array
        assert array is not None
        size = 1.01 * max(finding.comparison.detects, bounds[place_of(finding)])
        for place in {0, array.size // 2, array.size - 1}:
            wrong = np.ascontiguousarray(array).copy()
            wrong.reshape(-1)[place] += size
            assert found(tape, finding, wrong), finding.title
