"""Systems of linear equations, inverses and determinants."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.kernel_ops import determinant, is_complex, solved
from gradwitness.rules.registry import Array, rule


def turned(A: Array) -> Array:
    """Return the transpose of each matrix."""
    return np.swapaxes(A, -1, -2)


def adjoint(A: Array) -> Array:
    """Return the transpose of each matrix, conjugated."""
    return np.conjugate(turned(A))


def is_vector(A: Array, B: Array) -> bool:
    """Whether a right-hand side is one vector for each matrix."""
    return bool(B.ndim == 1 or (B.ndim == A.ndim - 1 and B.shape == A.shape[:-1]))


def as_columns(A: Array, B: Array) -> Array:
    """Return a right-hand side, or a solution, as columns."""
    return np.expand_dims(B, -1) if is_vector(A, B) else B


def from_left(A: Array, B: Array, left: bool, **form: bool) -> Array:
    """Solve A X = B, or X A = B."""
    if left:
        return solved(A, B, **form)
    return turned(solved(A, turned(B), **form | {"adjoint": not form.get("adjoint", False)}))


_MEANING = "solves the transposed system for the gradient; the matrix gets minus that times the {}"


@rule(
    "aten._linalg_solve_ex",
    "y = solution(A, B, left), None, None, None",
    meaning=_MEANING.format("solution, transposed"),
    ignores=("check_errors",),
)
def solve(A: Array, B: Array, *, left: bool = True) -> tuple[Array, None, None, None]:
    x = from_left(A, as_columns(A, B), left)
    return (x[..., 0] if is_vector(A, B) else x), None, None, None


def _solve_back(g: Any, A: Array, left: bool) -> Array:
    return from_left(A, as_columns(A, g[0]), left, adjoint=True)


@solve.vjp("A", "to_system(g[0], A, B, left)")
def _(g: Any, y0: Array, A: Array, B: Array, *, left: bool) -> Array:
    back = _solve_back(g, A, left)
    x = np.expand_dims(y0, -1) if is_vector(A, B) else y0
    return -(back @ turned(x)) if left else -(turned(x) @ back)


@solve.vjp("B", "to_right_hand_side(g[0], A, B, left)")
def _(g: Any, A: Array, B: Array, *, left: bool) -> Array:
    back = _solve_back(g, A, left)
    return back[..., 0] if is_vector(A, B) else back


@rule(
    "aten.linalg_inv_ex",
    "y = inverse(A), None",
    meaning="multiplies the gradient by minus the transposed inverse on either side",
    ignores=("check_errors",),
)
def inverse(A: Array) -> tuple[Array, None]:
    return solved(A, np.broadcast_to(np.identity(A.shape[-1], like=A), A.shape)), None


inverse.vjp("A", "to_inverse(g[0], A)")(lambda g, y0: -(turned(y0) @ (g[0] @ turned(y0))))


@rule(
    "aten._linalg_slogdet",
    "y = sign_of_determinant(A), log_of_determinant(A), None, None",
    meaning="multiplies the transposed inverse, conjugated, by the gradient of the logarithm, less "
    "1j times what that of a complex sign has across its direction",
)
def slogdet(A: Array) -> tuple[Array, Array, None, None]:
    sign, logarithm, _ = determinant(A)
    return sign, logarithm, None, None


@slogdet.vjp("A", "to_phase(g[0], g[1], y[0])[..., None, None] * conj(inverse_transposed(A))")
def _(g: Any, y0: Array, A: Array) -> Array:
    """From d log det = tr(A^-1 dA), whose parts are those of the logarithm and of the angle."""
    turn = g[1] - 1j * np.imag(np.conjugate(g[0]) * y0) if is_complex(A) else g[1]
    return solved(
        np.conjugate(A), np.identity(A.shape[-1], like=A) * turn[..., None, None], adjoint=True
    )


@rule(
    "aten._linalg_det",
    "y = determinant(A), None, None",
    meaning="multiplies the transposed inverse by the gradient and the determinant",
)
def det(A: Array) -> tuple[Array, None, None]:
    return determinant(A)[2], None, None


@det.vjp("A", "(g[0] * determinant(A))[..., None, None] * inverse_transposed(A)")
def _(g: Any, y0: Array, A: Array) -> Array:
    scaled = g[0] * y0
    return solved(A, np.identity(A.shape[-1], like=A) * scaled[..., None, None], adjoint=True)


def triangle(A: Array, upper: bool, unitriangular: bool) -> Array:
    """Return the half of a matrix that counts, with ones on the diagonal if that is said."""
    if not unitriangular:
        return np.triu(A) if upper else np.tril(A)
    return (np.triu(A, 1) if upper else np.tril(A, -1)) + np.identity(A.shape[-1], like=A)


@rule(
    "aten.linalg_solve_triangular",
    "y = solution(triangle(A, upper, unitriangular), B, left)",
    meaning=_MEANING.format("solution, transposed, in the triangle that counts"),
)
def solve_triangular(
    A: Array, B: Array, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Array:
    return from_left(triangle(A, upper, unitriangular), B, left, triangular=True)


@solve_triangular.vjp("A", "to_triangle(g, A, B, upper, left, unitriangular)")
def _(g: Array, y: Array, A: Array, *, upper: bool, left: bool, unitriangular: bool) -> Array:
    T = triangle(A, upper, unitriangular)
    back = from_left(T, g, left, triangular=True, adjoint=True)
    product = -(back @ turned(y)) if left else -(turned(y) @ back)
    off = int(unitriangular)
    return np.triu(product, off) if upper else np.tril(product, -off)


@solve_triangular.vjp("B", "to_right_hand_side(g, triangle(A, upper, unitriangular), B, left)")
def _(g: Array, A: Array, *, upper: bool, left: bool, unitriangular: bool) -> Array:
    T = triangle(A, upper, unitriangular)
    return from_left(T, g, left, triangular=True, adjoint=True)
