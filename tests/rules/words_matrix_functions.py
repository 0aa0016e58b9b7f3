"""Words of the formulas of functions of matrices, by series and by integrals.

Nothing here may come from the rules.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

Plain: TypeAlias = Any


def _powers(A: Plain, first: Plain) -> list[Plain]:
    """A power of A for each k, over k!, times a matrix, until nothing is left."""
    terms = [first]
    while np.any(terms[-1]) and len(terms) < 80:
        terms.append(A @ terms[-1] / len(terms))
    return terms


def exponential(A: Plain) -> Plain:
    return sum(_powers(A, np.broadcast_to(np.identity(A.shape[-1]), A.shape))[::-1])


def to_exponential(g: Plain, A: Plain) -> Plain:
    """The integral of exp(s A^T) g exp((1 - s) A^T) over s from 0 to 1, by Gauss's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    T = np.swapaxes(A, -1, -2)
    shares = [(w / 2, (1 + x) / 2) for x, w in zip(nodes, weights, strict=True)]
    return sum(w * (exponential(s * T) @ g @ exponential((1 - s) * T)) for w, s in shares)


def pseudoinverse(A: Plain) -> Plain:
    """The normal equations' solution, for the shorter side."""
    T = np.swapaxes(A, -1, -2)
    if A.shape[-2] < A.shape[-1]:
        return np.swapaxes(np.linalg.solve(A @ T, A), -1, -2)
    return np.linalg.solve(T @ A, T)


def least_squares(A: Plain, B: Plain, driver: str | None) -> tuple[Plain, Plain]:
    x = pseudoinverse(A) @ B
    if A.shape[-2] <= A.shape[-1] or driver in (None, "gelsy"):
        return x, np.zeros(0)
    return x, np.sum((A @ x - B) ** 2, axis=-2)


def to_system_of_squares(gx: Plain, gs: Plain, x: Plain, A: Plain, B: Plain) -> Plain:
    found = to_pseudoinverse(gx @ np.swapaxes(B, -1, -2), pseudoinverse(A), A)
    if gs.size:
        found = found + 2 * np.einsum("...ik,...k,...jk->...ij", A @ x - B, gs, x)
    return found


def to_side_of_squares(gx: Plain, gs: Plain, x: Plain, A: Plain, B: Plain) -> Plain:
    found = np.einsum("...ij,...ik->...jk", pseudoinverse(A), gx)
    return found - 2 * (A @ x - B) * gs[..., None, :] if gs.size else found


def to_pseudoinverse(g: Plain, P: Plain, A: Plain) -> Plain:
    """The sum of three parts, with what rows and columns leave as matrices of their own."""
    rows = np.identity(A.shape[-2]) - A @ P
    columns = np.identity(A.shape[-1]) - P @ A
    found = -np.einsum("...ji,...jk,...lk->...il", P, g, P)
    found = found + np.einsum("...ij,...kj,...kl,...ml->...im", rows, g, P, P)
    return found + np.einsum("...ji,...jk,...lk,...lm->...im", P, P, g, columns)


def _reflection(v: Plain, factor: float) -> Plain:
    return np.identity(len(v)) - factor * np.outer(v, v)


def _vectors(A: Plain, count: int) -> list[Plain]:
    """Of each column what is below the diagonal, after a 1."""
    return [np.array([0.0] * i + [1.0, *A[i + 1 :, i]]) for i in range(count)]


def _product(matrices: list[Plain], columns: int) -> Plain:
    total = np.identity(len(matrices[0]))
    for H in matrices:
        total = total @ H
    return total[:, :columns]


def reflections(A: Plain, tau: Plain) -> Plain:
    out = np.zeros(A.shape)
    for at in np.ndindex(A.shape[:-2]):
        vectors = _vectors(A[at], tau.shape[-1])
        each = [_reflection(v, t) for v, t in zip(vectors, tau[at], strict=True)]
        out[at] = _product(each, A.shape[-1])
    return out


def _changed(g: Plain, A: Plain, tau: Plain, i: int, change: Plain) -> float:
    """The inner product of g and of what a change of reflection i does to the product."""
    vectors = _vectors(A, len(tau))
    each = [_reflection(v, t) for v, t in zip(vectors, tau, strict=True)]
    return float(np.sum(g * _product([*each[:i], change, *each[i + 1 :]], A.shape[1])))


def to_vectors(g: Plain, A: Plain, tau: Plain) -> Plain:
    out = np.zeros(A.shape)
    for at in np.ndindex(A.shape[:-2]):
        for i, v in enumerate(_vectors(A[at], tau.shape[-1])):
            for row in range(i + 1, len(v)):
                step = np.outer(np.identity(len(v))[row], v)
                change = -tau[at][i] * (step + step.T)
                out[(*at, row, i)] = _changed(g[at], A[at], tau[at], i, change)
    return out


def to_factors(g: Plain, A: Plain, tau: Plain) -> Plain:
    out = np.zeros(tau.shape)
    for at in np.ndindex(A.shape[:-2]):
        for i, v in enumerate(_vectors(A[at], tau.shape[-1])):
            out[(*at, i)] = _changed(g[at], A[at], tau[at], i, -np.outer(v, v))
    return out


def _widened(A: Plain) -> Plain:
    """With as many columns as rows: more of them change no reflection."""
    more = np.zeros((*A.shape[:-1], A.shape[-2] - A.shape[-1]))
    return np.concatenate([A, more], axis=-1)


def reflecting(A: Plain, tau: Plain, C: Plain, left: bool, transpose: bool) -> Plain:
    Q = reflections(_widened(A), tau)
    Q = np.swapaxes(Q, -1, -2) if transpose else Q
    return np.einsum("...ij,...jk->...ik", *((Q, C) if left else (C, Q)))


def _of_product(g: Plain, C: Plain, left: bool, transpose: bool) -> Plain:
    """The gradient of the orthogonal matrix."""
    of_left, of_right = "...ik,...jk->...ij", "...ki,...kj->...ij"
    first, second = (C, g) if left is transpose else (g, C)
    return np.einsum(of_left if left else of_right, first, second)


def to_reflecting(g: Plain, A: Plain, tau: Plain, C: Plain, left: bool, transpose: bool) -> Plain:
    return to_vectors(_of_product(g, C, left, transpose), _widened(A), tau)[..., : A.shape[-1]]


def to_factors_reflecting(
    g: Plain, A: Plain, tau: Plain, C: Plain, left: bool, transpose: bool
) -> Plain:
    return to_factors(_of_product(g, C, left, transpose), _widened(A), tau)


def reflectors(A: Plain) -> tuple[Plain, Plain]:
    """Reflect what is left of each column onto its first number's axis, away from its sign."""
    m, n = A.shape[-2:]
    packed, factors = np.array(A), np.zeros((*A.shape[:-2], min(m, n)))
    for at in np.ndindex(A.shape[:-2]):
        left = packed[at]
        for i in range(min(m, n)):
            x = left[i:, i].copy()
            length = math.sqrt(math.fsum(x**2))
            if i == m - 1:
                break
            end = -math.copysign(length, x[0])
            v = np.array([1.0, *(x[1:] / (x[0] - end))])
            factors[at][i] = (end - x[0]) / end
            left[i:, i:] = _reflection(v, factors[at][i]) @ left[i:, i:]
            left[i + 1 :, i] = v[1:]
    return packed, factors


def _steps(pivots: Plain) -> list[tuple[int, int, Plain]]:
    """Where each block begins and ends, and the matrix that exchanges two rows."""
    found, k, n = [], 0, len(pivots)
    while k < n:
        end = k + 1 if pivots[k] > 0 else k + 2
        order = list(range(n))
        one, other = end - 1, abs(pivots[k]) - 1
        order[one], order[other] = order[other], order[one]
        found.append((k, end, np.identity(n)[order]))
        k = end
    return found


def symmetric_product(LD: Plain, pivots: Plain, hermitian: bool) -> Plain:
    """P_1 L_1 P_2 L_2 ... D (P_1 L_1 P_2 L_2 ...)^T."""
    assert not hermitian
    out = np.zeros(LD.shape)
    for at in np.ndindex(LD.shape[:-2]):
        n = LD.shape[-1]
        total, D = np.identity(n), np.zeros((n, n))
        for k, end, P in _steps(pivots[at]):
            L = np.identity(n)
            L[end:, k:end] = LD[at][end:, k:end]
            block = np.tril(LD[at][k:end, k:end])
            D[k:end, k:end] = block + np.tril(block, -1).T
            total = total @ P @ L
        out[at] = total @ D @ total.T
    return out


def symmetric_factors(A: Plain, pivots: Plain, hermitian: bool) -> Plain:
    assert not hermitian
    out = np.zeros(A.shape)
    for at in np.ndindex(A.shape[:-2]):
        left = np.tril(A[at]) + np.tril(A[at], -1).T
        for k, end, P in _steps(pivots[at]):
            left = P @ left @ P.T
            L = left[end:, k:end] @ np.linalg.inv(left[k:end, k:end])
            out[at][k:end, k:end], out[at][end:, k:end] = np.tril(left[k:end, k:end]), L
            rest = left[end:, end:] - L @ left[k:end, end:]
            left = np.zeros_like(left)
            left[end:, end:] = rest
    return out


MATRIX_FUNCTIONS: dict[str, Any] = {
    word.__name__: word
    for word in (
        exponential, to_exponential, pseudoinverse, to_pseudoinverse,
        reflections, to_vectors, to_factors, least_squares, to_system_of_squares,
        to_side_of_squares, reflecting, to_reflecting, to_factors_reflecting,
        symmetric_product, symmetric_factors, reflectors,
    )
}  # fmt: skip
