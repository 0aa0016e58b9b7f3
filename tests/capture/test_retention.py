"""Numbers are held while a step needs them, and let go after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

import gradwitness as gw
from capture.functions import apply
from capture.programs import leaf, weighted
from gradwitness._room import Room
from gradwitness.api import arguments
from gradwitness.capture.memory import retention
from gradwitness.rules.registry import Rule, find

if TYPE_CHECKING:
    from pathlib import Path


def memory(tensor: Any) -> Any:
    weak: Any = StorageWeakRef
    return weak(tensor.untyped_storage())


def test_a_step_without_a_gradient_lets_go_at_once() -> None:
    with gw.watch(keep=0) as witness, torch.no_grad():
        x = torch.ones(3)
        y = memory(x * 2)
        z = memory(x * 3 + 1)
        assert y.expired()
        assert z.expired()
        assert not memory(x).expired()
    assert witness.report.count(gw.Verdict.AGREES) == len(witness.tape.calls) > 0


def test_a_backward_step_lets_go_of_its_operands() -> None:
    alive = []
    x = leaf(3)
    with gw.watch(keep=0) as witness:
        first = x * 2
        held = memory(first)
        second = first.sin()
        for tensor in (second, x):
            tensor.register_hook(lambda _: alive.append(held.expired()))
        del first
        weighted(second).backward()
        # Before the step that uses it, the sine's, it is there; once that is over it is not.
    assert alive == [False, True]
    assert witness.verdict is gw.Verdict.AGREES


@pytest.mark.parametrize("keep", [None, 2**30])
def test_what_there_is_room_for_is_kept(keep: int | None) -> None:
    with gw.watch(keep=keep) as witness:
        torch.ones(3) * 2
    assert witness.tape.complete
    arrays = [value.array for value in witness.tape.values]
    assert all(array is not None for array in arrays)
    # On torch's own memory: nothing was copied.
    assert arrays[-1] is not None
    assert arrays[-1].base is not None


def test_past_the_room_everything_goes() -> None:
    # 10 tensors of 4 kB each; the room is for 5 of them.
    x = torch.ones(1000)
    with gw.watch(keep=20_000) as witness:
        made = [memory(x * number) for number in range(10)]
        # What was made before there was no room any more went with it.
        assert all(each.expired() for each in made)
    assert not witness.tape.complete


def test_views_of_one_memory_count_once() -> None:
    x = torch.ones(1000)
    with gw.watch(keep=20_000) as witness:
        y = x * 2
        for _ in range(100):
            y.view(10, 100)
    assert witness.tape.complete


def test_a_graph_that_is_retained_can_be_judged_again() -> None:
    x = leaf(3)
    with gw.watch(keep=0) as witness:
        loss = weighted((x * 2).sin())
        loss.backward(retain_graph=True)
        torch.autograd.backward(loss, retain_graph=True)
        torch.autograd.grad(loss, x, create_graph=True)
        loss.backward()
    assert len(witness.report.rows) == 4
    assert witness.verdict is gw.Verdict.AGREES


def test_a_tensor_that_comes_back_is_known() -> None:
    model = nn.Linear(3, 3)
    with gw.watch(model, keep=0) as witness:
        for _ in range(2):
            weighted(model(torch.randn(2, 3))).backward()
    names = [row.name for row in witness.report.rows]
    assert names == ["weight", "bias", "weight", "bias"]
    assert witness.verdict is gw.Verdict.AGREES


def test_a_fault_is_found_all_the_same() -> None:
    x = leaf(3)
    with gw.watch(keep=0) as witness:
        y = x.sin()
        y.register_hook(lambda g: 2 * g)
        weighted(y).backward()
    assert witness.verdict is gw.Verdict.DISAGREES
    assert len(witness.report.wrong) == 1


def test_released_numbers_are_told(tmp_path: Path) -> None:
    x = leaf(3)
    with gw.watch(keep=0, names={"x": x}) as witness:
        weighted(x.sin()).backward()
    assert [str(row.digits) for row in witness.report.rows] == ["nan"]
    with pytest.raises(gw.InputError, match=r"values were freed while recording.* keep=None"):
        witness.save(tmp_path / "tape.npz")
    assert list(tmp_path.iterdir()) == []
    witness.save(tmp_path / "graph.svg")
    assert "SinBackward0" in (tmp_path / "graph.svg").read_text()
    assert "values were freed after judging" in str(witness)


def test_negative_room_is_refused() -> None:
    with pytest.raises(gw.InputError, match="keep=-1"):
        gw.watch(keep=-1)


def test_what_no_vjp_uses_goes_as_soon_as_it_is_judged() -> None:
    x = leaf(3)
    with gw.watch(keep=0) as witness:
        before = x * 2
        held = memory(before)
        after = before.relu()
        del before
        # The gradient of relu is told by its result, that of the product by the factor.
        assert held.expired()
        kept = memory(after)
        loss = weighted(after)
        del after
        assert not kept.expired()
        loss.backward()
    assert witness.verdict is gw.Verdict.AGREES


@pytest.mark.parametrize(
    "shape",
    [
        lambda product: product.view(3, 2),
        lambda product: product.T,
        # What matmul does with the result of a batched product: no view of it, to autograd.
        lambda product: torch.ops.aten._unsafe_view(product, (3, 2)),
    ],
    ids=["view", "T", "_unsafe_view"],
)
def test_a_product_that_was_shaped_anew_goes_too(shape: Any) -> None:
    x, w = leaf(2, 3), leaf(3, 3)
    with gw.watch(keep=0) as witness:
        before = x @ w
        held = memory(before)
        shaped = shape(before)
        after = shaped.relu()
        del before, shaped
        assert held.expired()
        weighted(after).backward()
    assert witness.verdict is gw.Verdict.AGREES


def test_numbers_that_a_vjp_should_not_have_used_show(monkeypatch: pytest.MonkeyPatch) -> None:
    # If the code that reads off what a vjp uses were wrong, NaN would stand for the operand.
    product = find("aten.mul")
    assert isinstance(product, Rule)
    monkeypatch.setitem(vars(product), "kept", set())
    x, w = leaf(3), leaf(3)
    with gw.watch(keep=0) as witness:
        weighted(x * w).backward()
    assert witness.verdict is not gw.Verdict.AGREES


@pytest.mark.parametrize("wrong", [False, True])
def test_view_of_what_was_written_to_is_there_when_its_history_is_told(wrong: bool) -> None:
    # Boxes as detectors refine them: torch tells only afterwards that the sum was read by a view.
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4))
    if wrong:
        model[1].weight.register_hook(lambda g: 2 * g)
    with gw.watch(model, keep=0) as witness:
        boxes = model(torch.randn(2, 5, 3))
        boxes[..., :2] += torch.randn(2, 5, 2)
        held = memory(boxes)
        loss = boxes.sigmoid().square().mean() * 3
        del boxes
        assert not held.expired()
        loss.backward()
    assert held.expired()
    assert dict(witness.report.reasons()) == {}
    assert witness.verdict is (gw.Verdict.DISAGREES if wrong else gw.Verdict.AGREES)


def test_what_is_let_go_and_used_again_is_what_it_was() -> None:
    # Torch saves a detached result of prod, in the same place; no rule needs it.
    x, y = torch.rand(5, 4, requires_grad=True), torch.rand(5, requires_grad=True)
    with gw.watch(keep=0) as witness:
        a = torch.sigmoid(x).prod(-1)
        torch.autograd.backward((torch.tanh(y) * a).sum())
    calls = {call.base_op: call for call in witness.tape.calls}
    assert {*calls["aten.prod"].outputs} <= {*calls["aten.mul"].operands}
    assert not witness.report.notes


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every program one of which not all is kept by default."""
    monkeypatch.setattr(arguments, "KEEP", Room(all=0, lasting=2**30))
    monkeypatch.setattr(retention, "_SHOWN", 0)


class Doubled(torch.autograd.Function):
    """The identity, whose gradient is doubled."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        del ctx
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        del ctx
        return 2 * g[0]


def layers() -> tuple[Any, Any]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(300, 40), nn.Tanh(), nn.Linear(40, 30)), torch.randn(20, 300)


@pytest.mark.usefixtures("no_room")
def test_what_is_computed_again_is_freed_and_what_that_starts_from_is_not() -> None:
    model, x = layers()
    with gw.watch(model, names={"x": x}) as witness:
        before = model[0](x)
        after = model[1](before)
        unused, used = memory(before), memory(after)
        del before
        loss = weighted(model[2](after))
        # The gradient of tanh is told by its result.
        assert unused.expired()
        del after
        loss.backward()
        # It would be looked at again if a step were in doubt.
        assert not used.expired()
    assert used.expired()
    there = {value.name for value in witness.tape.values if value.array is not None}
    assert {"x", *(name for name, _ in model.named_parameters())} <= there
    assert not witness.tape.complete
    assert witness.tape.replayable


@pytest.mark.usefixtures("no_room")
def test_what_starts_from_less_has_the_same_digits(tmp_path: Path) -> None:
    model, x = layers()
    reports = []
    for keep in ("auto", None):
        model.zero_grad()
        torch.manual_seed(0)
        with gw.watch(model, keep=keep) as witness:
            loss = nn.functional.dropout(model(x), 0.5).square().mean()
            torch.autograd.backward(loss)
        reports.append(witness)
    few, whole = ([(row.name, row.digits) for row in w.report.rows] for w in reports)
    assert few == whole
    assert all(5 < digits < 9 for _, digits in few)
    assert "the recording cannot be saved (watch(..., keep=None)" in str(reports[0])
    assert "cannot be saved" not in str(reports[1])
    with pytest.raises(gw.InputError, match="keep=None"):
        reports[0].save(tmp_path / "tape.npz")


@pytest.mark.usefixtures("no_room")
def test_of_a_step_in_doubt_and_from_there_on_all_is_kept() -> None:
    model, x = layers()
    with gw.watch(model) as witness:
        torch.autograd.backward(weighted(apply(Doubled, model(x))))
    assert witness.verdict is gw.Verdict.DISAGREES
    tape = witness.tape
    runs = tape.sweeps[0].node_runs
    (first,) = [k for k, run in enumerate(runs) if "Doubled" in tape.nodes[run.node].name]
    sent = [n for run in runs[first:] for n in (*run.incoming, *run.outgoing) if n is not None]
    assert all(tape.values[n].array is not None for n in sent)
    # Before it, nothing was in doubt.
    assert any(tape.values[n].array is None for n in runs[first - 1].incoming if n is not None)


def test_a_small_program_is_kept_whole() -> None:
    model, x = layers()
    with gw.watch(model) as witness:
        weighted(model(x)).backward()
    assert witness.tape.complete
