"""Functions whose right gradient is not the derivative of their recorded forward."""

# Torch prescribes the parameters.

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function

from capture.functions import apply

if TYPE_CHECKING:
    from collections.abc import Callable


def threshold(x: Any, power: int, high: Any) -> Any:
    """Return t with sum max(x - t, 0)^power = 1, by 50 bisections."""
    low = x.max(-1, keepdim=True).values - 1
    step = high - low
    for _ in range(50):
        step = step / 2
        middle = low + step
        total = (x - middle).clamp(min=0).pow(power).sum(-1, keepdim=True)
        low = torch.where(total >= 1, middle, low)
    return low


def projected(g: Any, s: Any) -> Any:
    return s * (g - (g * s).sum(-1, keepdim=True) / s.sum(-1, keepdim=True))


class Sparsemax(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        p = (x - threshold(x, 1, x.max(-1, keepdim=True).values)).clamp(min=0)
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (p,) = ctx.saved_tensors
        return projected(grads[0], (p > 0).to(p.dtype))


class Entmax(Function):
    """Entmax with alpha 1.5."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        high = x.max(-1, keepdim=True).values / 2 - 1 / math.sqrt(x.shape[-1])
        p = (x / 2 - threshold(x / 2, 2, high)).clamp(min=0).pow(2)
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (p,) = ctx.saved_tensors
        return projected(grads[0], p.sqrt())


class Root(Function):
    """z with z^3 + z = x, by Newton until it hardly moves."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        z, before = torch.zeros_like(x), torch.ones_like(x)
        while float((z - before).abs().max()) > 1e-6:
            before = z
            z = z - (z**3 + z - x) / (3 * z * z + 1)
        ctx.save_for_backward(z)
        return z

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (z,) = ctx.saved_tensors
        return grads[0] / (3 * z * z + 1)


class ManyRoots(Root):
    """The same by 60 steps: so many that the rules' bound grows beyond use."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        z = torch.zeros_like(x)
        for _ in range(60):
            z = z - (z**3 + z - x) / (3 * z * z + 1)
        ctx.save_for_backward(z)
        return z


class Bisected(Root):
    """The same by halving an interval: the record leads to the result by comparisons alone."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        low, high = torch.full_like(x, -20.0), torch.full_like(x, 20.0)
        for _ in range(60):
            z = (low + high) / 2
            below = z**3 + z < x
            low, high = torch.where(below, z, low), torch.where(below, high, z)
        z = (low + high) / 2
        ctx.save_for_backward(z)
        return z


class Equilibrium(Function):
    """z = tanh(W z + x), by 10 iterations."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        z = torch.zeros_like(x)
        for _ in range(10):
            z = torch.tanh(z @ w.t() + x)
        ctx.save_for_backward(z, w)
        return z

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        z, w = ctx.saved_tensors
        d = 1 - z * z
        # v = D (g + W^T v), row by row.
        system = torch.eye(len(w), dtype=w.dtype) - w.t() @ torch.diag_embed(d)
        v = d * torch.linalg.solve(system, grads[0].unsqueeze(-1)).squeeze(-1)
        return v, v.t() @ z


class EarlyEquilibrium(Equilibrium):
    """The same, stopped early."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        z = torch.zeros_like(x)
        moved = 1.0
        while moved > 1e-6:
            before, z = z, torch.tanh(z @ w.t() + x)
            moved = float((z - before).norm())
        ctx.save_for_backward(z, w)
        return z


class Sinkhorn(Function):
    """The transport plan of cost c between uniform marginals, with entropy 1/2."""

    @staticmethod
    def forward(ctx: Any, c: Any) -> Any:
        n, m = c.shape
        k, v = torch.exp(-2 * c), torch.ones(m, dtype=c.dtype)
        u = v
        for _ in range(50):
            u = 1 / (n * (k @ v))
            v = 1 / (m * (k.t() @ u))
        p = u[:, None] * k * v
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (p,) = ctx.saved_tensors
        a, b, weighed = p.sum(1), p.sum(0), grads[0] * p
        # The marginals stay: the potentials' multipliers solve a singular system.
        above, below = torch.cat([a.diag(), p], 1), torch.cat([p.t(), b.diag()], 1)
        known = torch.cat([weighed.sum(1), weighed.sum(0)])[:, None]
        system = torch.cat([above, below])
        solved = torch.linalg.lstsq(system, known, driver="gelsd").solution[:, 0]
        return -2 * (weighed - p * (solved[: len(a), None] + solved[len(a) :]))


class Rotation(Function):
    """v turned by unit quaternions q; the gradient of q is the part tangent to the sphere."""

    @staticmethod
    def forward(ctx: Any, q: Any, v: Any) -> Any:
        ctx.save_for_backward(q, v)
        w, u = q[:, :1], q[:, 1:]
        along = (u * v).sum(-1, keepdim=True) * u
        return (w * w - (u * u).sum(-1, keepdim=True)) * v + 2 * along + 2 * w * cross(u, v)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,), (q, v) = grads, ctx.saved_tensors
        w, u = q[:, :1], q[:, 1:]

        def dot(a: Any, b: Any) -> Any:
            return (a * b).sum(-1, keepdim=True)

        of_w = 2 * w * dot(g, v) + 2 * dot(g, cross(u, v))
        of_u = 2 * (v * dot(g, u) + dot(u, v) * g - u * dot(g, v) + w * cross(v, g))
        of_v = (w * w - dot(u, u)) * g + 2 * dot(u, g) * u + 2 * w * cross(g, u)
        of_q = torch.cat([of_w, of_u], -1)
        return of_q - q * dot(of_q, q), of_v


class LogDeterminant(Function):
    """The diagonal of L with A = L L^T; the gradient is that among symmetric matrices."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        factor = torch.linalg.cholesky(a)
        ctx.save_for_backward(factor)
        return factor

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (factor,) = ctx.saved_tensors
        p = (factor.mT @ grads[0]).tril()
        p = p - p.diagonal().diag() / 2
        inverse = torch.linalg.inv(factor)
        s = inverse.mT @ p @ inverse
        return (s + s.mT) / 2


class Cubic(Function):
    """sum C A^3 of a symmetric A, with the gradient among symmetric matrices."""

    @staticmethod
    def forward(ctx: Any, a: Any, c: Any) -> Any:
        ctx.save_for_backward(a, c)
        return ((a @ a @ a) * c).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, c = ctx.saved_tensors
        of_a = c @ a @ a + a @ c @ a + a @ a @ c
        return grads[0] * (of_a + of_a.mT) / 2, None


def cross(a: Any, b: Any) -> Any:
    return torch.linalg.cross(a, b)


def unit(p: Any) -> Any:
    return p / p.norm(dim=-1, keepdim=True)


def positive(p: Any) -> Any:
    return p @ p.mT + torch.eye(len(p), dtype=p.dtype)


# Of each: the shapes of the leaves, and what the function gets of them.
IMPLICIT: dict[Any, tuple[tuple[tuple[int, ...], ...], Callable[..., tuple[Any, ...]]]] = {
    Sparsemax: (((6, 6),), lambda x: (x,)),
    Entmax: (((6, 6),), lambda x: (x,)),
    Root: (((5, 5),), lambda x: (x,)),
    ManyRoots: (((5, 5),), lambda x: (x,)),
    Bisected: (((5, 5),), lambda x: (x,)),
    Equilibrium: (((6, 6), (6, 6)), lambda x, w: (x, w / 100)),
    EarlyEquilibrium: (((6, 6), (6, 6)), lambda x, w: (x, w / 5)),
    Sinkhorn: (((5, 5),), lambda c: (c.abs(),)),
    Rotation: (((5, 4), (5, 3)), lambda p, v: (unit(p), v)),
    LogDeterminant: (((4, 4),), lambda p: (positive(p),)),
    Cubic: (((4, 4),), lambda p: (positive(p), torch.arange(16.0, dtype=p.dtype).view(4, 4))),
}
FAULTS: dict[str, Callable[[Any], Any]] = {
    "2 %": lambda g: 1.02 * g,
    "sign": lambda g: -g,
    "transposed": lambda g: g.mT.contiguous() if g.shape[0] == g.shape[1] else g.flip(-1),
    "one element": lambda g: g + g.abs().max() * (torch.arange(g.numel()) == 7).view(g.shape),
}


@cache
def spoilt(function: Any, fault: str) -> Any:
    """Return a function whose backward has a fault in its first gradient."""

    class Spoilt(function):  # type: ignore[misc]
        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            results = function.backward(ctx, *grads)
            first, *others = results if isinstance(results, tuple) else (results,)
            return FAULTS[fault](first), *others

    return Spoilt


def leaves(function: Any, dtype: torch.dtype) -> list[Any]:
    torch.manual_seed(3)
    shapes, _ = IMPLICIT[function]
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


def loss(function: Any, given: list[Any], original: Any = None) -> Any:
    """Return a scalar that weighs the results of a function of some leaves."""
    _, operands = IMPLICIT[original or function]
    result = apply(function, *operands(*given))
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(9))
    return (result * weights.to(result.dtype)).sum()
