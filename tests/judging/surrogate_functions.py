"""Functions whose backward is a surrogate, as packages for spikes and quantisation write them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch.autograd import Function


class Surrogate(Function):
    """A step whose backward multiplies by ``slope``; ``off`` plants a fault in it."""

    off = 0.0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @classmethod
    def slope(cls, x: Any) -> Any:
        return torch.ones_like(x)

    @classmethod
    def backward(cls, ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        made: Any = ctx._forward_cls
        return grads[0] * made.slope(x) * (1 + Surrogate.off)


class Rounded(Surrogate):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return torch.round(x)


class Sign(Surrogate):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return torch.sign(x)

    @classmethod
    def slope(cls, x: Any) -> Any:
        return (x.abs() <= 1).to(x.dtype)


class HalfRange(Surrogate):
    @classmethod
    def slope(cls, x: Any) -> Any:
        return ((x >= 0) & (x <= 1.5)).to(x.dtype)


class FastSigmoid(Surrogate):
    @classmethod
    def slope(cls, x: Any) -> Any:
        return 1 / (25 * x.abs() + 1) ** 2


class SigmoidSlope(Surrogate):
    @classmethod
    def slope(cls, x: Any) -> Any:
        s = torch.sigmoid(4 * x)
        return 4 * s * (1 - s)


class Arctan(Surrogate):
    @classmethod
    def slope(cls, x: Any) -> Any:
        return 2.0 / 2 / (1 + (math.pi / 2 * 2.0 * x) ** 2)


class Triangle(Surrogate):
    @classmethod
    def slope(cls, x: Any) -> Any:
        return 0.3 * torch.clamp(1 - x.abs(), min=0)


class Gaussian(Surrogate):
    @classmethod
    def slope(cls, x: Any) -> Any:
        return torch.exp(-(x**2) / 2 / 0.5**2) / math.sqrt(2 * math.pi) / 0.5


class Exponential(Surrogate):
    @classmethod
    def slope(cls, x: Any) -> Any:
        return torch.exp(-5 * x.abs())


class Rectangle(Surrogate):
    @classmethod
    def slope(cls, x: Any) -> Any:
        return 2.0 * (x.abs() < 0.25)


class Leaky(Surrogate):
    @classmethod
    def slope(cls, x: Any) -> Any:
        return torch.where(x >= 0, 1.0, 0.1)


class Logarithm(Surrogate):
    @classmethod
    def slope(cls, x: Any) -> Any:
        return 1 / (1 + 4 * x.abs())


class SteepSigmoid(Surrogate):
    @classmethod
    def slope(cls, x: Any) -> Any:
        s = torch.sigmoid(25 * x)
        return 25 * s * (1 - s)


class Damped(Surrogate):
    @classmethod
    def slope(cls, x: Any) -> Any:
        return torch.full_like(x, 0.1)


class Threshold(Function):
    """A spike beyond a threshold that is an argument."""

    @staticmethod
    def forward(ctx: Any, v: Any, theta: float, alpha: float) -> Any:
        ctx.save_for_backward(v)
        ctx.theta, ctx.alpha = theta, alpha
        return (v >= theta).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (v,) = ctx.saved_tensors
        slope = 1 / (1 + ctx.alpha * (v - ctx.theta).abs()) ** 2
        return grads[0] * slope * (1 + Surrogate.off), None, None


class FakeQuantise(Function):
    """Rounding to a grid, within its range."""

    @staticmethod
    def forward(ctx: Any, w: Any, step: float, low: int, high: int) -> Any:
        q = torch.round(w / step)
        ctx.save_for_backward((q >= low) & (q <= high))
        return torch.clamp(q, low, high) * step

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * ctx.saved_tensors[0] * (1 + Surrogate.off), None, None, None


class Nearest(Function):
    """The nearest entry of a codebook, copied through."""

    @staticmethod
    def forward(ctx: Any, z: Any, book: Any) -> Any:
        index = torch.argmin(((z[:, None] - book[None]) ** 2).sum(-1), dim=1)
        ctx.save_for_backward(index)
        ctx.entries = book.shape[0]
        return book[index]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (index,) = ctx.saved_tensors
        g = grads[0]
        of_book = torch.zeros(ctx.entries, g.shape[1], dtype=g.dtype).index_add_(0, index, g)
        return g * (1 + Surrogate.off), of_book


class HardChoice(Function):
    """One-hot of the largest, with the gradient of softmax."""

    @staticmethod
    def forward(ctx: Any, logits: Any) -> Any:
        ctx.save_for_backward(torch.softmax(logits, -1))
        best = logits.argmax(-1, keepdim=True)
        return torch.zeros_like(logits).scatter(-1, best, 1.0)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (s,) = ctx.saved_tensors
        g = grads[0]
        return s * (g - (g * s).sum(-1, keepdim=True)) * (1 + Surrogate.off)


class InNumpy(Function):
    """A step that NumPy makes."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return torch.from_numpy(np.heaviside(x.detach().numpy(), 0))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] / (1 + x.abs()) ** 2 * (1 + Surrogate.off)


class TwoResults(Function):
    """A spike, and the potential that is left."""

    @staticmethod
    def forward(ctx: Any, v: Any) -> Any:  # noqa: ARG004
        return torch.floor(v), torch.ones(3, dtype=v.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return grads[0] * (1 + Surrogate.off)


class Auxiliary(Function):
    """Hands its input on, and sends a constant into a loss."""

    @staticmethod
    def forward(ctx: Any, weights: Any, aux: Any) -> Any:
        ctx.save_for_backward(aux)
        return weights.view_as(weights)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (aux,) = ctx.saved_tensors
        return grads[0], torch.ones_like(aux) * (1 + Surrogate.off)


class Odd(Surrogate):
    """What no package does."""

    @classmethod
    def slope(cls, x: Any) -> Any:
        return 1 + 0.5 * torch.cos(5 * x)
