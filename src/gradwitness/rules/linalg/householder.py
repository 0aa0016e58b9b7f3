"""Orthogonal matrices as products of reflections, each given by a vector and a factor.

``H_i = I - tau_i v_i v_i^T``, where v_i is column i of a matrix below its diagonal, 1 on it, and 0
above; ^T conjugates too. The gradient is a sweep over
``K_i = (H_{i+1} ... H_k I) (H_{i-1}^T ... H_1^T g)^T``, which begins with ``H_1^-1 y g^T`` and goes
on with ``H_{i+1}^-1 K_i H_i``: K_i is the gradient of H_i, transposed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.rules.linalg.solving import adjoint
from gradwitness.rules.registry import Array, rule

if TYPE_CHECKING:
    from collections.abc import Iterator


def _vector(A: Array, i: int) -> Array:
    """Return v_i as a column."""
    rows = np.arange(A.shape[-2])
    return np.expand_dims(np.where(rows > i, A[..., i], np.where(rows == i, 1.0, 0.0)), -1)


def _reflected(v: Array, factor: Array, X: Array) -> Array:
    """Return (I - factor v v^T) X."""
    return X - factor[..., None, None] * v * (adjoint(v) @ X)


@rule(
    "aten.linalg_householder_product",
    "y = reflections(A, tau)",
    meaning="undoes one reflection after the other; the vector of each gets minus tau times the "
    "gradient of that reflection, made symmetric, times the vector, and tau minus the vector times "
    "the same on both sides",
    composite=True,
)
def householder_product(A: Array, tau: Array) -> Array:
    Q = np.zeros_like(A) + np.eye(*A.shape[-2:])
    for i in reversed(range(tau.shape[-1])):
        Q = _reflected(_vector(A, i), tau[..., i], Q)
    return Q


def _swept(g: Array, y: Array, A: Array, tau: Array) -> Iterator[tuple[Array, Array]]:
    """Go through the reflections: each one's vector, and its gradient transposed."""
    count = tau.shape[-1]
    vectors = [_vector(A, i) for i in range(count)]
    K = y @ adjoint(g)
    for i, v in enumerate(vectors):
        t = tau[..., i]
        # The inverse reflects along the same vector: its factor is t / (t |v|^2 - 1).
        square = np.sum(np.real(np.conjugate(v) * v), axis=(-2, -1))
        K = _reflected(v, t / (t * square - 1), K)
        yield v, K
        K = adjoint(_reflected(v, np.conjugate(t), adjoint(K)))


@householder_product.vjp("A", "to_vectors(g, A, tau)")
def _(g: Array, y: Array, A: Array, tau: Array) -> Array:
    columns = []
    for i, (v, K) in enumerate(_swept(g, y, A, tau)):
        t = tau[..., i, None]
        columns.append(-(t * (K @ v)[..., 0] + np.conjugate(t) * (adjoint(K) @ v)[..., 0]))
    columns += [np.zeros_like(A[..., 0])] * (A.shape[-1] - len(columns))
    return np.tril(np.stack(columns, axis=-1), -1)


@householder_product.vjp("tau", "to_factors(g, A, tau)")
def _(g: Array, y: Array, A: Array, tau: Array) -> Array:
    factors = [-(adjoint(v) @ (adjoint(K) @ v))[..., 0, 0] for v, K in _swept(g, y, A, tau)]
    return np.stack(factors, axis=-1)
