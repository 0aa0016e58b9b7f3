"""Random numbers, memory that a function allocates, and tensors without elements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable


def leaf(*shape: int) -> Tensor:
    return torch.rand(*shape, requires_grad=True)


DRAWS: list[Callable[[Tensor], Tensor]] = [
    torch.bernoulli,
    torch.poisson,
    lambda x: torch.normal(x, x.detach()),
    lambda x: torch.normal(x.detach(), x),
    lambda x: (2 * x).bernoulli_(0.5),
    lambda x: (2 * x).exponential_(),
]


def _one_more(sent: tuple[Tensor | None, ...], _: Any) -> tuple[Tensor | None, ...]:
    return tuple(None if g is None else g + 1 for g in sent)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("wrong", [False, True])
def test_what_numbers_are_drawn_for_gets_zeros(
    draw: Callable[[Tensor], Tensor], wrong: bool
) -> None:
    x = leaf(3, 4)
    with gw.watch() as witness:
        drawn = draw(x * 0.5)
        if wrong and drawn.grad_fn is not None:
            drawn.grad_fn.register_hook(_one_more)
        torch.autograd.backward((drawn * x).sum())
    assert witness.verdict is (gw.Verdict.DISAGREES if wrong else gw.Verdict.AGREES)
    assert len(witness.report.wrong) == wrong


def test_numbers_that_are_drawn_with_a_gradient_leave_that_open() -> None:
    x = leaf(3)
    with gw.watch() as witness:
        torch.autograd.backward(torch._standard_gamma(x).sum())
    assert dict(witness.report.reasons()) == {"no rule for aten._standard_gamma.default": 1}
    with gw.watch() as witness:
        share = torch.distributions.Beta(1.0, 1.0).sample()
        torch.autograd.backward((share * x).sum())
    assert witness.verdict is gw.Verdict.AGREES


class _Dropout(torch.autograd.Function):
    """A dropout that draws its mask into new memory, with or without one number left out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, wrong: bool) -> Tensor:
        mask = (1 - torch.empty_like(x).bernoulli_(0.7)).to(torch.bool)
        ctx.save_for_backward(mask)
        ctx.scale = 1 if wrong else 2
        return x.masked_fill(mask, 0) * 2

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return grads[0].masked_fill(mask, 0) * ctx.scale, None


@pytest.mark.parametrize("wrong", [False, True])
def test_function_that_draws_into_memory_of_its_own(wrong: bool) -> None:
    x = leaf(5, 6)
    with gw.watch() as witness:
        apply: Any = _Dropout.apply
        y = apply(x, wrong)
        torch.autograd.backward(y.square().sum())
    assert witness.verdict is (gw.Verdict.DISAGREES if wrong else gw.Verdict.AGREES)


class _Tokens(nn.Module):
    """Tokens after some registers, possibly none."""

    def __init__(self, registers: int) -> None:
        super().__init__()
        self.registers = nn.Parameter(torch.randn(1, registers, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.registers.expand(len(x), -1, -1), x], 1)
        out: Tensor = self.head(tokens)
        return out


@pytest.mark.parametrize("registers", [0, 2])
def test_parameter_without_elements_leaves_nothing_open(registers: int) -> None:
    model = _Tokens(registers)
    with gw.watch(model) as witness:
        torch.autograd.backward(model(torch.randn(3, 5, 4)).square().sum())
    assert witness.verdict is gw.Verdict.AGREES
    assert {row.name for row in witness.report.rows} == set(dict(model.named_parameters()))
    with gw.watch(model) as witness:
        (arguments,) = torch.autograd.grad(model(torch.randn(3, 5, 4)).sum(), model.registers)
    # Not enough alone: nothing was compared.
    alone = gw.Verdict.AGREES if arguments.numel() else gw.Verdict.INCONCLUSIVE
    assert witness.verdict is alone


def test_batch_without_samples_passes_convolution_and_pooling() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, return_indices=True))
    with gw.watch(model) as witness:
        largest, places = model(torch.zeros(0, 1, 6, 6))
        torch.autograd.backward(F.max_unpool2d(largest, places, [2, 2]).sum())
    assert witness.verdict is gw.Verdict.AGREES
