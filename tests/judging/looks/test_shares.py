"""Looks at some sequences, or transforms, of a batch; at sums over all of them by projection."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.capture import record
from gradwitness.judging.comparing.comparison import CLOSE, PROJECTED, SAMPLED
from gradwitness.judging.finding import Finding, Step
from gradwitness.judging.looks import fast
from judging.looks.test_fast import changed, detected, found, value_of

if TYPE_CHECKING:
    from gradwitness.tape import Tape


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take even small steps for large enough that some of them may stand for all."""
    monkeypatch.setattr(fast, "_OF_ROWS", 0)


def recurrent(*, bidirectional: bool = False) -> Tape:
    torch.manual_seed(0)
    lstm = nn.LSTM(64, 96, bidirectional=bidirectional)
    x = torch.randn(8, 32, 64, requires_grad=True)
    states = torch.randn(2, 1 + bidirectional, 32, 96, requires_grad=True)
    with record(lstm) as recorder:
        y, (h, c) = lstm(x, (states[0], states[1]))
        torch.autograd.backward((y * torch.randn_like(y)).sum() + h.sum() + c.square().sum())
    return recorder.tape


def transformed() -> Tape:
    torch.manual_seed(0)
    x = torch.randn(40, 96, 80, requires_grad=True)
    weight = torch.randn(49, 80, dtype=torch.complex64, requires_grad=True)
    with record() as recorder:
        waves = torch.fft.fft(torch.fft.rfft(x, dim=1) * weight, dim=2)
        y = torch.fft.irfft(torch.fft.ifft(waves, dim=2), n=96, dim=1)
        torch.autograd.backward((y * torch.randn_like(y)).sum())
    return recorder.tape


def steps(tape: Tape, *names: str) -> list[Finding]:
    """Return what a fast judgement says of operations and nodes whose names begin so."""
    report = gw.judge(tape, depth="fast")
    assert report.verdict is gw.Verdict.AGREES
    kinds = Step.FORWARD, Step.BACKWARD
    return [f for f in report.findings if f.step in kinds and f.title.startswith(names)]


def verdict(tape: Tape, finding: Finding) -> gw.Verdict:
    """Return what is said of a step on another tape."""
    findings = gw.judge(tape, depth="fast").findings
    return next(f.verdict for f in findings if f.title == finding.title)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_of_a_recurrent_layer_are_looked_at_whole(bidirectional: bool) -> None:
    found = steps(recurrent(bidirectional=bidirectional), "MkldnnRnnLayerBackward")
    layers = 1 + bidirectional
    assert len(found) == 7 * layers
    reasons = [f.comparison.reason for f in found]
    assert (reasons.count(PROJECTED), reasons.count(CLOSE)) == (3 * layers, 4 * layers)
    assert all(f.comparison.share == 1 and f.comparison.detects_relative < 0.1 for f in found)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_what_a_look_at_a_recurrent_gradient_detects_is_seen(bidirectional: bool) -> None:
    tape = recurrent(bidirectional=bidirectional)
    for finding in steps(tape, "MkldnnRnnLayerBackward"):
        array: Any = tape.values[value_of(tape, finding)].array
        size = finding.comparison.detects
        for at in (0, array.size // 3, array.size - 1):
            wrong = array.copy()
            wrong.reshape(-1)[at] += 1.05 * size
            assert not 0 < detected(tape, finding, wrong) <= size, (finding.title, at)
        wrong = array.copy()
        wrong.reshape(-1)[array.size // 3] += np.abs(array).max()
        assert verdict(changed(tape, value_of(tape, finding), wrong), finding) != gw.Verdict.AGREES


def test_a_gradient_that_lacks_one_sequence_is_refuted() -> None:
    """Of a sum over all sequences, which no sample of them could tell."""
    torch.manual_seed(0)
    lstm, x = nn.LSTM(64, 96), torch.randn(8, 32, 64)
    few = [lstm(x[:, kept])[0].square().sum() for kept in (slice(None), slice(31))]
    weight: Any = lstm.weight_hh_l0
    right, lacking = (torch.autograd.grad(loss, weight)[0].numpy() for loss in few)
    with record(lstm) as recorder:
        torch.autograd.backward(lstm(x)[0].square().sum())
    tape = recorder.tape
    (finding,) = (
        f for f in steps(tape, "MkldnnRnnLayerBackward") if f.title.endswith("gradient of u")
    )
    number = value_of(tape, finding)
    recorded: Any = tape.values[number].array
    assert np.array_equal(recorded, right)
    assert verdict(changed(tape, number, lacking), finding) is gw.Verdict.DISAGREES


def test_a_state_that_is_wrong_is_found_though_the_layer_goes_on_from_it() -> None:
    torch.manual_seed(0)
    lstm, x = nn.LSTM(64, 96), torch.randn(8, 32, 64)
    with record(lstm) as recorder:
        torch.autograd.backward(lstm(x)[0].square().sum())
    tape = recorder.tape
    finding = steps(tape, "aten.mkldnn_rnn_layer")[0]
    with torch.no_grad():
        before, (h, c) = lstm(x[:4])
        h[0, -1, 5] += 10 * finding.comparison.detects
        after, _ = lstm(x[4:], (h, c))
        wrong = torch.cat((before[:-1], h, after)).numpy()
    assert found(tape, finding, wrong)


@pytest.mark.parametrize("place", [0, -1])
def test_both_ends_of_the_batch_of_a_recurrent_layer_are_looked_at(place: int) -> None:
    tape = recurrent()
    looked = steps(tape, "aten.mkldnn_rnn_layer")
    assert {f.comparison.reason for f in looked} == {SAMPLED}
    assert {round(f.comparison.share, 3) for f in looked} == {round(3 / 32, 3)}
    for finding in looked:
        array: Any = tape.values[value_of(tape, finding)].array
        wrong = array.copy()
        wrong[..., place, 5] += 1.01 * finding.comparison.detects
        assert not 0 < detected(tape, finding, wrong) <= finding.comparison.detects
        wrong[..., place, :] *= -1
        assert found(tape, finding, wrong)


def piece_of(array: Any, piece: str) -> Any:
    """Return a part of an array, which changes with it."""
    parts = {
        "everywhere": array, "first": array[:1], "last": array[-1:],
        "far beyond": array.reshape(-1)[array.size // 3 : array.size // 3 + 1],
    }  # fmt: skip
    return parts[piece]


@pytest.mark.parametrize("piece", ["everywhere", "first", "last", "far beyond"])
def test_faults_of_transforms_are_found_where_a_look_falls(piece: str) -> None:
    tape = transformed()
    looked = steps(tape, "aten._fft", "Fft", "aten.mul.Tensor", "MulBackward")
    sampled = [f for f in looked if f.comparison.share < 1]
    assert {f.title.split()[0] for f in sampled} >= {
        "aten._fft_r2c.default", "aten._fft_c2c.default", "aten._fft_c2r.default",
        "aten.mul.Tensor", "FftR2CBackward0", "FftC2CBackward0", "FftC2RBackward0", "MulBackward0",
    }  # fmt: skip
    for finding in sampled:
        number = value_of(tape, finding)
        array: Any = tape.values[number].array
        wrong = array.copy()
        part = piece_of(wrong, piece)
        size = 1e4 if piece == "far beyond" else 1.05 * finding.comparison.detects
        part += np.asarray(size, array.dtype)
        assert not 0 < detected(tape, finding, wrong) <= finding.comparison.detects, finding.title
        part += np.asarray(10 * np.abs(array).max(), array.dtype)
        assert found(tape, finding, wrong, math.inf), finding.title
