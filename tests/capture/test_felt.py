"""What a wrong custom function sends is felt wherever the program can see it."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import pytest
import torch

import gradwitness as gw
from capture.functions import apply


class Tripled(torch.autograd.Function):
    """x^2 with 3 x for 2 x."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * 3 * ctx.saved_tensors[0]


def leaf(*numbers: float) -> Any:
    return torch.tensor(numbers, requires_grad=True)


def in_a_later_pass() -> None:
    """d/dx (x z + 1)^2 = 2 z at z = 0; its derivative with respect to z is 2 there, not 3."""
    x, z = leaf(0.5, 2.0), leaf(0.0, 0.0)
    (g,) = torch.autograd.grad(apply(Tripled, x * z + 1).sum(), x, create_graph=True)
    g.sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == [3.0, 3.0]


def in_a_gradient_that_is_kept() -> None:
    h = leaf(1.0, 2.0) * torch.zeros(2) + 2
    h.retain_grad()
    apply(Tripled, h).sum().backward()
    assert h.grad.tolist() == [6.0, 6.0]


def in_a_hook() -> None:
    h = leaf(1.0, 2.0) * torch.zeros(2) + 2
    h.register_hook(lambda _: None)
    apply(Tripled, h).sum().backward()


@pytest.mark.parametrize("run", [in_a_later_pass, in_a_gradient_that_is_kept, in_a_hook])
def test_a_wrong_step_that_the_program_can_see_is_wrong(run: Any) -> None:
    with gw.watch() as witness:
        run()
    assert witness.verdict is gw.Verdict.DISAGREES


def test_a_wrong_step_that_nothing_sees_is_a_note() -> None:
    with gw.watch() as witness:
        apply(Tripled, leaf(1.0, 2.0) * torch.zeros(2) + 2).sum().backward()
    assert witness.verdict is gw.Verdict.AGREES
    assert [note.kind for note in witness.report.notes] == ["wrong step without effect"]


@pytest.mark.parametrize("shape", [(2,), (5, 2), (4,), (6, 4)])
def test_a_missing_gradient_follows_no_convention(shape: tuple[int, ...]) -> None:
    """At unit vectors, which might be rotations."""

    class Norm(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: Any) -> Any:
            ctx.save_for_backward(q)
            return (q * q).sum(-1)

        @staticmethod
        def backward(_: Any, *__: Any) -> None: ...

    q = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    q = (q / q.norm(dim=-1, keepdim=True)).requires_grad_()
    with gw.watch() as witness:
        apply(Norm, q).sum().backward()
    assert witness.verdict is gw.Verdict.DISAGREES


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_a_function_that_writes_in_place_to_a_view_is_not_judged_by_its_last_write(
    factor: float,
) -> None:
    """Y = e^(2 x): the gradient is 2 y."""

    class InPlace(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)
            x.mul_(2)
            x.exp_()
            ctx.save_for_backward(x)
            return x

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return factor * grads[0] * ctx.saved_tensors[0]

    h = leaf(0.5, -1.0, 0.25, 2.0) * 1
    with gw.watch() as witness:
        apply(InPlace, h[:2])
        (h * h).sum().backward()
    assert witness.verdict is gw.Verdict.INCONCLUSIVE


def test_importing_draws_no_random_number() -> None:
    code = "import random, gradwitness; random.seed(1); gradwitness.watch; print(random.random())"
    done = subprocess.run(  # noqa: S603 (the code is here)
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == random.Random(1).random()  # noqa: S311 (the same generator)
