"""Factors of matrices: Cholesky's, eigenvectors, singular vectors, and Q R.

The gradients follow from the differentials of the defining equations (M. B. Giles, *Collected
matrix derivative results for forward and reverse mode algorithmic differentiation*, 2008; for
Cholesky's factor also I. Murray, *Differentiation of the Cholesky decomposition*, 2016, and for
singular vectors J. Townsend, *Differentiating the singular value decomposition*, 2016). Where only
one triangle of a symmetric matrix is read, the gradient is that within the symmetric matrices.
Where numbers are complex, symmetric is Hermitian, and what is transposed is conjugated too: ^T.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.kernel_ops import is_complex, over, solved
from gradwitness.rules.linalg.factor_dispatch import (
    cholesky_factor,
    eigenpairs,
    orthogonal_factors,
    over_gaps,
    singular_factors,
    spectrum,
)
from gradwitness.rules.linalg.solving import adjoint, from_left, turned
from gradwitness.rules.registry import Array, Shaped, rule


def symmetric(A: Array, upper: bool) -> Array:
    """Return the symmetric matrix of which a triangle is given."""
    read = np.tri(A.shape[-1], dtype=bool, like=A)
    half = np.where(turned(read) if upper else read, A, adjoint(A))
    return np.where(np.identity(A.shape[-1], dtype=bool, like=A), np.real(half), half)


def _cholesky(A: Array, upper: bool) -> Array:
    L = cholesky_factor(symmetric(A, upper))
    return adjoint(L) if upper else L


def _to_cholesky(g: Array, y: Array, upper: bool) -> Array:
    """From dL = L P, where P is the lower half of L^-1 dA L^-T with its diagonal halved."""
    L, g = (adjoint(y), adjoint(g)) if upper else (y, g)
    lower = np.tril(adjoint(L) @ g)
    # The diagonal is real: what came in of an imaginary part stays, as torch has it, and no
    # Hermitian change of the matrix feels it.
    half = (lower + adjoint(np.tril(lower, -1))) / 2
    inner = from_left(np.conjugate(L), half, True, triangular=True, adjoint=True)
    return from_left(L, inner, False, triangular=True)


_MEANING = (
    "takes the lower half of L^T times the gradient, made symmetric, through L^-T on the left "
    "and L^-1 on the right"
)


@rule(
    "aten.linalg_cholesky_ex",
    "y = cholesky_of(A, upper), None",
    meaning=_MEANING,
    ignores=("check_errors",),
)
def cholesky_ex(A: Array, *, upper: bool = False) -> tuple[Array, None]:
    return _cholesky(A, upper), None


cholesky_ex.vjp("A", "to_cholesky(g[0], A, upper)")(
    lambda g, y0, *, upper: _to_cholesky(g[0], y0, upper)
)


@rule("aten.cholesky", "y = cholesky_of(A, upper)", meaning=_MEANING)
def cholesky(A: Array, *, upper: bool = False) -> Array:
    return _cholesky(A, upper)


cholesky.vjp("A", "to_cholesky(g, A, upper)")(lambda g, y, *, upper: _to_cholesky(g, y, upper))


def _turning(V: Array, g: Array, values: Array) -> Array:
    """Return V^T g less its transpose, divided by the gaps, where any gradient of V came in."""
    turn = adjoint(V) @ g
    wanted = np.any(np.not_equal(g, 0), axis=(-2, -1))
    return over_gaps(turn - adjoint(turn), values=values, wanted=np.asarray(wanted, like=g))


@rule(
    "aten._linalg_eigh",
    "y = eigenvalues(A, UPLO), eigenvectors(A, UPLO, vectors)",
    meaning="divides the skew part of V^T times the gradient of the vectors V by the gaps between "
    "eigenvalues, puts the gradient of those on the diagonal, and turns it back with V and V^T",
    given={"values": 0, "vectors": 1},
    ignores=("compute_v",),
)
def eigh(A: Array, *, UPLO: str = "L", values: Array, vectors: Array) -> tuple[Array, Array]:
    matrix = symmetric(A, UPLO == "U")
    factors: tuple[Array, Array] = spectrum(matrix, values=values, vectors=vectors)
    return factors


@eigh.vjp("A", "to_spectrum(g[0], g[1], A, y[1])")
def _(g: Any, y0: Array, y1: Array, A: Shaped) -> Array:
    """From dl_i = (V^T dA V)_ii, and V^T dV = (V^T dA V)_ij / (l_j - l_i) off the diagonal."""
    inner = _turning(y1, g[1], y0) / 2
    inner = np.where(np.identity(A.shape[-1], dtype=bool, like=y1), g[0][..., None, :], inner)
    return y1 @ inner @ adjoint(y1)


def _eigenpairs(A: Array, values: Array, vectors: Array) -> tuple[Array, Array]:
    pairs: tuple[Array, Array] = eigenpairs(A, values=values, vectors=vectors)
    return pairs


@rule(
    "aten.linalg_eig",
    "y = any_eigenvalues(A, values), any_eigenvectors(A, values, vectors)",
    meaning="takes V^T V times the real diagonal of V^T times the gradient of the vectors V from "
    "the latter, divides by the gaps between eigenvalues, puts the gradient of those on the "
    "diagonal, and turns it back with V^-T and V^T",
    given={"values": 0, "vectors": 1},
)
def eig(A: Array, *, values: Array, vectors: Array) -> tuple[Array, Array]:
    return _eigenpairs(A, values, vectors)


@eig.vjp("A", "to_eigenpairs(g[0], g[1], y[0], y[1])")
def _(g: Any, y0: Array, y1: Array) -> Array:
    """From P = V^-1 dA V: dl = P_ii, and V^-1 dV = P_ij / (l_j - l_i) off the diagonal.

    On it stands what keeps each vector's length 1. No loss may depend on its phase.
    """
    turn = adjoint(y1) @ g[1]
    wanted = np.asarray(np.any(np.not_equal(g[1], 0), axis=(-2, -1)), like=y1)
    diagonal = np.identity(y0.shape[-1], dtype=bool, like=y1)
    lengths = np.real(np.sum(np.conjugate(y1) * g[1], axis=-2))
    inner = turn - (adjoint(y1) @ y1) * lengths[..., None, :]
    inner = over_gaps(inner, values=np.conjugate(y0), wanted=wanted)
    inner = np.where(diagonal, g[0][..., None, :], inner)
    # What is factored is V^T itself, whose elimination may grow otherwise than that of V.
    return solved(adjoint(y1), inner @ adjoint(y1))


@rule("aten._linalg_eigvals", "y = any_eigenvalues(A, values)", given={"values": 0})
def eigvals(A: Array, *, values: Array) -> Array:
    return _eigenpairs(A, values, np.zeros(0, like=A))[0]


@rule(
    "aten._linalg_svd",
    "y = singular(A, U, Vh)",
    meaning="divides the skew parts of U^T and V^T times the gradients of U and V by the gaps "
    "between squared singular values, puts the gradient of those on the diagonal, turns it back "
    "with U and V^T, and adds what leaves the spaces that these span",
    given={"U": 0, "S": 1, "Vh": 2},
    ignores=("full_matrices", "compute_uv", "driver"),
)
def svd(A: Array, *, U: Array, S: Array, Vh: Array) -> tuple[Array, Array, Array]:
    factors: tuple[Array, Array, Array] = singular_factors(A, U=U, S=S, Vh=Vh)
    return factors


def _leaving(g: Array, U: Array, s: Array) -> Array:
    """Return (I - U U^T) g / s, the part of a change that leaves the columns' space."""
    moved = np.not_equal(g, 0)
    divided = np.where(moved, g / np.where(moved, s[..., None, :], 1), 0)
    return divided - U @ (adjoint(U) @ divided)


@svd.vjp("A", "to_singular(*g, *y)")
def _(g: Any, y0: Array, y1: Array, y2: Array, A: Shaped) -> Array:
    """From P = U^T dA V: dS is its diagonal; P S + S P^T and S P + P^T S hold dU and dV.

    The diagonal's imaginary part turns complex u against v, no matter which of them.
    """
    k = y1.shape[-1]
    u, s, v = y0[..., :k], y1, adjoint(y2)[..., :k]
    gu, gv = g[0][..., :k], adjoint(g[2])[..., :k]
    of_u, of_v = _turning(u, gu, s * s), _turning(v, gv, s * s)
    inner = of_u * s[..., None, :] + of_v * s[..., :, None]
    diagonal = g[1]
    if is_complex(y0) and y0.size:
        turn, other = (
            np.imag(np.sum(np.conjugate(x) * gx, axis=-2)) for x, gx in ((u, gu), (v, gv))
        )
        # No loss may depend on a turn of both, so their sum is 0 but for rounding, which torch
        # multiplies by 2 s.
        against = over(turn, s) if np.any(np.not_equal(gv, 0)) else 0
        diagonal = diagonal + 1j * (against + 2 * s * (turn + other))
    inner = np.where(np.identity(k, dtype=bool, like=s), diagonal[..., None, :], inner)
    gradient = u @ inner @ adjoint(v)
    if A.shape[-2] > k:
        gradient = gradient + _leaving(gu, u, s) @ adjoint(v)
    if A.shape[-1] > k:
        gradient = gradient + u @ adjoint(_leaving(gv, v, s))
    return gradient


@rule(
    "aten.linalg_qr",
    "y = orthogonal(A, Q, R)",
    meaning="adds Q times a symmetric matrix to the gradient of Q, of which the upper half is that "
    "of the gradient of R times R^T less Q^T times the gradient of Q, and takes the sum through "
    "R^-T on the right; what lies right of a square R leads through Q^T first",
    given={"Q": 0, "R": 1},
    ignores=("mode",),
)
def qr(A: Array, *, Q: Array, R: Array) -> tuple[Array, Array]:
    factors: tuple[Array, Array] = orthogonal_factors(A, Q=Q, R=R)
    return factors


@qr.vjp("A", "to_orthogonal(*g, *y)")
def _(g: Any, y: Any, A: Shaped) -> Array:
    """From dA R^-1 = dQ + Q dR R^-1, of which Q^T dQ is skew and dR R^-1 an upper triangle."""
    (q, r), (gq, gr) = y, g
    m, n = A.shape[-2:]
    if q.shape[-1] != min(m, n):
        raise NotImplementedError("columns of Q beyond those of A")
    if m >= n:
        return _to_orthogonal(gq, gr, q, r)
    # A = [X Z], X = Q R, and the rest is W = Q^T Z.
    rest = gr[..., m:]
    inner = _to_orthogonal(gq + (q @ r[..., m:]) @ adjoint(rest), gr[..., :m], q, r[..., :m])
    return np.concatenate([inner, q @ rest], axis=-1)


def _to_orthogonal(gq: Array, gr: Array, q: Array, r: Array) -> Array:
    upper = np.triu(gr @ adjoint(r) - adjoint(q) @ gq)
    both = np.where(
        np.identity(r.shape[-1], dtype=bool, like=r), np.real(upper), upper + adjoint(upper)
    )
    return from_left(np.conjugate(r), gq + q @ both, False, triangular=True, adjoint=True)
