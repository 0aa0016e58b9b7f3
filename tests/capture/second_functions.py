"""x^3 by custom functions whose backward can, or cannot, be differentiated again."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function


class Cube(Function):
    """With all that it takes."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * 3.0 * x**2


class Masked(Cube):
    """Its mask is a constant for every derivative."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        sign = torch.where(x > 0, 1.0, -1.0) * torch.sign(x.detach())
        return grads[0] * 3 * (x * sign) ** 2


class Shifted(Cube):
    """What is taken off, and put on again, may be a constant."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        largest = x.amax().detach()
        return grads[0] * 3 * ((x - largest) + largest) ** 2


class ByResult(Cube):
    """From its result."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = x**3
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (y,) = ctx.saved_tensors
        return grads[0] * 3 * y ** (2 / 3)


class Slope(Function):
    """3 g x^2, in NumPy, with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, g: Any, x: Any) -> Any:
        ctx.save_for_backward(g, x)
        return torch.from_numpy(3 * g.detach().numpy() * x.detach().numpy() ** 2)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        g, x = ctx.saved_tensors
        return grads[0] * 3 * x**2, grads[0] * 6 * g * x


class ByFunction(Cube):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        slope: Any = Slope.apply
        return slope(grads[0], *ctx.saved_tensors)


TABLE = torch.tensor([3.0, 3.0, 3.0, 3.0], dtype=torch.float64)


class ByTable(Cube):
    """Constants from elsewhere, of which forward knows."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3 * TABLE / 3

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * TABLE * x**2 * torch.tensor([1.0, 1.0, 1.0, 1.0])


class Detached(Cube):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * 3 * x.detach() ** 2


class ByData(Cube):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * 3 * x * x.data


class NormDetached(Cube):
    """By a factor of 1, of which a part is a constant."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * 3 * x**2 * (x.norm() / x.norm().detach())


class CotangentDetached(Cube):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0].detach() * 3 * x**2


class Intermediate(Cube):
    """Saves what is neither an input nor a result."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        square = x * x
        ctx.save_for_backward(square)
        return square * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (square,) = ctx.saved_tensors
        return grads[0] * 3 * square


class CopyOfResult(ByResult):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return ByResult.forward(ctx, x).clone()


class WithoutGrad(Cube):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            slope = 3 * x**2
        return grads[0] * slope


class AllWithoutGrad(Cube):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            return grads[0] * 3 * x**2


class InNumpy(Cube):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * torch.from_numpy(3 * x.detach().numpy() ** 2)
