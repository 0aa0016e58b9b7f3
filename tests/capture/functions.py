"""Custom functions, all of them right, in every form that a user may give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from capture.programs import Tensors, leaf, run_back

if TYPE_CHECKING:
    from collections.abc import Callable

FUNCTIONS: dict[str, Callable[[], Tensors]] = {}


def program(function: Callable[[], Tensors]) -> Callable[[], Tensors]:
    """Enter a program into the table of those that must be judged in full."""
    FUNCTIONS[function.__name__] = function
    return function


class TwoByTwo(torch.autograd.Function):
    """(a, b) to (a b, a + 2 b)."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        return a * b, a + 2 * b

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g, h), (a, b) = grads, ctx.saved_tensors
        return g * b + h, g * a + 2 * h


class Scaled(torch.autograd.Function):
    """A tensor times a number, which gets no gradient; by the newer two-part form."""

    @staticmethod
    def forward(a: Any, k: float) -> Any:
        return a * k

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004
        ctx.k = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return ctx.k * grads[0], None


class Exponential(torch.autograd.Function):
    """exp, whose backward cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        y = a.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        (y,) = ctx.saved_tensors
        return grads[0] * y


class Outer(torch.autograd.Function):
    """a exp(a), by a function within the function."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        ctx.save_for_backward(a)
        return apply(Exponential, a) * a

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (a,) = ctx.saved_tensors
        return grads[0] * (a.exp() * (1 + a))


class OwnGraph(torch.autograd.Function):
    """sin(a a), whose forward builds a graph of its own that its backward asks."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        with torch.enable_grad():
            inner = a.detach().requires_grad_()
            y = (inner * inner).sin()
        ctx.save_for_backward(inner, y)
        return y.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        inner, y = ctx.saved_tensors
        return torch.autograd.grad(y, inner, grads[0])[0]


class InPlace(torch.autograd.Function):
    """Doubles its input where it lies."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        a.mul_(2)
        ctx.mark_dirty(a)
        return a

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return 2 * grads[0]


class Identity(torch.autograd.Function):
    """Hands its input back."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:  # noqa: ARG004
        return a

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return grads[0]


class NumpySine(torch.autograd.Function):
    """sin(a) w, the sine outside of torch."""

    @staticmethod
    def forward(ctx: Any, a: Any, w: Any) -> Any:
        ctx.save_for_backward(a, w)
        return torch.from_numpy(np.sin(a.detach().numpy())) * w

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, w = ctx.saved_tensors
        return grads[0] * a.cos() * w, grads[0] * a.sin()


class FirstToZero(torch.autograd.Function):
    """Overwrites the first element: a write to a view, which values alone do not join."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:  # noqa: ARG004
        y = a.clone()
        y[0] = 0
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        g = grads[0].clone()
        g[0] = 0
        return g


def apply(function: Any, *arguments: Any) -> Any:
    """Call a custom function; torch leaves its type open."""
    return function.apply(*arguments)


@program
def several_inputs_and_outputs() -> Tensors:
    a, b = leaf(4), leaf(4)
    u, v = apply(TwoByTwo, a, b)
    return run_back(u * v.sin(), a, b)


@program
def one_output_unused() -> Tensors:
    a, b = leaf(4), leaf(4)
    _, v = apply(TwoByTwo, a, b)
    return run_back(v * v, a, b)


@program
def a_number_gets_none() -> Tensors:
    x = leaf(4)
    return run_back(apply(Scaled, x, 2.5).sin(), x)


@program
def differentiable_once() -> Tensors:
    x = leaf(4)
    return run_back(apply(Exponential, x), x)


@program
def nested() -> Tensors:
    x = leaf(4)
    return run_back(apply(Outer, x), x)


@program
def graph_of_its_own() -> Tensors:
    x = leaf(4)
    return run_back(apply(OwnGraph, x), x)


@program
def chained() -> Tensors:
    x = leaf(4)
    return run_back(apply(Scaled, apply(Exponential, apply(Scaled, x, 0.5)), 3.0), x)


@program
def input_changed_in_place() -> Tensors:
    x = leaf(4)
    y = x.sin()
    apply(InPlace, y)
    return run_back(y * y, x)


@program
def output_changed_afterwards() -> Tensors:
    x = leaf(4)
    y = apply(Scaled, x.sin(), 2.0)
    y.add_(1)
    return run_back(y * y, x)


@program
def part_of_output_changed_afterwards() -> Tensors:
    x = leaf(4)
    y = apply(Scaled, x.sin(), 2.0)
    y[1:].mul_(3)
    return run_back(y * y, x)


@program
def output_read_without_grad() -> Tensors:
    x = leaf(4)
    y = apply(Scaled, x.sin(), 2.0)
    with torch.no_grad():
        (y.sum() * 3).item()
    return run_back(y * y, x)


@program
def applied_to_a_stale_view() -> Tensors:
    x = leaf(4, 4)
    z = x * 2
    row = z[1]
    z.mul_(3)
    return run_back(apply(Scaled, row, 2.0), x)


@program
def returns_its_input() -> Tensors:
    x = leaf(4)
    return run_back(apply(Identity, x.sin()).square(), x)
