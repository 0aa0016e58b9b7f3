"""Custom functions with one mistake each, written as people write them."""

# ruff: noqa: ARG004

from __future__ import annotations

from typing import Any

import torch


class Isrlu(torch.autograd.Function):
    """Its backward ignores what arrives."""

    @staticmethod
    def forward(ctx: Any, x: Any, alpha: Any) -> Any:
        neg = torch.clamp(x, max=0)
        nisr = torch.rsqrt(1 + alpha * neg * neg)
        ctx.nisr = nisr
        return x * nisr

    @staticmethod
    def backward(ctx: Any, grad_out: Any) -> Any:
        return ctx.nisr**3, None  # the line


class Norm(torch.autograd.Function):
    """Weight and bias get each other's gradients."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, eps: Any) -> Any:
        d = x - x.mean(-1, keepdim=True)
        rstd = torch.rsqrt((d * d).mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(d * rstd, rstd, weight)
        return d * rstd * weight + bias

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        xhat, rstd, w = ctx.saved_tensors
        g = dy * w
        dx = rstd * (g - g.mean(-1, keepdim=True) - xhat * (g * xhat).mean(-1, keepdim=True))
        return dx, dy.sum(0), (dy * xhat).sum(0), None


class NormWithoutMean(Norm):
    """The input's gradient lacks the path through the mean."""

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        xhat, rstd, w = ctx.saved_tensors
        g = dy * w
        dx = rstd * (g - xhat * (g * xhat).mean(-1, keepdim=True))
        return dx, (dy * xhat).sum(0), dy.sum(0), None


class NormWithoutVariance(Norm):
    """The input's gradient lacks the path through the variance."""

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        xhat, rstd, w = ctx.saved_tensors
        g = dy * w
        return rstd * (g - g.mean(-1, keepdim=True)), (dy * xhat).sum(0), dy.sum(0), None


class NormWithMeanTwice(Norm):
    """The gradient's own mean is subtracted twice."""

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        xhat, rstd, w = ctx.saved_tensors
        g = dy * w
        dx = rstd * (g - 2 * g.mean(-1, keepdim=True) - xhat * (g * xhat).mean(-1, keepdim=True))
        return dx, (dy * xhat).sum(0), dy.sum(0), None


class NormWithVarianceTwice(Norm):
    """The part along the normalised input is subtracted twice."""

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        xhat, rstd, w = ctx.saved_tensors
        g = dy * w
        dx = rstd * (g - g.mean(-1, keepdim=True) - 2 * xhat * (g * xhat).mean(-1, keepdim=True))
        return dx, (dy * xhat).sum(0), dy.sum(0), None


class NormInside(torch.autograd.Function):
    """In bfloat16 outside and in float32 inside; the gradient's own mean is subtracted twice."""

    times = 2

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any) -> Any:
        wide = x.float()
        mean = wide.mean(-1, keepdim=True)
        rstd = torch.rsqrt(wide.var(-1, unbiased=False, keepdim=True) + 1e-6)
        ctx.save_for_backward(x, weight, mean, rstd)
        return ((wide - mean) * rstd * weight.float() + bias.float()).bfloat16()

    @classmethod
    def backward(cls, ctx: Any, dy: Any) -> Any:
        x, w, mean, rstd = ctx.saved_tensors
        xhat, g = (x.float() - mean) * rstd, dy.float() * w.float()
        along = (g * xhat).mean(-1, keepdim=True)
        dx = rstd * (g - cls.times * g.mean(-1, keepdim=True) - xhat * along)
        dw = (dy.float() * xhat).sum(0)
        return dx.bfloat16(), dw.bfloat16(), dy.float().sum(0).bfloat16()


class NormInsideRight(NormInside):
    """The right one."""

    times = 1


class Swish(torch.autograd.Function):
    """One of two terms is missing."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        s = torch.sigmoid(x)
        ctx.s = s
        return x * s

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.s


class Cube(torch.autograd.Function):
    """The exponent is missing."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * x * x


class Linear(torch.autograd.Function):
    """The weight's gradient is transposed."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, w = ctx.saved_tensors
        return g @ w.T, g.T @ x


class Dropped(torch.autograd.Function):
    """Its backward draws a mask of its own."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x * torch.bernoulli(torch.full_like(x, 0.5)) * 2

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * torch.bernoulli(torch.full_like(g, 0.5)) * 2


class Short(Linear):
    """The input's gradient is computed in bfloat16."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, w = ctx.saved_tensors
        return (g.bfloat16() @ w.bfloat16().T).float(), x.T @ g


class Strided(torch.autograd.Function):
    """Reads the incoming gradient as if it were contiguous."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        g = torch.as_strided(g, g.shape, (g.shape[1], 1))
        return g * (1 - torch.tanh(x) ** 2)


class Overwritten(torch.autograd.Function):
    """What it keeps for backward is changed afterwards."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        e = torch.exp(x)
        ctx.e = e
        y = e + 1
        e.add_(1)
        return y * y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return 2 * g * ctx.e * ctx.e


class TwoResults(torch.autograd.Function):
    """What arrives for the second result is forgotten."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.save_for_backward(x, y)
        return x * y, torch.exp(x)

    @staticmethod
    def backward(ctx: Any, g: Any, _: Any) -> Any:
        x, y = ctx.saved_tensors
        return g * y, g * x


class NoBias(torch.autograd.Function):
    """The bias gets None."""

    @staticmethod
    def forward(ctx: Any, x: Any, bias: Any) -> Any:
        return x + bias

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g, None


class Masked(torch.autograd.Function):
    """The clamp is not felt in backward."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return torch.clamp(x, -0.5, 0.5)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g


class Blocks(torch.autograd.Function):
    """The rows after the last whole block of four get nothing."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        out = torch.zeros_like(g)
        whole = g.shape[0] // 4 * 4
        out[:whole] = 2 * (g * x)[:whole]
        return out


class Averaged(torch.autograd.Function):
    """The bias's gradient is averaged over the rows."""

    @staticmethod
    def forward(ctx: Any, x: Any, bias: Any) -> Any:
        return x + bias

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g, g.mean(0)


class Rows(torch.autograd.Function):
    """Rows that are read twice get the gradient of the last reading alone."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x[torch.tensor([0, 2, 2, 1, 0])]

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        out = torch.zeros(6, 8)
        out[torch.tensor([0, 2, 2, 1, 0])] = g
        return out


class ByFirst(torch.autograd.Function):
    """Every number is weighted as the first one."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g.reshape(-1)[0] * torch.cos(ctx.saved_tensors[0])


class Gain(torch.autograd.Function):
    """The weight is multiplied into its own gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, w = ctx.saved_tensors
        return g * w, (g * x).sum(0) * w


def parameters(*shapes: tuple[int, ...]) -> list[Any]:
    """Return leaves of some shapes."""
    return [torch.randn(shape).requires_grad_() for shape in shapes]
