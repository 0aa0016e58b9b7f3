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


def _squarings(norm: float, kind: str) -> int:
    """Return the number of squarings; one more where rounding could change it."""
    ratio = norm * (1 + 2.0**-20) / _HALVED[kind]
    return max(0, math.ceil(math.log2(ratio))) if ratio > 0 else 0


def _relative(norm: float, n: int, kind: str, growth: Callable[[float], float]) -> float:
    """Return the error of the result relative to exp(|A|), entry by entry."""
    steps = _squarings(norm, kind)
    chosen = next(p for p in _POLYNOMIALS if norm * (1 + 2.0**-20) <= getattr(p, kind))
    roundings = max(chosen.products * n + chosen.others, LIBRARY)
    first = math.log1p(chosen.cancels * growth(roundings))
    return _grown(2.0**steps * first + (2.0**steps - 1) * math.log1p(growth(n)))


def _grown(exponent: float) -> float:
    return math.expm1(exponent) if exponent < 1 else math.inf


def _left_out(sizes: Plain, norm: float, kind: str) -> Plain:
    """Return the truncation error for one matrix, as a factor of exp(|A|)."""
    steps = _squarings(norm, kind)
    degree = next(p.degree for p in _POLYNOMIALS if norm * (1 - 2.0**-20) <= getattr(p, kind))
    power: Plain = np.linalg.matrix_power(sizes / 2**steps, degree + 1)
    return power * (2.0**steps / math.factorial(degree + 1))


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
    pairs = zip(np.reshape(sizes, (-1, n, n)), norms, strict=True)
    rest = np.array([_left_out(matrix, norm, kind) for matrix, norm in pairs])

    each = PRODUCT if is_complex(A) else 1.0

    def off(e: Error, growth: Callable[[float], float]) -> Plain:
        def grown(roundings: float) -> float:
            return growth(each * roundings)

        parts = np.array([_relative(norm, n, kind, grown) for norm in norms])
        # An entry that is 0 in every power has no error.
        bound = np.where(majorant == 0, 0.0, parts[:, None, None] * majorant + rest @ majorant)
        bound = np.reshape(bound, value.shape)
        if e is None:
            return bound
        more = scipy.linalg.expm(sizes + e) - np.reshape(majorant, value.shape)
        return np.asarray(bound + more * (1 + np.max(parts)))

    return Bounded(value, arithmetic, *map(off, A.errors, arithmetic.growths))


COMPLEX_FUNCTIONS.add("exponential")
