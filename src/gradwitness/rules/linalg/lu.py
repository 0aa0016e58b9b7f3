"""Triangular factors of Gaussian elimination, and systems solved with them.

Which rows were exchanged is taken from the recorded results: several orders may be right. From
A = P L U follows ``L^-1 P^T dA U^-1 = L^-1 dL + dU U^-1``, of which the first part is the strictly
lower half and the second the upper one (Giles 2008, section 2.3, for the method). Of an oblong
matrix the square part is factored so, and the rest follows: columns beyond it make ``L^-1 P^T A``,
and rows ``A U^-1``, whose gradients go on into L, and into U.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.kernel_ops import solved
from gradwitness.rules.linalg.factor_dispatch import eliminated
from gradwitness.rules.linalg.solving import from_left, triangle, turned
from gradwitness.rules.registry import Array, Shaped, rule


def _order(pivots: Array, rows: int) -> Array:
    """Return which row of the matrix is the i-th one after all exchanges."""
    order = np.copy(np.broadcast_to(np.arange(rows, like=pivots), (*pivots.shape[:-1], rows)))
    for i in range(pivots.shape[-1]):
        other = (pivots[..., i : i + 1] - 1).astype(np.int64)
        moved = np.take_along_axis(order, other, -1)
        np.put_along_axis(order, other, order[..., i : i + 1], -1)
        order[..., i : i + 1] = moved
    return order


def _exchanges(pivots: Array, shape: tuple[int, ...]) -> Array:
    """Return the pivots that torch reads: as many as LU has on its diagonal, in any case."""
    count = min(shape[-2:])
    if pivots.shape[:-1] != shape[:-2] or pivots.shape[-1] < count:
        raise NotImplementedError("pivots that do not fit LU: torch reads the memory beyond them")
    return pivots[..., :count]


def _permutation(order: Array) -> Array:
    """Return P, such that P X puts row i of X where the i-th row came from."""
    return turned(np.identity(order.shape[-1], like=order)[order])


def _ones(P: Array, axis: int) -> Array:
    """Return where along an axis the one of each row, or column, of a permutation stands."""
    return np.argmax(P, axis=axis) if P.size else np.zeros(P.shape[:-1], dtype=np.int64, like=P)


def _factors(A: Array, P: Array) -> tuple[Array, Array]:
    # A permutation only moves numbers: no product of two numbers, and no sum, rounds.
    A = np.take_along_axis(A, _ones(P, -2)[..., None], -2)
    m, n = A.shape[-2:]
    k = min(m, n)
    L, U = eliminated(A[..., :k, :k])
    if n > k:
        U = np.concatenate([U, solved(L, A[..., k:], triangular=True)], axis=-1)
    if m > k:
        more = from_left(U, A[..., k:, :], False, triangular=True)
        L = np.concatenate([L, more], axis=-2)
    return L, U


def _packed(L: Array, U: Array) -> Array:
    """Put both factors into one matrix: ones on L's diagonal are left out."""
    k = U.shape[-2]
    square = np.where(np.tri(k, k=-1, dtype=bool, like=L), L[..., :k, :], U[..., :k])
    if L.shape[-2] > k:
        return np.concatenate([square, L[..., k:, :]], axis=-2)
    return np.concatenate([square, U[..., k:]], axis=-1)


def _both(LU: Array) -> tuple[Array, Array]:
    """Take both factors out of one matrix."""
    k = min(LU.shape[-2:])
    below = np.tri(LU.shape[-2], k, -1, dtype=bool, like=LU)
    L = np.where(below, LU[..., :k], np.asarray(np.eye(LU.shape[-2], k), like=LU))
    return L, np.triu(LU[..., :k, :])


def _to_factored(gL: Array, gU: Array, L: Array, U: Array, P: Array) -> Array:
    k = U.shape[-2]
    square, more_rows = L[..., :k, :], L[..., k:, :]
    upper, more_columns = U[..., :k], U[..., k:]
    lower_part = turned(square) @ gL[..., :k, :] - gU[..., k:] @ turned(more_columns)
    upper_part = gU[..., :k] @ turned(upper) - turned(more_rows) @ gL[..., k:, :]
    inner = np.tril(lower_part, -1) + np.triu(upper_part)
    left = solved(square, inner, triangular=True, adjoint=True)
    back = from_left(upper, left, False, triangular=True, adjoint=True)
    if U.shape[-1] > k:
        beside = solved(square, gU[..., k:], triangular=True, adjoint=True)
        back = np.concatenate([back, beside], axis=-1)
    if L.shape[-2] > k:
        below = from_left(upper, gL[..., k:, :], False, triangular=True, adjoint=True)
        back = np.concatenate([back, below], axis=-2)
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
    places = np.clip(pivots, np.arange(pivots.shape[-1], like=pivots) + 1, A.shape[-2])
    return _packed(*_factors(A, _permutation(_order(places, A.shape[-2])))), places, None


@lu_factor.vjp("A", "to_packed(g[0], A, pivots)")
def _(g: Any, y0: Array, A: Shaped, *, pivots: Array) -> Array:
    P, k = _permutation(_order(pivots, A.shape[-2])), min(A.shape[-2:])
    of_both = np.tril(g[0][..., :k], -1), np.triu(g[0][..., :k, :])
    return _to_factored(*of_both, *_both(y0), P)


@rule(
    "aten.linalg_lu",
    "y = (P, *eliminated(P, A))",
    meaning=_MEANING,
    ignores=("pivot",),
    given={"P": 0},
)
def lu(A: Array, *, P: Array) -> tuple[Array, Array, Array]:
    rows = turned(np.identity(A.shape[-2], like=P)[_ones(P, -2)])
    return rows, *_factors(A, rows)


@lu.vjp("A", "to_eliminated(g[1], g[2], A, P)")
def _(g: Any, y1: Array, y2: Array, *, P: Array) -> Array:
    return _to_factored(g[1], g[2], y1, y2, P)


@rule(
    "aten.lu_unpack",
    "y = unpacked(LU, LU_pivots, unpack_data, unpack_pivots)",
    meaning="puts the gradient of each factor where the factor came from",
)
def lu_unpack(
    LU: Array, *, LU_pivots: Array, unpack_data: bool = True, unpack_pivots: bool = True
) -> tuple[Array, Array, Array]:
    P = nothing = np.zeros(0, like=LU)
    if unpack_pivots:
        P = _permutation(_order(_exchanges(LU_pivots, LU.shape), LU.shape[-2]))
    if not unpack_data:
        return P, nothing, nothing
    return P, *_both(LU)


@lu_unpack.vjp("LU", "to_both_halves(g[1], g[2])")
def _(g: Any) -> Array:
    return _packed(g[1], g[2])


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
    below = np.tri(LU.shape[-1], k=-1, dtype=bool, like=LU)
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
