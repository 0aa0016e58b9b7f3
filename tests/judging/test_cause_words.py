"""What the sentence on a mistake says of numbers, and what the line to write is made of."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

import gradwitness as gw
from gradwitness.judging.finding import Step

if TYPE_CHECKING:
    from gradwitness.judging.finding import Finding


class Quadratic(torch.autograd.Function):
    """Of which the divisor 6 is forgotten."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return (x * x).sum() / 6  # the divisor

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x * g


class Spread(torch.autograd.Function):
    """Of which the divisor n - 1 is forgotten: d std / dx = (x - mean) / ((n - 1) std)."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        s = x.std(0)
        ctx.save_for_backward(x, s)
        return s

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, s = ctx.saved_tensors
        return g * (x - x.mean(0)) / s


class Unit(torch.autograd.Function):
    """Whose backward leaves eps out."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x / torch.sqrt((x * x).sum(-1, keepdim=True) + 0.1)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        n = torch.sqrt((x * x).sum(-1, keepdim=True))
        y = x / n
        return (g - y * (g * y).sum(-1, keepdim=True)) / n


class InByOut(torch.autograd.Function):
    """With a weight that is no nn.Linear's."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any) -> Any:
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, weight = ctx.saved_tensors
        return g @ weight.t(), g.t() @ x


def wrong(function: Any, *shapes: tuple[int, ...]) -> Finding:
    """Return the only wrong step of a function at random inputs and cotangents."""
    torch.manual_seed(0)
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    with gw.watch() as witness:
        y = function.apply(*inputs)
        y.backward(torch.randn(y.shape))
    (finding,) = (f for f in witness.report.wrong if f.step is Step.BACKWARD)
    return finding


def line_of(function: Any, mark: str) -> int:
    lines, first = inspect.getsourcelines(function)
    return first + next(k for k, line in enumerate(lines) if mark in line)


def test_a_forgotten_divisor_is_left_out_and_not_there_twice() -> None:
    finding = wrong(Quadratic, (4, 3))
    line = line_of(Quadratic, "# the divisor")
    assert finding.why.endswith(
        f"is 6 times what it should be. That is the divisor of div at test_cause_words.py:{line} "
        "= 6, left out."
    )
    assert finding.remedy == "return 2 * x * g / 6"


def test_one_less_than_the_length_of_an_axis_is_no_number_of_samples() -> None:
    finding = wrong(Spread, (8, 5))
    assert "7, one less than the 8 numbers along axis 0 of x" in finding.why
    assert "Summed over" not in finding.why


def test_a_function_makes_no_claims() -> None:
    finding = wrong(Unit, (6, 4))
    assert finding.why.startswith("the gradient is that of a normalisation without eps at ")


def test_only_a_weight_of_nn_linear_is_said_to_be_one() -> None:
    finding = wrong(InByOut, (6, 4), (4, 4))
    assert finding.cause == "transposed"
    assert "Linear" not in finding.why
