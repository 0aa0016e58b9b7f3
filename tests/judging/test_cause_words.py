"""What the sentence on a mistake says of numbers, and what the line to write is made of."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from capture.functions import apply
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


class Halved(torch.autograd.Function):
    """The square root by Newton's method, d sqrt(x) = dx / (2 sqrt(x)); it gives half of that."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        z = torch.ones_like(x)
        for _ in range(8):
            z = z - (z * z - x) / (2 * z)
        ctx.save_for_backward(z)
        return z

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (z,) = ctx.saved_tensors
        return g / (4 * z)


class Cubed(torch.autograd.Function):
    """(x + 1)^3 and x^3 in one, with half of the gradient 3 (x + 1)^2 + 3 x^2."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return (x + 1).pow(3) + x.pow(3)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * (3 * (x + 1) ** 2 + 3 * x**2) / 2


class Squared(torch.autograd.Function):
    """(x + 1)^2, with half of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return (x + 1).pow(2)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * (x + 1)


class Tripled(torch.autograd.Function):
    """3 x, whose backward multiplies by 5."""

    @staticmethod
    def forward(_: Any, x: Any) -> Any:
        return 3 * x

    @staticmethod
    def backward(_: Any, g: Any) -> Any:
        return 5 * g


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


class Drawn(torch.autograd.Function):
    """Which draws its mask anew, so that its last line is right and what it reads is not."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        mask = (torch.rand_like(x) > 0.5).float()
        return x * mask

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:  # noqa: ARG004
        mask = (torch.rand_like(g) > 0.5).float()
        return g * mask


class Scaled(torch.autograd.Function):
    """Which forgets the square root of 7."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x / 7**0.5

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:  # noqa: ARG004
        return g * 1


class Rescaled(torch.autograd.Function):
    """Which forgets to divide by 0.7."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x / 0.7

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:  # noqa: ARG004
        return g * 1


class Doubled(torch.autograd.Function):
    """Which writes over what it keeps: exp(2 x) = exp(x)^2 looks like a factor too many."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        kept = x.clone()
        ctx.kept = kept
        y = kept.exp()
        kept.mul_(2)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.kept.exp()


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


@pytest.mark.parametrize("shape", [(5, 3), (5,)])
def test_a_function_that_takes_nothing_together_has_no_counts(shape: tuple[int, ...]) -> None:
    finding = wrong(Tripled, shape)
    assert finding.cause == "constant factor"
    assert finding.why.endswith("times what it should be. The fraction 5/3.")


def test_a_function_makes_no_claims() -> None:
    finding = wrong(Unit, (6, 4))
    assert finding.why.startswith("the gradient is that of a normalisation without eps at ")


def test_only_a_weight_of_nn_linear_is_said_to_be_one() -> None:
    finding = wrong(InByOut, (6, 4), (4, 4))
    assert finding.cause == "transposed"
    assert "Linear" not in finding.why


def test_what_stands_there_already_is_not_advised_as_such() -> None:
    finding = wrong(Drawn, (6, 4))
    assert finding.cause == "recomputed with other random numbers"
    assert finding.remedy == "grad_x = g * mask  # with mask saved in forward"


@pytest.mark.parametrize("function", [Scaled, Rescaled])
def test_the_number_to_write_is_right_to_the_last_digit(function: Any) -> None:
    finding = wrong(function, (6, 4))
    by = finding.remedy.removeprefix("return g * 1 / ")
    assert np.float32(by) == np.float32(7**0.5 if function is Scaled else 0.7)


def test_a_number_to_write_in_float64() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    with gw.watch() as witness:
        apply(Scaled, x).backward(torch.randn(6, 4, dtype=torch.float64))
    (finding,) = (f for f in witness.report.wrong if f.step is Step.BACKWARD)
    assert float(finding.remedy.removeprefix("return g * 1 / ")) == 7**0.5


def test_a_tensor_that_was_overwritten_comes_before_a_factor_too_many() -> None:
    finding = wrong(Doubled, (6, 4))
    assert finding.cause == "saved tensor overwritten"
    assert "the result of clone" in finding.why
    assert finding.remedy == "grad_x = g * y  # with y saved in forward"


def test_one_operation_does_not_matter() -> None:
    torch.manual_seed(0)
    a, b = (torch.randn(4, requires_grad=True) for _ in range(2))
    with gw.watch() as witness:
        apply(Gap, a, b).backward(torch.randn(4))
    (finding,) = (f for f in witness.report.wrong if f.step is Step.BACKWARD)
    left_out = "(left out: 1 operation that does not matter to it)"
    assert finding.forward == ("sin(a) - b", left_out)


class Gap(torch.autograd.Function):
    """With a wrong sign at b, to which sin(a) does not matter."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a)
        return torch.sin(a) - b

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * torch.cos(*ctx.saved_tensors), g


@pytest.mark.parametrize(("function", "says"), [(Halved, False), (Cubed, False), (Squared, True)])
def test_a_missing_2_is_that_of_a_square_only_where_one_is_taken(function: Any, says: bool) -> None:
    """An iteration stands for its limit: squares in its steps have no derivative in the end."""
    torch.manual_seed(0)
    x = (torch.rand(7) + 0.5).requires_grad_()
    with gw.watch() as witness:
        torch.autograd.backward(apply(function, x), torch.randn(7))
    (finding,) = [f for f in witness.report.wrong if f.step is Step.BACKWARD]
    assert (
        says
        or finding.why == "The gradient of x is 0.5 times what it should be. A factor 2 is missing."
    )
    assert ("x^2" in finding.why or "the square" in finding.why) is says
