"""Bounds of factors of matrices: a backward error, and how far it moves the factors.

Kernels multiply by the reciprocal of the diagonal, where the theorems divide: one rounding more.

Cholesky: the factor that a kernel gives is that of A + D with
``|D| <= gamma_(n+2) / (1 - gamma_(n+2)) d d^T``, where d holds the roots of A's diagonal (Higham
2002, theorem 10.5). Let E = L^-1 D L^-T, and L (I + G) be the factor of A + D: then
G + G^T = E - G G^T, so that G is the lower half of E - G G^T, the diagonal halved. In the norm of
Frobenius ``|G| <= (|E| + |G|^2) / sqrt(2)``, thus ``|G|^2 <= 2 |E|^2`` while ``|E| < 1/2``, and no
number of G G^T is larger than that.

Gaussian elimination: ``|D| <= gamma_(n+1) |L| |U|`` (theorem 9.3). With E = L^-1 D U^-1, and
L (I + F) and (I + G) U the factors of A + D, F + G = E - F G, of which F is the strictly lower
half. So ``s^2 = |F|^2 + |G|^2`` obeys ``s <= |E| + s^2 / 2``: no number of F G is larger than
``s^2 / 2``, which is at most ``2 |E|^2`` while ``|E| < 1/2``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.engine.bounded.array import COMPLEX_FUNCTIONS, Bounded, Error, Plain, assemble
from gradwitness.engine.bounded.solving import SINGULAR, steps, substituted
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.engine.floats import gamma
from gradwitness.rules.linalg.factor_dispatch import cholesky_factor, eliminated
from gradwitness.rules.linalg.solving import turned


def _size(A: Plain) -> Plain:
    """Return Frobenius' norm of each matrix, in its place."""
    return np.asarray(np.sqrt(np.sum(np.abs(A) ** 2, axis=(-2, -1), keepdims=True)))


@stands_for(cholesky_factor)
def _cholesky_factor(_: Any, A: Bounded) -> Bounded:
    arithmetic, n = A.arithmetic, A.shape[-1]
    try:
        L = np.linalg.cholesky(A.value)
    except np.linalg.LinAlgError:
        raise NotImplementedError("a matrix that is not positive definite") from None
    inverse = np.abs(substituted(L, np.broadcast_to(np.eye(n), L.shape)))
    roots = np.sqrt(np.diagonal(A.value, axis1=-2, axis2=-1).real)
    growth = gamma(steps(A, n + 2), arithmetic.unit)
    moved = growth / (1 - growth) * roots[..., :, None] * roots[..., None, :]
    lower = np.tri(n)

    def carry(e: Error) -> Error:
        E = inverse @ (moved if e is None else moved + e) @ turned(inverse)
        size = _size(E)
        half = lower * (E + 2 * size**2) * (1 - np.eye(n) / 2)
        return np.where(size < 1 / 2, lower * (np.abs(L) @ half), np.where(lower, np.inf, 0.0))

    return assemble(arithmetic, L, (A,), carry)


@stands_for(eliminated)
def _eliminated(func: Any, A: Bounded) -> tuple[Bounded, Bounded]:
    arithmetic, n = A.arithmetic, A.shape[-1]
    L, U = func(A.value)
    identity = np.broadcast_to(np.eye(n), L.shape)
    if not np.all(np.diagonal(U, axis1=-2, axis2=-1)):
        raise NotImplementedError(SINGULAR)
    left, right = np.abs(substituted(L, identity)), np.abs(substituted(U, identity))
    moved = gamma(steps(A, n + 1), arithmetic.unit) * (np.abs(L) @ np.abs(U))
    strict = np.tri(n, k=-1)

    def half(e: Error) -> tuple[Plain, Plain]:
        E = left @ (moved if e is None else moved + e) @ right
        size = _size(E)
        return E + 2 * size**2, size < 1 / 2

    def of_lower(e: Error) -> Error:
        change, holds = half(e)
        return np.where(holds, np.abs(L) @ (strict * change), np.inf) * strict

    def of_upper(e: Error) -> Error:
        change, holds = half(e)
        upper = 1 - strict
        return np.where(holds, (upper * change) @ np.abs(U), np.inf) * upper

    return assemble(arithmetic, L, (A,), of_lower), assemble(arithmetic, U, (A,), of_upper)


COMPLEX_FUNCTIONS.update(("cholesky_factor", "eliminated"))
