"""A fast look at each step: right programs agree, planted faults are found and placed."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.capture import record
from gradwitness.judging.comparing.comparison import CLOSE, PROJECTED, SAMPLED
from gradwitness.judging.comparing.records import Records
from gradwitness.judging.finding import Step
from gradwitness.judging.looks.fast import Fast
from gradwitness.report.tables.depth import looked_at as looked_at_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradwitness.judging.finding import Finding, Report
    from gradwitness.tape import Tape


def dense() -> tuple[nn.Module, torch.Tensor]:
    return nn.Sequential(nn.Linear(96, 128), nn.GELU(), nn.Linear(128, 64)), torch.randn(512, 96)


def images() -> tuple[nn.Module, torch.Tensor]:
    layers = (nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
    more = (nn.Conv2d(32, 32, 3, stride=2), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(128, 10))
    return nn.Sequential(*layers, *more), torch.randn(32, 3, 14, 14)


def tokens() -> tuple[nn.Module, torch.Tensor]:
    block = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
    model = nn.Sequential(nn.Embedding(50, 64), block, nn.LayerNorm(64), nn.Linear(64, 50))
    return model, torch.randint(0, 50, (8, 24))


PROGRAMS = {"dense": dense, "images": images, "tokens": tokens}


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    y = model(x).float()
    rows = y.reshape(-1, y.shape[-1])
    return nn.functional.cross_entropy(rows, torch.arange(len(rows)) % y.shape[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", PROGRAMS)
def test_right_programs_agree(name: str, dtype: torch.dtype) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        model, x = PROGRAMS[name]()
        model, x = model.to(dtype), x.to(dtype) if x.is_floating_point() else x
        with gw.watch(model, depth="fast") as witness:
            torch.autograd.backward(loss_of(model, x))
        report = witness.report
        assert not report.wrong
        assert report.verdict is gw.Verdict.AGREES or dtype is torch.bfloat16
        # What the full judgement leaves open, the fast one does, and nothing else.
        assert {f.title for f in report.findings if f.verdict is not gw.Verdict.AGREES} == {
            f.title for f in in_full(model, x) if f.verdict is not gw.Verdict.AGREES
        }


def in_full(model: nn.Module, x: torch.Tensor) -> tuple[Finding, ...]:
    model.zero_grad()
    with gw.watch(model) as witness:
        torch.autograd.backward(loss_of(model, x))
    return witness.report.findings


def taped(name: str) -> Tape:
    torch.manual_seed(0)
    model, x = PROGRAMS[name]()
    with record(model) as recorder:
        torch.autograd.backward(loss_of(model, x))
    return recorder.tape


def changed(tape: Tape, number: int, array: NDArray[Any]) -> Tape:
    values = [*tape.values]
    values[number] = replace(values[number], array=array)
    return replace(tape, values=tuple(values))


def place_of(finding: Finding) -> tuple[object, ...]:
    return finding.step, finding.call, finding.node, finding.tensor_nr


def value_of(tape: Tape, finding: Finding) -> int:
    """Return the value that a finding is about."""
    if finding.step is Step.FORWARD:
        number = tape.calls[finding.call or 0].outputs[finding.tensor_nr]
    else:
        runs = {run.node: run for run in tape.sweeps[0].node_runs}
        number = runs[finding.node or 0].outgoing[finding.tensor_nr]
    assert number is not None
    return number


def looked_at(name: str, reason: str) -> list[tuple[Tape, Finding]]:
    tape = taped(name)
    report = gw.judge(tape, depth="fast")
    kinds = Step.FORWARD, Step.BACKWARD
    return [(tape, f) for f in report.findings if f.comparison.reason == reason and f.step in kinds]


def found(tape: Tape, finding: Finding, array: NDArray[Any], size: float = math.inf) -> bool:
    """Whether an error of a size is refuted, or does not hide: bounds as wide as that are told."""
    report = gw.judge(changed(tape, value_of(tape, finding), array), depth="fast")
    (now,) = (f for f in report.findings if place_of(f) == place_of(finding))
    return now.verdict is gw.Verdict.DISAGREES or now.comparison.detects >= size


def detected(tape: Tape, finding: Finding, array: NDArray[Any]) -> float:
    """Return what a look detects in a step whose result is another array; 0 if it sees it as odd.

    What it allows depends on the numbers that it drew, and on how far their sums strayed.
    """
    tape = changed(tape, value_of(tape, finding), array)
    if finding.step is Step.FORWARD:
        looks = Fast(tape, Records(tape)).results(tape.calls[finding.call or 0])
        return dict(looks)[finding.tensor_nr].detects if looks else 0.0
    (run,) = (run for run in tape.sweeps[0].node_runs if run.node == finding.node)
    node = tape.nodes[run.node]
    sent = Fast(tape, Records(tape)).sent(node, tape.calls[node.call or 0], run)
    return sent[finding.tensor_nr].detects if finding.tensor_nr in sent else 0.0


@pytest.mark.parametrize("name", PROGRAMS)
def test_faults_of_products_are_found(name: str) -> None:
    in_full = {place_of(f): f.comparison for f in gw.judge(taped(name)).findings}
    steps = looked_at(name, PROJECTED)
    assert len(steps) >= 4
    for tape, finding in steps:
        c = finding.comparison
        array: Any = tape.values[value_of(tape, finding)].array
        assert 0 < c.detects_relative < 0.1
        assert c.missed == 1e-6
        # What a look detects is judged in full, and refuted beyond what that detects.
        middle = tuple(n // 2 for n in array.shape)
        for size in (c.detects, in_full[place_of(finding)].detects):
            wrong = array.copy()
            if c.share == 1:
                # The norm of an error in one number is that of its row, along any axis.
                wrong[middle] += 1.01 * size
            else:
                wrong += 1.01 * size
            seen = detected(tape, finding, wrong)
            assert not 0 < seen <= size, finding.title
        size = max(c.detects, in_full[place_of(finding)].detects)
        wrong = array.copy()
        wrong[middle if c.share == 1 else ...] += 1.01 * size
        assert found(tape, finding, wrong, size), finding.title


def large() -> Tape:
    """Steps by element, by row and by column, with many times the numbers of a sample."""
    torch.manual_seed(0)
    x = torch.randn(300, 1000, requires_grad=True)
    norm = nn.LayerNorm(1000)
    with record(norm) as recorder:
        y = torch.softmax(norm(x * 1.5), 1).exp() + x
        torch.autograd.backward((y.t().contiguous() ** 2).sum())
    return recorder.tape


PIECES: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "everywhere": lambda a: a,
    "first": lambda a: a[:1],
    "last": lambda a: a[-1:],
    "far beyond": lambda a: a.reshape(-1)[a.size // 3 : a.size // 3 + 1],
}


@pytest.mark.parametrize("piece", PIECES)
def test_faults_of_other_steps_are_found_where_a_look_falls(piece: str) -> None:
    tape = large()
    right = gw.judge(tape, depth="fast")
    assert right.verdict is gw.Verdict.AGREES
    kinds = Step.FORWARD, Step.BACKWARD
    sampled = [f for f in right.findings if f.comparison.reason == SAMPLED and f.step in kinds]
    assert {f.title.split()[0] for f in sampled} >= {
        "aten.mul.Tensor", "aten._softmax.default", "aten.native_layer_norm.default",
        "MulBackward0", "SoftmaxBackward0", "NativeLayerNormBackward0",
    }  # fmt: skip
    for finding in sampled:
        number = value_of(tape, finding)
        array = tape.values[number].array
        assert array is not None
        wrong = np.ascontiguousarray(array).copy()
        runs = [run for run in tape.sweeps[0].node_runs if run.node == finding.node]
        passed_on = finding.step is Step.BACKWARD and number in runs[0].incoming
        if passed_on or (wrong.ndim < 2 and piece != "everywhere"):
            continue
        part = PIECES[piece](wrong)
        size = 1e6 if piece == "far beyond" else 1.01 * finding.comparison.detects
        part += np.float32(size)
        assert not 0 < detected(tape, finding, wrong) <= size, finding.title
        assert found(tape, finding, wrong, size), finding.title


def test_moved_numbers_are_held_bit_for_bit() -> None:
    tape = large()
    right = gw.judge(tape, depth="fast")
    calls = {c.id: c.op for c in tape.calls if c.op in ("aten.t.default", "aten.clone.default")}
    moved = [f for f in right.findings if f.step is Step.FORWARD and f.call in calls]
    assert len(moved) == 2
    for finding in moved:
        array = tape.values[value_of(tape, finding)].array
        assert array is not None
        wrong = array.copy()
        wrong[123, 45] = np.nextafter(wrong[123, 45], np.float32(9))
        assert found(tape, finding, wrong)


def test_the_same_seed_looks_at_the_same_numbers() -> None:
    tape = taped("dense")
    call = next(c for c in tape.calls if c.op == "aten.addmm.default")
    looks = [Fast(tape, Records(tape), seed=seed).results(call) for seed in (1, 1, 2)]
    assert looks[0] == looks[1] != looks[2]


def test_torch_and_numpy_draw_on_as_if_nothing_had_looked() -> None:
    tape = taped("dense")
    torch.manual_seed(7)
    rng = np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
    expected = torch.get_rng_state()
    gw.judge(tape, depth="fast")
    assert torch.equal(torch.get_rng_state(), expected)
    assert np.array_equal(np.random.get_state()[1], rng)  # type: ignore[index] # noqa: NPY002


def test_a_look_that_fails_is_followed_by_a_full_judgement() -> None:
    tape = taped("dense")
    call = next(c for c in tape.calls if c.op == "aten.addmm.default")
    number = call.outputs[0] or 0
    array = tape.values[number].array
    assert array is not None
    wrong = array.copy()
    wrong[3, 4] += 1
    report: Report = gw.judge(changed(tape, number, wrong), depth="fast")
    first = report.first_wrong
    assert first is not None
    assert first.call == call.id
    assert (first.comparison.index, first.comparison.refuted) == ((3, 4), 1)
    assert first.comparison.share == 1


def test_a_gradient_rests_on_the_last_step_that_computes() -> None:
    torch.manual_seed(0)
    model, x = dense()
    with gw.watch(model, depth="fast") as witness:
        torch.autograd.backward(loss_of(model, x))
    rows = {row.name: row.comparison for row in witness.report.rows}
    # The weights' products are transposed on their way to the leaves.
    steps = {f.title: f.comparison for f in witness.report.findings if f.step is Step.BACKWARD}
    products = [c for title, c in steps.items() if title.endswith("gradient of B")]
    assert [rows[name].detects for name in ("2.weight", "0.weight")] == [
        c.detects for c in products
    ]
    assert all(row.basis == "by projection" for row in witness.report.rows)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert rows[name].norm == pytest.approx(float(parameter.grad.norm()), rel=1e-5)


def test_what_was_looked_at_is_told() -> None:
    report = gw.judge(large(), depth="fast")
    sampled = [f.comparison for f in report.findings if f.comparison.share < 1]
    looked = sum(round(c.size * c.share) for c in sampled)
    numbers = report.coverage()["elements"]
    assert numbers.total - numbers.judged == sum(c.size for c in sampled) - looked
    said = looked_at_text(report)
    assert re.search(rf"{len(sampled)} steps by 0\.\d+ % of their numbers, 3 steps against", said)
    assert re.search(r" of the largest number is seen\), \d+ steps whole$", said)
    told = looked_at_text(gw.judge(taped("dense"), depth="fast"))
    assert re.search(
        r"by projection \(an error above \S+ of the largest row passes with a chance below", told
    )


@pytest.mark.parametrize(("rows", "reason"), [(64, CLOSE), (512, PROJECTED)])
def test_small_products_are_held_against_float64_whole(rows: int, reason: str) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(rows, 48, requires_grad=True), torch.randn(48, 64, requires_grad=True)
    with record() as recorder:
        torch.autograd.backward((a @ b * torch.randn(rows, 64)).sum())
    findings = gw.judge(recorder.tape, depth="fast").findings
    products = [f for f in findings if f.call == 0 and f.step in (Step.FORWARD, Step.BACKWARD)]
    assert [f.comparison.reason for f in products] == [reason] * 3


@pytest.mark.parametrize("rows", [16, 2000])
def test_a_bias_goes_along_the_axis_that_is_looked_at(rows: int) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(512, 1000), torch.randn(rows, 512)
    with record(layer) as recorder:
        torch.autograd.backward(layer(x).square().mean())
    findings = gw.judge(recorder.tape, depth="fast").findings
    (forward,) = (f for f in findings if f.title.startswith("aten.addmm"))
    assert (forward.verdict, forward.comparison.reason) == (gw.Verdict.AGREES, PROJECTED)


def of_layer(layer: nn.Module, *shape: int) -> Tape:
    torch.manual_seed(0)
    x = torch.randn(*shape, requires_grad=True)
    with record(layer) as recorder:
        torch.autograd.backward((layer(x) * torch.randn(*shape)).sum())
    return recorder.tape


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.BatchNorm2d(64), (16, 64, 12, 12)), (nn.LayerNorm(64), (4096, 64))],
    ids=["BatchNorm2d", "LayerNorm"],
)
@pytest.mark.parametrize("at", [0, 40, -1])
def test_no_entry_of_a_small_gradient_is_left_out(
    layer: nn.Module, shape: tuple[int, ...], at: int
) -> None:
    tape = of_layer(layer, *shape)
    (finding,) = (
        f for f in gw.judge(tape, depth="fast").findings if f.title.endswith("gradient of w")
    )
    array: Any = tape.values[value_of(tape, finding)].array
    wrong = array.copy()
    wrong[at] *= 2
    assert found(tape, finding, wrong)


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("axis", [0, 1])
def test_both_ends_of_each_axis_are_looked_at(axis: int, place: int) -> None:
    tape = of_layer(nn.Softmax(-1), 64, 64, 64)
    finding = next(
        f for f in gw.judge(tape, depth="fast").findings if "_softmax" in f.title and f.call == 0
    )
    array: Any = tape.values[value_of(tape, finding)].array
    wrong = np.moveaxis(array.copy(), axis, 0)
    wrong[place] *= 1.5
    assert found(tape, finding, np.moveaxis(wrong, 0, axis))


def test_one_number_that_is_larger_than_all_others_is_seen() -> None:
    tape = of_layer(nn.Tanh(), 512, 1024)
    finding = next(
        f
        for f in gw.judge(tape, depth="fast").findings
        if f.title.startswith("TanhBackward") and f.step is Step.BACKWARD
    )
    array: Any = tape.values[value_of(tape, finding)].array
    wrong = array.copy()
    wrong[300, 500] = 10 * np.abs(array).max()
    assert found(tape, finding, wrong)


@pytest.mark.parametrize("rows", [0, 1])
def test_tensors_without_elements_are_judged_as_in_full(rows: int) -> None:
    torch.manual_seed(0)
    expert, x = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)), torch.randn(9, 4)
    with gw.watch(expert, depth="fast") as witness:
        y = torch.cat([expert(x[:rows]), expert(x)])
        torch.autograd.backward((y * torch.randn_like(y)).sum())
    assert witness.verdict is gw.Verdict.AGREES, witness.report.reasons()


def test_a_sum_of_gradients_that_is_nothing_is_judged_as_in_full() -> None:
    """A sample of it tells nothing, and is too large a share for its bounds to be worth it."""
    torch.manual_seed(0)
    x, w = torch.randn(2, 40, 30, dtype=torch.bfloat16)
    x.requires_grad_()
    verdicts = {}
    for depth in ("fast", "full"):
        x.grad = None
        with gw.watch(names={"x": x}, depth=depth) as witness:
            torch.autograd.backward((x * w).sum() + (x * -w).sum())
        (finding,) = (f for f in witness.report.findings if "`.grad`" in f.title)
        verdicts[depth] = finding.verdict, finding.comparison.reason
    assert verdicts["fast"] == verdicts["full"]


def of_a_first_state() -> tuple[Tape, dict[str, int]]:
    """Return a product of zeros, and the weight, the product, its gradient and the weight's."""
    torch.manual_seed(0)
    state, weight = torch.zeros(32, 256), torch.randn(256, 96, requires_grad=True)
    with record() as recorder:
        torch.autograd.backward((state @ weight + 1).square().sum())
    tape = recorder.tape
    call = next(c for c in tape.calls if c.base_op == "aten.mm")
    run = next(run for run in tape.sweeps[0].node_runs if run.node == call.node)
    numbers = (call.operands[1], *call.outputs, *run.incoming, run.outgoing[1])
    names = ("weight", "product", "arrived", "sent")
    return tape, {name: n for name, n in zip(names, numbers, strict=True) if n is not None}


def test_products_of_zeros_are_zero_to_the_bit() -> None:
    """As those of a recurrent layer's first state, of which every combination is 0, too."""
    tape, numbers = of_a_first_state()
    findings = gw.judge(tape, depth="fast").findings
    products = [f for f in findings if f.title.startswith(("aten.mm", "MmBackward"))]
    kinds = [f.step for f in products if f.comparison.bound == 0 == f.comparison.detects]
    assert {Step.FORWARD, Step.BACKWARD} <= {*kinds}
    for name in ("product", "sent"):
        array = np.array(tape.values[numbers[name]].array)
        array[3, 7] = 1e-30
        wrong = gw.judge(changed(tape, numbers[name], array), depth="fast")
        assert wrong.verdict is gw.Verdict.DISAGREES


@pytest.mark.parametrize(("name", "made"), [("weight", "product"), ("arrived", "sent")])
def test_zero_times_infinity_is_not_zero(name: str, made: str) -> None:
    tape, numbers = of_a_first_state()
    array = np.array(tape.values[numbers[name]].array)
    array[3, 7] = np.inf
    tape = changed(tape, numbers[name], array)
    findings = gw.judge(tape, depth="fast").findings
    about = [f for f in findings if place_of(f)[0] is not Step.FAN_IN and f.comparison.size]
    (finding,) = (
        f
        for f in about
        if f.title.startswith(("aten.mm", "MmBackward")) and value_of(tape, f) == numbers[made]
    )
    assert finding.verdict is not gw.Verdict.AGREES


def test_each_turn_of_a_loop_is_held_against_its_own_weights() -> None:
    """Their combinations are made once, for all turns until the program writes to them."""
    torch.manual_seed(0)
    layer = nn.Linear(256, 256, bias=False)
    x = torch.randn(32, 256)
    with record(layer) as recorder:
        for turn in range(4):
            if turn == 2:
                with torch.no_grad():
                    layer.weight[3, 5] += 1
            x = layer(x.detach())
            torch.autograd.backward(x.square().sum())
    tape = recorder.tape
    products = [c for c in tape.calls if c.base_op == "aten.mm" and c.during is None]
    report = gw.judge(tape, depth="fast")
    assert report.verdict is gw.Verdict.AGREES, report.reasons()
    forward = {f.call: f for f in report.findings if f.step is Step.FORWARD}
    assert all(forward[c.id].comparison.reason == PROJECTED for c in products)
    for call, weight in zip(products, (products[0], *products[:3]), strict=True):
        # What another turn's weights make is not what these do.
        assert call.outputs[0] is not None
        one, other = (tape.values[c.operands[1]].array for c in (call, weight))
        wrong: Any = tape.values[call.operands[0]].array @ np.asarray(other)
        of_own = np.array_equal(np.asarray(one), np.asarray(other))
        judged = gw.judge(changed(tape, call.outputs[0], wrong), depth="fast")
        of_call = [f for f in judged.findings if f.step is Step.FORWARD and f.call == call.id]
        assert (of_call[0].verdict is gw.Verdict.AGREES) == of_own
