"""Custom functions that are right at some shapes, strides or numbers and wrong at others.

As people write kernels: in blocks, for contiguous memory, for one size.
"""

# ruff: noqa: ARG004

from __future__ import annotations

from typing import Any

import torch

BLOCK = 32


class Squares(torch.autograd.Function):
    """x squared; the kernels below get its gradient wrong somewhere."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return 2 * g * ctx.saved_tensors[0]


class Ragged(Squares):
    """In whole blocks: what is left over at the end gets none."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        dx = torch.zeros_like(x)
        for start in range(0, x.shape[-1] - BLOCK + 1, BLOCK):
            block = slice(start, start + BLOCK)
            dx[..., block] = 2 * g[..., block] * x[..., block]
        return dx


class RaggedRight(Squares):
    """In blocks, the last of which may be shorter."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        dx = torch.zeros_like(x)
        for start in range(0, x.shape[-1], BLOCK):
            block = slice(start, start + BLOCK)
            dx[..., block] = 2 * g[..., block] * x[..., block]
        return dx


class FirstBlock(Squares):
    """One block, however many there are."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        dx = torch.zeros_like(x)
        dx[..., :BLOCK] = 2 * g[..., :BLOCK] * x[..., :BLOCK]
        return dx


class Pairs(Squares):
    """Two by two: the last of an odd number is left out."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        dx = torch.zeros_like(x)
        even = x.shape[-1] // 2 * 2
        dx[..., :even] = 2 * g[..., :even] * x[..., :even]
        return dx


class Assumed(Squares):
    """Reads what arrives as if it were contiguous."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        step = 1
        strides: list[int] = []
        for size in reversed(g.shape):
            strides.insert(0, step)
            step *= size
        return 2 * g.as_strided(g.shape, strides) * x


class OneNumber(Squares):
    """Takes what repeats itself in memory for the gradient of a mean."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        scale = g.numel() if 0 in g.stride() else 1
        return 2 * g * x / scale


class Saved(torch.autograd.Function):
    """Reads what was saved as if it were contiguous."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, y = ctx.saved_tensors
        flat = y.as_strided((y.numel(),), (1,))
        return g * flat.view(y.shape), g * x


class FirstRow(torch.autograd.Function):
    """x + bias: the bias gets the first row's gradient, as if there were one."""

    @staticmethod
    def forward(ctx: Any, x: Any, bias: Any) -> Any:
        return x + bias

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g, g[0]


class Padded(torch.autograd.Function):
    """Centres rows; backward takes the mean over the padded length."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x - x.mean(-1, keepdim=True)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        padded = -(-g.shape[-1] // BLOCK) * BLOCK
        return g - g.sum(-1, keepdim=True) / padded


class Cubes(torch.autograd.Function):
    """x cubed; backward divides the result by x."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = x * x * x
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, y = ctx.saved_tensors
        return 3 * g * y / x


class Signed(torch.autograd.Function):
    """x |x|, differentiated as x x."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x.abs()

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return 2 * g * ctx.saved_tensors[0]


class Found(Squares):
    """Finds its places by their numbers: equal ones get each other's gradients too."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        same = (x.flatten()[:, None] == x.flatten()).to(g.dtype)
        return 2 * (same @ g.flatten()).view(x.shape) * x


class Clipped(Squares):
    """A gradient that is clipped on its way."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return 2 * g * ctx.saved_tensors[0].clamp(-20, 20)


class Rows(torch.autograd.Function):
    """Rows of a table, twice: rows that are taken twice overwrite each other's gradient."""

    @staticmethod
    def forward(ctx: Any, table: Any, index: Any) -> Any:
        ctx.save_for_backward(index)
        ctx.shape = table.shape
        return 2 * table[index]

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (index,) = ctx.saved_tensors
        table = g.new_zeros(ctx.shape)
        table[index] = 2 * g
        return table, None


class RowsRight(Rows):
    """They add up."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (index,) = ctx.saved_tensors
        return g.new_zeros(ctx.shape).index_add(0, index, 2 * g), None


class Scaled(torch.autograd.Function):
    """x times a scale for each column; a single scale for all gets the first column's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any, scale: Any) -> Any:
        ctx.save_for_backward(x, scale)
        return x * scale

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, scale = ctx.saved_tensors
        return g * scale, (g * x).sum(0)[: scale.numel()]


class Square(torch.autograd.Function):
    """x w, whose gradient of w is transposed wherever the shapes let it be."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, w = ctx.saved_tensors
        dw = x.T @ g
        return g @ w.T, dw.T if dw.T.shape == dw.shape else dw


class Fixed(torch.autograd.Function):
    """A mean over rows, of which there were 48 when it was written."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.shape = x.shape
        return x.mean(0)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return (g / 48).expand(ctx.shape)


class Halved(Squares):
    """Wrong everywhere."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.saved_tensors[0]


class Two(Squares):
    """Wrong for two reasons, each of which is enough."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        dx = 2 * g * x
        if x.shape[-1] % 2 or x.shape[0] == 1:
            dx = dx / 2
        return dx


class Waits(Squares):
    """Its loop need not end: it is not known to, on other inputs."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        n = 0
        while n + BLOCK <= x.shape[-1]:
            n += BLOCK
        dx = torch.zeros_like(x)
        dx[..., :n] = 2 * g[..., :n] * x[..., :n]
        return dx


COUNTED = [0]
SHAPES: set[tuple[int, ...]] = set()


class Counts(Ragged):
    """Whoever runs it is noticed."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        COUNTED[0] += 1
        SHAPES.add(tuple(g.shape))
        return Ragged.backward(ctx, g)


class Draws(Ragged):
    """Draws a random number that it does not use."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        torch.rand(())
        return Ragged.backward(ctx, g)
