"""Words of the formulas of linear systems, by Leibniz's determinants and Cramer's rule.

Nothing here may come from the rules.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Plain: TypeAlias = Any


def _each(function: Callable[[Plain], Plain], A: Plain) -> Plain:
    """Apply a function of one matrix to each."""
    made = [function(M) for M in A.reshape(-1, *A.shape[-2:])]
    return np.array(made).reshape(*A.shape[:-2], *np.shape(made[0]))


def _leibniz(M: Plain) -> float:
    terms = []
    for order in itertools.permutations(range(len(M))):
        turns = sum(a > b for a, b in itertools.combinations(order, 2))
        terms.append((-1) ** turns * math.prod(M[i, j] for i, j in enumerate(order)))
    return math.fsum(terms)


def determinant(A: Plain) -> Plain:
    return _each(_leibniz, A)


def sign_of_determinant(A: Plain) -> Plain:
    return _each(lambda M: math.copysign(1, _leibniz(M)), A)


def log_of_determinant(A: Plain) -> Plain:
    return _each(lambda M: math.log(abs(_leibniz(M))), A)


def _cofactors(M: Plain) -> Plain:
    n = len(M)
    rest = [
        [(-1) ** (i + j) * _leibniz(np.delete(np.delete(M, j, 0), i, 1)) for j in range(n)]
        for i in range(n)
    ]
    return np.array(rest) / _leibniz(M)


def to_phase(of_sign: Plain, of_log: Plain, sign: Plain) -> Plain:
    """The gradient of the logarithm of a determinant, whose imaginary part is the sign's angle."""
    return (
        of_log + 1j * (of_sign.real * sign.imag - of_sign.imag * sign.real)
        if (np.iscomplexobj(sign))
        else of_log
    )


def inverse(A: Plain) -> Plain:
    return _each(_cofactors, A)


def inverse_transposed(A: Plain) -> Plain:
    return np.swapaxes(inverse(A), -1, -2)


def _product(A: Plain, B: Plain, left: bool) -> Plain:
    if B.ndim == A.ndim - 1:
        return _product(A, B[..., None], left)[..., 0]
    return A @ B if left else B @ A


def solution(A: Plain, B: Plain, left: bool) -> Plain:
    return _product(inverse(A), B, left)


def to_right_hand_side(g: Plain, A: Plain, B: Plain, left: bool) -> Plain:
    return _product(inverse_transposed(A), g, left)


def _against(back: Plain, x: Plain, left: bool) -> Plain:
    """Minus the sum over the columns, or rows, of the gradient times the solution."""
    if left:
        return -np.einsum("...ik,...jk->...ij", back, x)
    return -np.einsum("...ki,...kj->...ij", x, back)


def to_system(g: Plain, A: Plain, B: Plain, left: bool) -> Plain:
    if B.ndim == A.ndim - 1:
        return to_system(g[..., None], A, B[..., None], left)
    return _against(to_right_hand_side(g, A, B, left), solution(A, B, left), left)


def to_inverse(g: Plain, A: Plain) -> Plain:
    turned = inverse_transposed(A)
    return -(turned @ g @ turned)


def _counts(n: int, upper: bool, unit: bool) -> Plain:
    return np.array(
        [[(i < j if upper else i > j) or (i == j and not unit) for j in range(n)] for i in range(n)]
    )


def triangle(A: Plain, upper: bool, unit: bool) -> Plain:
    n = A.shape[-1]
    diagonal = np.identity(n) if unit else 0
    return np.where(_counts(n, upper, unit), A, 0) + diagonal


def to_triangle(g: Plain, A: Plain, B: Plain, upper: bool, left: bool, unit: bool) -> Plain:
    T = triangle(A, upper, unit)
    found = _against(to_right_hand_side(g, T, B, left), solution(T, B, left), left)
    return np.where(_counts(A.shape[-1], upper, unit), found, 0)


SOLVING: dict[str, Any] = {
    word.__name__: word
    for word in (
        determinant, sign_of_determinant, log_of_determinant, to_phase, inverse, inverse_transposed,
        solution, to_right_hand_side, to_system, to_inverse, triangle, to_triangle,
    )
}  # fmt: skip
