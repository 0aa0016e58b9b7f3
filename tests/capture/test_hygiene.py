"""Whatever happens in the block, nothing of the recorder is left behind."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import gradwitness as gw
from capture.functions import Scaled, apply
from capture.programs import leaf, weighted
from gradwitness.capture import record
from gradwitness.capture.passes.graph import GraphRecorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion


def traces() -> dict[str, int]:
    """Count what a recorder puts into torch."""
    return {
        "before modules": len(torch_module._global_forward_pre_hooks),
        "after modules": len(torch_module._global_forward_hooks),
        "always": len(torch_module._global_forward_hooks_always_called),
        "dispatch": len(_get_current_dispatch_mode_stack()),
        "function": torch._C._len_torch_function_stack(),
    }


NOTHING = dict.fromkeys(traces(), 0)


class Broken(nn.Module):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error

    def forward(self, _: Any) -> Any:
        raise self.error("forward")


class BrokenBackward(torch.autograd.Function):
    error: type[BaseException] = ValueError

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 2

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        raise BrokenBackward.error("backward")


def fail_forward(error: type[BaseException]) -> None:
    nn.Sequential(nn.Linear(2, 2), Broken(error))(torch.randn(1, 2))


def fail_backward(error: type[BaseException]) -> None:
    BrokenBackward.error = error
    weighted(apply(BrokenBackward, leaf(3).exp())).backward()


def fail_between(error: type[BaseException]) -> None:
    raise error("between")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("fail", [fail_forward, fail_backward, fail_between])
def test_an_exception_leaves_nothing_behind(
    fail: Callable[[type[BaseException]], None], error: type[BaseException]
) -> None:
    assert traces() == NOTHING
    with pytest.raises(error, match=r"^(forward|backward|between)$"), gw.watch():
        fail(error)
    assert traces() == NOTHING


def test_an_interrupt_while_hooks_are_put_is_the_error_that_comes_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt("walk")

    y = weighted(leaf(3).exp())
    witness = gw.watch()
    monkeypatch.setattr(GraphRecorder, "walk", interrupted)
    with pytest.raises(KeyboardInterrupt, match="walk"), witness:
        y.backward()
    assert traces() == NOTHING
    assert witness.verdict is gw.Verdict.INCONCLUSIVE


def test_a_recorder_is_seen_while_it_records() -> None:
    # What the other tests count is really there.
    with gw.watch():
        assert traces() == dict.fromkeys(NOTHING, 1)


def test_what_ran_before_an_exception_is_judged() -> None:
    witness = gw.watch()
    with pytest.raises(ValueError, match="backward"), witness:
        fail_backward(ValueError)
    # exp, its weighting and the sum went well; the gradient of the leaf never came.
    assert witness.report.wrong == ()
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    node_ran = [witness.tape.nodes[f.node].name for f in witness.tape.sweeps[0].node_runs]
    assert node_ran == ["SumBackward0", "MulBackward0"]


def test_module_names_are_right_after_a_caught_exception() -> None:
    model = nn.Sequential(nn.Linear(2, 2), Broken(ValueError))
    after = nn.Sequential(nn.Linear(2, 1))
    with record(model, after) as recorder:
        with contextlib.suppress(ValueError):
            model(torch.randn(1, 2))
        after(torch.randn(1, 2))
        torch.ones(1) + 1
    tape = recorder.tape
    linears = [call.source.module for call in tape.calls if call.op == "aten.addmm.default"]
    assert linears == ["0", "0"]
    assert tape.calls[-1].op == "aten.add.Tensor"
    assert tape.calls[-1].source.module == ""


def test_no_hook_stays_on_the_nodes() -> None:
    a = leaf(3)
    with record() as recorder:
        y = weighted(a.sin() * a)
        y.backward(retain_graph=True)
    sweeps, values = recorder.tape.sweeps, recorder.tape.values
    before = a.grad.clone()
    y.backward(retain_graph=True)
    assert recorder.tape.sweeps is sweeps
    assert recorder.tape.values is values
    assert torch.equal(a.grad, 2 * before)
    with record() as second:
        torch.autograd.backward(y)
    # Had a hook stayed, each node would have fired twice.
    node_ran = [node_run.node for node_run in second.tape.sweeps[0].node_runs]
    assert len(node_ran) == len(set(node_ran)) == len(second.tape.nodes)


def test_hooks_are_off_between_passes_of_one_block() -> None:
    a = leaf(3)
    with record() as recorder:
        y = weighted(a.sin())
        y.backward(retain_graph=True)
        y.backward()
    for sweep in recorder.tape.sweeps:
        node_ran = [node_run.node for node_run in sweep.node_runs]
        assert len(node_ran) == len(set(node_ran)) == len(recorder.tape.nodes)


def test_the_recorder_lets_go_of_what_torch_holds() -> None:
    import gc
    import weakref

    a = leaf(3)
    with record() as recorder:
        y = a.sin()
        seen = weakref.ref(y)
        weighted(y).backward()
    del y
    gc.collect()
    assert recorder.tape.calls
    assert seen() is None


def test_buffers_and_modes_are_as_in_a_run_alone() -> None:
    def step() -> tuple[list[Any], Any]:
        torch.manual_seed(5)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            weighted(model(torch.randn(6, 3))).backward()
            optimizer.step()
        left = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters())]
        return [t.detach().clone() for t in left if t is not None], torch.get_rng_state()

    alone, state = step()
    with gw.watch():
        under, state_under = step()
    assert len(alone) == 6 + 3 + 6
    assert all(torch.equal(x, y) for x, y in zip(alone, under, strict=True))
    assert torch.equal(state, state_under)
    assert torch.is_grad_enabled()


def test_two_recordings_in_a_row_are_alike() -> None:
    def once() -> gw.Witness:
        torch.manual_seed(6)
        layer = nn.Linear(3, 2)
        with gw.watch(layer) as witness:
            weighted(layer(torch.randn(4, 3))).backward()
        return witness

    first, second = once(), once()
    assert [c.op for c in first.tape.calls] == [c.op for c in second.tape.calls]
    assert first.tape.nodes == second.tape.nodes
    assert str(first) == str(second)


def test_a_recording_inside_a_recording() -> None:
    torch.manual_seed(7)
    a = leaf(3)
    with gw.watch(names={"a": a}) as outer:
        first = a.sin()
        with gw.watch(names={"a": a}) as inner:
            weighted(first * a).backward()
        weighted(a.exp()).backward()
    assert traces() == NOTHING
    assert outer.verdict is gw.Verdict.AGREES
    assert len(outer.tape.sweeps) == 2
    assert len(inner.tape.sweeps) == 1
    # The sine ran before the inner block began: the inner one says that it does not know.
    assert inner.verdict is gw.Verdict.INCONCLUSIVE
    assert dict(inner.report.reasons()) == {
        "no recorded call belongs to SinBackward0: its forward ran elsewhere": 1
    }


def test_the_share_of_time_is_a_share() -> None:
    with gw.watch() as witness:
        weighted(apply(Scaled, leaf(3), 2.0)).backward()
    assert 0 < witness.overhead < 1


def test_nothing_ran() -> None:
    with gw.watch() as witness:
        pass
    assert witness.tape.calls == ()
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert 0 <= witness.overhead <= 1


def test_a_root_without_a_graph_is_torch_s_to_complain_of() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"), gw.watch():
        weighted(torch.ones(1)).backward()
    assert traces() == NOTHING


def test_the_tape_cannot_be_read_while_it_is_written(snapshot: SnapshotAssertion) -> None:
    with record() as recorder, pytest.raises(gw.CaptureError) as error:
        _ = recorder.tape
    assert str(error.value) == snapshot
