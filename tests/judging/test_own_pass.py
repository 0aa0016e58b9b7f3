"""Checkpoints that run a pass of their own, through functions that detach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils import checkpoint as checkpoints

import gradwitness as gw
from gradwitness import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

WEIGHT = torch.linspace(-1.0, 1.0, 16).reshape(4, 4).requires_grad_()
ROWS = torch.linspace(0.2, 2.0, 12).reshape(3, 4)


def run(function: Any, *, preserve: bool = True, change: bool = False, **options: Any) -> Any:
    """Watch a step through a checkpoint; return the witness and the gradient of its input."""
    x = ROWS.clone().requires_grad_()
    with gw.watch(names={"x": x, "weight": WEIGHT}, **options) as witness:
        y: Any = checkpoints.checkpoint(
            function, 2 * x, use_reentrant=True, preserve_rng_state=preserve
        )
        if change:
            with torch.no_grad():
                WEIGHT.mul_(2)
        y.sum().backward()
    return witness, x.grad


def detached(x: Tensor) -> Tensor:
    return x.detach() * x


def data(x: Tensor) -> Tensor:
    return (x * 1).data * x


def without_gradients(x: Tensor) -> Tensor:
    with torch.no_grad():
        factor = x * 1
    return factor * x


def with_a_number(x: Tensor) -> Tensor:
    return x * x[0, 0].item()


def within_another(x: Tensor) -> Any:
    return checkpoints.checkpoint(detached, x, use_reentrant=True)


def straight_through(x: Tensor) -> Tensor:
    return x + (x.tanh() - x).detach()


# By hand, with u = 2 x: of u's own numbers times u, 2 u; of u[0, 0] u, twice that number; and 2.
@pytest.mark.parametrize(
    ("function", "right"),
    [
        (detached, 4 * ROWS),
        (data, 4 * ROWS),
        (without_gradients, 4 * ROWS),
        (within_another, 4 * ROWS),
        (with_a_number, torch.full_like(ROWS, 4 * float(ROWS[0, 0]))),
        (straight_through, torch.full_like(ROWS, 2.0)),
    ],
)
def test_what_a_checkpoint_detaches_is_a_constant(
    function: Callable[[Tensor], Any], right: Tensor
) -> None:
    witness, gradient = run(function)
    assert torch.allclose(gradient, right)
    assert witness.verdict is Verdict.AGREES
    # At the first pass's row, too, which the rules had refuted.
    assert {row.verdict for row in witness.report.rows} == {Verdict.AGREES}
    grades = [f.grade for f in witness.report.findings if f.title.startswith("Checkpoint")]
    assert any(grade.startswith("what its own pass (pass ") for grade in grades)


def test_results_that_get_one_gradient_are_told_apart() -> None:
    def two(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.detach() * x, x.sin()

    x = ROWS.clone().requires_grad_()
    with gw.watch() as witness:
        both: Any = checkpoints.checkpoint(two, 2 * x, use_reentrant=True)
        (both[0].sum() + both[1].sum()).backward()
    witness.require()


@pytest.mark.parametrize("options", [{"keep": 0}, {"depth": "fast"}], ids=str)
@pytest.mark.parametrize("function", [detached, without_gradients])
def test_without_the_numbers_it_is_in_doubt(function: Any, options: Any) -> None:
    witness, _ = run(function, **options)
    assert witness.verdict is Verdict.INCONCLUSIVE
    (reason,) = witness.report.reasons()
    assert "its numbers were not kept (watch(..., keep=None) keeps all)" in reason


def test_a_recording_does_not_tell_whose_checkpoint_it_is() -> None:
    report = gw.judge(run(detached)[0].tape)
    assert report.verdict is Verdict.INCONCLUSIVE
    (reason,) = report.reasons()
    assert reason.endswith("whether it is torch's own checkpoint, only watch can tell")


def test_another_forward_is_wrong() -> None:
    def noisy(x: Tensor) -> Tensor:
        return torch.rand_like(x) * x.detach() * x

    assert run(noisy)[0].verdict is Verdict.AGREES
    assert run(noisy, preserve=False)[0].verdict is Verdict.DISAGREES


def test_a_weight_that_changed_in_between_is_wrong() -> None:
    def product(x: Tensor) -> Tensor:
        return x.detach() * (x @ WEIGHT)

    assert run(product)[0].verdict is Verdict.AGREES
    assert run(product, change=True)[0].verdict is Verdict.DISAGREES


class _Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return ctx.saved_tensors[0] * g


def test_a_wrong_step_within_is_wrong_outside() -> None:
    witness, _ = run(lambda x: _Halved.apply(x) * x.detach())  # type: ignore[no-untyped-call]
    wrong = {f.title.split()[0] for f in witness.report.wrong}
    assert wrong == {"_HalvedBackward", "CheckpointFunctionBackward"}


def test_a_checkpoint_that_sends_something_else_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    function: Any = checkpoints.CheckpointFunction
    backward = function.backward

    def doubled(ctx: Any, *gradients: Any) -> Any:
        return tuple(None if g is None else 2 * g for g in backward(ctx, *gradients))

    monkeypatch.setattr(function, "backward", staticmethod(doubled))
    assert run(straight_through)[0].verdict is Verdict.DISAGREES


class CheckpointFunction(torch.autograd.Function):
    """Runs another function again than its forward."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            torch.autograd.backward(detached(x), g)
        return x.grad


def test_a_program_s_own_checkpoint_is_held_to_its_forward() -> None:
    x = ROWS.clone().requires_grad_()
    with gw.watch() as witness:
        y: Any = CheckpointFunction.apply(2 * x)  # type: ignore[no-untyped-call]
        y.sum().backward()
    assert witness.verdict is Verdict.DISAGREES
