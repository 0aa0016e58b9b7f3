"""Triangular factors of Gaussian elimination, and systems solved with them.

Which rows were exchanged is taken from the recorded results: several orders may be right. From
A = P L U follows ``L^-1 P^T dA U^-1 = L^-1 dL + dU U^-1``, of which the first part is the strictly
lower half and the second the upper one (Giles 2008, section 2.3, for the method).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.kernel_ops import solved
from gradwitness.rules.linalg.factor_dispatch import eliminated
from gradwitness.rules.linalg.solving import from_left, triangle, turned
from gradwitness.rules.registry import Array, rule


def _order(pivots: Array, rows: int) -> Array:
    """Return which row of the matrix is the i-th one after all exchanges."""
    order = np.array(np.broadcast_to(np.arange(rows), (*pivots.shape[:-1], rows)))
    for i in range(pivots.shape[-1]):
        other = np.asarray(pivots[..., i : i + 1] - 1, dtype=np.int64)
        moved = np.take_along_axis(order, other, -1)
        np.put_along_axis(order, other, order[..., i : i + 1], -1)
        order[..., i : i + 1] = moved
    return order


def _permutation(order: Array) -> Array:
    """Return P, such that P X puts row i of X where the i-th row came from."""
    return turned(np.eye(order.shape[-1])[order])


def _ones(P: Array, axis: int) -> Array:
    """Return where along an axis the one of each row, or column, of a permutation stands."""
    return np.argmax(P, axis=axis) if P.size else np.zeros(P.shape[:-1], dtype=np.int64)


def _refuse_oblong(A: Array) -> None:
    if A.shape[-2] != A.shape[-1]:
        raise NotImplementedError("factors of a matrix that is not square")


def _factors(A: Array, P: Array) -> tuple[Array, Array]:
    _refuse_oblong(A)
    # A permutation only moves numbers: no product of two numbers, and no sum, rounds.
    L, U = eliminated(np.take_along_axis(A, _ones(P, -2)[..., None], -2))
    return L, U


def _to_factored(gL: Array, gU: Array, L: Array, U: Array, P: Array) -> Array:
    inner = np.tril(turned(L) @ gL, -1) + np.triu(gU @ turned(U))
    left = solved(L, inner, triangular=True, adjoint=True)
    back = from_left(U, left, False, triangular=True, adjoint=True)
    return np.take_along_axis(back, _ones(P, -1)[..., None], -2)


_MEANING = (
    "takes the strictly lower half of L^T times the gradient of L, and the upper half of that of U "
    "times U^T, through L^-T on the left and U^-T on the right, and exchanges the rows back"
)


@rule(
    "aten.linalg_lu_factor_ex",
    "y = packed(A, pivots), pivots, None",
    meaning=_MEANING,
    ignores=("pivot", "check_errors"),
    given={"pivots": 1},
)
def lu_factor(A: Array, *, pivots: Array) -> tuple[Array, Array, None]:
    places = np.clip(pivots, np.arange(pivots.shape[-1]) + 1, A.shape[-2])
    L, U = _factors(A, _permutation(_order(places, A.shape[-2])))
    return np.where(np.tri(A.shape[-1], k=-1, dtype=bool), L, U), places, None


@lu_factor.vjp("A", "to_packed(g[0], A, pivots)")
def _(g: Any, y0: Array, A: Array, *, pivots: Array) -> Array:
    _refuse_oblong(A)
    P = _permutation(_order(pivots, A.shape[-2]))
    L, U = triangle(y0, False, True), np.triu(y0)
    return _to_factored(np.tril(g[0], -1), np.triu(g[0]), L, U, P)


@rule(
    "aten.linalg_lu",
    "y = (P, *eliminated(P, A))",
    meaning=_MEANING,
    ignores=("pivot",),
    given={"P": 0},
)
def lu(A: Array, *, P: Array) -> tuple[Array, Array, Array]:
    rows = turned(np.eye(A.shape[-2])[_ones(P, -2)])
    return rows, *_factors(A, rows)


@lu.vjp("A", "to_eliminated(g[1], g[2], A, P)")
def _(g: Any, y1: Array, y2: Array, A: Array, *, P: Array) -> Array:
    _refuse_oblong(A)
    return _to_factored(g[1], g[2], y1, y2, P)


@rule(
    "aten.lu_unpack",
    "y = unpacked(LU, LU_pivots, unpack_data, unpack_pivots)",
    meaning="puts the gradient of each factor where the factor came from",
)
def lu_unpack(
    LU: Array, *, LU_pivots: Array, unpack_data: bool = True, unpack_pivots: bool = True
) -> tuple[Array, Array, Array]:
    _refuse_oblong(LU)
    nothing = np.zeros(0)
    P = _permutation(_order(LU_pivots, LU.shape[-2])) if unpack_pivots else nothing
    if not unpack_data:
        return P, nothing, nothing
    below, n = np.tri(LU.shape[-1], k=-1, dtype=bool), LU.shape[-1]
    return P, np.where(below, LU, np.eye(n)), np.where(below, 0, LU)


@lu_unpack.vjp("LU", "to_both_halves(g[1], g[2])")
def _(g: Any, LU: Array) -> Array:
    _refuse_oblong(LU)
    return np.where(np.tri(LU.shape[-1], k=-1, dtype=bool), g[1], g[2])


def _solved_with(LU: Array, order: Array, B: Array, adjoint: bool) -> tuple[Array, ...]:
    """Solve P L U X = B, or its transpose; return what is found after each factor, X last."""
    L, U = triangle(LU, False, True), np.triu(LU)
    if not adjoint:
        first = solved(L, np.take_along_axis(B, order[..., None], -2), triangular=True)
        return first, solved(U, first, triangular=True)
    first = solved(U, B, triangular=True, adjoint=True)
    second = solved(L, first, triangular=True, adjoint=True)
    return first, second, np.take_along_axis(second, np.argsort(order, axis=-1)[..., None], -2)


def _left(B: Array, left: bool) -> Array:
    return B if left else turned(B)


def _conjugated(X: Array, adjoint: bool) -> Array:
    return np.conjugate(X) if adjoint else X


@rule(
    "aten.linalg_lu_solve",
    "y = solution(over_diagonal(repacked(LU, pivots), adjoint), B, left)",
    meaning="solves the transposed system for the gradient; each factor gets minus the outer "
    "product of what belongs to it of that and of the solution",
)
def lu_solve(
    LU: Array, B: Array, *, pivots: Array, left: bool = True, adjoint: bool = False
) -> Array:
    # X A = B is A^T X^T = B^T.
    order = _order(pivots, LU.shape[-1])
    LU = _conjugated(LU, adjoint)
    return _left(_solved_with(LU, order, _left(B, left), adjoint is left)[-1], left)


@lu_solve.vjp("LU", "to_repacked(g, LU, B, pivots, left, adjoint)")
def _(g: Array, y: Array, LU: Array, *, pivots: Array, left: bool, adjoint: bool) -> Array:
    order = _order(pivots, LU.shape[-1])
    LU = _conjugated(LU, adjoint)
    g, x = _left(g, left), _left(y, left)
    below = np.tri(LU.shape[-1], k=-1, dtype=bool)
    L, U = triangle(LU, False, True), np.triu(LU)
    if adjoint is left:
        # U^T (L^T (P^T x)) = B
        first, second = _solved_with(LU, order, g, False)
        exchanged = np.take_along_axis(x, order[..., None], -2)
        to_lower = -(exchanged @ turned(first))
        to_upper = -((turned(L) @ exchanged) @ turned(second))
    else:
        # L (U x) = P^T B
        first, second, _ = _solved_with(LU, order, g, True)
        to_lower = -(second @ turned(U @ x))
        to_upper = -(first @ turned(x))
    return _conjugated(np.where(below, to_lower, to_upper), adjoint)


@lu_solve.vjp("B", "solution(over_diagonal(repacked(LU, pivots), not adjoint), g, left)")
def _(g: Array, LU: Array, *, pivots: Array, left: bool, adjoint: bool) -> Array:
    order = _order(pivots, LU.shape[-1])
    LU = _conjugated(LU, adjoint)
    return _left(_solved_with(LU, order, _left(g, left), adjoint is not left)[-1], left)
