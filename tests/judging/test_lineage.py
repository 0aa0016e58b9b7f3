"""Which gradients inherit a fault: those behind it, and no others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import gradwitness as gw
from capture.handmade import ARRIVING, BEHIND, FORWARD, LEFT, SENT, tape
from capture.programs import leaf, unruled, weighted
from gradwitness.rules import registry
from gradwitness.tape import Edge

# Edges that lead to a single leaf, or to a part of what lies behind the node.
ONWARD = {"d0.0": "xw", "d0.1": "b", "d5.0": "xw", "d5.1": "x", "d6.0": "x", "d6.1": "w"}


def behind(name: str) -> set[str]:
    """Return the leaves whose gradients depend on a quantity, read from the drawing."""
    if name in FORWARD:
        return set("xwb")
    if name in LEFT:
        return {name[-1]}
    node = ARRIVING[name] if name in ARRIVING else SENT[name][0]
    return set(ONWARD.get(name, BEHIND[node]))


@pytest.mark.parametrize("name", [*FORWARD, *SENT, *ARRIVING, *LEFT])
def test_gradients_behind_a_fault_are_refuted_and_the_others_agree(name: str) -> None:
    report = gw.judge(tape(name, 1))
    rows = {row.name: row for row in report.rows}
    assert set(rows) == set("xwb")
    assert {n for n, row in rows.items() if row.verdict is gw.Verdict.DISAGREES} == behind(name)
    assert {n for n, row in rows.items() if row.verdict is gw.Verdict.AGREES} == set(
        "xwb"
    ) - behind(name)
    (wrong,) = report.wrong
    for row in rows.values():
        assert row.reason == (f"inherits from {wrong.title}" if row.inherited else "")
        assert row.inherited <= (row.verdict is gw.Verdict.DISAGREES)


@pytest.mark.parametrize("name", FORWARD)
def test_a_forward_fault_is_inherited(name: str) -> None:
    # Each gradient follows from the numbers that the program had; they were wrong before.
    for row in gw.judge(tape(name)).rows:
        assert row.inherited
        assert row.comparison.verdict is gw.Verdict.AGREES


@pytest.mark.parametrize(
    ("name", "own", "inherited"),
    # After d3 an addition and, of x, a sum of two gradients compute, and are right.
    [
        ("d6.0", {"x"}, set()),
        ("d6.1", {"w"}, set()),
        ("d3", set(), {"x", "w"}),
        ("d4", {"b"}, set()),
    ],
)
def test_the_row_of_the_last_step_bears_the_fault_itself(
    name: str, own: set[str], inherited: set[str]
) -> None:
    rows = gw.judge(tape(name)).rows
    wrong = [row for row in rows if row.verdict is gw.Verdict.DISAGREES]
    assert {row.name for row in wrong if not row.inherited} == own
    assert {row.name for row in wrong if row.inherited} == inherited


def test_a_fault_is_graver_than_a_doubt() -> None:
    # Node 3 cannot be judged, and what it sends on is changed by node 5.
    faulty = tape("d5.0")
    calls = list(faulty.calls)
    calls[2] = replace(calls[2], op="aten.mystery.default")
    rows = {row.name: row for row in gw.judge(replace(faulty, calls=tuple(calls))).rows}
    assert rows["w"].verdict is gw.Verdict.DISAGREES
    assert rows["w"].reason == "inherits from AddBackward0 #5, gradient of a"


def test_a_doubt_in_backward_taints_only_what_is_behind() -> None:
    # Node 4's call is not known; forward is as it was.
    original = tape()
    nodes = list(original.nodes)
    nodes[4] = replace(nodes[4], call=None, kind="unknown")
    rows = {row.name: row for row in gw.judge(replace(original, nodes=tuple(nodes))).rows}
    assert rows["b"].verdict is gw.Verdict.INCONCLUSIVE
    assert rows["b"].inherited
    assert "no recorded call belongs to MulBackward0" in rows["b"].reason
    assert {rows[n].verdict for n in "xw"} == {gw.Verdict.AGREES}


def test_a_fault_in_one_pass_does_not_reach_another() -> None:
    good, bad = tape(), tape("d6.1")
    # The second pass over the same graph: its numbers are those of the good tape, moved up.
    count = len(bad.values)
    moved = tuple(replace(v, id=v.id + count) for v in good.values)

    def up(number: int | None) -> int | None:
        return None if number is None else number + count

    sweep = good.sweeps[0]
    second = replace(
        sweep,
        node_runs=tuple(
            replace(f, incoming=tuple(map(up, f.incoming)), outgoing=tuple(map(up, f.outgoing)))
            for f in sweep.node_runs
        ),
        leaves=tuple(replace(u, before=up(u.before), after=up(u.after)) for u in sweep.leaves),
    )
    both = replace(bad, values=(*bad.values, *moved), sweeps=(*bad.sweeps, second))
    verdicts = {(row.sweep, row.name): row.verdict for row in gw.judge(both).rows}
    assert [key for key, v in verdicts.items() if v is gw.Verdict.DISAGREES] == [(0, "w")]
    assert len(verdicts) == 6


def test_only_calls_that_the_loss_depends_on_can_taint() -> None:
    torch.manual_seed(0)
    a, other = leaf(3), torch.rand(3)
    with gw.watch(names={"a": a}) as witness:
        unruled(other)
        weighted(a.exp()).backward()
    (row,) = witness.report.rows
    assert row.verdict is gw.Verdict.AGREES
    # Even so, not everything was judged, and the verdict says so.
    assert witness.verdict is gw.Verdict.INCONCLUSIVE


def test_memory_that_the_loss_shares_can_taint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(registry._RULES, "aten.erfinv")
    torch.manual_seed(0)
    a, scale = leaf(3), torch.rand(3)
    with gw.watch(names={"a": a}) as witness:
        # Written to through a view, by an operation without a rule.
        scale.view(3, 1).erfinv_()
        weighted(a * scale).backward()
    (row,) = witness.report.rows
    assert row.verdict is gw.Verdict.INCONCLUSIVE
    assert "no rule for aten.erfinv_" in row.reason


def test_roots_that_meet_no_node_leave_no_row() -> None:
    original = tape()
    sweep = replace(original.sweeps[0], node_runs=(), leaves=(), roots=((Edge(0, 0), None),))
    report = gw.judge(replace(original, sweeps=(sweep,)))
    assert report.rows == ()
    assert report.verdict is gw.Verdict.INCONCLUSIVE


@pytest.mark.parametrize("seed", [5.0, None])
def test_a_root_on_the_way_from_another_starts_from_both(seed: float | None) -> None:
    x = torch.tensor(1.5, requires_grad=True)
    with gw.watch() as witness:
        # Doubling rounds nothing: what arrives at it is carried to the leaf.
        half_way = x * 2
        seeds = [torch.tensor(1.0), None if seed is None else torch.tensor(seed)]
        torch.autograd.backward([half_way * 3, half_way], seeds)
    assert x.grad is not None
    assert x.grad.item() == 2 * (3 + (seed or 1))
    (row,) = witness.report.rows
    assert witness.verdict is gw.Verdict.AGREES
    assert row.comparison.expected == x.grad.item()
