"""Custom functions of more kinds, all of them right; what leaves torch is at the end."""

# Torch prescribes the parameters.
# ruff: noqa: ARG004

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class Power(Function):
    """(a b^n, a + b), in two parts, with arguments that are no tensors, one of them a default."""

    @staticmethod
    def forward(a: Any, b: Any, n: int, flag: bool = True) -> Any:
        return a * b**n, a + b

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0], inputs[1])
        ctx.n = inputs[2]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g, h), (a, b), n = grads, ctx.saved_tensors, ctx.n
        return g * b**n + h, g * a * n * b ** (n - 1) + h, None, None


class Between(Function):
    """k a + 2 b - c, with a number and a text between the tensors; asks which are wanted."""

    @staticmethod
    def forward(ctx: Any, a: Any, k: float, b: Any, name: str, c: Any) -> Any:
        ctx.k = k
        return a * k + b * 2 - c

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,), need = grads, ctx.needs_input_grad
        first, second = g * ctx.k if need[0] else None, 2 * g if need[2] else None
        return first, None, second, None, -g if need[4] else None


class Order(Function):
    """Sorts; the places are not differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y, places = x.sort()
        ctx.mark_non_differentiable(places)
        ctx.save_for_backward(places)
        return y, places

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (places,) = ctx.saved_tensors
        return torch.zeros_like(grads[0]).scatter_(0, places, grads[0])


class MarkedFirst(Function):
    """(|x|, x^2, exp x), of which the first is not differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        marked = x.abs()
        ctx.mark_non_differentiable(marked)
        ctx.save_for_backward(x)
        return marked, x * x, x.exp()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x * grads[1] + grads[2] * x.exp()


class NotMaterialized(Function):
    """(a b, a - b), told apart by which gradient came."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(a, b)
        return a * b, a - b

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g, h), (a, b) = grads, ctx.saved_tensors
        if g is None:
            return h, -h
        return (g * b, g * a) if h is None else (g * b + h, g * a - h)


class Tanh(Function):
    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        y = a.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        (y,) = ctx.saved_tensors
        return grads[0] * (1 - y * y)


class TimesInPlace(Function):
    """a b, written over a."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a.clone(), b)
        ctx.mark_dirty(a)
        return a.mul_(b)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, b = ctx.saved_tensors
        return grads[0] * b, grads[0] * a


class DirtyAndNew(Function):
    """(a + b written over a, a b)."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        product = a * b
        a.add_(b)
        ctx.mark_dirty(a)
        ctx.save_for_backward(a - b, b)
        return a, product

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g, h), (a, b) = grads, ctx.saved_tensors
        return g + h * b, g + h * a


class Attributes(Function):
    """A matrix product that keeps its operands as attributes."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.a, ctx.b = a, b
        return a.matmul(b)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] @ ctx.b.t(), ctx.a.t() @ grads[0]


class ViewAs(Function):
    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        return a.view_as(a)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


class Rest(Function):
    """All rows but the first, as a view."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        return a[1:]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return torch.cat([torch.zeros_like(grads[0][:1]), grads[0]])


class Cube(Function):
    """a^3, which vmap may take through itself, and which can be differentiated twice."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Any) -> Any:
        return a**3

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (a,) = ctx.saved_tensors
        return 3 * a * a * grads[0]


class Unused(Function):
    """x^2; the second input does nothing, and gets None."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x * grads[0], None


class Product(Function):
    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, b = ctx.saved_tensors
        return grads[0] * b, grads[0] * a


class AlsoItsInput(Function):
    """(a, a b)."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        return a, a * b

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, b = ctx.saved_tensors
        return grads[0] + grads[1] * b, grads[1] * a


class Join(Function):
    @staticmethod
    def forward(ctx: Any, *parts: Any) -> Any:
        ctx.count = len(parts)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return tuple(grads[0].chunk(ctx.count))


class NarrowInside(Function):
    """x / sqrt(mean x^2) in float32, whatever the tensors are in."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        narrow = x.float()
        r = torch.rsqrt(narrow.pow(2).mean(-1, keepdim=True))
        ctx.save_for_backward(x, r)
        return (narrow * r).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, r = ctx.saved_tensors
        g, x = grads[0].float(), x.float()
        return (r * (g - x * r * r * (g * x).mean(-1, keepdim=True))).to(grads[0].dtype)


class RowByRow(Function):
    """x w, written into memory row by row: no rule joins that."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        ctx.save_for_backward(x, w)
        out = torch.empty_like(x)
        for row in range(x.shape[0]):
            out[row] = x[row] * w
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, w = ctx.saved_tensors
        return grads[0] * w, (grads[0] * x).sum(0)


class NumpyOnly(Function):
    """sin a, all of it outside."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        ctx.save_for_backward(a)
        return torch.from_numpy(np.sin(a.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * ctx.saved_tensors[0].cos()


class NumpyBeside(Function):
    """sin a + a, one of the two ways outside."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        ctx.save_for_backward(a)
        return torch.from_numpy(np.sin(a.detach().numpy())) + a

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * (ctx.saved_tensors[0].cos() + 1)


class NumpyMemory(Function):
    """3 sin(2 a), written by NumPy into memory that torch made."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        ctx.save_for_backward(a)
        y = a * 2
        y.numpy()[...] = np.sin(y.numpy())
        return y * 3

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * 6 * (2 * ctx.saved_tensors[0]).cos()


class NumberInside(Function):
    """a sum(a), the sum as a Python number."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        ctx.save_for_backward(a)
        return a * a.sum().item()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (a,) = ctx.saved_tensors
        return grads[0] * a.sum() + (grads[0] * a).sum()
