"""Eigenvalues and eigenvectors of any matrix: judged by the equations that define them.

As in `orthogonal`, r roundings of orthogonal transformations give the exact results for A + D with
``|D| <= gamma_r |A|`` in Frobenius' norm. Rows and columns may have been scaled by powers of 2
before (Osborne 1960), and back: D is larger by the quotient of the largest and the smallest one.
So each ``|A v - l v|``, each ``|v| - 1`` and the sum of all eigenvalues, less the trace of A, are
bounded; recorded results that satisfy this are used as they are. They may be off by that: an
eigenvalue directly, a vector over the second smallest singular value of A - l I.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from gradwitness.engine.bounded.array import COMPLEX_FUNCTIONS, Bounded, Plain
from gradwitness.engine.bounded.orthogonal import (
    DOUBT,
    reflection_roundings,
    require_finite,
    roundings_of,
    size_of,
)
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.rules.linalg.factor_dispatch import eigenpairs

if TYPE_CHECKING:
    from gradwitness.engine.floats import Arithmetic


def _roundings(A: Bounded) -> int:
    """Return those of a Hessenberg form, of sweeps, and of vectors put together from triangles.

    One double sweep for each value but the last: in each, a row and a column take part in three
    reflections of length 3.
    """
    n = A.shape[-1]
    sweeps = max(n - 1, 0) * 2 * reflection_roundings(3, 3)
    return roundings_of(A) * (reflection_roundings(2 * max(n - 2, 0), n) + sweeps + 3 * n)


def _scaling(A: Plain) -> Plain:
    """Return the quotient of the scales that may have been taken out of each matrix."""
    found = np.ones(A.shape[:-2])
    for at in np.ndindex(found.shape):
        if A.size:
            _, (scales, _) = scipy.linalg.matrix_balance(A[at], permute=False, separate=True)
            found[at] = np.max(scales) / np.min(scales)
    return found


def _off(A: Plain, values: Plain, vectors: Plain, spectra: Plain) -> Plain:
    """Return by how much the equations are violated, at worst: a number for each matrix."""
    trace = np.trace(A, axis1=-2, axis2=-1)
    n = A.shape[-1]
    off = np.abs(np.sum(values, axis=-1) - trace) / (2 * np.sqrt(max(n, 1)))
    if vectors.size:
        residual = A @ vectors - vectors * values[..., None, :]
        columns = np.sqrt(np.sum(np.abs(residual) ** 2, axis=-2))
    else:
        columns = spectra[..., -1] if n else np.zeros(values.shape)
    return np.asarray(np.maximum(off, np.max(columns, axis=-1, initial=0.0) / 3))


@stands_for(eigenpairs)
def _eigenpairs(func: Any, A: Bounded, *, values: Plain, vectors: Plain) -> tuple[Any, Any]:
    require_finite(A.value)
    arithmetic: Arithmetic = A.arithmetic
    n, roundings = A.shape[-1], _roundings(A)
    # The singular values of A - l I, for each eigenvalue l.
    shifted = A.value[..., None, :, :] - values[..., None, None] * np.eye(n)
    spectra = np.linalg.svd(shifted, compute_uv=False) if n else np.zeros((*values.shape, 0))
    size = _scaling(A.value) * size_of(A.value)
    off = _off(A.value, values, vectors, spectra)
    defect = np.zeros(size.shape)
    if vectors.size:
        lengths = np.sqrt(np.sum(np.abs(vectors) ** 2, axis=-2))
        defect = np.max(np.abs(lengths - 1), axis=-1, initial=0.0) / 3
        if np.any(np.linalg.cond(vectors) * arithmetic.probable_growth(n) >= 0.5):
            raise NotImplementedError("a matrix whose eigenvectors nearly coincide")

    def holds(growth: float) -> Plain:
        return np.asarray((off <= growth * size) & (defect <= growth))

    right = holds(arithmetic.probable_growth(roundings))
    if np.any(~right & holds(arithmetic.worst_growth(roundings))):
        raise NotImplementedError(DOUBT)
    own_values, own_vectors = func(A.value, values=values, vectors=vectors)
    chosen = np.where(right[..., None], values, own_values)
    second = spectra[..., -2] if n > 1 else np.ones(values.shape)
    rigorous, probable = (
        np.broadcast_to((3 * growth(roundings) * size)[..., None], values.shape)
        for growth in arithmetic.growths
    )
    bounded_values = Bounded(chosen, arithmetic, rigorous, probable)
    if not vectors.size:
        return bounded_values, vectors
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = (
            np.broadcast_to((np.where(e > 0, e / second, 0.0))[..., None, :], vectors.shape)
            for e in (rigorous, probable)
        )
        chosen = np.where(right[..., None, None], vectors, own_vectors)
        return bounded_values, Bounded(chosen, arithmetic, *errors)


COMPLEX_FUNCTIONS.add("eigenpairs")
