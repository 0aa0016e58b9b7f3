"""Words of the formulas of factors of matrices, by sums over single numbers and linear algebra.

A gradient is found from the differentials of the equations that define the factors, solved for
each direction of the matrix in turn. Nothing here may come from the rules.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rules.words_solving import to_inverse, to_system, to_triangle, triangle

if TYPE_CHECKING:
    from collections.abc import Callable

Plain: TypeAlias = Any


def _each(function: Callable[..., Plain], *arrays: Plain) -> Plain:
    """Apply a function of matrices to each."""
    batch = arrays[0].shape[:-2]
    made = [function(*(a[at] for a in arrays)) for at in np.ndindex(batch)]
    return np.array(made).reshape(*batch, *np.shape(made[0]))


def _each_several(function: Callable[..., tuple[Plain, ...]], *arrays: Plain) -> tuple[Plain, ...]:
    """Apply a function that makes several matrices."""
    batch = arrays[0].shape[:-2]
    made = [function(*(a[at] for a in arrays)) for at in np.ndindex(batch)]
    parts = (np.array(part) for part in zip(*made, strict=True))
    return tuple(part.reshape(*batch, *part.shape[1:]) for part in parts)


def _within_symmetric(n: int, of_direction: Callable[[Plain], float]) -> Plain:
    """The symmetric matrix that gives a linear function of the symmetric ones as inner product."""
    found = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            direction = np.zeros((n, n))
            direction[i, j] = direction[j, i] = 1.0
            found[i, j] = found[j, i] = of_direction(direction) / (1 if i == j else 2)
    return found


def _banachiewicz(A: Plain) -> Plain:
    L = np.zeros_like(A)
    for i in range(len(A)):
        for j in range(i + 1):
            rest = A[i, j] - math.fsum(L[i, :j] * L[j, :j])
            L[i, j] = math.sqrt(rest) if i == j else rest / L[j, j]
    return L


def cholesky_of(A: Plain, upper: bool) -> Plain:
    L = _each(_banachiewicz, A)
    return np.swapaxes(L, -1, -2) if upper else L


def to_cholesky(g: Plain, A: Plain, upper: bool) -> Plain:
    """From dL L^T + L dL^T = dA, row by row."""
    return _each(_to_one_factor, np.swapaxes(g, -1, -2) if upper else g, A)


def _to_one_factor(g: Plain, A: Plain) -> Plain:
    L = _banachiewicz(A)
    n = len(L)

    def of_direction(dA: Plain) -> float:
        dL = np.zeros((n, n))
        for i in range(n):
            for j in range(i + 1):
                rest = dA[i, j] - math.fsum([*(dL[i, :j] * L[j, :j]), *(L[i, :j] * dL[j, :j])])
                dL[i, j] = rest / (2 * L[i, i]) if i == j else (rest - L[i, j] * dL[j, j]) / L[j, j]
        return math.fsum(np.ravel(g * dL))

    return _within_symmetric(n, of_direction)


def over_diagonal(A: Plain, turn: bool) -> Plain:
    """The transpose of each matrix, if that is said."""
    return np.swapaxes(A, -1, -2) if turn else A


def to_turned_triangle(g: Plain, A: Plain, B: Plain, upper: bool, turn: bool, unit: bool) -> Plain:
    """From the triangle that counts, turned before it is solved with, or not, and from the copy."""
    T = over_diagonal(triangle(A, upper, unit), turn)
    found = to_triangle(g[0], T, B, upper is not turn, True, unit)
    return over_diagonal(found, turn) + g[1]


def squared(L: Plain, upper: bool) -> Plain:
    """What L, or its transpose, is the Cholesky factor of."""
    return np.einsum("...ki,...kj->...ij" if upper else "...ik,...jk->...ij", L, L)


def _to_square(g: Plain, L: Plain, upper: bool) -> Plain:
    """From the gradient of the product of a factor and its transpose, number by number."""
    product = "...ki,...ij->...kj" if upper else "...ij,...jk->...ik"
    both = g + over_diagonal(g, True)
    return np.einsum(product, L, both) if upper else np.einsum(product, both, L)


def to_factor_of_system(g: Plain, B: Plain, L: Plain, upper: bool) -> Plain:
    return _to_square(to_system(g, squared(L, upper), B, True), L, upper)


def to_factor_of_inverse(g: Plain, L: Plain, upper: bool) -> Plain:
    return _to_square(to_inverse(g, squared(L, upper)), L, upper)


def _crout(A: Plain) -> tuple[Plain, Plain]:
    """Factors of any matrix: as many columns of L, and rows of U, as its shorter side is long."""
    m, n = A.shape
    L, U = np.eye(m, min(m, n)), np.zeros((min(m, n), n))
    for i in range(m):
        for j in range(n):
            rest = A[i, j] - math.fsum(L[i, : min(i, j)] * U[: min(i, j), j])
            if i <= j:
                U[i, j] = rest
            else:
                L[i, j] = rest / U[j, j]
    return L, U


def eliminated(P: Plain, A: Plain) -> tuple[Plain, ...]:
    return _each_several(lambda p, M: _crout(p.T @ M), P, A)


def _exchanges(pivots: Plain, rows: int) -> Plain:
    """What all exchanges of a row with one below it do together."""
    P = np.identity(rows)
    for i, other in enumerate(pivots):
        P[:, [i, other - 1]] = P[:, [other - 1, i]]
    return P


def _all_exchanges(pivots: Plain, rows: int = 0) -> Plain:
    n = pivots.shape[-1]
    rows = rows or n
    made = np.array([_exchanges(row, rows) for row in pivots.reshape(-1, n)])
    return made.reshape(*pivots.shape[:-1], rows, rows)


def packed(A: Plain, pivots: Plain) -> Plain:
    L, U = eliminated(_all_exchanges(pivots, A.shape[-2]), A)
    m, k = L.shape[-2:]
    out = np.zeros(A.shape)
    out[..., :k] += L - np.eye(m, k)
    out[..., :k, :] += U
    return out


def to_eliminated(gL: Plain, gU: Plain, A: Plain, P: Plain) -> Plain:
    """From dL U + L dU = P^T dA, number by number as elimination goes."""
    return _each(_to_two_factors, gL, gU, A, P)


def _to_two_factors(gL: Plain, gU: Plain, A: Plain, P: Plain) -> Plain:
    L, U = _crout(P.T @ A)
    m, n = A.shape
    found = np.zeros((m, n))
    for at in np.ndindex(m, n):
        dA, dL, dU = np.zeros(A.shape), np.zeros(L.shape), np.zeros(U.shape)
        dA[at] = 1.0
        dA = P.T @ dA
        for i in range(m):
            for j in range(n):
                k = min(i, j)
                rest = dA[i, j] - math.fsum([*(dL[i, :k] * U[:k, j]), *(L[i, :k] * dU[:k, j])])
                if i <= j:
                    dU[i, j] = rest
                else:
                    dL[i, j] = (rest - L[i, j] * dU[j, j]) / U[j, j]
        found[at] = math.fsum([*np.ravel(gL * dL), *np.ravel(gU * dU)])
    return found


def to_packed(g: Plain, A: Plain, pivots: Plain) -> Plain:
    m, n = A.shape[-2:]
    k = min(m, n)
    lower = np.array([[i > j for j in range(n)] for i in range(m)])
    gL, gU = np.where(lower, g, 0)[..., :k], np.where(lower, 0, g)[..., :k, :]
    return to_eliminated(gL, gU, A, _all_exchanges(pivots, m))


def _halves(LU: Plain) -> tuple[Plain, Plain]:
    return triangle(LU, False, True), triangle(LU, True, False)


def unpacked(LU: Plain, pivots: Plain, data: bool, order: bool) -> tuple[Plain, ...]:
    m, n = LU.shape[-2:]
    k = min(m, n)
    P = _all_exchanges(pivots, m) if order else np.empty(0)
    if not data:
        return P, np.empty(0), np.empty(0)
    L, U = np.zeros((*LU.shape[:-2], m, k)), np.zeros((*LU.shape[:-2], k, n))
    for *at, i, j in np.ndindex(LU.shape):
        (L if i > j else U)[(*at, i, j)] = LU[(*at, i, j)]
    return P, L + np.eye(m, k), U


def to_both_halves(gL: Plain, gU: Plain) -> Plain:
    out = np.zeros((*gL.shape[:-1], gU.shape[-1]))
    for *at, i, j in np.ndindex(out.shape):
        out[(*at, i, j)] = (gL if i > j else gU)[(*at, i, j)]
    return out


def repacked(LU: Plain, pivots: Plain) -> Plain:
    return _all_exchanges(pivots) @ np.matmul(*_halves(LU))


def to_repacked(g: Plain, LU: Plain, B: Plain, pivots: Plain, left: bool, adjoint: bool) -> Plain:
    """From the gradient of A = P L U, of which each factor gets what the product rule says."""
    A, P, (L, U) = repacked(LU, pivots), _all_exchanges(pivots), _halves(LU)
    to_system_ = over_diagonal(to_system(g, over_diagonal(A, adjoint), B, left), adjoint)
    to_product = over_diagonal(P, True) @ to_system_
    return to_both_halves(to_product @ over_diagonal(U, True), over_diagonal(L, True) @ to_product)


def _jacobi(A: Plain) -> tuple[Plain, Plain]:
    """Eigenvalues, ascending, and eigenvectors, by rotations that make A diagonal."""
    n = len(A)
    V = np.identity(n)
    for _ in range(12):
        for i in range(n):
            for j in range(i):
                angle = math.atan2(2 * A[i, j], A[j, j] - A[i, i]) / 2
                J = np.identity(n)
                J[i, i] = J[j, j] = math.cos(angle)
                J[i, j], J[j, i] = math.sin(angle), -math.sin(angle)
                A, V = J.T @ A @ J, V @ J
    order = np.argsort(np.diag(A))
    return np.diag(A)[order], V[:, order]


def _mirrored(A: Plain, UPLO: str) -> Plain:
    half = triangle(A, UPLO == "U", False)
    return (
        half + over_diagonal(half, True) - np.einsum("...ij,ij->...ij", A, np.identity(A.shape[-1]))
    )


def eigenvalues(A: Plain, UPLO: str) -> Plain:
    return np.diagonal(_each(lambda M: np.diag(_jacobi(M)[0]), _mirrored(A, UPLO)), 0, -2, -1)


def _signed(V: Plain, recorded: Plain) -> Plain:
    return np.array([v if v @ r > 0 else -v for v, r in zip(V.T, recorded.T, strict=True)]).T


def eigenvectors(A: Plain, UPLO: str, recorded: Plain) -> Plain:
    if not recorded.size:
        return recorded
    return _each(lambda M, R: _signed(_jacobi(M)[1], R), _mirrored(A, UPLO), recorded)


def to_spectrum(gl: Plain, gV: Plain, A: Plain, V: Plain) -> Plain:
    """From dA V + A dV = dV L + V dL and V^T V = I, for each direction of A."""
    return _each(_to_one_spectrum, gl[..., None, :], gV, _mirrored(A, "L"), V)


def _to_one_spectrum(gl: Plain, gV: Plain, A: Plain, recorded: Plain) -> Plain:
    values, V = _jacobi(A)
    V = _signed(V, recorded)
    n = len(A)

    def of_direction(dA: Plain) -> float:
        terms = []
        for j in range(n):
            # Bordered: (A - l) dv - v dl = -dA v, v^T dv = 0.
            M = np.zeros((n + 1, n + 1))
            M[:n, :n] = A - values[j] * np.identity(n)
            M[:n, n], M[n, :n] = -V[:, j], V[:, j]
            *dv, dl = np.linalg.solve(M, [*(-dA @ V[:, j]), 0.0])
            terms += [dl * gl[0, j], *(np.array(dv) * gV[:, j])]
        return math.fsum(terms)

    return _within_symmetric(n, of_direction)


def _all_columns(U: Plain, recorded: Plain) -> Plain:
    """Of vectors that are orthogonal to the others, any are right: the recorded ones, made so."""
    out = np.array(recorded)
    for j in range(U.shape[1]):
        out[:, j] = U[:, j]
    for j in range(U.shape[1], recorded.shape[1]):
        rest = recorded[:, j] - out[:, :j] @ (out[:, :j].T @ recorded[:, j])
        out[:, j] = rest / math.sqrt(math.fsum(rest**2))
    return out


def _one_singular(A: Plain, U: Plain, Vh: Plain) -> tuple[Plain, ...]:
    """From the eigenvalues of A^T A, or A A^T; the values alone if no vectors were recorded."""
    if A.shape[0] < A.shape[1]:
        V, values, Uh = _one_singular(A.T, over_diagonal(Vh, Vh.size), over_diagonal(U, U.size))
        return over_diagonal(Uh, U.size), values, over_diagonal(V, U.size)
    squares, V = _jacobi(A.T @ A)
    values, V = np.sqrt(squares[::-1]), V[:, ::-1]
    if not U.size:
        return U, values, Vh
    V = _signed(V, Vh.T)
    return _all_columns((A @ V) / values, U), values, V.T


def singular(A: Plain, U: Plain, Vh: Plain) -> tuple[Plain, ...]:
    u, s, v = _each_several(_one_singular, A, _or_nothing(U, A), _or_nothing(Vh, A))
    return (u, s, v) if U.size else (U, s, Vh)


def to_singular(gU: Plain, gS: Plain, gVh: Plain, U: Plain, S: Plain, Vh: Plain) -> Plain:
    """The sum of what each two singular vectors, and each with what is left, have in common."""
    return _each(_to_one_singular, gU, gS[..., None, :], gVh, U, S[..., None, :], Vh)


def _to_one_singular(gU: Plain, gS: Plain, gVh: Plain, U: Plain, S: Plain, Vh: Plain) -> Plain:
    (s,), V, gV = S, Vh.T, gVh.T
    found = np.zeros((len(U), len(V)))
    for i in range(len(s)):
        found += gS[0, i] * np.outer(U[:, i], V[:, i])
        for j in range(len(s)):
            if i != j:
                # s_j / (s_j^2 - s_i^2) and s_i / (s_j^2 - s_i^2), in partial fractions.
                less, more = 1 / (s[j] - s[i]), 1 / (s[j] + s[i])
                of_u = math.fsum([*(U[:, i] * gU[:, j]), *(-U[:, j] * gU[:, i])])
                of_v = math.fsum([*(V[:, i] * gV[:, j]), *(-V[:, j] * gV[:, i])])
                share = of_u * (less + more) / 2 + of_v * (less - more) / 2
                found += share * np.outer(U[:, i], V[:, j])
        found += np.outer(_left_over(gU[:, i], U), V[:, i]) / s[i]
        found += np.outer(U[:, i], _left_over(gV[:, i], V)) / s[i]
    return found


def _left_over(x: Plain, basis: Plain) -> Plain:
    """What orthonormal columns, none too few, leave of x; nothing if they span the space."""
    if basis.shape[0] == basis.shape[1]:
        return np.zeros(len(x))
    return x - sum(math.fsum(x * column) * column for column in basis.T)


def _gram_schmidt(A: Plain, Q: Plain, R: Plain) -> tuple[Plain, Plain]:
    """With the signs of R's diagonal; columns of Q beyond those of A are the recorded ones."""
    m, n = A.shape
    k = min(m, n)
    made = np.zeros((m, k))
    for j in range(k):
        rest = A[:, j]
        for _ in range(2):
            rest = rest - sum(math.fsum(rest * q) * q for q in made.T)
        made[:, j] = math.copysign(1 / math.sqrt(math.fsum(rest**2)), R[j, j]) * rest
    full = np.zeros_like(R)
    for i in range(k):
        for j in range(i, n):
            full[i, j] = math.fsum(made[:, i] * A[:, j])
    return (_all_columns(made, Q) if Q.size else Q), full


def orthogonal(A: Plain, Q: Plain, R: Plain) -> tuple[Plain, ...]:
    return _each_several(_gram_schmidt, A, _or_nothing(Q, A), R)


def _or_nothing(recorded: Plain, A: Plain) -> Plain:
    return recorded if recorded.size else np.empty((*A.shape[:-2], 0))


def to_orthogonal(gQ: Plain, gR: Plain, Q: Plain, R: Plain) -> Plain:
    return _each(_to_one_orthogonal, gQ, gR, Q, R)


def _to_one_orthogonal(gQ: Plain, gR: Plain, Q: Plain, R: Plain) -> Plain:
    """From dQ = Q W + what leaves Q's columns, and dR = (Q^T dA) - W R, for each direction of A."""
    m, n = len(Q), R.shape[1]
    k = min(m, n)
    inverse = np.linalg.inv(R[:, :k])
    found = np.zeros((m, n))
    for at in np.ndindex(m, n):
        dA = np.zeros((m, n))
        dA[at] = 1.0
        both = Q.T @ dA
        moved = both[:, :k] @ inverse
        # The skew matrix whose strictly lower half is that of Q^T dA R^-1.
        W = np.zeros((k, k))
        for i in range(k):
            for j in range(i):
                W[i, j], W[j, i] = moved[i, j], -moved[i, j]
        dQ = Q @ W + dA[:, :k] @ inverse - Q @ moved
        dR = both - W @ R
        found[at] = math.fsum([*np.ravel(gQ * dQ), *np.ravel(gR * np.triu(dR))])
    return found


def _roots(A: Plain, values: Plain) -> Plain:
    """Those of the characteristic polynomial, each in the place of the recorded one next to it."""
    roots = np.roots(np.poly(A)).astype(np.complex128)
    return np.array([roots[np.argmin(np.abs(roots - value))] for value in values])


def any_eigenvalues(A: Plain, values: Plain) -> Plain:
    return np.array([_roots(A[at], values[at]) for at in np.ndindex(A.shape[:-2])]).reshape(
        values.shape
    )


def any_eigenvectors(A: Plain, values: Plain, vectors: Plain) -> Plain:
    """What A less an eigenvalue takes to 0, turned as the recorded one."""
    found = np.zeros(A.shape, np.complex128)
    for at in np.ndindex(A.shape[:-2]):
        for k, value in enumerate(_roots(A[at], values[at])):
            nothing = np.linalg.svd(A[at] - value * np.identity(len(A[at])))[2][-1].conj()
            turn = np.vdot(nothing, vectors[at][:, k])
            found[at][:, k] = nothing * turn / abs(turn)
    return found


def to_eigenpairs(gl: Plain, gV: Plain, values: Plain, V: Plain) -> Plain:
    return _each(_to_one_eigenpairs, gl[..., None], gV, values[..., None], V)


def _to_one_eigenpairs(gl: Plain, gV: Plain, values: Plain, V: Plain) -> Plain:
    """From (A - l) dv - v dl = -dA v and v^T dv = 0, for each direction of A and each pair."""
    n = len(V)
    A = V @ np.diag(values[:, 0]) @ np.linalg.inv(V)
    found = np.zeros((n, n), np.complex128)
    for k in range(n):
        v = V[:, k]
        system = np.zeros((n + 1, n + 1), np.complex128)
        system[:n, :n] = A - values[k, 0] * np.identity(n)
        system[:n, n], system[n, :n] = -v, v.conj()
        inverse = np.linalg.inv(system)
        for i in range(n):
            for j in range(n):
                moved = inverse[:, i] * -v[j]
                of_both = np.conj(gl[k, 0]) * moved[n] + np.vdot(gV[:, k], moved[:n])
                found[i, j] += np.conj(of_both)
    return found


DECOMPOSITIONS: dict[str, Any] = {
    word.__name__: word
    for word in (
        cholesky_of, to_cholesky, over_diagonal, to_turned_triangle, squared, to_factor_of_system,
        to_factor_of_inverse, eliminated, packed, to_eliminated, to_packed, unpacked,
        to_both_halves, repacked, to_repacked, eigenvalues, eigenvectors, to_spectrum, singular,
        to_singular, orthogonal, to_orthogonal, any_eigenvalues, any_eigenvectors, to_eigenpairs,
    )
}  # fmt: skip
