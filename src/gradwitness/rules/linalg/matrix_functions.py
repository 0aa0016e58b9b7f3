"""Functions of matrices: the exponential, and the pseudoinverse."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.linalg.decompositions import symmetric
from gradwitness.rules.linalg.factor_dispatch import exponential, pseudoinverse
from gradwitness.rules.linalg.solving import adjoint, turned
from gradwitness.rules.registry import Array, rule


@rule(
    "aten.linalg_matrix_exp",
    "y = exponential(A)",
    meaning="takes the exponential of the matrix that has A^T twice on its diagonal and the "
    "gradient above it, and hands on what stands above the diagonal there",
)
def matrix_exp(A: Array) -> Array:
    return exponential(A)


@matrix_exp.vjp("A", "to_exponential(g, A)")
def _(g: Array, A: Array) -> Array:
    """Of A^k the gradient is the sum of (A^T)^i g (A^T)^(k-1-i): the corner of that block's power.

    R. Mathias, *A chain rule for matrix functions and applications*, 1996, theorem 2.1.
    """
    n = A.shape[-1]
    lower = np.concatenate([np.zeros_like(g), turned(A)], axis=-1)
    block = np.concatenate([np.concatenate([turned(A), g], axis=-1), lower], axis=-2)
    return exponential(block)[..., :n, n:]


@rule(
    "aten.linalg_pinv",
    "y = pseudoinverse(A)",
    meaning="multiplies the gradient by minus the transposed pseudoinverse P^T on either side, and "
    "adds what its transpose holds outside of the columns' and rows' spaces, times P P^T or P^T P",
)
def pinv(
    A: Array, *, atol: Any = None, rtol: Any = None, hermitian: bool = False, made: Any = None
) -> Array:
    # By eigenvectors, of which only one triangle is read.
    A = symmetric(A, False) if hermitian else A
    return pseudoinverse(A, atol=atol, rtol=rtol, recorded=made and made[0])


@pinv.vjp("A", "to_pseudoinverse(g, y, A)")
def _(g: Array, y: Array, A: Array) -> Array:
    """From dP = -P dA P + P P^T dA^T (I - A P) + (I - P A) dA^T P^T P, with ^T conjugated too.

    G. H. Golub and V. Pereyra, *The differentiation of pseudo-inverses*, 1973, equation 4.12. The
    shorter side goes first.
    """
    g, P_ = adjoint(g), adjoint(y)
    if A.shape[-2] <= A.shape[-1]:
        right = g @ y
        outer = right @ P_
        return outer - adjoint(y @ right) - (A @ y) @ outer + (P_ @ y) @ (g - right @ A)
    left = y @ g
    outer = P_ @ left
    return outer - adjoint(left @ y) - (outer @ y) @ A + ((g - A @ left) @ y) @ P_
