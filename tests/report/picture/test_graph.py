"""The labelled graph as records: every node once, with all of its text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from capture.functions import apply
from capture.handmade import tape
from capture.programs import leaf
from capture.tiny import network
from gradwitness import experiment
from gradwitness.capture import record
from gradwitness.report.picture.graph import draw
from gradwitness.report.picture.picture import Box, Flow, Picture, Role
from gradwitness.report.picture.view import view
from gradwitness.rules import find_node

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

    from gradwitness.experiment import Outcome

PRESETS = ["default", "sigmoid", "conv"]


@lru_cache(maxsize=3)
def outcome(preset: str) -> Outcome:
    return experiment.run(experiment.preset(preset))


def picture(preset: str) -> Picture:
    run = outcome(preset)
    return draw(run.tape, run.report, title="t", subtitle="s")


def box(drawn: Picture, key: str) -> Box:
    (only,) = [b for b in drawn.boxes if b.key == key]
    return only


@pytest.mark.parametrize("preset", PRESETS)
def test_every_node_kind_has_a_sentence(preset: str) -> None:
    for node in outcome(preset).tape.nodes:
        entry = find_node(node.name)
        assert entry is not None, node.name
        assert len(entry.meaning.split()) >= 4
        sentence = f"{node.name} {entry.meaning}."
        drawn = picture(preset)
        assert box(drawn, f"n{node.id}").note == sentence
        # And in the legend, once for all nodes of the kind.
        assert drawn.legend.count(sentence) == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_every_node_is_drawn_once_with_all_its_edges(preset: str) -> None:
    run, drawn = outcome(preset), picture(preset)
    assert (drawn.title, drawn.subtitle) == ("t", "s")
    nodes = [b.key for b in drawn.boxes if b.key.startswith("n")]
    assert nodes == [f"n{node.id}" for node in run.tape.nodes]
    flows = sorted((a.source, a.target) for a in drawn.arrows if a.flow is Flow.GRADIENT)
    edges = sorted(
        (f"n{node.id}", f"n{edge.node}") for node in run.tape.nodes for edge in node.edges if edge
    )
    (result,) = [b for b in drawn.boxes if b.role is Role.RESULT]
    assert flows == sorted([*edges, (result.key, "n0")])
    assert len({b.key for b in drawn.boxes}) == len(drawn.boxes)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_box_says_what_the_forward_made_and_the_backward_sends(preset: str) -> None:
    run, drawn = outcome(preset), picture(preset)
    for node in run.tape.nodes:
        node_box = box(drawn, f"n{node.id}")
        assert node_box.title == f"{node.name} #{node.id}"
        assert node_box.verdict is gw.Verdict.AGREES
        assert node_box.verdict_text.startswith("AGREES, ")
        if node.name == "AccumulateGrad":
            assert node_box.role is Role.LEAF
            assert node_box.lines[-1].endswith(".grad += g")
            continue
        assert node_box.role is Role.OPERATION
        assert " = " in node_box.lines[0]
        assert any(line.startswith("in ") and " -> out " in line for line in node_box.lines)
        sent = [line for line in node_box.lines if line.startswith("d") and " = " in line]
        times = re.findall(r", (\d+) times$", "\n".join(sent), re.MULTILINE)
        count = len(sent) + sum(int(n) - 1 for n in times)
        assert count == sum(edge is not None for edge in node.edges)


def test_a_linear_layer_by_hand() -> None:
    drawn = draw(*network(), title="")
    node_box = box(drawn, "n3")
    assert node_box.title == "AddmmBackward0 #3"
    assert node_box.lines == (
        "x4 = x3 W3^T + b3",
        "in (1) (1,2) (2,1) -> out (1,1)",
        "db3 = g",
        "dx3 = g W3",
        "dW3^T = x3^T g",
        node_box.lines[-1],
    )
    assert re.fullmatch(r"at tiny\.py:\d+ in module 3", node_box.lines[-1])
    assert node_box.verdict_text == "AGREES, 0 x bound"
    labels = {a.target: a.label for a in drawn.arrows if a.source == "n3"}
    assert labels["n4"] == "db3"
    assert labels["n5"] == "dx3"
    assert labels["n6"] == "dW3^T"
    (leaf,) = [b for b in drawn.boxes if "1.weight" in "".join(b.lines)]
    assert leaf.lines == ("W2 = 1.weight", "shape (2,2) float64", "W2.grad += g")


def test_saved_tensors_hang_on_their_node() -> None:
    drawn = draw(*network(), title="")
    saved = {b.key: b for b in drawn.boxes if b.role is Role.SAVED}
    kept = {a.target for a in drawn.arrows if a.flow is Flow.SAVED}
    assert kept == set(saved)
    assert saved["s3.mat2"].lines == ("W3^T (2,1)",)
    assert [a.source for a in drawn.arrows if a.target == "s3.mat2"] == ["n3"]


def test_the_result_has_its_value() -> None:
    (result,) = [b for b in draw(*network(), title="").boxes if b.role is Role.RESULT]
    assert result.title == "result L"
    assert result.lines == ("shape () float64", "value 1")


def test_a_given_gradient_is_not_called_1(snapshot: SnapshotAssertion) -> None:
    a = leaf(2)
    with record() as recorder:
        (a * 3).backward(torch.tensor([0.5, 4.0]))
    drawn = draw(recorder.tape, gw.judge(recorder.tape), title="")
    (result,) = [b for b in drawn.boxes if b.role is Role.RESULT]
    assert result.note == snapshot
    assert [a.label for a in drawn.arrows if a.source == result.key] == ["given"]
    (result,) = [b for b in draw(*network(), title="").boxes if b.role is Role.RESULT]
    assert result.note == snapshot


@pytest.mark.parametrize(
    ("wrong", "key", "text"),
    [
        ("d6.1", "n6", r"DISAGREES, .* x bound (backward[0])"),
        ("p", "n3", r"DISAGREES, .* x bound (forward[0])"),
        ("a5", "n5", r"DISAGREES, .* x bound (fan-in[0])"),
        ("after b", "n8", r"DISAGREES, .* x bound (accumulate[0])"),
    ],
)
def test_the_fault_colours_the_node_that_made_it_and_no_other(
    wrong: str, key: str, text: str
) -> None:
    faulty = tape(wrong)
    drawn = draw(faulty, gw.judge(faulty), title="")
    red = [b for b in drawn.boxes if b.verdict is gw.Verdict.DISAGREES]
    assert [b.key for b in red] == [key]
    start, end = text.split(".*")
    assert red[0].verdict_text.startswith(start)
    assert red[0].verdict_text.endswith(end)


def test_every_gradient_has_its_shape_and_norm() -> None:
    hand = tape()
    drawn = draw(hand, gw.judge(hand), title="")
    (sweep,) = hand.sweeps
    checked = 0
    for run in sweep.node_runs:
        sent = [a for a in drawn.arrows if a.source == f"n{run.node}" and a.flow is Flow.GRADIENT]
        for arrow, value in zip(sent, [n for n in run.outgoing if n is not None], strict=True):
            array = hand.values[value].array
            assert array is not None
            assert arrow.norms == pytest.approx([np.sqrt(np.sum(array.astype(float) ** 2))])
            assert arrow.shape == f"({','.join(map(str, array.shape))})"
            checked += 1
    assert checked == 10
    # x gets two gradients: what arrives is their sum.
    (leaf,) = [b for b in drawn.boxes if b.short == "x (3)"]
    # By hand: g = c everywhere, and x gets c past the product and c w through it.
    c, w = np.array([5.0, 6.0, 7.0]), np.array([2.0, -1.0, 4.0])
    assert leaf.norms == pytest.approx([np.linalg.norm(c + c * w)])


@pytest.mark.parametrize(
    ("wrong", "edges", "nodes"),
    [
        # Node 3 sends d3 to 5, and 5 sends to 6 and 7, and 6 to 7 and 9.
        ("d3", {"n3 n5", "n5 n6", "n5 n7", "n6 n7", "n6 n9"}, {"n5", "n6", "n7", "n9"}),
        ("d6.1", {"n6 n9"}, {"n9"}),
        ("a5", {"n5 n6", "n5 n7", "n6 n7", "n6 n9"}, {"n6", "n7", "n9"}),
        ("after b", set(), set()),
        ("", set(), set()),
    ],
)
def test_what_runs_on_a_wrong_gradient_is_marked(
    wrong: str, edges: set[str], nodes: set[str]
) -> None:
    hand = tape(wrong)
    drawn = draw(hand, gw.judge(hand), title="")
    assert {f"{a.source} {a.target}" for a in drawn.arrows if a.wrong} == edges
    assert {b.key for b in drawn.boxes if b.inherits} == nodes


def test_equal_gradients_are_told_once() -> None:
    a = leaf(3)
    with gw.watch(names={"a": a}) as witness:
        b = a.sin()
        (b * b).sum().backward()
    drawing = draw(witness.tape, witness.report, title="")
    (product,) = [box for box in drawing.boxes if box.title.startswith("MulBackward0")]
    assert [line for line in product.lines if line.startswith("d")] == ["dx1 = g * x1, 2 times"]
    (joined,) = {a.text.rpartition(" ")[0] for a in view(drawing).arrows if "gradients" in a.text}
    assert joined == "2 gradients (3)"


def test_very_many_operands_and_gradients_are_counted() -> None:
    parts = [leaf(2) for _ in range(30)]
    with record() as recorder:
        torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
    drawn = draw(recorder.tape, gw.judge(recorder.tape), title="")
    (stack,) = [b for b in drawn.boxes if b.title.startswith("StackBackward0")]
    assert "in 30 of (2) -> out (30,2)" in stack.lines
    assert "... 24 more gradients" in stack.lines
    assert len(stack.lines[0]) == 125
    assert stack.lines[0].endswith(" ...")


def test_an_absent_bias_is_not_written() -> None:
    model, x = torch.nn.Conv2d(1, 2, 3, bias=False), torch.randn(1, 1, 5, 5)
    with gw.watch(model) as witness:
        model(x).sum().backward()
    drawn = draw(witness.tape, witness.report, title="")
    (convolution,) = [b for b in drawn.boxes if b.title.startswith("ConvolutionBackward0")]
    assert re.fullmatch(r"x1 = conv\(\w+, W1?\)", convolution.lines[0])


def test_no_single_operation_of_a_function_stands_for_it() -> None:
    """The first line is all that a small box shows: its sin(p0) is not it."""
    a, b = (torch.ones(3, requires_grad=True) for _ in range(2))
    with gw.watch() as witness:
        apply(Gap, a, b).sum().backward()
    drawn = draw(witness.tape, witness.report, title="t")
    (gap,) = [b for b in drawn.boxes if b.role is Role.CUSTOM]
    assert gap.lines[:3] == ("x2 = Gap(p0, p1), 2 operations", "x1 = sin(p0)", "x2 = x1 - p1")


class Gap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a)
        return torch.sin(a) - b

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * torch.cos(*ctx.saved_tensors), -g
