"""Modes of the program's own beside a watched block see what they see without it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils.checkpoint import checkpoint

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

WEIGHT = torch.linspace(-1.0, 1.0, 16).reshape(4, 4).requires_grad_()


class Functions(TorchFunctionMode):
    """Lists the functions that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lists the operations that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Exponential(torch.autograd.Function):
    """Saves its result, which torch detaches under a dispatch mode."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return ctx.saved_tensors[0] * g


class Rerun(torch.autograd.Function):
    """Runs its forward again, as a checkpoint."""

    kept: Any = None

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            x.sin().backward(g)
        if Rerun.kept is not None:
            Rerun.kept = x
        return x.grad


def saves_its_result(x: Tensor) -> None:
    Exponential.apply(x).sum().backward()  # type: ignore[no-untyped-call]


def reentrant(x: Tensor) -> None:
    y: Any = checkpoint(lambda a: (a @ WEIGHT).sin(), x, use_reentrant=True)
    y.sum().backward()


def runs_again(x: Tensor) -> None:
    Rerun.apply(x).sum().backward()  # type: ignore[no-untyped-call]


def without_a_graph(x: Tensor) -> None:
    with torch.inference_mode():
        y = functional.layer_norm(functional.linear(x, WEIGHT), (4,))
        torch.einsum("ij,jk->ik", y, WEIGHT).reshape(2, 6).matmul(torch.ones(6))


def step(x: Tensor) -> None:
    torch.autograd.backward((x @ WEIGHT).softmax(-1).square().sum())


PROGRAMS = (saves_its_result, reentrant, runs_again, without_a_graph, step)


def told(
    program: Callable[[Tensor], None], mode: type[Functions | Operations], *blocks: Any
) -> tuple[list[str], Any]:
    """Return what a mode is told of a program, in the last block or around the first."""
    WEIGHT.grad, x = None, torch.linspace(0.1, 1.2, 12).reshape(3, 4).requires_grad_()
    beside = mode()
    with contextlib.ExitStack() as stack:
        for block in blocks:
            stack.enter_context(beside if block is mode else block)
        beside.seen.clear()
        program(x)
        seen = [*beside.seen]
    return seen, [None if t.grad is None else t.grad.tolist() for t in (x, WEIGHT)]


@pytest.mark.parametrize("mode", [Functions, Operations])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_mode_sees_what_it_sees_without(program: Any, mode: Any) -> None:
    alone = told(program, mode, mode)
    assert alone[0]
    assert told(program, mode, gw.watch(), mode) == alone
    assert told(program, mode, mode, gw.watch()) == alone


def test_what_runs_without_a_graph_is_judged_beside_a_mode() -> None:
    x = torch.ones(3, 4, requires_grad=True)
    calls = []
    for block in (contextlib.nullcontext(), Operations()):
        with block, gw.watch() as witness:
            without_a_graph(x)
            step(x)
        witness.require()
        calls.append([call.op for call in witness.tape.calls])
    assert calls[0] == calls[1]
    assert "aten.linear.default" not in calls[0]


def test_a_mode_that_raises_leaves_the_modes_as_they_were() -> None:
    class Refuses(Operations):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, *rest: Any, **named: Any) -> Any:
            if func is torch.ops.aten.linear.default:
                raise ValueError("no linear layers")
            return super().__torch_dispatch__(func, *rest, **named)

    with Refuses(), gw.watch() as witness:
        before = _get_current_dispatch_mode_stack()
        with pytest.raises(ValueError, match="no linear layers"):
            without_a_graph(torch.ones(3, 4))
        assert _get_current_dispatch_mode_stack() == before
        step(torch.ones(3, 4, requires_grad=True))
    witness.require()


def test_a_leaf_that_the_program_keeps_keeps_its_gradient() -> None:
    x = torch.ones(3, 4, requires_grad=True)
    Rerun.kept = x
    try:
        with gw.watch() as witness:
            runs_again(x)
            assert Rerun.kept is not x
            assert x.grad is not None
            assert torch.equal(Rerun.kept.grad, x.grad)
    finally:
        Rerun.kept = None
    witness.require()


def test_what_the_program_has_dropped_has_not_changed_unseen() -> None:
    with gw.watch() as witness:
        runs_again(torch.ones(3, 4, requires_grad=True))
    witness.require()
