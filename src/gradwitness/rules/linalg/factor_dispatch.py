"""Factors of matrices, as kernels make them: an array type may bring its own, with bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from gradwitness.rules.kernel_ops import replaceable
from gradwitness.rules.linalg.solving import adjoint, turned

if TYPE_CHECKING:
    from gradwitness.rules.registry import Array


@replaceable
def cholesky_factor(A: Array) -> Array:
    """Return the lower triangle L of A = L L^H with a positive diagonal."""
    return np.linalg.cholesky(A)


@replaceable
def eliminated(A: Array) -> tuple[Array, Array]:
    """Return L with ones on its diagonal, and U, of A = L U: no rows are exchanged."""
    left = np.copy(A)
    for j in range(A.shape[-1]):
        left[..., j + 1 :, j] /= left[..., j, j, None]
        left[..., j + 1 :, j + 1 :] -= left[..., j + 1 :, j, None] * left[..., j, None, j + 1 :]
    return np.tril(left, -1) + np.identity(A.shape[-1], like=A), np.triu(left)


def aligned(own: Array, recorded: Array) -> Array:
    """Give each column the sign that it has in what was recorded: any is right."""
    along = np.sum(np.conjugate(own) * recorded, axis=-2, keepdims=True)
    size = np.abs(along)
    return own * np.where(size > 0, along / np.where(size > 0, size, 1), 1)


@replaceable
def spectrum(
    A: Array,
    *,
    values: Array,  # noqa: ARG001 (taken with bounds)
    vectors: Array,
) -> tuple[Array, Array]:
    """Return the eigenvalues of a Hermitian matrix, ascending, and its eigenvectors.

    Vectors of any sign are right, and any basis of them where values coincide: the signs follow the
    recorded ones. With bounds, recorded vectors are taken where they satisfy the equations.
    """
    own, made = np.linalg.eigh(A)
    return own, aligned(made, vectors) if vectors.size else vectors


@replaceable
def eigenpairs(A: Array, *, values: Array, vectors: Array) -> tuple[Array, Array]:
    """Return the eigenvalues of any matrix, and eigenvectors of length 1, as they were recorded.

    That is in the order and with the phases of the recorded ones. With bounds, these are taken
    where they satisfy the equations.
    """
    own, made = np.linalg.eig(A)
    own, made = own.astype(np.complex128), made.astype(np.complex128)
    for at in np.ndindex(A.shape[:-2]):
        distances = np.abs(values[at][:, None] - own[at])
        _, order = scipy.optimize.linear_sum_assignment(distances)
        own[at], made[at] = own[at][order], made[at][:, order]
    return own, aligned(made, vectors) if vectors.size else vectors


@replaceable
def over_gaps(X: Array, *, values: Array, wanted: Array) -> Array:
    """Divide each number off the diagonal by the gap between two of some values, column minus row.

    The diagonal is 0, and so are matrices that are not wanted, whatever their gaps.
    """
    gaps = values[..., None, :] - values[..., :, None]
    kept = wanted[..., None, None] & ~np.identity(X.shape[-1], dtype=bool, like=X)
    return np.where(kept, X / np.where(kept, gaps, 1), 0)


@replaceable
def singular_factors(A: Array, *, U: Array, S: Array, Vh: Array) -> tuple[Array, Array, Array]:
    """Return U, the singular values, descending, and V^H of A = U S V^H, with recorded signs.

    With bounds, recorded vectors are taken where they satisfy the equations.
    """
    if not U.size:
        return U, np.linalg.svd(A, compute_uv=False), Vh
    u, s, vh = np.linalg.svd(A, full_matrices=U.shape[-1] + Vh.shape[-2] > 2 * S.shape[-1])
    k = S.shape[-1]
    both = np.concatenate([u[..., :k], adjoint(vh[..., :k, :])], axis=-2)
    other = np.concatenate([U[..., :k], adjoint(Vh[..., :k, :])], axis=-2)
    both = aligned(both, other)
    u = np.concatenate([both[..., : A.shape[-2], :], u[..., k:]], axis=-1)
    v = adjoint(both[..., A.shape[-2] :, :])
    return u, s, np.concatenate([v, vh[..., k:, :]], axis=-2)


@replaceable
def orthogonal_factors(A: Array, *, Q: Array, R: Array) -> tuple[Array, Array]:
    """Return Q and the upper triangle R of A = Q R, with the signs of the recorded ones.

    With bounds, recorded factors are taken where they satisfy the equations.
    """
    q, r = np.linalg.qr(A, mode="complete" if R.shape[-2] == A.shape[-2] else "reduced")
    k = min(A.shape[-2:])
    rows = turned(r[..., :k, :])
    r = np.concatenate(
        [turned(aligned(rows, turned(R[..., :k, :]))), r[..., k:, :]],
        axis=-2,
    )
    return (aligned(q, Q) if Q.size else Q), r


@replaceable
def reflectors(
    A: Array,
    *,
    packed: Array,  # noqa: ARG001 (taken with bounds)
    tau: Array,  # noqa: ARG001
) -> tuple[Array, Array]:
    """Return R with the vectors of reflections below it, and their factors.

    With bounds, recorded ones are taken where they satisfy the equations.
    """
    h, factors = np.linalg.qr(A, mode="raw")
    return turned(h), factors


@replaceable
def householder(X: Array, v: Array, factor: Array, *, right: bool = False) -> Array:
    """Return (I - factor v v^H) X, v being a column; or X (I - factor v v^H), on its right."""
    scaled = factor[..., None, None] * v
    return X - (X @ scaled) * adjoint(v) if right else X - scaled * (adjoint(v) @ X)


@replaceable
def reflected(B: Array, *, count: int) -> Array:  # noqa: ARG001 (the bound depends on it)
    """Return columns after so many reflections and their inverses, which only round."""
    return B


@replaceable
def exponential(A: Array) -> Array:
    """Return the sum of all A^k / k!."""
    return scipy.linalg.expm(A) if A.size else np.copy(A)


@replaceable
def pseudoinverse(A: Array, *, atol: Any, rtol: Any, recorded: Array | None = None) -> Array:  # noqa: ARG001 (tells with bounds which values were left out)
    """Return the pseudoinverse; singular values up to a limit count as 0."""
    u, s, vh = np.linalg.svd(A, full_matrices=False)
    return inverted(u, s, vh, s > least_value(s, A.shape, atol, rtol))


def inverted(u: Array, s: Array, vh: Array, kept: Array) -> Array:
    """Return the pseudoinverse from singular vectors and values, of which some count as 0."""
    inverse = np.where(kept, 1 / np.where(kept, s, 1.0), 0.0)
    product: Array = adjoint(vh) @ (inverse[..., None] * adjoint(u))
    return product


def least_value(s: Array, shape: tuple[int, ...], atol: Any, rtol: Any) -> Array:
    """Return the limit: the larger of an absolute one and of a share of the largest value."""
    usual = 0.0 if atol is not None else np.finfo(np.float64).eps * max(shape[-2:])
    share = np.asarray(usual if rtol is None else rtol, like=s)[..., None]
    least = np.asarray(0.0 if atol is None else atol, like=s)[..., None]
    return np.maximum(least, share * (np.max(s, axis=-1, keepdims=True) if s.shape[-1] else 0.0))
