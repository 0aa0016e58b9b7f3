"""Orthogonal factors of matrices: judged by the equations that define them.

Eigenvectors have any sign, and are any basis where eigenvalues coincide, so two right results may
differ. But orthogonal transformations give the exact result for A + D, in exactly orthonormal
columns x, each known to some delta: r successive roundings of numbers of A's size make
``|D| <= gamma_r |A|`` and ``|delta| <= gamma_r``, in Frobenius' norm
(Higham 2002, lemmas 19.2, 19.3 and 19.8, for Householder's reflections and rotations; of complex
numbers a product and its sum count 3 each, and a quotient 13: 5 times as many at most). So

* an eigenvalue, or singular value, is off by at most ``gamma_r |A|`` (Weyl's inequality);
* ``|A x - l x| <= |D| + 2 |A| |delta|``, and ``|X^T X - I| <= 2 |delta| + |delta|^2``.

Recorded vectors that satisfy these within the probable growth of r roundings are used as they are.
Those that violate even the worst case are refuted: the witness's own vectors take their place. In
between, the step is inconclusive. The bound of a number is a change that breaks an equation by
``gamma_r`` at least.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded.array import (
    COMPLEX_FUNCTIONS,
    Bounded,
    Error,
    Plain,
    is_complex,
    value_of,
)
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.rules.linalg.factor_dispatch import (
    inverted,
    least_value,
    orthogonal_factors,
    over_gaps,
    pseudoinverse,
    reflected,
    reflectors,
    singular_factors,
    spectrum,
)
from gradwitness.rules.linalg.solving import adjoint, turned

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic

DOUBT = "a decomposition whose errors lie between the probable bound and the worst case"


def size_of(A: Plain) -> Plain:
    """Return Frobenius' norm of each matrix."""
    return np.asarray(np.sqrt(np.sum(np.abs(A) ** 2, axis=(-2, -1))))


def require_finite(A: Plain) -> None:
    """Refuse a matrix that is not finite."""
    if not np.isfinite(A).all():
        raise NotImplementedError("factors of a matrix that is not finite")


def roundings_of(A: Bounded) -> int:
    """Return how many roundings of real numbers one of these numbers counts."""
    return 5 if is_complex(A) else 1


def reflection_roundings(count: int, length: int) -> int:
    """Return the roundings of so many reflections: a product with v, and a multiple of v added."""
    return count * (length + 3)


def _sweeps(values: int) -> int:
    """Return the roundings of two sweeps of rotations for each value but the last: six in each."""
    return 12 * max(values - 1, 0)


def _residual(product: Plain, other: Plain | float) -> Plain:
    """Return the norm of the worst column of a difference, for each matrix."""
    columns = np.sqrt(np.sum(np.abs(product - other) ** 2, axis=-2))
    return np.asarray(np.max(columns, axis=-1, initial=0.0))


def _defect(X: Plain) -> Plain:
    """Return how far the columns are from orthonormal, at worst."""
    off = np.abs(adjoint(X) @ X - np.eye(X.shape[-1]))
    return np.asarray(np.max(off, axis=(-2, -1), initial=0.0))


def _parts(residual: Plain, size: Plain) -> Plain:
    return np.asarray(np.where(residual == 0, 0.0, residual / size))


def _holds(arithmetic: Arithmetic, roundings: int, off: Plain) -> Plain:
    """Whether each decomposition satisfies its equations within rounding."""
    holds = np.asarray(off <= arithmetic.probable_growth(roundings))
    if np.any(~holds & (off <= arithmetic.worst_growth(roundings))):
        raise NotImplementedError(DOUBT)
    return holds


def _judged(
    arithmetic: Arithmetic,
    roundings: int,
    holds: Plain,
    recorded: Plain,
    own: Plain,
    reach: Plain,
) -> Bounded:
    """Return the vectors to compare with; ``reach`` is how an equation changes with each number."""
    value = np.where(holds[..., None, None], recorded, own)
    errors = (_shown(growth(roundings), reach) for growth in arithmetic.growths)
    return Bounded(value, arithmetic, *errors)


def _shown(growth: float, reach: Plain) -> Plain:
    """Return a change of a number that shows, where an equation changes by its multiple.

    To second order, a third of a vector's squared length changes with the square.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(np.minimum(growth / reach, np.sqrt(3 * growth)))


def _along(X: Plain) -> Plain:
    """Return a third of how the products of columns change with each number of a matrix.

    That with another column changes by what stands there in the same row, and its own square twice
    by itself.
    """
    size = np.abs(X)
    if X.shape[-1] < 2:
        return np.asarray(2 * size / 3)
    ordered = np.sort(size, axis=-1)
    largest, next_one = ordered[..., -1:], ordered[..., -2:-1]
    others = np.where(size < largest, largest, next_one)
    return np.asarray(np.maximum(2 * size, others) / 3)


def _kept(values: Plain, own: Bounded) -> Plain:
    """Return recorded values where they are right ones, and elsewhere the witness's own."""
    return np.where(np.abs(values - own.value) <= own.rigorous, values, own.value)


def _values(A: Bounded, values: Plain, roundings: int) -> Bounded:
    """Give eigenvalues or singular values the bound of Weyl's inequality."""
    size = size_of(A.value)

    def bound(e: Error, growth: Callable[[float], float]) -> Plain:
        moved = growth(roundings) * size + (0.0 if e is None else size_of(e))
        return np.broadcast_to(moved[..., None], values.shape)

    return Bounded(values, A.arithmetic, *map(bound, A.errors, A.arithmetic.growths))


@stands_for(spectrum)
def _spectrum(func: Any, A: Bounded, *, values: Plain, vectors: Plain) -> tuple[Bounded, Any]:
    require_finite(A.value)
    n = A.shape[-1]
    roundings = roundings_of(A) * (reflection_roundings(2 * max(n - 2, 0), n) + _sweeps(n))
    own_values, own_vectors = func(A.value, values=values, vectors=vectors)
    bounded_values = _values(A, own_values, roundings)
    if not vectors.size:
        return bounded_values, vectors
    residual = _residual(A.value @ vectors, vectors * _kept(values, bounded_values)[..., None, :])
    off = np.maximum(_parts(residual, size_of(A.value)) / 3, _defect(vectors) / 3)
    holds = _holds(A.arithmetic, roundings, off)
    return bounded_values, _judged(
        A.arithmetic, roundings, holds, vectors, own_vectors, _along(vectors)
    )


@stands_for(over_gaps)
def _over_gaps(_: Any, X: Any, *, values: Any, wanted: Plain) -> Bounded:
    """Refuse gaps between values that one rounding of the largest value could close."""
    mask = wanted[..., None, None] & ~np.eye(X.shape[-1], dtype=bool)
    gaps = values[..., None, :] - values[..., :, None]
    size = np.abs(values.value)
    least = 2 * values.arithmetic.unit * np.max(size, axis=-1, initial=0.0)[..., None, None]
    if np.any(mask & (np.abs(gaps.value) <= least)):
        raise NotImplementedError(
            "values so close that one rounding could make them equal: the gradient of their "
            "vectors is undetermined"
        )
    quotient: Any = np.where(mask, X / np.where(mask, gaps, 1.0), 0.0)
    return quotient if isinstance(quotient, Bounded) else Bounded(quotient, values.arithmetic)


@stands_for(singular_factors)
def _singular_factors(
    func: Any, A: Bounded, *, U: Plain, S: Plain, Vh: Plain
) -> tuple[Any, Bounded, Any]:
    require_finite(A.value)
    m, n = A.shape[-2:]
    k = min(m, n)
    roundings = roundings_of(A) * _both_sides(m, n, is_complex(A))
    left, own, right = func(A.value, U=U, S=S, Vh=Vh)
    bounded_values = _values(A, own, roundings)
    if not U.size:
        return left, bounded_values, right
    # Vectors without a singular value have image 0.
    diagonal = _kept(S, bounded_values)[..., None, :] * np.eye(k)
    image = A.value @ adjoint(Vh) - U[..., :k] @ _widened(diagonal, Vh.shape[-2])
    other = adjoint(A.value) @ U - adjoint(Vh[..., :k, :]) @ _widened(diagonal, U.shape[-1])
    residual = np.maximum(_residual(image, 0.0), _residual(other, 0.0))
    defect = np.maximum(_defect(U), _defect(adjoint(Vh)))
    off = np.maximum(_parts(residual, size_of(A.value)) / 3, defect / 3)
    holds = _holds(A.arithmetic, roundings, off)
    return (
        _judged(A.arithmetic, roundings, holds, U, left, _along(U)),
        bounded_values,
        _judged(A.arithmetic, roundings, holds, Vh, right, turned(_along(turned(Vh)))),
    )


@stands_for(orthogonal_factors)
def _orthogonal_factors(func: Any, A: Bounded, *, Q: Plain, R: Plain) -> tuple[Any, Bounded]:
    require_finite(A.value)
    m, k = A.shape[-2], min(A.shape[-2:])
    arithmetic, roundings = A.arithmetic, roundings_of(A) * reflection_roundings(k, m)
    own, triangle = func(A.value, Q=Q, R=R)
    upper = np.triu(R)
    lengths = np.sqrt(np.sum(np.abs(A.value) ** 2, axis=-2, keepdims=True))
    if Q.size:
        # |A - Q R| <= |D| + |delta| |R|, where delta has a column for each row of R.
        part = np.sqrt(np.sum(np.abs(A.value - Q @ upper) ** 2, axis=-2, keepdims=True))
        part = _parts(part, lengths) / (1 + np.sqrt(k))
        defect = _defect(Q) / 3
        reach = np.asarray(1 / (1 + np.sqrt(k)))
    else:
        # R^T R is (A + D)^T (A + D).
        part = np.abs(adjoint(upper) @ upper - adjoint(A.value) @ A.value)
        part = _parts(part, lengths * turned(lengths)) / 3
        defect = np.asarray(0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = _along(np.where(lengths > 0, upper / lengths, 1))
    off = np.maximum(np.max(part, axis=(-2, -1), initial=0.0), defect)
    holds = _holds(arithmetic, roundings, off)
    value = np.where(holds[..., None, None], upper, triangle)
    sizes = np.broadcast_to(lengths, value.shape) * np.tri(*value.shape[-2:][::-1]).T
    errors = (sizes * _shown(growth(roundings), reach) for growth in arithmetic.growths)
    bounded_R = Bounded(value, arithmetic, *errors)
    return (_judged(arithmetic, roundings, holds, Q, own, _along(Q)) if Q.size else Q), bounded_R


def _columns_of(packed: Plain, tau: Plain) -> Plain:
    """Return the first columns of the product of reflections whose vectors lie below a diagonal."""
    m, k = packed.shape[-2], tau.shape[-1]
    v = np.tril(packed[..., :k], -1) + np.eye(m, k)
    Q = np.broadcast_to(np.eye(m, k), v.shape).astype(v.dtype)
    for i in reversed(range(k)):
        column = v[..., i : i + 1]
        Q = Q - tau[..., i, None, None] * column * (adjoint(column) @ Q)
    return Q


@stands_for(reflectors)
def _reflectors(func: Any, A: Bounded, *, packed: Plain, tau: Plain) -> tuple[Bounded, Bounded]:
    """Judge reflections by their product Q, and by A = Q R.

    An error of a vector moves A's column by it, times its factor and R's diagonal; one of a factor
    by at least the latter.
    """
    require_finite(A.value)
    arithmetic, k = A.arithmetic, tau.shape[-1]
    roundings = roundings_of(A) * reflection_roundings(k, A.shape[-2])
    Q, upper = _columns_of(packed, tau), np.triu(packed[..., :k, :])
    lengths = np.sqrt(np.sum(np.abs(A.value) ** 2, axis=-2, keepdims=True))
    part = np.sqrt(np.sum(np.abs(A.value - Q @ upper) ** 2, axis=-2, keepdims=True))
    part = np.max(_parts(part, lengths), axis=(-2, -1), initial=0.0) / (1 + np.sqrt(k))
    holds = _holds(arithmetic, roundings, np.maximum(part, _defect(Q) / 3))
    own, own_tau = func(A.value, packed=packed, tau=tau)
    # Without a factor the vector does not count, and is none.
    absent = np.equal(tau, 0)[..., None, :] & np.tri(A.shape[-2], k, -1, dtype=bool)
    none = np.concatenate([absent, np.zeros((*A.shape[:-1], A.shape[-1] - k), bool)], axis=-1)
    value = np.where(holds[..., None, None], np.where(none, 0, packed), own)
    factors = np.where(holds[..., None], tau, own_tau)
    with np.errstate(divide="ignore", invalid="ignore"):
        diagonal = np.abs(np.diagonal(value, axis1=-2, axis2=-1))
        of_factor = lengths[..., 0, :k] / diagonal
        of_vector = np.where(np.equal(factors, 0), 0, of_factor / np.abs(factors))
    below = np.tri(A.shape[-2], A.shape[-1], -1, dtype=bool)
    wide = np.concatenate([of_vector, np.zeros((*A.shape[:-2], A.shape[-1] - k))], axis=-1)
    sizes = np.where(below, wide[..., None, :], lengths)

    def errors(size: Plain) -> tuple[Plain, Plain]:
        rigorous, probable = (
            growth(roundings) * (1 + np.sqrt(k)) * size for growth in arithmetic.growths
        )
        return rigorous, probable

    return (
        Bounded(value, arithmetic, *errors(sizes)),
        Bounded(factors, arithmetic, *errors(of_factor)),
    )


@stands_for(reflected)
def _reflected(_: Any, B: Bounded, *, count: int) -> Bounded:
    roundings = roundings_of(B) * reflection_roundings(count, B.shape[-2])
    lengths = np.sqrt(np.sum(np.abs(B.value) ** 2, axis=-2, keepdims=True))

    def bound(e: Error, growth: Callable[[float], float]) -> Plain:
        moved = np.broadcast_to(growth(roundings) * lengths, B.shape)
        return np.asarray(moved if e is None else moved + e)

    return Bounded(B.value, B.arithmetic, *map(bound, B.errors, B.arithmetic.growths))


def _widened(A: Plain, columns: int) -> Plain:
    """Add columns of zeros."""
    more = np.zeros((*A.shape[:-1], columns - A.shape[-1]))
    return np.concatenate([A, more], axis=-1)


@stands_for(pseudoinverse)
def _pseudoinverse(_: Any, A: Bounded, *, atol: Any, rtol: Any, recorded: Any = None) -> Bounded:
    """Bound P with D as of singular vectors.

    Singular values up to the limit are left out, of A and of A + D: E = D + L - L' lies between two
    matrices of one rank, where L has what is left out. Their pseudoinverses are c |P|_2^2 |E| /
    (1 - |P|_2 |E|) apart at most in Frobenius' norm, with c = 1 for a square matrix of full rank
    and sqrt(2) for others (Wedin 1973); the product of V, 1 / S and U^T is off by what U and V are,
    and by k + 2 roundings.

    Where D may move a value across the limit, either is right: the recorded pseudoinverse had it
    if it is as large as 1 over that value.
    """
    require_finite(A.value)
    m, n = A.shape[-2:]
    k = min(m, n)
    roundings = roundings_of(A) * _both_sides(m, n, is_complex(A))
    arithmetic = A.arithmetic
    atol, rtol = (None if x is None else np.asarray(value_of(x)) for x in (atol, rtol))
    u, s, vh = np.linalg.svd(A.value, full_matrices=False)
    if rtol is None and atol is None:
        rtol = np.asarray(2 * max(m, n) * arithmetic.unit)
    least = least_value(s, A.shape, atol, rtol)

    def moved(e: Error, growth: Any) -> Plain:
        return np.asarray(growth(roundings) * size_of(A.value) + (0.0 if e is None else size_of(e)))

    farthest = moved(A.rigorous, arithmetic.growths[0])[..., None]
    # The largest value is no larger than itself.
    all_left_out = np.asarray(0.0 if rtol is None else rtol)[..., None] >= 1
    open_ = (np.abs(s - least) <= 2 * farthest) & ~all_left_out
    largest = np.inf if recorded is None else size_of(value_of(recorded))[..., None]
    if np.any(open_ & (largest * (s + 2 * farthest) >= 1)):
        raise NotImplementedError("the pseudoinverse of a matrix that may be rank-deficient")
    kept = (s > least) & ~open_
    value = inverted(u, s, vh, kept)
    norm = 1 / np.min(np.where(kept, s, np.inf), axis=-1, initial=np.inf)
    left_out = np.sqrt(np.sum(np.where(kept, 0.0, s) ** 2, axis=-1))
    is_full = np.all(kept, axis=-1)

    def bound(e: Error, growth: Any) -> Plain:
        between = moved(e, growth)
        between = np.where(is_full, between, 2 * (between + left_out))
        rest = 1 - norm * between
        off = np.where(is_full & (m == n), 1.0, np.sqrt(2)) * norm**2 * between
        off = np.where(rest > 0, off / np.where(rest > 0, rest, 1), np.inf)
        delta = growth(roundings)
        inner = (1 + delta) ** 2 * (1 + np.sqrt(k) * growth(k + 2)) - 1
        off = off + (size_of(value) + off) * inner
        return np.broadcast_to(off[..., None, None], value.shape)

    return Bounded(value, arithmetic, *map(bound, A.errors, arithmetic.growths))


def _both_sides(m: int, n: int, over_complex: bool) -> int:
    """Return the roundings of singular vectors: two diagonals, a square matrix before, sweeps.

    Of complex numbers the last one is reflected too, so that it becomes real.
    """
    k, last = min(m, n), 0 if over_complex else 1
    reflections = max(min(m - last, n), 0) + max(min(n - last, m), 0) + (k if m != n else 0)
    return reflection_roundings(reflections, max(m, n)) + _sweeps(k)


COMPLEX_FUNCTIONS.update(
    (
        "spectrum",
        "over_gaps",
        "singular_factors",
        "orthogonal_factors",
        "pseudoinverse",
        "reflected",
        "reflectors",
    )
)
