"""Words of the formulas of functions of matrices, by series and by integrals.

Nothing here may come from the rules.
"""

from __future__ import annotations

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


def to_pseudoinverse(g: Plain, P: Plain, A: Plain) -> Plain:
    """The sum of three parts, with what rows and columns leave as matrices of their own."""
    rows = np.identity(A.shape[-2]) - A @ P
    columns = np.identity(A.shape[-1]) - P @ A
    found = -np.einsum("...ji,...jk,...lk->...il", P, g, P)
    found = found + np.einsum("...ij,...kj,...kl,...ml->...im", rows, g, P, P)
    return found + np.einsum("...ji,...jk,...lk,...lm->...im", P, P, g, columns)


MATRIX_FUNCTIONS: dict[str, Any] = {
    word.__name__: word for word in (exponential, to_exponential, pseudoinverse, to_pseudoinverse)
}
