"""The bound of a matrix exponential, by Taylor's polynomial of A / 2^s and s squarings.

The polynomials are evaluated with few products (P. Bader, S. Blanes and F. Casas, *Computing the
matrix exponential with an optimized Taylor polynomial approximation*, Mathematics 7, 2019), the
degree by the 1-norm of A. No number is rounded more than r times on its way, and the partial
products, some of which cancel, are c times those of the series at most. So, number by number,

* the polynomial is off by at most ``d E`` with ``d = c gamma_r`` and E = exp(|A| / 2^s);
* a squaring turns ``d`` into ``(1 + d)^2 (1 + gamma_n) - 1``, of the square of E;
* what the series leaves out after the power m of S = |A| / 2^s is at most ``S^(m+1) E / (m+1)!``,
  which s squarings make ``2^s S^(m+1) exp(|A|) / (m+1)!``: all of these commute;
* what moves A by at most e moves exp(A) by exp(|A| + e) - exp(|A|): so it is for every power.

Where terms cancel, exp(A) is much smaller than exp(|A|). So squarings are also followed as they
are: of X, off by D at most, that adds ``|X| D + D |X| + D D``, and ``gamma_n (|X| + D)^2``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy

from gradwitness.engine.bounded.array import (
    COMPLEX_FUNCTIONS,
    Bounded,
    Error,
    Plain,
    is_complex,
)
from gradwitness.engine.bounded.complex_arithmetic import PRODUCT
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.engine.bounded.transcendental import LIBRARY
from gradwitness.rules.linalg.factor_dispatch import exponential

if TYPE_CHECKING:
    from collections.abc import Callable


class _Polynomial(NamedTuple):
    """One degree: roundings per row and others, c, and the largest norms for both formats."""

    degree: int
    products: int
    others: int
    cancels: float
    single: float
    double: float


# Roundings: n in A^2; in a combination, its number of terms; in a product, those of its factors and
# n more.
_POLYNOMIALS = (
    _Polynomial(1, 0, 1, 1.0, 1.1920928e-07, 2.2204460e-16),
    _Polynomial(2, 1, 3, 1.0, 5.978858e-04, 2.580956e-08),
    _Polynomial(4, 3, 6, 1.0, 5.116619e-02, 3.397168e-04),
    _Polynomial(8, 7, 14, 1.0, 5.800524e-01, 4.991228e-02),
    _Polynomial(12, 11, 24, 1.81, 1.461661, 2.996158e-01),
    _Polynomial(18, 23, 28, 6.35, math.inf, math.inf),
)
# From these norms on, A is halved first.
_HALVED = {"single": 3.010066, "double": 1.090863}


# By how much more, or less, rounding may make a norm.
_NEAR = 2.0**-20


def _squarings(norm: float, kind: str, near: float = _NEAR) -> int:
    """Return the number of squarings; one more where rounding could change it."""
    ratio = norm * (1 + near) / _HALVED[kind]
    return max(0, math.ceil(math.log2(ratio))) if ratio > 0 else 0


def _first(norm: float, n: int, kind: str, growth: Callable[[float], float]) -> float:
    """Return the error of the polynomial, relative to exp(|A| / 2^s)."""
    chosen = next(p for p in _POLYNOMIALS if norm * (1 + _NEAR) <= getattr(p, kind))
    return chosen.cancels * growth(max(chosen.products * n + chosen.others, LIBRARY))


def _relative(norm: float, n: int, kind: str, growth: Callable[[float], float]) -> float:
    """Return the error of the result relative to exp(|A|), entry by entry."""
    steps, first = _squarings(norm, kind), math.log1p(_first(norm, n, kind, growth))
    return _grown(2.0**steps * first + (2.0**steps - 1) * math.log1p(growth(n)))


def _grown(exponent: float) -> float:
    return math.expm1(exponent) if exponent < 1 else math.inf


def _left_out(sizes: Plain, norm: float, kind: str, steps: int) -> Plain:
    """Return the truncation error of one polynomial, as a factor of exp(|A| / 2^s)."""
    degree = next(p.degree for p in _POLYNOMIALS if norm * (1 - _NEAR) <= getattr(p, kind))
    power: Plain = np.linalg.matrix_power(sizes / 2**steps, degree + 1)
    return power / math.factorial(degree + 1)


def _followed(
    A: Plain, e: Plain, norm: float, kind: str, growth: Callable[[float], float]
) -> Plain:
    """Return the error of one matrix's exponential, squaring by squaring."""
    n, bound = A.shape[-1], np.zeros(A.shape)
    first = _first(norm, n, kind, growth)
    for steps in {_squarings(norm, kind), _squarings(norm, kind, -_NEAR)}:
        scaled, moved = A / 2**steps, e / 2**steps
        X, sizes = scipy.linalg.expm(scaled), np.abs(scaled)
        majorant = scipy.linalg.expm(sizes + moved)
        D = first * majorant + _left_out(np.abs(A), norm, kind, steps) @ majorant
        D = D + majorant - scipy.linalg.expm(sizes)
        for _ in range(steps):
            reach = np.abs(X) + D
            D = reach @ D + D @ np.abs(X) + growth(n) * (reach @ reach)
            X = X @ X
        bound = np.maximum(bound, D)
    return bound


@stands_for(exponential)
def _exponential(func: Any, A: Bounded) -> Bounded:
    if not np.isfinite(A.value).all():
        raise NotImplementedError("the exponential of a matrix that is not finite")
    arithmetic, n = A.arithmetic, A.shape[-1]
    value = func(A.value)
    if not A.size:
        return Bounded(value, arithmetic)
    kind = "single" if arithmetic.unit > 2.0**-50 else "double"
    sizes = np.abs(A.value)
    majorant = np.reshape(scipy.linalg.expm(sizes), (-1, n, n))
    norms = np.ravel(np.max(np.sum(sizes, axis=-2), axis=-1))
    matrices = np.reshape(A.value, (-1, n, n))
    steps = [_squarings(norm, kind) for norm in norms]
    rest = np.array(
        [
            2.0**s * _left_out(np.abs(matrix), norm, kind, s)
            for matrix, norm, s in zip(matrices, norms, steps, strict=True)
        ]
    )
    each = PRODUCT if is_complex(A) else 1.0

    def off(e: Error, growth: Callable[[float], float]) -> Plain:
        def grown(roundings: float) -> float:
            return growth(each * roundings)

        parts = np.array([_relative(norm, n, kind, grown) for norm in norms])
        # An entry that is 0 in every power has no error.
        bound = np.where(majorant == 0, 0.0, parts[:, None, None] * majorant + rest @ majorant)
        bound = np.reshape(bound, value.shape)
        moved = np.zeros(value.shape) if e is None else e
        if e is not None:
            more = scipy.linalg.expm(sizes + e) - np.reshape(majorant, value.shape)
            bound = bound + more * (1 + np.max(parts))
        singly = zip(matrices, np.reshape(moved, matrices.shape), norms, strict=True)
        closely = np.array([_followed(*one, kind, grown) for one in singly])
        return np.asarray(np.fmin(bound, np.reshape(closely, value.shape)))

    return Bounded(value, arithmetic, *map(off, A.errors, arithmetic.growths))


COMPLEX_FUNCTIONS.add("exponential")
