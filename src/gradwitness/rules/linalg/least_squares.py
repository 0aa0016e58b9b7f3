"""Least squares, of matrices of full rank.

What a kernel gives is the exact solution for A + D and B + E, where D and E are what the roundings
of its reflections, or rotations, amount to (Higham 2002, theorem 20.3): that of the pseudoinverse.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.kernel_ops import ignore_error
from gradwitness.rules.linalg.factor_dispatch import pseudoinverse, reflected
from gradwitness.rules.linalg.matrix_functions import pinv
from gradwitness.rules.linalg.solving import adjoint, as_columns, is_vector
from gradwitness.rules.registry import Array, rule


def _inverse(A: Array) -> Array:
    return pseudoinverse(A, atol=None, rtol=None)


@rule(
    "aten.linalg_lstsq",
    "y = (*least_squares(A, B, driver), None, None)",
    meaning="takes the gradient of the solution through the transposed pseudoinverse for the right "
    "hand side, and for the matrix through the pseudoinverse, whose gradient is its product with "
    "the right hand side; that of the residuals goes along them",
    ignores=("rcond",),
)
def least_squares(
    A: Array, B: Array, *, driver: str | None = None
) -> tuple[Array, Array, None, None]:
    m, n = A.shape[-2:]
    # One driver, the usual one, returns no residuals.
    with_residuals = m > n and driver not in (None, "gelsy")
    right = reflected(as_columns(A, B), count=min(m, n))
    x = _inverse(A) @ right
    squares = np.zeros_like(np.real(x), shape=(0,))
    if with_residuals:
        # The least sum: to first order, an error of x does not move it.
        gap = reflected(A, count=n) @ ignore_error(x) - right
        squares = np.sum(np.real(np.conjugate(gap) * gap), axis=-2)
    if is_vector(A, B):
        x, squares = x[..., 0], squares[..., 0] if with_residuals else squares
    return x, squares, None, None


def _along(g: Any, y0: Array, A: Array, B: Array) -> tuple[Array, Array, Any]:
    """Return the gradients and the solution as columns, and twice the gap times the residuals'."""
    x, right = np.expand_dims(y0, -1) if is_vector(A, B) else y0, as_columns(A, B)
    of_x = np.reshape(g[0], x.shape)
    if not g[1].size:
        return of_x, x, None
    of_squares = np.reshape(g[1], (*x.shape[:-2], 1, x.shape[-1]))
    return of_x, x, 2 * (A @ x - right) * of_squares


@least_squares.vjp("A", "to_system_of_squares(g[0], g[1], y[0], A, B)")
def _(g: Any, y0: Array, A: Array, B: Array) -> Array:
    of_x, x, gap = _along(g, y0, A, B)
    back: Array = pinv.gradients["A"].function(of_x @ adjoint(as_columns(A, B)), _inverse(A), A)
    return back if gap is None else back + gap @ adjoint(x)


@least_squares.vjp("B", "to_side_of_squares(g[0], g[1], y[0], A, B)")
def _(g: Any, y0: Array, A: Array, B: Array) -> Array:
    of_x, _, gap = _along(g, y0, A, B)
    back = adjoint(_inverse(A)) @ of_x
    return np.reshape(back if gap is None else back - gap, B.shape)
