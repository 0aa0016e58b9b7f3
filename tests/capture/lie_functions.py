"""Functions of Lie groups whose gradients are by v, where v moves an element x to exp(v) x.

An element is a translation, a unit quaternion x, y, z, w and a scale, as far as it has them. Every
group acts on points, y = s R p + t, and exp(v) x acts as exp(v) on y: with v = (tau, phi, sigma)
dy = tau + phi x y + sigma y, so the gradient by v is (g, y x g, g . y).
"""

# Torch prescribes the parameters.

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

PARTS = {"SO(3)": "q", "R+ x SO(3)": "qs", "SE(3)": "tq", "Sim(3)": "tqs"}


def skew(u: Any) -> Any:
    return torch.stack(
        [torch.linalg.cross(u, e.expand_as(u)) for e in torch.eye(3, dtype=u.dtype)], -1
    )


def rotation(q: Any) -> Any:
    """Return R = I + 2 w [u] + 2 [u]^2."""
    turn, w = skew(q[..., :3]), q[..., 3, None, None]
    return torch.eye(3, dtype=q.dtype) + 2 * w * turn + 2 * turn @ turn


def times(matrix: Any, v: Any) -> Any:
    return (matrix @ v[..., None])[..., 0]


def padded(g: Any) -> Any:
    return torch.cat([g, torch.zeros_like(g[..., :1])], -1)


def series(phi: Any) -> tuple[Any, Any, Any]:
    return phi.norm(dim=-1)[..., None, None], skew(phi), torch.eye(3, dtype=phi.dtype)


def left(phi: Any) -> Any:
    """Return Jl(phi), the derivative of exp from the left."""
    a, k, one = series(phi)
    return one + (1 - a.cos()) / a**2 * k + (a - a.sin()) / a**3 * (k @ k)


def left_inverse(phi: Any) -> Any:
    a, k, one = series(phi)
    return one - k / 2 + (1 / a**2 - (1 + a.cos()) / (2 * a * a.sin())) * (k @ k)


def composed(a: Any, b: Any) -> Any:
    """Return the product of two unit quaternions."""
    u, w, v, z = a[..., :3], a[..., 3:], b[..., :3], b[..., 3:]
    vector = w * v + z * u + torch.linalg.cross(u, v)
    return torch.cat([vector, w * z - (u * v).sum(-1, keepdim=True)], -1)


class Act(Function):
    """p to s R p + t."""

    parts = "q"

    @classmethod
    def split(cls, x: Any) -> tuple[Any, Any, Any]:
        start = 3 * ("t" in cls.parts)
        return x[..., :start], x[..., start : start + 4], x[..., start + 4 :]

    @classmethod
    def act(cls, x: Any, p: Any) -> Any:
        t, q, s = cls.split(x)
        y = times(rotation(q), p)
        y = y * s if "s" in cls.parts else y
        return y + t if "t" in cls.parts else y

    @classmethod
    def along(cls, g: Any, y: Any) -> Any:
        parts = [g] if "t" in cls.parts else []
        parts.append(torch.linalg.cross(y, g))
        if "s" in cls.parts:
            parts.append((g * y).sum(-1, keepdim=True))
        return padded(torch.cat(parts, -1))

    @classmethod
    def of_point(cls, g: Any, x: Any) -> Any:
        _, q, s = cls.split(x)
        g = times(rotation(q).mT, g)
        return g * s if "s" in cls.parts else g


def acting(parts: str) -> Any:
    class Acting(Act):
        @staticmethod
        def forward(ctx: Any, x: Any, p: Any) -> Any:
            y = Acting.act(x, p)
            ctx.save_for_backward(x, y)
            return y

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            (g,), (x, y) = grads, ctx.saved_tensors
            return Acting.along(g, y), Acting.of_point(g, x)

    Acting.parts = parts
    return Acting


ACTS = {name: acting(parts) for name, parts in PARTS.items()}


class Turn(Function):
    """The plane turned by unit complex numbers: dy = omega (-y2, y1)."""

    @staticmethod
    def forward(ctx: Any, z: Any, p: Any) -> Any:
        c, s, a, b = z[..., 0], z[..., 1], p[..., 0], p[..., 1]
        y = torch.stack([c * a - s * b, s * a + c * b], -1)
        ctx.save_for_backward(z, y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,), (z, y) = grads, ctx.saved_tensors
        c, s, a, b = z[..., 0], z[..., 1], g[..., 0], g[..., 1]
        of_z = (y[..., 0] * b - y[..., 1] * a)[..., None]
        return padded(of_z), torch.stack([c * a + s * b, c * b - s * a], -1)


class Log(Function):
    """The rotation vector: log(exp(v) exp(phi)) = phi + Jl(phi)^-1 v."""

    @staticmethod
    def forward(ctx: Any, q: Any) -> Any:
        size = q[..., :3].norm(dim=-1, keepdim=True)
        phi = 2 * torch.atan2(size, q[..., 3:]) / size * q[..., :3]
        ctx.save_for_backward(phi)
        return phi

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return padded(times(left_inverse(ctx.saved_tensors[0]).mT, grads[0]))


class Exp(Function):
    """Its inverse: exp(phi + d) = exp(Jl(phi) d) exp(phi)."""

    @staticmethod
    def forward(ctx: Any, phi: Any) -> Any:
        ctx.save_for_backward(phi)
        size = phi.norm(dim=-1, keepdim=True)
        return torch.cat([torch.sin(size / 2) / size * phi, torch.cos(size / 2)], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return times(left(ctx.saved_tensors[0]).mT, grads[0][..., :3])


class Multiply(Function):
    """x y of SE(3): exp(v) x y, and x exp(v) y = exp(Ad(x) v) x y."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.save_for_backward(x)
        t = x[..., :3] + times(rotation(x[..., 3:]), y[..., :3])
        return torch.cat([t, composed(x[..., 3:], y[..., 3:])], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,), g = ctx.saved_tensors, grads[0][..., :6]
        return padded(g), padded(adjoint(x, g))


def adjoint(x: Any, g: Any) -> Any:
    """Return Ad(x)^T g with Ad(x) (tau, phi) = (R tau + t x R phi, R phi)."""
    back = rotation(x[..., 3:]).mT
    moment = g[..., 3:] - torch.linalg.cross(x[..., :3], g[..., :3])
    return torch.cat([times(back, g[..., :3]), times(back, moment)], -1)


class Invert(Function):
    """The inverse in SE(3): (exp(v) x)^-1 = exp(-Ad(x^-1) v) x^-1."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        q = torch.cat([-x[..., 3:6], x[..., 6:]], -1)
        y = torch.cat([-times(rotation(q), x[..., :3]), q], -1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return padded(-adjoint(ctx.saved_tensors[0], grads[0][..., :6]))


def elements(name: str, dtype: torch.dtype, seed: int = 0) -> Any:
    """Return three elements, each a leaf's row."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn((3, 8), generator=generator, dtype=torch.float64)
    if name == "SO(2)":
        return (draw[:, :2] / draw[:, :2].norm(dim=-1, keepdim=True)).to(dtype)
    q = draw[:, 3:7] / draw[:, 3:7].norm(dim=-1, keepdim=True)
    by_part = {"t": draw[:, :3], "q": q * q[:, 3:].sign(), "s": draw[:, 7:].exp()}
    return torch.cat([by_part[part] for part in PARTS[name]], -1).to(dtype)
