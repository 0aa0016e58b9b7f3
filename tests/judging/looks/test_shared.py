"""Looks that several gradients of a node share, and gradients that are handed on as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.capture import record
from gradwitness.judging.comparing.comparison import PROJECTED, SAMPLED
from gradwitness.judging.finding import Step
from judging.looks.test_fast import changed, place_of, value_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.tape import Tape


def attended() -> Tape:
    torch.manual_seed(0)
    q, k, v = (torch.randn(8, 4, 40, 16, requires_grad=True) for _ in range(3))
    with record() as recorder:
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        torch.autograd.backward((y * torch.randn_like(y)).sum())
    return recorder.tape


@pytest.mark.parametrize("at", [(0, 0), (-1, -1)], ids=["first", "last"])
def test_an_error_of_each_of_attentions_gradients_is_found_by_itself(at: tuple[int, int]) -> None:
    tape = attended()
    right = gw.judge(tape, depth="fast")
    assert right.verdict is gw.Verdict.AGREES
    sent = [
        f for f in right.findings if f.step is Step.BACKWARD and f.title.startswith("ScaledDot")
    ]
    assert [f.title[-1] for f in sent] == ["q", "k", "v"]
    for finding in sent:
        # Three of eight samples, three of four heads.
        assert (finding.comparison.reason, finding.comparison.share) == (SAMPLED, 9 / 32)
        array: Any = tape.values[value_of(tape, finding)].array
        wrong = array.copy()
        wrong[(*at, 7, 3)] += 1.01 * finding.comparison.detects
        report = gw.judge(changed(tape, value_of(tape, finding), wrong), depth="fast")
        now = {place_of(f): f.verdict for f in report.findings if f.step is Step.BACKWARD}
        assert [now[place_of(f)] for f in sent] == [
            gw.Verdict.DISAGREES if f is finding else gw.Verdict.AGREES for f in sent
        ]


def summed(alpha: int) -> Tape:
    torch.manual_seed(0)
    a, b = (torch.randn(300, 200, requires_grad=True) for _ in range(2))
    with record() as recorder:
        torch.autograd.backward((a.add(b, alpha=alpha) * torch.randn(300, 200)).sum())
    return recorder.tape


def sending(tape: Tape, k: int, array: NDArray[Any]) -> Tape:
    """Return the tape of a sum whose node sent its input k other memory."""
    (sweep,) = tape.sweeps
    (run,) = (run for run in sweep.node_runs if tape.nodes[run.node].name == "AddBackward0")
    number = len(tape.values)
    other = replace(tape.values[run.incoming[0] or 0], id=number, array=array)
    sent = tuple(number if n == k else one for n, one in enumerate(run.outgoing))
    runs = tuple(replace(r, outgoing=sent) if r is run else r for r in sweep.node_runs)
    return replace(tape, values=(*tape.values, other), sweeps=(replace(sweep, node_runs=runs),))


def sent_by_sum(tape: Tape, k: int, depth: Any) -> Comparison:
    (comparison,) = (
        f.comparison
        for f in gw.judge(tape, depth=depth).findings
        if f.title.startswith("AddBackward0") and f.step is Step.BACKWARD and f.tensor_nr == k
    )
    return comparison


@pytest.mark.parametrize("depth", ["full", "fast"])
@pytest.mark.parametrize("k", [0, 1])
def test_a_summands_gradient_is_held_against_what_arrived_bit_for_bit(k: int, depth: str) -> None:
    tape = summed(1)
    as_it_is = sent_by_sum(tape, k, depth)
    assert (as_it_is.verdict, as_it_is.share, as_it_is.detects) == (gw.Verdict.AGREES, 1, 0)
    (run,) = (r for r in tape.sweeps[0].node_runs if tape.nodes[r.node].name == "AddBackward0")
    array: Any = tape.values[run.incoming[0] or 0].array
    assert sent_by_sum(sending(tape, k, array.copy()), k, depth).detects == 0
    wrong = array.copy()
    wrong[123, 45] = np.nextafter(wrong[123, 45], np.float32(9))
    found = sent_by_sum(sending(tape, k, wrong), k, depth)
    assert (found.verdict, found.index) == (gw.Verdict.DISAGREES, (123, 45))


def test_a_summands_gradient_that_is_multiplied_is_none_of_these() -> None:
    tape = summed(3)
    assert gw.judge(tape, depth="fast").verdict is gw.Verdict.AGREES
    (run,) = (r for r in tape.sweeps[0].node_runs if tape.nodes[r.node].name == "AddBackward0")
    array: Any = tape.values[run.incoming[0] or 0].array
    found = sent_by_sum(sending(tape, 1, array.copy()), 1, "fast")
    assert found.verdict is gw.Verdict.DISAGREES


def layer(rows: int, *, frozen: bool) -> Tape:
    torch.manual_seed(0)
    linear, x = nn.Linear(96, 120), torch.randn(rows, 96, requires_grad=True)
    linear.weight.requires_grad_(not frozen)
    with record(linear) as recorder:
        torch.autograd.backward((linear(x) * torch.randn(rows, 120)).sum())
    return recorder.tape


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("rows", [200, 1000])
def test_gradients_that_share_combinations_are_told_apart(rows: int, frozen: bool) -> None:
    tape = layer(rows, frozen=frozen)
    report = gw.judge(tape, depth="fast")
    sent = [
        f
        for f in report.findings
        if f.step is Step.BACKWARD and f.title.startswith("AddmmBackward0")
    ]
    assert [f.title[-1] for f in sent] == (["b", "A"] if frozen else ["b", "A", "B"])
    for finding in sent:
        assert finding.comparison.reason == PROJECTED
        array: Any = tape.values[value_of(tape, finding)].array
        wrong = array.copy()
        wrong[(-1,) * wrong.ndim] += 1.5 * finding.comparison.detects
        now = gw.judge(changed(tape, value_of(tape, finding), wrong), depth="fast")
        of_node = {place_of(f): f.comparison for f in now.findings if f.step is Step.BACKWARD}
        for other in sent:
            c = of_node[place_of(other)]
            seen = c.verdict is gw.Verdict.DISAGREES or c.reason != PROJECTED
            assert seen == (other is finding), other.title
