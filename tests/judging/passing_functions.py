"""Functions that hand on their input, or clamp it, and change the gradient on purpose."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function


class Passing(Function):
    """The identity; ``off`` plants a fault in the gradient."""

    off = 0.0

    @staticmethod
    def forward(ctx: Any, x: Any, *given: Any) -> Any:
        ctx.given = given
        ctx.save_for_backward(x)
        return x.view_as(x)

    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:
        raise NotImplementedError

    @classmethod
    def backward(cls, ctx: Any, *grads: Any) -> Any:
        (g,) = grads
        sent = ctx._forward_cls.change(ctx, g) + Passing.off * g
        return (sent, *[None] * len(ctx.given))


class Reversed(Passing):
    @staticmethod
    def forward(ctx: Any, x: Any, alpha: float) -> Any:
        return Passing.forward(ctx, x, alpha)

    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:
        return g.neg() * ctx.given[0]


class ReversedAsItIs(Passing):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.given = ()
        return x

    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:  # noqa: ARG003
        return -g


class Scaled(Passing):
    """By a number, or by the inverse of one."""

    @staticmethod
    def forward(ctx: Any, x: Any, scale: Any) -> Any:
        ctx.given = (scale,)
        return x.clone()

    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:
        return g * ctx.given[0]


class Divided(Scaled):
    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:
        return g / ctx.given[0]


class Tenth(Passing):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return Passing.forward(ctx, x)

    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:  # noqa: ARG003
        return g / 10


class Masked(Scaled):
    @staticmethod
    def forward(ctx: Any, x: Any, mask: Any) -> Any:
        return Scaled.forward(ctx, x, mask)


class Clipped(Passing):
    @staticmethod
    def forward(ctx: Any, x: Any, most: float) -> Any:
        return Passing.forward(ctx, x, most)

    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:
        return g.clamp(-ctx.given[0], ctx.given[0])


class ClippedUnevenly(Tenth):
    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:  # noqa: ARG003
        return g.clamp(-0.25, 0.75)


class ClippedAbove(Clipped):
    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:
        return g.clamp(max=ctx.given[0])


class ClippedNorm(Clipped):
    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:
        return g * min(1.0, ctx.given[0] / g.norm().item())


class ClippedRows(Clipped):
    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:
        return g * (ctx.given[0] / g.norm(dim=-1, keepdim=True)).clamp(max=1)


class ClippedSamples(Clipped):
    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:
        return g * (ctx.given[0] / g.norm(dim=(1, 2), keepdim=True)).clamp(max=1)


class UnitRows(Tenth):
    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:  # noqa: ARG003
        return torch.nn.functional.normalize(g, dim=-1)


class Stopped(Tenth):
    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:  # noqa: ARG003
        return torch.zeros_like(g)


class Clamped(Tenth):
    """Clamped; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        Passing.forward(ctx, x)
        return x.clamp(-1, 1)

    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:  # noqa: ARG003
        return 1 * g


class ClampedWider(Clamped):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        Passing.forward(ctx, x)
        return torch.nn.functional.hardtanh(x)

    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * (x.abs() <= 1.5)


class ClampedLeaky(Clamped):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        Passing.forward(ctx, x)
        return torch.where(x > 0, x, 0)

    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, g, 0.25 * g)


class LowerBound(Passing):
    """A lower bound that lets a gradient through which leads back inside."""

    @staticmethod
    def forward(ctx: Any, x: Any, bound: Any) -> Any:
        Passing.forward(ctx, x, bound)
        return torch.max(x, bound)

    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return ((x >= ctx.given[0]) | (g < 0)) * g


class BothBounds(Clamped):
    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return (((x >= -1) | (g < 0)) & ((x <= 1) | (g > 0))) * g


class Squared(Tenth):
    """Wrong: no surrogate."""

    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:  # noqa: ARG003
        return g * g


class ClampedTimesX(Clamped):
    """Wrong: no surrogate."""

    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * x


class Twice(Tenth):
    """Wrong: the factor of its own forward is lost."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return 2 * Passing.forward(ctx, x)

    @classmethod
    def change(cls, ctx: Any, g: Any) -> Any:  # noqa: ARG003
        return 1 * g
