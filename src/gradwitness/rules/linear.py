"""Matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.registry import Array, rule


@rule(
    "aten.mm",
    "y = A @ B",
    meaning="multiplies the gradient by the other matrix, transposed: g B^T and A^T g",
)
def mm(A: Array, B: Array) -> Array:
    return A @ B


@mm.vjp("A", "g @ B.T")
def _(g: Array, y: Array, A: Array, B: Array) -> Array:
    return g @ B.T


@mm.vjp("B", "A.T @ g")
def _(g: Array, y: Array, A: Array, B: Array) -> Array:
    return A.T @ g


@rule(
    "aten.addmm",
    "y = alpha * (A @ B) + beta * b",
    meaning="sends g B^T and A^T g to the factors, and the gradient summed over the batch to the "
    "bias",
)
def addmm(b: Array, A: Array, B: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    return alpha * (A @ B) + beta * b


@addmm.vjp("b", "beta * g")
def _(g: Array, y: Array, b: Array, A: Array, B: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    return beta * g


@addmm.vjp("A", "alpha * (g @ B.T)")
def _(g: Array, y: Array, b: Array, A: Array, B: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    return alpha * (g @ B.T)


@addmm.vjp("B", "alpha * (A.T @ g)")
def _(g: Array, y: Array, b: Array, A: Array, B: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    return alpha * (A.T @ g)


@rule(
    "aten.bmm",
    "y = A @ B",
    meaning="multiplies the gradient by the other matrix, transposed, for each member of the batch",
)
def bmm(A: Array, B: Array) -> Array:
    return A @ B


@bmm.vjp("A", "g @ swap(B, 1, 2)")
def _(g: Array, y: Array, A: Array, B: Array) -> Array:
    return g @ np.swapaxes(B, 1, 2)


@bmm.vjp("B", "swap(A, 1, 2) @ g")
def _(g: Array, y: Array, A: Array, B: Array) -> Array:
    return np.swapaxes(A, 1, 2) @ g


@rule(
    "aten.mv",
    "y = A @ v",
    meaning="sends the outer product g v^T to the matrix, A^T g to the vector",
)
def mv(A: Array, v: Array) -> Array:
    return A @ v


@mv.vjp("A", "outer(g, v)")
def _(g: Array, y: Array, A: Array, v: Array) -> Array:
    return g.reshape(-1, 1) * v.reshape(1, -1)


@mv.vjp("v", "A.T @ g")
def _(g: Array, y: Array, A: Array, v: Array) -> Array:
    return A.T @ g


@rule(
    "aten.dot",
    "y = a @ b",
    meaning="multiplies the other vector by the gradient",
    aliases=("aten.vdot",),
)
def dot(a: Array, b: Array) -> Array:
    return a @ b


@dot.vjp("a", "g * b")
def _(g: Array, y: Array, a: Array, b: Array) -> Array:
    return g * b


@dot.vjp("b", "g * a")
def _(g: Array, y: Array, a: Array, b: Array) -> Array:
    return g * a


@rule(
    "aten.baddbmm",
    "y = alpha * (A @ B) + beta * b",
    meaning="sends g B^T and A^T g to the factors, for each member of the batch, and the gradient "
    "to the summand",
)
def baddbmm(b: Array, A: Array, B: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    return alpha * (A @ B) + beta * b


@baddbmm.vjp("b", "beta * g")
def _(g: Array, y: Array, b: Array, A: Array, B: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    return beta * g


@baddbmm.vjp("A", "alpha * (g @ swap(B, 1, 2))")
def _(g: Array, y: Array, b: Array, A: Array, B: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    return alpha * (g @ np.swapaxes(B, 1, 2))


@baddbmm.vjp("B", "alpha * (swap(A, 1, 2) @ g)")
def _(g: Array, y: Array, b: Array, A: Array, B: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    return alpha * (np.swapaxes(A, 1, 2) @ g)
