"""Bounds of Bessel's and Airy's functions, of zeta, and of the incomplete gamma functions.

Counted as in `special`: an absolute error in units of the roundoff of the evaluation, of the kernel
(Cephes) and of SciPy, which has the same formulas. Rational functions are evaluated by Horner's
rule, whose error is the sum of the sizes of all terms, times two roundings for each coefficient.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from gradwitness.engine.bounded.array import (
    UFUNCS,
    Bounded,
    Error,
    Plain,
    assemble,
    once_stored,
    total,
    value_of,
)
from gradwitness.engine.bounded.special import bounded, farthest, register, undefined
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.rules.kernel_ops import airy_ai

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic


def _wave(x: Plain) -> Plain:
    """Return the level beyond 5: sqrt(2 / pi x) times P cos(x - c) - Q sin(x - c), or the like.

    The difference and c round, which moves the angle by x + 1 units; P and Q, quotients of
    polynomials with positive coefficients, have 32 roundings, and ten follow.
    """
    size = np.maximum(x, 5)
    return np.asarray(np.sqrt(2 / (np.pi * size)) * (size + 48))


def _j0_level(x: Plain, y: Plain) -> Plain:
    # (z - r)(z - s) P(z) / Q(z), z = x^2: z is rounded before two zeros are taken away, which shows
    # near them. The terms of P are 3.7 times their sum at most.
    size = np.abs(x)
    return np.where(size <= 5, 55 * np.abs(y) + 4, _wave(size))


def _j1_level(x: Plain, y: Plain) -> Plain:
    size = np.abs(x)
    return np.where(size <= 5, 55 * np.abs(y) + 3 * np.minimum(size, 1), _wave(size))


def _y0_level(x: Plain, y: Plain) -> Plain:
    # P(z) / Q(z) + 2 / pi log(x) J0(x): the terms of P are 0.08 + 0.6 z at most, over Q.
    j0 = scipy.special.j0(x)
    from_j0 = np.abs(np.log(x)) * (_j0_level(x, j0) + 4 * np.abs(j0))
    near = 16 * (0.08 + 0.6 * x**2) + from_j0 + 4 * np.abs(y)
    return np.where(x <= 5, near, _wave(x))


def _y1_level(x: Plain, y: Plain) -> Plain:
    # x P(z) / Q(z) + 2 / pi (log(x) J1(x) - 1 / x): the terms of P are 0.2 + 0.1 z at most.
    j1 = scipy.special.j1(x)
    from_j1 = np.abs(np.log(x)) * (_j1_level(x, j1) + 4 * np.abs(j1))
    near = 16 * x * (0.2 + 0.1 * x**2) + from_j1 + 4 / x + 4 * np.abs(y)
    return np.where(x <= 5, near, _wave(x))


def _modulus(low: Plain) -> tuple[Plain, Plain]:
    """Return sqrt(J^2 + Y^2) of the orders 0 and 1, which falls: no slope beyond is larger."""
    s = scipy.special
    return np.hypot(s.j0(low), s.y0(low)), np.hypot(s.j1(low), s.y1(low))


def _y0_slope(low: Plain, _: Plain) -> Plain:
    return _modulus(low)[1]


def _y1_slope(low: Plain, _: Plain) -> Plain:
    of_0, of_1 = _modulus(low)
    return np.asarray(of_0 + of_1 / low)


# |J0'| = |J1| < 0.59, and |J1'| is 1/2 at most.
register("j0", lambda low, _: np.full(low.shape, 0.59), _j0_level)
register("j1", lambda low, _: np.full(low.shape, 0.5), _j1_level)
register("y0", _y0_slope, _y0_level)
register("y1", _y1_slope, _y1_level)


def _k0_level(x: Plain, y: Plain) -> Plain:
    # Up to 2, a Chebyshev series less log(x / 2) I0(x), whose own error `special` counts; beyond, a
    # series times e^-x / sqrt(x), all of one sign.
    from_i0 = np.abs(np.log(x / 2)) * (17.1 * np.exp(x) + 12 * scipy.special.i0(x))
    return np.where(x <= 2, 12 + from_i0 + 4 * np.abs(y), 24 * np.abs(y))


def _k1_level(x: Plain, y: Plain) -> Plain:
    from_i1 = np.abs(np.log(x / 2)) * (8.7 * x * np.exp(x) + 12 * scipy.special.i1(x))
    return np.where(x <= 2, 12 / x + from_i1 + 4 * np.abs(y), 24 * np.abs(y))


def _k0e_level(x: Plain, y: Plain) -> Plain:
    return np.where(x <= 2, np.exp(x) * _k0_level(x, 0 * y) + 12 * np.abs(y), 24 * np.abs(y))


def _k1e_level(x: Plain, y: Plain) -> Plain:
    return np.where(x <= 2, np.exp(x) * _k1_level(x, 0 * y) + 12 * np.abs(y), 24 * np.abs(y))


def _k1_slope(low: Plain, _: Plain) -> Plain:
    return np.asarray(scipy.special.k0(low) + scipy.special.k1(low) / low)


# K0' = -K1, and all of them fall.
register("k0", lambda low, _: scipy.special.k1(low), _k0_level)
register("k1", _k1_slope, _k1_level)
register("k0e", lambda low, _: scipy.special.k1e(low), _k0e_level)
register("k1e", lambda low, _: scipy.special.k1e(low) * (1 + 1 / low), _k1e_level)


def _airy_level(x: Plain, y: Plain) -> Plain:
    """Count by zeta = 2/3 |x|^(3/2), which has five roundings.

    Below -2.09, pi^(-1/2) |x|^(-1/4) times a wave in zeta; above 2.09, e^-zeta times a quotient of
    polynomials; between, 0.36 f - 0.26 g, power series whose terms add up to 3.1 and 4.1 at most.
    """
    size = np.abs(x)
    zeta = 2 / 3 * size**1.5
    wave = 0.57 / np.maximum(size, 1) ** 0.25 * (6 * zeta + 60)
    tail = np.where(x >= 2.09, (6 * zeta + 60) * np.abs(y), 32)
    return np.where(x < -2.09, wave, tail)


@stands_for(airy_ai)
def _airy_ai(_: Any, a: Bounded) -> Bounded:
    def slope(low: Plain, high: Plain) -> Plain:
        # |Ai'| is 0.26 at most above 0, and below 0.57 |x|^(1/4) and a little.
        return np.asarray(0.6 * (1 + farthest(low, high)) ** 0.25)

    return bounded(a.arithmetic, a, airy_ai, slope, _airy_level)


def _of_two(
    arithmetic: Arithmetic,
    a: Any,
    b: Any,
    y: Plain,
    level: Plain,
    moved: Callable[[Plain], Plain] = lambda e: np.where(e != 0, np.inf, 0.0),
) -> Bounded:
    """Return a function of two operands; of their errors only the first's may be followed."""

    def carry(of_a: Error, of_b: Error) -> Error:
        followed = None if of_a is None else np.broadcast_to(moved(of_a), y.shape)
        return total(followed, None if of_b is None else np.where(of_b != 0, np.inf, 0 * y))

    growths = once_stored(arithmetic, y, np.asarray(arithmetic.accumulate * level))
    return undefined(assemble(arithmetic, y, (a, b), carry, growths), a, b)


def _zeta(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    # Up to ten powers (q + k)^-x, and a series: q + k rounds, which moves a power by x. Below 0 the
    # terms may differ in sign.
    x, q = value_of(a), value_of(b)
    y = np.asarray(scipy.special.zeta(x, q))
    nearest = np.where(q < 0, np.abs(q - np.rint(q)), 1.0)
    sizes = np.abs(y) + np.where(q < 0, 2 * scipy.special.zeta(x, nearest), 0)

    def moved(e: Plain) -> Plain:
        # Each power v^-x, v = q + k, by e |log v| v^-s at most, s = x - e, or x + e below 1. Beyond
        # 1, log v <= v^d / (d exp(1)) for all d > 0: for 1 / log(q + 1), if the sum converges.
        s = x - e
        first = np.abs(np.log(q)) * np.maximum(q**-s, q ** -(x + e))
        d = np.minimum((s - 1) / 2, 1 / np.log1p(q))
        rest = scipy.special.zeta(s - d, q + 1) / (d * math.e)
        return np.where(e == 0, 0.0, np.where((s > 1) & (q > 0), e * (first + rest), np.inf))

    return _of_two(arithmetic, a, b, y, np.asarray((40 + 2 * np.abs(x)) * sizes), moved)


def _incomplete_level(a: Plain, x: Plain, part: Plain) -> Plain:
    """Count x^a e^-x / gamma(a), whose exponent has the error of its terms, times a series.

    A term of it has three roundings more than the one before; some sqrt(a) of them count.
    """
    with np.errstate(all="ignore"):
        exponent = np.abs(a * np.log(np.where(x > 0, x, 1))) + x + np.abs(scipy.special.gammaln(a))
        level = (40 + 4 * exponent + 8 * np.sqrt(a)) * part
    return np.where(np.isnan(level), np.inf, level)


def _gammainc(arithmetic: Arithmetic, first: Any, second: Any) -> Bounded:
    a, x = value_of(first), value_of(second)
    y = np.asarray(scipy.special.gammainc(a, x))
    # The smaller of both parts is computed, and the other taken from 1.
    part = np.where((x > 1) & (x > a), scipy.special.gammaincc(a, x), y)
    return _of_two(arithmetic, first, second, y, _incomplete_level(a, x, part) + 2 * np.abs(y))


def _upper_series_level(a: Plain, x: Plain) -> Plain:
    """Count -expm1(s) - e^t S, by which torch finds the upper part where x is small (DLMF 8.7.3).

    s = a log(x) - lgamma(1 + a), t = a log(x) - lgamma(a), and S is an alternating series whose
    terms add up to (e^x - 1) / (a + 1) at most. The logarithm and its product have 5 roundings,
    lgamma 12 and that of its argument, and up to 16 terms of S 3 each.
    """
    powers, gamma, before = a * np.log(x), scipy.special.gammaln(1 + a), scipy.special.gammaln(a)
    s, t = powers - gamma, powers - before
    off_s = 5 * np.abs(powers) + 12 * np.abs(gamma) + np.abs(s) + 2
    off_t = 5 * np.abs(powers) + 12 * np.abs(before) + np.abs(t)
    terms = np.exp(t) * np.expm1(x) / (a + 1)
    return np.asarray(np.exp(s) * off_s + 4 * np.abs(np.expm1(s)) + (off_t + 54) * terms)


def _gammaincc(arithmetic: Arithmetic, first: Any, second: Any) -> Bounded:
    a, x = value_of(first), value_of(second)
    y = np.asarray(scipy.special.gammaincc(a, x))
    # A continued fraction beyond both 1.1 and a; else 1 less the lower part, or the series.
    part = np.where((x > 1) & (x >= a), y, scipy.special.gammainc(a, x))
    level = _incomplete_level(a, x, part)
    series = (x <= 1.1) & (x > 0)
    level = level + np.where(series, _upper_series_level(a, np.where(series, x, 1.0)), 0)
    return _of_two(arithmetic, first, second, y, level + 2 * np.abs(y))


UFUNCS.update(_zeta=_zeta, gammainc=_gammainc, gammaincc=_gammaincc)
