"""Bounds of linear systems and determinants, from the backward errors of Gaussian elimination.

What elimination with row exchanges gives is the solution of (A + D) x = b with
|D| <= gamma_3n |L| |U|, and its factors are those of A + D with |D| <= gamma_n |L| |U| (Higham
2002, theorems 9.4 and 9.3); for a triangular A, |D| <= gamma_n |A| (theorem 8.5). So with
H = |A^-1| |D|, whose row sums are at most r < 1, x is off by |A^-1| |D| |x|, and by r / (1 - r) of
the largest of those more. From r = 1 on there is no bound.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg

from gradwitness.engine.bounded.array import (
    FUNCTIONS,
    Bounded,
    Error,
    Plain,
    assemble,
    errors_of,
    value_of,
)
from gradwitness.engine.bounded.functions import LIBRARY
from gradwitness.engine.floats import gamma

if TYPE_CHECKING:
    from gradwitness.engine.floats import Arithmetic


def _turned(A: Plain) -> Plain:
    return np.swapaxes(A, -1, -2)


def _factors(A: Plain) -> tuple[Plain, Plain]:
    """Return |L| |U|, in the order of A's rows, and the sizes of U's diagonal."""
    p, lower, upper = linalg.lu(A)
    product: Plain = np.abs(p @ lower) @ np.abs(upper)
    return product, np.abs(np.diagonal(upper, axis1=-2, axis2=-1))


def _substituted(T: Plain, B: Plain) -> Plain:
    """Solve a triangular system: elimination with row exchanges would not keep small numbers."""
    one = partial(linalg.solve_triangular, lower=not np.any(np.triu(T, 1)))
    solve: Any = np.vectorize(one, signature="(n,n),(n,k)->(n,k)")
    made: Plain = solve(T, B)
    return made


def _rest(r: Plain) -> Plain:
    return np.where(r < 1, r / (1 - r), np.inf)


def _solved(func: Any, args: Any, kwargs: Any) -> Bounded:
    del func
    A, B = args
    arithmetic: Arithmetic = (A if isinstance(A, Bounded) else B).arithmetic
    matrix, right = np.asarray(value_of(A)), np.asarray(value_of(B))
    count = matrix.shape[-1] * (1 if kwargs["triangular"] else 3)
    sizes = np.abs(matrix) if kwargs["triangular"] else _factors(matrix)[0]
    moved = gamma(count, arithmetic.unit) * sizes
    if kwargs["adjoint"]:
        matrix, moved = _turned(matrix), _turned(moved)
    solve = _substituted if kwargs["triangular"] else np.linalg.solve
    x = solve(matrix, right)
    inverse = np.abs(solve(matrix, np.eye(matrix.shape[-1])))

    def carry(of_a: Error, of_b: Error) -> Error:
        change = moved
        if of_a is not None:
            change = change + (_turned(of_a) if kwargs["adjoint"] else of_a)
        residual = change @ np.abs(x) + (0.0 if of_b is None else of_b)
        first = inverse @ residual
        r = np.max(np.sum(inverse @ change, axis=-1), axis=-1)[..., None, None]
        largest = np.max(first, axis=-2, keepdims=True)
        return np.where(largest == 0, 0.0, first + _rest(r) * largest)

    return assemble(arithmetic, x, (A, B), carry)


def _determinant(func: Any, args: Any, kwargs: Any) -> tuple[Plain, Bounded, Bounded]:
    del func, kwargs
    (A,) = args
    arithmetic, n, unit = A.arithmetic, A.shape[-1], A.arithmetic.unit
    sizes, diagonal = _factors(A.value)
    sign, logarithm = np.linalg.slogdet(A.value)
    value = np.linalg.det(A.value)
    inverse = np.abs(np.linalg.inv(A.value))
    terms = np.sum(np.abs(np.log(diagonal)), axis=-1)

    def moved(e: Error) -> Plain:
        """Return how far log |det| moves: the trace of log(I + A^-1 D), power by power."""
        H = inverse @ (gamma(n, unit) * sizes + (0.0 if e is None else e))
        r = np.max(np.sum(H, axis=-1), axis=-1)
        trace: Plain = np.trace(H, axis1=-2, axis2=-1)
        return np.asarray(trace * (1 + _rest(r)))

    def of_logarithm(e: Error) -> Error:
        return np.asarray(moved(e) + gamma(n + LIBRARY, unit) * terms)

    def of_value(e: Error) -> Error:
        return np.asarray(np.abs(value) * np.expm1(moved(e) + gamma(2 * n, unit)))

    errors = errors_of(A)
    together = errors[0] is errors[1]

    def made(of: Plain, grown: Any) -> Bounded:
        rigorous = grown(errors[0])
        return Bounded(of, arithmetic, rigorous, rigorous if together else grown(errors[1]))

    return sign, made(logarithm, of_logarithm), made(value, of_value)


FUNCTIONS |= {"solved": _solved, "determinant": _determinant}
