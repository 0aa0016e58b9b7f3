"""Saved tensors that change before backward uses them, behind autograd's back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from judging.pathology.watching import at, data, kinds, network

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion


def step(change: Callable[[Any, Any, Any], None]) -> gw.Witness:
    model = network()
    with gw.watch(model) as witness:
        h = model[0](data())
        s = torch.sigmoid(h)
        loss = model[2](s).square().mean()
        change(model, h, s)
        loss.backward()
    return witness


def through_data(model: Any, h: Any, s: Any) -> None:
    s.data.mul_(2)  # here


def in_a_slice(model: Any, h: Any, s: Any) -> None:
    s.data[0].mul_(2)  # here


def of_a_weight(model: Any, h: Any, s: Any) -> None:
    model[2].weight.data.mul_(2)  # here


def by_copying(model: Any, h: Any, s: Any) -> None:
    model[2].weight.data.copy_(torch.ones(1, 4))  # here


@pytest.mark.parametrize("change", [through_data, in_a_slice, of_a_weight, by_copying])
def test_the_write_is_named_once(
    change: Callable[[Any, Any, Any], None], snapshot: SnapshotAssertion
) -> None:
    witness = step(change)
    assert witness.verdict is gw.Verdict.DISAGREES
    (note,) = witness.report.notes
    assert note.kind == "changed after it was saved"
    assert at(note, change, "# here")
    assert "AddmmBackward0 #" in note.text
    assert note.text == snapshot
    assert note.call is not None
    assert witness.tape.calls[note.call].op.split(".")[1].endswith("_")


def test_a_numpy_view_is_told_though_no_call_did_it(snapshot: SnapshotAssertion) -> None:
    def change(model: Any, h: Any, s: Any) -> None:
        s.detach().numpy()[:] = 1

    witness = step(change)
    assert witness.verdict is gw.Verdict.DISAGREES
    (note,) = witness.report.notes
    assert note.kind == "changed after it was saved"
    assert note.text == snapshot
    assert note.call is None


# Addmm does not need its result, nor sigmoid its operand.
HARMLESS: list[Callable[[Any, Any, Any], None]] = [
    lambda *given: given[1].data.mul_(2),
    lambda *given: given[0][2].bias.data.mul_(2),
    lambda *given: given[2].data.clone().mul_(2),
    lambda *given: given[0][0].weight.data.mul_(2),
]


@pytest.mark.parametrize("change", HARMLESS)
def test_what_backward_does_not_need_may_change(change: Callable[[Any, Any, Any], None]) -> None:
    witness = step(change)
    assert witness.verdict is gw.Verdict.AGREES
    assert witness.report.notes == ()


def test_where_torch_refuses_nothing_is_lost(snapshot: SnapshotAssertion) -> None:
    # The version counter sees both: autograd raises, and there is a report all the same.
    def through_detach(model: Any, h: Any, s: Any) -> None:
        s.detach().add_(1)

    def without_gradients(model: Any, h: Any, s: Any) -> None:
        with torch.no_grad():
            model[2].weight.mul_(2)

    def run(change: Callable[[Any, Any, Any], None]) -> None:
        s = torch.sigmoid(model[0](data()))
        loss = model[2](s).square().mean()
        change(model, s, s)
        loss.backward()

    for change in (through_detach, without_gradients):
        model = network()
        with pytest.raises(RuntimeError, match="modified by an inplace"), gw.watch(model) as w:
            run(change)
        assert w.report.rows == ()
        assert kinds(w.report.notes) == []
        assert str(w).partition("\n\n")[0] == snapshot


def test_several_steps_are_one_note() -> None:
    model = network()
    with gw.watch(model) as witness:
        for _ in range(3):
            model.zero_grad()
            s = torch.sigmoid(model[0](data()))
            loss = model[2](s).square().mean()
            through_data(model, s, s)
            loss.backward()
    assert kinds(witness.report.notes) == ["changed after it was saved"]


def test_a_write_after_backward_is_nobodys_fault() -> None:
    model = network()

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
            return x * 1

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
            return 2 * grads[0]

    with gw.watch(model) as witness:
        wrong: Any = Wrong.apply
        h = wrong(model(data()))
        h.square().mean().backward()
        h.data.mul_(2)
    assert witness.verdict is gw.Verdict.DISAGREES
    assert witness.report.notes == ()
    # The same when judged afterwards, from the finished tape.
    assert gw.judge(witness.tape).notes == ()


def test_what_a_function_overwrites_in_its_own_forward_is_not_to_blame() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            x.mul_(3).exp_()
            ctx.mark_dirty(x)
            ctx.save_for_backward(x)
            return x

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            (y,) = ctx.saved_tensors
            return 2 * grads[0] * y

    with gw.watch() as witness:
        wrong: Any = Wrong.apply
        wrong(torch.randn(4).requires_grad_() * 0.3).square().sum().backward()
    assert witness.verdict is gw.Verdict.DISAGREES
    assert witness.report.notes == ()
