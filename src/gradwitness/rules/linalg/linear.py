"""Matrix products, and the product of three tensors that bilinear layers are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.kernel_ops import accumulate_in_format, continue_from, times
from gradwitness.rules.registry import Array, rule


@rule(
    "aten.mm",
    "y = A @ B",
    meaning="multiplies the gradient by the other matrix, transposed: g B^T and A^T g",
    apart="ik,kj->ij",
)
def mm(A: Array, B: Array) -> Array:
    return A @ B


mm.vjps(A="g @ B.T", B="A.T @ g")


def _added_product(b: Array, A: Array, B: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    return continue_from(times(alpha, A @ B), times(beta, b), A.shape[-1])


addmm = rule(
    "aten.addmm",
    "y = alpha * (A @ B) + beta * b",
    meaning="sends g B^T and A^T g to the factors, and the gradient summed over the batch to the "
    "bias",
    apart="ij,ik,kj->ij",
)(_added_product)
addmm.vjps(b="beta * g", A="alpha * (g @ B.T)", B="alpha * (A.T @ g)")


@rule(
    "aten.bmm",
    "y = A @ B",
    meaning="multiplies the gradient by the other matrix, transposed, for each member of the batch",
    apart="nik,nkj->nij",
)
def bmm(A: Array, B: Array) -> Array:
    return A @ B


bmm.vjps(A="g @ swap(B, 1, 2)", B="swap(A, 1, 2) @ g")


@rule(
    "aten.mv",
    "y = A @ v",
    meaning="sends the outer product g v^T to the matrix, A^T g to the vector",
)
def mv(A: Array, v: Array) -> Array:
    return A @ v


mv.vjps(A="outer(g, v)", v="A.T @ g")


@rule(
    "aten.dot",
    "y = a @ b",
    meaning="multiplies the other vector by the gradient",
)
def dot(a: Array, b: Array) -> Array:
    return a @ b


dot.vjps(a="g * b", b="g * a")


baddbmm = rule(
    "aten.baddbmm",
    "y = alpha * (A @ B) + beta * b",
    meaning="sends g B^T and A^T g to the factors, for each member of the batch, and the gradient "
    "to the summand",
    apart="nij,nik,nkj->nij",
)(_added_product)
_BATCHED = {
    "b": "beta * g",
    "A": "alpha * (g @ swap(B, 1, 2))",
    "B": "alpha * (swap(A, 1, 2) @ g)",
}
baddbmm.vjps(**_BATCHED)


def _three(a: Array, b: Array, c: Array, *, added: Any, summed: Any, unrolled: int = 1) -> Array:
    """Multiply three tensors, to each of which axes of length 1 are added first; sum over axes.

    Torch walks along one axis and, where it is summed over, stores each partial sum.
    """
    items = [np.expand_dims(x, axis) for x, axis in zip((a, b, c), added, strict=True)]
    sizes = np.broadcast_shapes(*(item.shape for item in items))
    product = np.broadcast_to(items[0] * items[1] * items[2], sizes)
    if unrolled in summed:
        inner = tuple(axis for axis in summed if axis != unrolled)
        product = accumulate_in_format(np.sum(product, axis=inner, keepdims=True))
    return np.sum(product, axis=tuple(summed))


@rule(
    "aten._trilinear",
    "y = trilinear(a, b, c, expand1, expand2, expand3, sumdim)",
    meaning="multiplies the gradient by the two other tensors, and sums over the axes that this "
    "one does not have",
    composite=True,
)
def trilinear(
    a: Array,
    b: Array,
    c: Array,
    *,
    expand1: Any,
    expand2: Any,
    expand3: Any,
    sumdim: Any,
    unroll_dim: int = 1,
) -> Array:
    return _three(a, b, c, added=(expand1, expand2, expand3), summed=sumdim, unrolled=unroll_dim)


@trilinear.vjp("a", "trilinear(g, b, c, sumdim, expand2, expand3, expand1)")
def _(g: Array, b: Array, c: Array, **at: Any) -> Array:
    return _three(g, b, c, added=(at["sumdim"], at["expand2"], at["expand3"]), summed=at["expand1"])


@trilinear.vjp("b", "trilinear(a, g, c, expand1, sumdim, expand3, expand2)")
def _(g: Array, a: Array, c: Array, **at: Any) -> Array:
    return _three(a, g, c, added=(at["expand1"], at["sumdim"], at["expand3"]), summed=at["expand2"])


@trilinear.vjp("c", "trilinear(a, b, g, expand1, expand2, sumdim, expand3)")
def _(g: Array, a: Array, b: Array, **at: Any) -> Array:
    return _three(a, b, g, added=(at["expand1"], at["expand2"], at["sumdim"]), summed=at["expand3"])


@rule(
    "aten.addmv",
    "y = alpha * (A @ v) + beta * b",
    meaning="sends the outer product g v^T to the matrix, A^T g to the vector, and the gradient to "
    "the summand",
)
def addmv(b: Array, A: Array, v: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    return continue_from(times(alpha, A @ v), times(beta, b), A.shape[-1])


addmv.vjps(b="beta * g", A="alpha * outer(g, v)", v="alpha * (A.T @ g)")


@rule(
    "aten.addr",
    "y = alpha * outer(u, v) + beta * b",
    meaning="multiplies the gradient by the other vector, and hands it on to the summand",
    composite=True,
)
def addr(b: Array, u: Array, v: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    return beta * b + alpha * u.reshape(-1, 1) * v.reshape(1, -1)


addr.vjps(b="beta * g", u="alpha * (g @ v)", v="alpha * (g.T @ u)")


@rule(
    "aten.addbmm",
    "y = alpha * sum(A @ B, [0], False) + beta * b",
    meaning="sends g B^T and A^T g to the factors, for each member of the batch, and the gradient "
    "to the summand",
    composite=True,
)
def addbmm(b: Array, A: Array, B: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    # One product after the other is added, and every partial sum is stored.
    y = np.broadcast_to(beta * b, (A.shape[1], B.shape[2]))
    for member in range(A.shape[0]):
        y = continue_from(alpha * (A[member] @ B[member]), y, A.shape[-1])
    return y


addbmm.vjps(**_BATCHED)
