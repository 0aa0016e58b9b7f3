"""Orthogonal matrices as products of reflections, each given by a vector and a factor, and Q R.

``H_i = I - tau_i v_i v_i^T``, where v_i is column i of a matrix below its diagonal, 1 on it, and 0
above; ^T conjugates too. The gradient is a sweep over
``K_i = (H_{i+1} ... H_k I) (H_{i-1}^T ... H_1^T g)^T``, which begins with ``H_1^-1 y g^T`` and goes
on with ``H_{i+1}^-1 K_i H_i``: K_i is the gradient of H_i, transposed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.rules.linalg.factor_dispatch import householder, reflectors
from gradwitness.rules.linalg.solving import adjoint
from gradwitness.rules.registry import Array, rule

if TYPE_CHECKING:
    from collections.abc import Iterator


def _vector(A: Array, i: int) -> Array:
    """Return v_i as a column."""
    rows = np.arange(A.shape[-2], like=A)
    return np.expand_dims(np.where(rows > i, A[..., i], np.where(rows == i, 1.0, 0.0)), -1)


@rule(
    "aten.linalg_householder_product",
    "y = reflections(A, tau)",
    meaning="undoes one reflection after the other; the vector of each gets minus tau times the "
    "gradient of that reflection, made symmetric, times the vector, and tau minus the vector times "
    "the same on both sides",
    composite=True,
)
def householder_product(A: Array, tau: Array) -> Array:
    Q = np.zeros_like(A) + np.asarray(np.eye(*A.shape[-2:]), like=A)
    for i in reversed(range(tau.shape[-1])):
        Q = householder(Q, _vector(A, i), tau[..., i])
    return Q


@rule("aten.geqrf", "y = reflectors(A)", given={"vectors": 0, "tau": 1})
def geqrf(A: Array, *, vectors: Array, tau: Array) -> tuple[Array, Array]:
    factors: tuple[Array, Array] = reflectors(A, packed=vectors, tau=tau)
    return factors


def _swept(
    g: Array, y: Array, A: Array, tau: Array, backwards: bool = False
) -> Iterator[tuple[int, Array, Array, Array]]:
    """Go through the reflections: number, vector, factor, and the gradient of each, transposed.

    From the first on, or from the last, of those whose factors are conjugated.
    """
    K = y @ adjoint(g)
    count = tau.shape[-1]
    for i in reversed(range(count)) if backwards else range(count):
        v, t = _vector(A, i), np.conjugate(tau[..., i]) if backwards else tau[..., i]
        # The inverse reflects along the same vector: its factor is t / (t |v|^2 - 1).
        square = np.sum(np.real(np.conjugate(v) * v), axis=(-2, -1))
        K = householder(K, v, t / (t * square - 1))
        yield i, v, t[..., None], K
        K = householder(K, v, t, right=True)


def _to_vectors(g: Array, y: Array, A: Array, tau: Array, backwards: bool = False) -> Array:
    columns = [np.zeros_like(A[..., 0])] * A.shape[-1]
    for i, v, t, K in _swept(g, y, A, tau, backwards):
        columns[i] = -(t * (K @ v)[..., 0] + np.conjugate(t) * (adjoint(K) @ v)[..., 0])
    return np.tril(np.stack(columns, axis=-1), -1)


def _to_factors(g: Array, y: Array, A: Array, tau: Array, backwards: bool = False) -> Array:
    factors = {
        i: -(adjoint(v) @ (adjoint(K) @ v))[..., 0, 0]
        for i, v, _, K in _swept(g, y, A, tau, backwards)
    }
    found = np.stack([factors[i] for i in range(len(factors))], axis=-1)
    return np.conjugate(found) if backwards else found


@householder_product.vjp("A", "to_vectors(g, A, tau)")
def _(g: Array, y: Array, A: Array, tau: Array) -> Array:
    return _to_vectors(g, y, A, tau)


@householder_product.vjp("tau", "to_factors(g, A, tau)")
def _(g: Array, y: Array, A: Array, tau: Array) -> Array:
    return _to_factors(g, y, A, tau)


def _as_left(X: Array, left: bool) -> Array:
    """Return what stands left of the reflections, transposed, as what stands right of them."""
    return X if left else adjoint(X)


def _applied(A: Array, tau: Array, C: Array, left: bool, transpose: bool) -> Array:
    """Multiply by all reflections in turn, the last one first, or by the first one's inverse."""
    X, count = _as_left(C, left), tau.shape[-1]
    inverse = transpose is left
    for i in range(count) if inverse else reversed(range(count)):
        X = householder(X, _vector(A, i), np.conjugate(tau[..., i]) if inverse else tau[..., i])
    return _as_left(X, left)


@rule(
    "aten.ormqr",
    "y = reflecting(A, tau, C, left, transpose)",
    meaning="reflects the gradient the other way round, and undoes one reflection after the other "
    "for their vectors and factors, as for a product of reflections",
    composite=True,
)
def ormqr(A: Array, tau: Array, C: Array, *, left: bool = True, transpose: bool = False) -> Array:
    return _applied(A, tau, C, left, transpose)


@ormqr.vjp("A", "to_reflecting(g, A, tau, C, left, transpose)")
def _(g: Array, y: Array, A: Array, tau: Array, *, left: bool, transpose: bool) -> Array:
    return _to_vectors(_as_left(g, left), _as_left(y, left), A, tau, transpose is left)


@ormqr.vjp("tau", "to_factors_reflecting(g, A, tau, C, left, transpose)")
def _(g: Array, y: Array, A: Array, tau: Array, *, left: bool, transpose: bool) -> Array:
    return _to_factors(_as_left(g, left), _as_left(y, left), A, tau, transpose is left)


@ormqr.vjp("C", "reflecting(A, tau, g, left, not transpose)")
def _(g: Array, A: Array, tau: Array, *, left: bool, transpose: bool) -> Array:
    return _applied(A, tau, g, left, not transpose)
