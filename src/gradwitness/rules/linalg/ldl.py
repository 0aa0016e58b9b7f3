"""Symmetric factors L D L^T with blocks of one or two rows, and systems solved with them.

Only the lower half is read. Which rows were exchanged is taken from the recorded results: pivot k
names, from 1, the row that was exchanged with row k, in what was left then; two negative ones name
that of the second row of a block of two. None of these has a gradient. Where numbers are complex
and Hermitian, what is transposed is conjugated too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.rules.kernel_ops import replaceable, solved
from gradwitness.rules.linalg.solving import turned
from gradwitness.rules.registry import Array, rule

if TYPE_CHECKING:
    from collections.abc import Iterator


def blocks(pivots: Array) -> Iterator[tuple[int, int, int, int]]:
    """Yield each block's first row and the row after it, and the two rows that are exchanged."""
    k = 0
    while k < len(pivots):
        end = k + (1 if pivots[k] > 0 or k + 1 == len(pivots) else 2)
        yield k, end, end - 1, abs(int(pivots[k])) - 1
        k = end


def exchange(A: Array, one: int, other: int, begin: int = 0) -> None:
    """Exchange two rows and columns of what is left of a matrix from a place on."""
    if one == other:
        return
    left = A[begin:, begin:]
    for view in (left, turned(left)):
        view[[one - begin, other - begin]] = view[[other - begin, one - begin]]


def mirrored(A: Array, hermitian: bool) -> Array:
    """Return the symmetric matrix of which the lower half is given."""
    lower = np.tril(A, -1)
    diagonal = np.diag(np.diagonal(A))
    other = turned(lower)
    return (
        lower
        + (np.real(diagonal) if hermitian else diagonal)
        + (np.conjugate(other) if hermitian else other)
    )


def block_of(LD: Array, k: int, end: int, hermitian: bool) -> Array:
    """Return a block of D."""
    return mirrored(LD[k:end, k:end], hermitian)


def product(LD: Array, pivots: Array, hermitian: bool) -> Array:
    """Return what one matrix of packed factors is made of."""
    A = np.zeros_like(LD)
    for k, end, one, other in reversed(list(blocks(pivots))):
        D, L = block_of(LD, k, end, hermitian), LD[end:, k:end]
        A[k:end, k:end] = D
        A[end:, k:end] = L @ D
        A[k:end, end:] = np.conjugate(turned(A[end:, k:end])) if hermitian else turned(L @ D)
        A[end:, end:] += L @ A[k:end, end:]
        exchange(A, one, other)
    return A


def _factored(A: Array, pivots: Array, hermitian: bool) -> Array:
    """Eliminate with exchanges that are given; L lies below D."""
    left = mirrored(A, hermitian)
    for k, end, one, other in blocks(pivots):
        exchange(left, one, other, k)
        rows = left[end:, k:end].copy()
        left[end:, k:end] = turned(np.linalg.solve(turned(left[k:end, k:end]), turned(rows)))
        left[end:, end:] -= left[end:, k:end] @ left[k:end, end:]
    return np.tril(left)


@replaceable
def symmetric_factors(A: Array, *, LD: Array, pivots: Array, hermitian: bool) -> Array:
    """Return packed factors; with bounds, recorded ones are taken whose product is A."""
    found = np.zeros_like(LD)
    for at in np.ndindex(A.shape[:-2]):
        found[at] = _factored(A[at], pivots[at], hermitian)
    return found


@replaceable
def symmetric_product(LD: Array, *, pivots: Array, hermitian: bool) -> Array:
    """Return what packed factors are made of; with bounds, as far as solving with them rounds."""
    found = np.zeros_like(LD)
    for at in np.ndindex(LD.shape[:-2]):
        found[at] = product(LD[at], pivots[at], hermitian)
    return found


def _placed(pivots: Array) -> Array:
    """Return pivots that name rows which were left, both of a block of two the same one."""
    placed, n = np.copy(pivots), pivots.shape[-1]
    for at in np.ndindex(pivots.shape[:-1]):
        for k, end, _, other in blocks(placed[at]):
            row = min(max(other + 1, end), n)
            placed[at][k:end] = row if end - k == 1 else -row
    return placed


@rule(
    "aten.linalg_ldl_factor_ex",
    "y = symmetric_factors(A, pivots, hermitian), pivots, None",
    ignores=("check_errors",),
    given={"LD": 0, "pivots": 1},
)
def ldl_factor(
    A: Array, *, hermitian: bool = False, LD: Array, pivots: Array
) -> tuple[Array, Array, None]:
    places = _placed(pivots)
    return symmetric_factors(A, LD=LD, pivots=places, hermitian=hermitian), places, None


@rule(
    "aten.linalg_ldl_solve",
    "y = solution(symmetric_product(LD, pivots, hermitian), B, True)",
)
def ldl_solve(LD: Array, B: Array, *, pivots: Array, hermitian: bool = False) -> Array:
    return solved(symmetric_product(LD, pivots=pivots, hermitian=hermitian), B)
