"""A wrong number is found at the step that computed it, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gradwitness as gw
from capture.handmade import ARRIVING, FORWARD, LEFT, SENT, WRONG, tape
from gradwitness.capture import record
from gradwitness.judging.comparing.records import Records
from gradwitness.judging.finding import Finding, Step
from gradwitness.tape import Call, NodeRun, Ref, Tape, Value, references

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from syrupy.assertion import SnapshotAssertion

Site = tuple[Step, int | None, int | None, int]

SITES: Mapping[str, Site] = (
    {name: (Step.FORWARD, call, None, 0) for name, call in FORWARD.items()}
    | {name: (Step.BACKWARD, None, node, input_nr) for name, (node, input_nr) in SENT.items()}
    | {name: (Step.FAN_IN, None, node, 0) for name, node in ARRIVING.items()}
    | {name: (Step.ACCUMULATE, None, node, 0) for name, node in LEFT.items()}
)


def site(finding: Finding) -> Site:
    forward = finding.step is Step.FORWARD
    return (
        finding.step,
        finding.call if forward else None,
        None if forward else finding.node,
        finding.tensor_nr,
    )


def test_the_tape_without_a_fault_agrees() -> None:
    report = gw.judge(tape())
    assert report.verdict is gw.Verdict.AGREES
    # 7 results, 10 arrivals, 10 gradients sent, 3 updates of leaves.
    assert len(report.findings) == 7 + 10 + 10 + 3
    assert {site(finding) for finding in report.findings} == set(SITES.values())


def test_the_gradients_are_those_of_calculus() -> None:
    # L = sum((x w + x) c) + sum(b c): dx = (w + 1) c, dw = x c, db = c.
    replayed = gw.replay(tape())
    gradients = {node: replayed.gradient(0, node) for node in (7, 8, 9)}
    assert gradients[7] is not None
    assert gradients[7].tolist() == [15.0, 0.0, 35.0]
    assert gradients[8] is not None
    assert gradients[8].tolist() == [5.0, 6.0, 7.0]
    assert gradients[9] is not None
    assert gradients[9].tolist() == [5.0, 12.0, 21.0]


@pytest.mark.parametrize("element", [0, 2])
@pytest.mark.parametrize("name", SITES)
def test_one_wrong_number_is_one_wrong_step(name: str, element: int) -> None:
    report = gw.judge(tape(name, element))
    assert [site(finding) for finding in report.wrong] == [SITES[name]]
    (finding,) = report.wrong
    assert report.first_wrong is finding
    assert report.verdict is gw.Verdict.DISAGREES
    size = finding.comparison.size
    assert finding.comparison.index == (() if size == 1 else (element,))
    assert finding.comparison.refuted == 1
    assert finding.comparison.error == WRONG
    assert finding.comparison.recorded - finding.comparison.expected == WRONG


def with_node_run(example: Tape, node: int, change: Callable[[NodeRun], NodeRun]) -> Tape:
    sweep = example.sweeps[0]
    node_runs = tuple(change(f) if f.node == node else f for f in sweep.node_runs)
    return replace(example, sweeps=(replace(sweep, node_runs=node_runs),))


def test_a_missing_gradient(snapshot: SnapshotAssertion) -> None:
    example = with_node_run(tape(), 3, lambda f: replace(f, outgoing=(None, None)))
    reasons = {site(f): f.comparison.reason for f in gw.judge(example).wrong}
    assert reasons[Step.BACKWARD, None, 3, 0] == snapshot
    assert reasons[Step.FAN_IN, None, 5, 0] == snapshot


def test_a_gradient_that_was_lost_on_its_way(snapshot: SnapshotAssertion) -> None:
    example = with_node_run(tape(), 5, lambda f: replace(f, incoming=(None,)))
    reasons = {site(f): f.comparison.reason for f in gw.judge(example).wrong}
    assert reasons[Step.FAN_IN, None, 5, 0] == snapshot


def test_a_missing_gradient_that_would_be_zero_is_none() -> None:
    # With c = 0, node 3 sends 0 c: torch may as well send nothing.
    zero = tape()
    sent = zero.sweeps[0].node_runs[3].outgoing[0]
    assert sent is not None
    numbers = zero.values
    at = next(
        n for n, v in enumerate(numbers) if v.array is not None and v.array.tolist() == [5, 6, 7]
    )
    changed = with_array(zero, at, np.zeros(3, dtype=np.float32))
    without = with_node_run(changed, 3, lambda f: replace(f, outgoing=(None, None)))
    assert (Step.BACKWARD, None, 3, 0) not in {site(f) for f in gw.judge(without).wrong}


def test_a_surplus_gradient_is_not_taken_for_data() -> None:
    # Node 3 has no edge for c: what it sends there goes nowhere, and reaches no leaf.
    surplus = tape().sweeps[0].node_runs[3].outgoing[0]
    example = with_node_run(tape(), 3, lambda f: replace(f, outgoing=(surplus, surplus)))
    assert gw.judge(example).verdict is gw.Verdict.AGREES


def test_a_gradient_out_of_nowhere() -> None:
    # Node 5 sends nothing to node 6, where something arrives all the same.
    example = with_node_run(tape(), 5, lambda f: replace(f, outgoing=(None, f.outgoing[1])))
    sites = [site(f) for f in gw.judge(example).wrong]
    assert sites == [(Step.BACKWARD, None, 5, 0), (Step.FAN_IN, None, 6, 0)]


def test_a_leaf_without_its_gradient(snapshot: SnapshotAssertion) -> None:
    example = tape()
    sweep = example.sweeps[0]
    leaves = tuple(replace(u, after=None) if u.node == 8 else u for u in sweep.leaves)
    report = gw.judge(replace(example, sweeps=(replace(sweep, leaves=leaves),)))
    (finding,) = report.wrong
    assert site(finding) == (Step.ACCUMULATE, None, 8, 0)
    assert finding.comparison.reason == snapshot


def test_a_gradient_of_another_shape(snapshot: SnapshotAssertion) -> None:
    example = tape()
    number = example.sweeps[0].node_runs[6].outgoing[1]
    assert number is not None
    changed = with_array(example, number, np.full((1, 3), 5.0, dtype=np.float32))
    report = gw.judge(changed)
    first = report.first_wrong
    assert first is not None
    assert site(first) == (Step.BACKWARD, None, 6, 1)
    assert first.comparison.reason == snapshot


def with_array(example: Tape, number: int, array: Any) -> Tape:
    values = list(example.values)
    values[number] = replace(values[number], array=array, shape=array.shape)
    return replace(example, values=tuple(values))


@lru_cache(maxsize=1)
def recorded() -> Tape:
    """Return a recorded training step with a fan-in, a tied weight and an old gradient."""
    torch.manual_seed(11)
    first, second = nn.Linear(3, 4), nn.Linear(4, 4)
    x, y = torch.randn(5, 3), torch.randn(5, 4)
    second.bias.grad = torch.randn(4)
    with record(first, second) as recorder:
        h = torch.tanh(first(x))
        loss = nn.functional.mse_loss(second(second(h)) + h, y)
        cast: Any = loss
        cast.backward()
    return recorder.tape


def first_makers() -> list[tuple[int, Site]]:
    """Return every computed value with the first step that computed it."""
    example = recorded()
    makers: dict[int, Site] = {}
    for call in example.calls:
        for input_nr, number in enumerate(call.outputs):
            assert number is not None
            makers.setdefault(number, (Step.FORWARD, call.id, None, input_nr))
    (sweep,) = example.sweeps
    after = {u.node: u.after for u in sweep.leaves}
    for node_run in sweep.node_runs:
        for input_nr, number in enumerate(node_run.incoming):
            if number is not None:
                makers.setdefault(number, (Step.FAN_IN, None, node_run.node, input_nr))
        for input_nr, number in enumerate(node_run.outgoing):
            if number is not None:
                makers.setdefault(number, (Step.BACKWARD, None, node_run.node, input_nr))
        left = after.get(node_run.node)
        if left is not None:
            makers.setdefault(left, (Step.ACCUMULATE, None, node_run.node, 0))
    return list(makers.items())


def touches(finding: Finding, number: int) -> bool:
    """Whether a step reads or computes a value."""
    example = recorded()
    around: set[int | None] = set()
    if finding.call is not None:
        call = example.calls[finding.call]
        around |= {n for a in call.arguments.values() for n in references(a)} | set(call.outputs)
    (sweep,) = example.sweeps
    if finding.node is not None and finding.step is not Step.FORWARD:
        for node_run in sweep.node_runs:
            if node_run.node == finding.node:
                around |= {*node_run.incoming, *node_run.outgoing}
            # An arrival is compared with what was sent to it.
            for edge, sent in zip(
                example.nodes[node_run.node].edges, node_run.outgoing, strict=True
            ):
                if edge is not None and edge.node == finding.node:
                    around.add(sent)
        for update in sweep.leaves:
            if update.node == finding.node:
                around |= {update.before, update.after}
    return number in around


@settings(max_examples=60)
@given(st.data())
def test_any_number_that_is_changed_is_noticed_where_it_was_made(data: st.DataObject) -> None:
    number, maker = data.draw(st.sampled_from(first_makers()))
    array = np.array(recorded().values[number].array, order="C")
    element = data.draw(st.integers(0, array.size - 1))
    # Beyond every bound, and small against the other numbers.
    array.reshape(-1)[element] += 0.01 * (1 + np.abs(array).max())
    report = gw.judge(with_array(recorded(), number, array))
    first = report.first_wrong
    assert first is not None
    assert site(first) == maker
    assert np.ravel_multi_index(first.comparison.index or (), array.shape) == element
    assert [f.title for f in report.wrong if not touches(f, number)] == []
    assert report.verdict is gw.Verdict.DISAGREES


def test_the_recorded_step_agrees_as_it_is() -> None:
    assert gw.judge(recorded()).verdict is gw.Verdict.AGREES
    assert len(first_makers()) > 25


def test_a_value_without_numbers_is_not_judged(snapshot: SnapshotAssertion) -> None:
    example = tape()
    values = list(example.values)
    values[5] = replace(values[5], array=None)
    report = gw.judge(replace(example, values=tuple(values)))
    assert report.verdict is gw.Verdict.INCONCLUSIVE
    assert report.wrong == ()
    (reason,) = dict(report.reasons())
    assert reason == snapshot


def test_an_operation_without_a_rule() -> None:
    example = tape()
    calls = list(example.calls)
    calls[4] = replace(calls[4], op="aten.mystery.default")
    report = gw.judge(replace(example, calls=tuple(calls)))
    assert {f.title for f in report.findings if f.verdict is gw.Verdict.INCONCLUSIVE} == {
        "aten.mystery.default (call 4)",
        "MulBackward0 #4, gradient of input 0",
    }
    rows = {row.name: (row.verdict, row.inherited) for row in report.rows}
    # The forward call taints everything: the loss depends on it.
    assert set(rows.values()) == {(gw.Verdict.INCONCLUSIVE, True)}


def test_memory_that_nobody_has_written_is_not_judged() -> None:
    # torch.empty may hold NaN; a view of it raises no doubt, an operation on it does.
    nan = np.full(3, np.nan, dtype=np.float32)
    values = tuple(Value(n, (3,), "float32", nan) for n in range(3))
    empty = Call(0, "aten.empty.memory_format", {"size": (3,)}, (0,))
    view = Call(1, "aten.detach.default", {"self": Ref(0)}, (1,), is_view=True)
    product = Call(2, "aten.neg.default", {"self": Ref(1)}, (2,))
    assert gw.judge(Tape(values, (empty, view), (), ())).findings == ()
    (finding,) = gw.judge(Tape(values, (empty, view, product), (), ())).findings
    assert finding.call == 2
    assert finding.verdict is gw.Verdict.INCONCLUSIVE


def test_numbers_that_python_reads_stay_known(monkeypatch: pytest.MonkeyPatch) -> None:
    again: list[int] = []
    monkeypatch.setattr(Records, "expose", lambda _, number: again.append(number))
    x: Any = torch.ones(3, requires_grad=True)
    with gw.watch():
        y = x * 2
        y[0].item(), y.tolist(), bool(y[1] > 0)
        y.sum().backward()
    assert again == []
