"""When a block ends, every ``.grad`` is what the recording knows, or in doubt."""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradwitness as gw
from capture.functions import apply
from gradwitness.capture.memory import balance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHANGED = "its .grad was changed outside of what was recorded, "


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def data() -> Any:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(1))


def engine(loss: torch.Tensor) -> None:
    """Run backward past every entry that can be watched."""
    run: Any = torch.autograd.Variable._execution_engine.run_backward
    run((loss,), (torch.ones(()),), False, False, (), True, True)


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def reasons(witness: gw.Witness) -> dict[str, int]:
    return dict(witness.report.reasons())


def by_thread(model: nn.Module, loss: torch.Tensor) -> None:
    del model
    in_thread((100 * loss).backward)


def by_engine(model: nn.Module, loss: torch.Tensor) -> None:
    del model
    engine(loss)


def by_engine_then_clipped(model: nn.Module, loss: torch.Tensor) -> None:
    engine(loss)
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)


def by_engine_then_cleared(model: nn.Module, loss: torch.Tensor) -> None:
    engine(loss)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    model.zero_grad()


def by_numpy(model: nn.Module, loss: torch.Tensor) -> None:
    del loss
    for p in model.parameters():
        assert p.grad is not None
        p.grad.numpy()[...] *= 2


def cleared_by_thread(model: nn.Module, loss: torch.Tensor) -> None:
    del loss
    in_thread(model.zero_grad)


@pytest.mark.parametrize(
    "change",
    [
        by_thread,
        by_engine,
        by_engine_then_clipped,
        by_engine_then_cleared,
        by_numpy,
        cleared_by_thread,
    ],
)
def test_what_changes_unseen_is_in_doubt(change: Any) -> None:
    model, x = network(), data()
    with gw.watch(model) as witness:
        model(x).sum().backward()
        change(model, model(x).sum())
    assert [row.verdict for row in witness.report.rows] == [gw.Verdict.INCONCLUSIVE] * 4
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert reasons(witness) == {CHANGED + "after pass 1": 4}
    assert not witness.report.wrong
    with pytest.raises(gw.GradientDisagreement, match="outside of what was recorded"):
        witness.require()


def test_a_doubled_gradient_is_told_by_its_norm() -> None:
    model, x = network(), data()
    with gw.watch(model) as witness:
        model(x).sum().backward()
        by_numpy(model, x)
    (note,) = witness.report.notes
    # The gradient of the last bias is the number of samples.
    assert "2.bias (norm 5, then 10: 2 times)" in note.text


def test_its_norm_is_that_from_before_the_next_pass() -> None:
    p: Any = torch.ones(3, requires_grad=True)
    with gw.watch(names={"p": p}) as witness:
        (2 * p).sum().backward()
        p.grad.numpy()[:] = 5
        (2 * p).sum().backward()
    (note,) = witness.report.notes
    # The roots of 3 * 2^2 and 3 * 5^2; what the second pass leaves is 7 each.
    assert "p (norm 3.46, then 8.66: 2.5 times)" in note.text


def test_a_gradient_cleared_unseen_has_no_norm_from_a_later_pass() -> None:
    model, x = network(), data()
    with gw.watch(model) as witness:
        model(x).sum().backward()
        cleared_by_thread(model, x)
        model(x).sum().backward()
    (note,) = witness.report.notes
    assert "norm" not in note.text


def test_only_what_changed_is_in_doubt() -> None:
    model, x = network(), data()
    with gw.watch(model) as witness:
        model(x).sum().backward()
        assert model[0].weight.grad is not None
        model[0].weight.grad.numpy()[1, 1] = 7
    verdicts = {row.name: row.verdict for row in witness.report.rows}
    assert verdicts.pop("0.weight") is gw.Verdict.INCONCLUSIVE
    assert set(verdicts.values()) == {gw.Verdict.AGREES}


@pytest.mark.parametrize("known", [True, False])
def test_a_gradient_that_no_recorded_pass_made_has_a_row(known: bool) -> None:
    model, x = network(), data()
    with gw.watch(*[model] * known) as witness:
        engine(model(x).sum())
    assert {row.name for row in witness.report.rows} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert reasons(witness) == {CHANGED + "before any pass": 4}
    assert "gradients 0 of 4" in str(witness)


def test_so_has_that_of_a_leaf_made_in_the_block() -> None:
    with gw.watch() as witness:
        w = torch.ones(3, requires_grad=True)
        loss = (w * w).sum()
        engine(loss)
    (row,) = witness.report.rows
    assert row.verdict is gw.Verdict.INCONCLUSIVE


def test_the_pass_that_changed_is_in_doubt_and_no_other() -> None:
    model, x = network(), data()
    with gw.watch(model) as witness:
        model(x).sum().backward()
        model.zero_grad()
        model(x).sum().backward()
        engine(model(x).sum())
    passes = {row.sweep: row.verdict for row in witness.report.rows}
    assert passes == {0: gw.Verdict.AGREES, 1: gw.Verdict.INCONCLUSIVE}


def test_a_hook_in_another_thread_during_the_pass() -> None:
    model, x = network(), data()
    late, early = model[2].weight, model[0].weight

    def double() -> None:
        assert late.grad is not None
        late.grad.mul_(2)

    # When the gradient of the first layer arrives, that of the last one is there.
    early.register_hook(lambda _: in_thread(double))
    with gw.watch(model) as witness:
        model(x).sum().backward()
    assert reasons(witness) == {CHANGED + "while pass 1 ran": 1}


def test_a_fault_stays_a_fault() -> None:
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
            return 2 * x

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
            return grads[0]

    half: Any = Half.apply
    model, x = network(), data()
    with gw.watch(model) as witness:
        half(model(x)).sum().backward()
        by_numpy(model, x)
    assert witness.verdict is gw.Verdict.DISAGREES
    assert [finding.title for finding in witness.report.wrong] == [
        "HalfBackward #1, gradient of x (input 0)"
    ]


# Right programs.


def zeroed_by_data(model: nn.Module) -> None:
    for p in model.parameters():
        assert p.grad is not None
        p.grad.data.zero_()


def assigned(model: nn.Module) -> None:
    for p in model.parameters():
        assert p.grad is not None
        p.grad = p.grad.clone() * 2
        p.grad.data = torch.ones_like(p)


def scaled(model: nn.Module) -> None:
    with torch.no_grad():
        for p in model.parameters():
            assert p.grad is not None
            p.grad /= 2
            p.grad.view(-1)[0] = 1
            torch.mul(p.grad, 2, out=p.grad)


def deleted(model: nn.Module) -> None:
    for p in model.parameters():
        del p.grad


lbfgs: Any = torch.optim.LBFGS


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.zero_grad(set_to_none=True),
        lambda model: model.zero_grad(set_to_none=False),
        zeroed_by_data,
        assigned,
        scaled,
        deleted,
        lambda model: nn.utils.clip_grad_norm_(model.parameters(), 0.1),
        lambda model: nn.utils.clip_grad_value_(model.parameters(), 0.1),
        lambda model: model.double(),
        lambda model: lbfgs(model.parameters()).step(lambda: 1.0),
        lambda model: nn.utils.parameters_to_vector(p.grad for p in model.parameters()).zero_(),
    ],
)
def test_what_is_seen_agrees(change: Any) -> None:
    model, x = network(), data()
    with gw.watch(model) as witness:
        model(x).sum().backward()
        change(model)
    assert witness.verdict is gw.Verdict.AGREES
    assert not witness.report.notes


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.Adagrad])
def test_training_agrees(kind: Any, foreach: bool) -> None:
    model, x = network(), data()
    optimizer = kind(model.parameters(), lr=0.1, weight_decay=0.1, foreach=foreach)
    scaler = torch.amp.GradScaler("cpu")
    with gw.watch(model) as witness:
        for step in range(3):
            optimizer.zero_grad(set_to_none=step != 1)
            for part in x.split(2):
                scaler.scale(model(part).square().sum()).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=foreach)
            scaler.step(optimizer)
            scaler.update()
    assert witness.verdict is gw.Verdict.AGREES
    assert not witness.report.notes


def test_gradients_in_one_flat_buffer_agree() -> None:
    model, x = network(), data()
    flat, begin = torch.zeros(sum(p.numel() for p in model.parameters())), 0
    for p in model.parameters():
        p.grad = flat[begin : begin + p.numel()].view_as(p)
        begin += p.numel()
    with gw.watch(model) as witness:
        for _ in range(2):
            flat.zero_()
            model(x).sum().backward()
            flat.mul_(0.5)
            model.zero_grad(set_to_none=False)
    assert witness.verdict is gw.Verdict.AGREES


def test_accumulation_over_blocks_agrees() -> None:
    model, x = network(), data()
    for _ in range(2):
        with gw.watch(model) as witness:
            model(x).sum().backward()
        assert witness.verdict is gw.Verdict.AGREES


def test_an_optimizer_within_the_backward_pass_agrees() -> None:
    model, x = network(), data()

    def update(p: torch.Tensor) -> None:
        assert p.grad is not None
        p.data.sub_(p.grad, alpha=0.1)
        p.grad = None

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(update)
    with gw.watch(model) as witness:
        model(x).sum().backward()
    assert witness.verdict is gw.Verdict.AGREES


def test_nan_is_what_it_was() -> None:
    w: Any = torch.ones(3, requires_grad=True)
    with gw.watch(names={"w": w}) as witness:
        (w * torch.tensor([1.0, np.nan, 2.0])).sum().backward()
    assert not any("outside" in reason for reason in witness.report.reasons())


def test_the_doubt_is_in_the_recording(tmp_path: Path) -> None:
    model, x = network(), data()
    with gw.watch(model) as witness:
        model(x).sum().backward()
        by_engine(model, model(x).sum())
    witness.save(tmp_path / "tape.npz")
    tape = gw.load_tape(tmp_path / "tape.npz")
    assert tape.unseen == witness.tape.unseen
    report = gw.judge(tape)
    assert report.verdict is gw.Verdict.INCONCLUSIVE
    assert not report.wrong
    assert CHANGED + "after pass 1" in report.reasons()


class Recomputed(torch.autograd.Function):
    """x^2, by a pass of its own, whose leaf gives its gradient back."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        with torch.enable_grad():
            inner = ctx.saved_tensors[0].detach().requires_grad_()
            (inner * inner).backward(grads[0])
        outgoing, inner.grad = inner.grad + 0, None
        return outgoing


def test_a_leaf_within_a_backward_that_gives_its_gradient_back_is_no_doubt() -> None:
    x: Any = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    with gw.watch() as witness:
        apply(Recomputed, x).sum().backward()
    assert x.grad.tolist() == [2.0, -4.0, 6.0]
    assert witness.verdict is gw.Verdict.AGREES


def test_freezing_the_model_afterwards_hides_nothing() -> None:
    net, x = network(), data()
    with gw.watch(net) as witness:
        net(x).square().mean().backward()
        in_thread(lambda: net(x).square().mean().backward())
        net.requires_grad_(False)
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert {row.verdict for row in witness.report.rows} == {gw.Verdict.INCONCLUSIVE}


@pytest.mark.parametrize("when", ["forward", "recomputed"])
def test_what_changes_while_a_pass_within_another_runs_is_in_doubt(when: str) -> None:
    model, x = network(), data().requires_grad_()
    runs = 0

    def part(h: Any) -> Any:
        nonlocal runs
        runs += 1
        if runs == (1 if when == "forward" else 2):
            assert model[2].bias.grad is not None
            # As C++ code writes: no version is bumped.
            address = model[2].bias.grad.data_ptr()
            ctypes.cast(address, ctypes.POINTER(ctypes.c_float))[0] = 7.0
        return model[:2](h)

    model(x).sum().backward()
    with gw.watch(model) as witness:
        hidden: Any = checkpoint(part, x, use_reentrant=True)
        (hidden.sum() + x.sum()).backward()
    (reason,) = reasons(witness)
    assert reason.startswith(CHANGED)
    assert witness.verdict is gw.Verdict.INCONCLUSIVE


def test_passes_within_another_do_not_read_every_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0

    def state(grad: Any) -> Any:
        nonlocal reads
        reads += 1
        return checksum(grad)

    checksum = balance._state
    monkeypatch.setattr(balance, "_state", state)

    def count(layers: int) -> int:
        nonlocal reads
        reads = 0
        model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(layers)])
        x: Any = data().requires_grad_()
        with gw.watch(model):
            for layer in model:
                x = checkpoint(layer, x, use_reentrant=True)
            x.sum().backward()
        return reads

    # Linear in the number of parameters.
    assert count(12) - count(8) == count(8) - count(4)


class AddsItself(torch.autograd.Function):
    """A product that sends its weight nothing, but adds to its ``.grad``, as fused kernels do."""

    adds = True

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        ctx.save_for_backward(x)
        ctx.w = w
        return x @ w.T

    @classmethod
    def backward(cls, ctx: Any, *grads: Any) -> Any:
        ((x,), (g,)) = ctx.saved_tensors, grads
        if cls.adds:
            ctx.w.grad += g.T @ x
        return g @ ctx.w.detach(), None


class ForgetsIt(AddsItself):
    adds = False


@pytest.mark.parametrize(
    ("function", "verdict"),
    [(AddsItself, gw.Verdict.INCONCLUSIVE), (ForgetsIt, gw.Verdict.DISAGREES)],
)
def test_a_function_that_sends_nothing_may_add_to_grad_itself(function: Any, verdict: Any) -> None:
    x, w = data(), torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    w.grad = torch.zeros(2, 3)
    with gw.watch(names={"w": w}) as witness:
        y = apply(function, x, w)
        y.square().sum().backward()
    # d(sum y^2)/dw = 2 y^T x, where y = x w^T.
    right = torch.allclose(w.grad, 2 * (x @ w.detach().T).T @ x)
    assert right is (function is AddsItself)
    assert witness.verdict is verdict
    sent_nothing = [reason for reason in reasons(witness) if "it sent no gradient" in reason]
    assert bool(sent_nothing) is right
