"""Custom functions with a fault that one training step does not show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from capture.functions import apply

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# By name: what makes the step, and the probes that show its fault, no more and no fewer.
HIDING: dict[str, tuple[Callable[[], Callable[[], Any]], tuple[str, ...]]] = {}


def hides(*kinds: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def enter(make: Callable[[], Any]) -> Callable[[], Any]:
        HIDING[make.__name__] = (make, kinds)
        return make

    return enter


class ForgetsScale(torch.autograd.Function):
    """y = x^ gamma with x^ normalised along a row; the backward takes gamma for 1."""

    @staticmethod
    def forward(ctx: Any, x: Any, gamma: Any) -> Any:
        centred = x - x.mean(-1, keepdim=True)
        spread = 1 / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        normal = centred * spread
        ctx.save_for_backward(normal, spread)
        return normal * gamma

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        normal, spread = ctx.saved_tensors
        (g,) = grads
        along = (g * normal).mean(-1, keepdim=True)
        return spread * (g - g.mean(-1, keepdim=True) - normal * along), (g * normal).sum(0)


class IgnoresBias(torch.autograd.Function):
    """y = (x + b)^2; the backward takes b for 0."""

    @staticmethod
    def forward(ctx: Any, x: Any, bias: Any) -> Any:
        ctx.save_for_backward(x)
        return (x + bias).square()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        made = 2 * grads[0] * x
        return made, made.sum(0)


class LowRank(torch.autograd.Function):
    """y = x A B; the gradient of A is transposed with its rows in the wrong order."""

    @staticmethod
    def forward(ctx: Any, x: Any, a: Any, b: Any) -> Any:
        ctx.save_for_backward(x, a, b)
        return (x @ a) @ b

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, a, b = ctx.saved_tensors
        (g,) = grads
        inner = g @ b.t()
        return inner @ a.t(), (x.t() @ inner).flip(0), (x @ a).t() @ g


class TakesMemoryOrder(torch.autograd.Function):
    """y = 3 x; the backward reads the gradient as it lies in memory."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 3

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        (g,) = grads
        room = g.untyped_storage().nbytes() // g.element_size() - g.storage_offset()
        if room < g.numel():
            return 3 * g
        return 3 * torch.as_strided(g, g.shape, torch.empty(g.shape).stride())


class TakesMeans(torch.autograd.Function):
    """y = x w; the backward takes the mean of the gradient for each of its numbers."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, w = ctx.saved_tensors
        g = grads[0].mean()
        return g * w, g * x


class AddsABit(torch.autograd.Function):
    """y = 3 x; the backward adds a number so small that rounding hides it beside others."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 3

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return 3 * grads[0] + 1e-9


class Clips(torch.autograd.Function):
    """y = 3 x; the backward clips, which no gradient of an ordinary size notices."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 3

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return (3 * grads[0]).clamp(-1e3, 1e3)


class Flushes(torch.autograd.Function):
    """y = 3 x; the backward drops what it thinks too small."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 3

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        (g,) = grads
        return torch.where(g.abs() < 1e-9, 0.0, 3 * g)


class LosesOneHot(torch.autograd.Function):
    """y = 3 x; the backward takes a gradient with one number for none at all."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 3

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        (g,) = grads
        return 3 * g if int(g.count_nonzero()) != 1 else torch.zeros_like(g)


class WrongWhereRepeated(torch.autograd.Function):
    """y = 3 x; the backward takes a stride of 0 for one number alone."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 3

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        (g,) = grads
        return 3 * g / (g.shape[0] if g.stride(0) == 0 else 1)


class Wavers(torch.autograd.Function):
    """y = 3 x; the backward gives other last bits each time."""

    turn = 0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 3

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        Wavers.turn += 1
        factor = 3.0 if Wavers.turn % 2 else 3.0 + 2.0**-22
        return grads[0] * factor


def weights(*shape: int) -> Tensor:
    return torch.randn(shape) + 0.5


def once(function: Any, *shape: int) -> Callable[[], Tensor]:
    """Return a step that applies a function of one operand to a parameter."""
    x, w = nn.Parameter(torch.randn(shape)), weights(*shape)
    return lambda: (apply(function, x) * w).sum()


@hides("moved", "moved, random")
def scale_of_one() -> Any:
    x, gamma, w = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.ones(6)), weights(4, 6)
    return lambda: (apply(ForgetsScale, x, gamma) * w).sum()


@hides("moved", "moved, random")
def bias_of_zero() -> Any:
    x, bias, w = torch.randn(4, 6), nn.Parameter(torch.zeros(6)), weights(4, 6)
    return lambda: (apply(IgnoresBias, x, bias) * w).sum()


@hides("moved", "moved, random")
def factor_of_zero() -> Any:
    x, w = torch.randn(5, 4), weights(5, 3)
    a, b = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.zeros(2, 3))
    return lambda: (apply(LowRank, x, a, b) * w).sum()


@hides("strided")
def order_in_memory() -> Any:
    return once(TakesMemoryOrder, 4, 6)


@hides("random", "strided", "expanded", "one-hot", "large", "small", "moved, random")
def constant_cotangent() -> Any:
    x, w = torch.randn(4, 6), nn.Parameter(torch.randn(4, 6))
    return lambda: apply(TakesMeans, x, w).sum()


@hides("zero", "small")
def something_from_nothing() -> Any:
    return once(AddsABit, 4, 6)


@hides("large")
def clipped() -> Any:
    return once(Clips, 4, 6)


@hides("small")
def flushed() -> Any:
    return once(Flushes, 4, 6)


@hides("one-hot")
def one_number() -> Any:
    return once(LosesOneHot, 4, 6)


@hides("expanded")
def repeated_numbers() -> Any:
    return once(WrongWhereRepeated, 4, 6)
