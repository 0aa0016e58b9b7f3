"""Bounds of linear systems and determinants, from the backward errors of Gaussian elimination.

What elimination with row exchanges gives is the solution of (A + D) x = b with
|D| <= gamma_3n |L| |U|, and its factors are those of A + D with |D| <= gamma_n |L| |U| (Higham
2002, theorems 9.4 and 9.3); for a triangular A, |D| <= gamma_(n+1) |A| (theorem 8.5, and one more,
since kernels multiply by a reciprocal where the theorem divides). So with H = |A^-1| |D|, whose row
sums are at most r < 1, x is off by |A^-1| |D| |x|, and by r / (1 - r) of the largest of those more.
From r = 1 on there is no bound.

Of complex numbers, each sum of n products counts 3 n roundings, and each quotient 13, or 16 by a
reciprocal (see `complex_arithmetic`).

A determinant is linear in each row, and no larger than the product of the rows' lengths (Hadamard):
where A is nearly singular, det(A + D) is off by at most what that product grows by.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from gradwitness.engine.bounded.array import (
    COMPLEX_FUNCTIONS,
    Bounded,
    Error,
    Plain,
    assemble,
    is_complex,
    value_of,
)
from gradwitness.engine.bounded.complex_arithmetic import PRODUCT, QUOTIENT
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.engine.bounded.transcendental import LIBRARY
from gradwitness.engine.floats import WITNESS_UNIT, gamma
from gradwitness.rules.kernel_ops import determinant, solved
from gradwitness.rules.linalg.solving import turned

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic


SINGULAR = "a matrix that is singular"


def steps(A: Any, count: int, quotients: int = 1) -> float:
    """Return the roundings of sums of ``count`` products in all, each divided once."""
    return PRODUCT * count + quotients * (QUOTIENT + PRODUCT) if is_complex(A) else count


def _factors(A: Plain) -> tuple[Plain, Plain]:
    """Return |L| |U|, in the order of A's rows, and the sizes of U's diagonal."""
    if not A.size:
        return np.abs(A), np.abs(np.diagonal(A, axis1=-2, axis2=-1))
    p, lower, upper = scipy.linalg.lu(A)
    product: Plain = np.abs(p @ lower) @ np.abs(upper)
    return product, np.abs(np.diagonal(upper, axis1=-2, axis2=-1))


def substituted(T: Plain, B: Plain) -> Plain:
    """Solve a triangular system: elimination with row exchanges would lose small numbers."""
    if np.any(np.diagonal(T, axis1=-2, axis2=-1) == 0):
        raise NotImplementedError(SINGULAR)
    solve_one = partial(scipy.linalg.solve_triangular, lower=not np.any(np.triu(T, 1)))
    if not T.size or not B.size:
        return np.zeros(np.broadcast_shapes(T.shape[:-2], B.shape[:-2]) + B.shape[-2:])
    solve: Any = np.vectorize(solve_one, signature="(n,n),(n,k)->(n,k)")
    solution: Plain = solve(T, B)
    return solution


def _eliminated(A: Plain, B: Plain) -> Plain:
    try:
        return np.linalg.solve(A, B)
    except np.linalg.LinAlgError:
        raise NotImplementedError(SINGULAR) from None


def _largest(A: Plain, axis: int, *, keepdims: bool = False) -> Plain:
    """Return the largest of nonnegative numbers, 0 if there are none."""
    largest: Plain = np.max(A, axis=axis, keepdims=keepdims, initial=0.0)
    return largest


def _rest(r: Plain) -> Plain:
    return np.where(r < 1, r / (1 - r), np.inf)


@stands_for(solved)
def _solved(_: Any, A: Any, B: Any, adjoint: bool = False, triangular: bool = False) -> Bounded:
    arithmetic: Arithmetic = (A if isinstance(A, Bounded) else B).arithmetic
    matrix, right = np.asarray(value_of(A)), np.asarray(value_of(B))
    solve = substituted if triangular else _eliminated
    x = solve(turned(matrix) if adjoint else matrix, right)
    n = matrix.shape[-1]
    count = steps(x, n + 1) if triangular else steps(x, 3 * n, 3)
    sizes = np.abs(matrix) if triangular else _factors(matrix)[0]
    moved = gamma(count, arithmetic.unit) * sizes
    if adjoint:
        matrix, moved = turned(matrix), turned(moved)
    inverse = np.abs(solve(matrix, np.eye(matrix.shape[-1])))

    def carry(of_a: Error, of_b: Error) -> Error:
        change = moved
        if of_a is not None:
            change = change + (turned(of_a) if adjoint else of_a)
        residual = change @ np.abs(x) + (0.0 if of_b is None else of_b)
        first = inverse @ residual
        r = _largest(np.sum(inverse @ change, axis=-1), -1)[..., None, None]
        largest = _largest(first, -2, keepdims=True)
        return np.where(largest == 0, 0.0, first + _rest(r) * largest)

    return assemble(arithmetic, x, (A, B), carry)


def _grown(A: Plain, D: Plain) -> Plain:
    """Return by how much the product of the rows' lengths grows when lengths of D are added."""
    before, added = (np.sqrt(np.sum(np.abs(X) ** 2, axis=-1)) for X in (A, D))
    after = np.prod(before + added, axis=-1)
    # The difference cancels: add what its own roundings may have lost.
    lost = gamma(3 * A.shape[-1], WITNESS_UNIT) * after
    return np.asarray(after - np.prod(before, axis=-1) + lost)


@stands_for(determinant)
def _determinant(_: Any, A: Bounded) -> tuple[Bounded, Bounded, Bounded]:
    arithmetic, n, unit = A.arithmetic, A.shape[-1], A.arithmetic.unit
    sizes, diagonal = _factors(A.value)
    sign, logarithm = np.linalg.slogdet(A.value)
    value = np.linalg.det(A.value)
    regular = np.all(diagonal != 0, axis=-1)
    # For a singular matrix only the determinant has a bound.
    inverse = np.abs(np.linalg.inv(np.where(regular[..., None, None], A.value, np.eye(n))))
    terms = np.sum(np.abs(np.log(diagonal)), axis=-1)

    def change(e: Error) -> Plain:
        return np.asarray(gamma(steps(A, n), unit) * sizes + (0.0 if e is None else e))

    def moved(e: Error) -> Plain:
        """Return how far log |det| moves: the trace of log(I + A^-1 D), power by power."""
        H = inverse @ change(e)
        r = _largest(np.sum(H, axis=-1), -1)
        trace: Plain = np.trace(H, axis1=-2, axis2=-1)
        return np.where(regular & (r < 1), trace * (1 + _rest(r)), np.inf)

    def of_sign(e: Error) -> Error:
        """Where no matrix between A and A + D is singular, a real sign stays."""
        if is_complex(A):
            return np.asarray(moved(e) + gamma(steps(A, n, n), unit))
        unsure = np.isinf(moved(e))
        return np.where(unsure, np.inf, 0.0) if unsure.any() else None

    def of_logarithm(e: Error) -> Error:
        # The modulus of a complex number is rounded before its logarithm is taken.
        off = n * LIBRARY * unit if is_complex(A) else 0.0
        return np.asarray(moved(e) + gamma(n + LIBRARY, unit) * terms + off)

    def of_value(e: Error) -> Error:
        own = gamma(steps(A, 2 * n, 0), unit)
        near = np.abs(value) * np.expm1(moved(e) + own)
        far = _grown(A.value, change(e))
        return np.asarray(np.fmin(near, far + own * (np.abs(value) + far)))

    def result(x: Plain, bound: Callable[[Error], Error]) -> Bounded:
        return Bounded(x, arithmetic, *A.tiers(bound))

    return result(sign, of_sign), result(logarithm, of_logarithm), result(value, of_value)


COMPLEX_FUNCTIONS.update(("solved", "determinant"))
