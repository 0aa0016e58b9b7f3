"""Systems with a triangular matrix that may be turned, and with Cholesky's factor of the matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.kernel_ops import solved
from gradwitness.rules.linalg.solving import adjoint, triangle, turned
from gradwitness.rules.registry import Array, rule


@rule(
    "aten.triangular_solve",
    "y = solution(over_diagonal(triangle(A, upper, unitriangular), transpose), B, True), A",
    meaning="solves the transposed system for the gradient; the triangle gets minus that times the "
    "solution, transposed, and the gradient of its copy",
)
def triangular_solve(
    B: Array, A: Array, *, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Array, Array]:
    T = triangle(A, upper, unitriangular)
    return solved(T, B, triangular=True, adjoint=transpose), A


def _back(g: Any, A: Array, upper: bool, transpose: bool, unitriangular: bool) -> Array:
    T = triangle(A, upper, unitriangular)
    return solved(T, g[0], triangular=True, adjoint=not transpose)


@triangular_solve.vjp(
    "B", "solution(over_diagonal(triangle(A, upper, unitriangular), not transpose), g[0], True)"
)
def _(g: Any, A: Array, *, upper: bool, transpose: bool, unitriangular: bool) -> Array:
    return _back(g, A, upper, transpose, unitriangular)


@triangular_solve.vjp("A", "to_turned_triangle(g, A, B, upper, transpose, unitriangular)")
def _(g: Any, y0: Array, A: Array, *, upper: bool, transpose: bool, unitriangular: bool) -> Array:
    back = _back(g, A, upper, transpose, unitriangular)
    product = -(y0 @ turned(back)) if transpose else -(back @ turned(y0))
    off = int(unitriangular)
    return (np.triu(product, off) if upper else np.tril(product, -off)) + g[1]


# Only one triangle of a factor is read, but its gradient is that of the product of all of it.


def _factor(L: Array, upper: bool) -> Array:
    return np.triu(L) if upper else np.tril(L)


def _by_factor(L: Array, B: Array, upper: bool) -> Array:
    """Solve (L L^T) X = B, or (L^T L) X = B, where ^T conjugates too."""
    T = _factor(L, upper)
    if upper:
        return solved(T, _by_adjoint(T, B), triangular=True)
    return _by_adjoint(T, solved(T, B, triangular=True))


def _by_adjoint(T: Array, B: Array) -> Array:
    return solved(np.conjugate(T), B, triangular=True, adjoint=True)


@rule(
    "aten.cholesky_solve",
    "y = solution(squared(triangle(L, upper, False), upper), B, True)",
    meaning="solves the same system for the gradient; the factor gets minus the product of that "
    "and the solution, made symmetric, times itself",
)
def cholesky_solve(B: Array, L: Array, *, upper: bool = False) -> Array:
    return _by_factor(L, B, upper)


cholesky_solve.vjp("B", "solution(squared(triangle(L, upper, False), upper), g, True)")(
    lambda g, L, *, upper: _by_factor(L, g, upper)
)


@cholesky_solve.vjp("L", "to_factor_of_system(g, B, L, upper)")
def _(g: Array, y: Array, L: Array, *, upper: bool) -> Array:
    product = _by_factor(L, g, upper) @ adjoint(y)
    both = -(product + adjoint(product))
    return L @ both if upper else both @ L


@rule(
    "aten.cholesky_inverse",
    "y = inverse(squared(triangle(L, upper, False), upper))",
    meaning="multiplies the gradient, made symmetric, by minus the inverse on either side, and by "
    "the factor",
)
def cholesky_inverse(L: Array, *, upper: bool = False) -> Array:
    if np.any(np.not_equal(np.imag(np.diagonal(L, 0, -2, -1)), 0)):
        raise NotImplementedError("a Cholesky factor whose diagonal is not real")
    T = _factor(L, upper)
    X = solved(T, np.broadcast_to(np.identity(L.shape[-1], like=L), L.shape), triangular=True)
    return X @ adjoint(X) if upper else adjoint(X) @ X


@cholesky_inverse.vjp("L", "to_factor_of_inverse(g, L, upper)")
def _(g: Array, y: Array, L: Array, *, upper: bool) -> Array:
    both = -(y @ ((g + adjoint(g)) @ y))
    return L @ both if upper else both @ L
