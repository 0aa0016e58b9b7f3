"""Special functions: of the gamma family, of Bessel's, and of the normal distribution.

Libraries guarantee no ulps for these. The bound is the error of the evaluation in torch's code,
which computes in float32 for narrower formats. It is absolute, a multiple of the roundoff of that
evaluation, since several of these functions pass through zero where their series cancel; then the
result is rounded once. An error of the operand moves the result by the steepest slope within its
reach, and may move it to where the evaluation is worse.
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
    carrying,
    errors_of,
    once_stored,
    value_of,
)
from gradwitness.engine.bounded.infinities import elementwise
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.engine.floats import WITNESS_UNIT
from gradwitness.rules.kernel_ops import polygamma

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.bounded.infinities import HandedOn
    from gradwitness.engine.floats import Arithmetic


def bounded(
    arithmetic: Arithmetic,
    a: Any,
    run: Callable[[Plain], Plain],
    slope: Callable[[Plain, Plain], Plain],
    level: Callable[[Plain, Plain], Plain],
    fixed: Callable[[Plain], Any] = lambda _: 0.0,
    *,
    unit: float = 0.0,
    handed_on: HandedOn = elementwise,
) -> Bounded:
    """Return y = run(x) with its bound.

    ``slope(x - e, x + e)`` is the largest size of the derivative between; ``level(x, y)`` the error
    of the evaluation in units of roundoff of 1: that of a reduction, or ``unit``; ``fixed(x)`` its
    error in every format: a truncated series, or the witness's own cancellation.
    """
    x = np.asarray(value_of(a))
    evaluated = unit or arithmetic.accumulate

    def off(at: Plain, y: Plain) -> Plain:
        return np.asarray(evaluated * level(at, y) + fixed(at))

    y = np.asarray(run(x))
    kernel = off(x, y)

    def carry(e: Error) -> Error:
        if e is None:
            return None
        low, high = x - e, x + e
        worst = np.maximum(off(low, run(low)), off(high, run(high)))
        moved = e * slope(low, high) + np.maximum(worst - kernel, 0)
        return np.where(e == 0, 0.0, np.where(np.isnan(moved), np.inf, moved))

    growths = once_stored(arithmetic, y, kernel)
    return undefined(assemble(arithmetic, y, (a,), carry, growths, handed_on), a)


def undefined(y: Bounded, *operands: Any) -> Bounded:
    """Bound NaN by 0 where a function has no value at exact operands: there it is right."""
    nan = np.isnan(y.value)
    if not nan.any():
        return y
    for x in operands:
        nan = nan & np.isfinite(value_of(x))
        for e in errors_of(x):
            nan = nan & (e is None or e == 0)
    return Bounded(y.value, y.arithmetic, *y.tiers(carrying(lambda e: np.where(nan, 0.0, e))))


def register(
    name: str,
    slope: Callable[[Plain, Plain], Plain],
    level: Callable[[Plain, Plain], Plain],
    fixed: Callable[[Plain], Any] = lambda _: 0.0,
    run: Callable[[Plain], Plain] | None = None,
) -> None:
    """Enter a function of SciPy's by its name, with the arguments of `bounded`."""

    def handler(arithmetic: Arithmetic, a: Any) -> Bounded:
        function = run or getattr(scipy.special, name)
        return bounded(arithmetic, a, function, slope, level, fixed)

    UFUNCS[name] = handler


def _own_unit(arithmetic: Arithmetic) -> float:
    """Return the roundoff of the tensor's own format."""
    return max(arithmetic.accumulate, arithmetic.store, arithmetic.final)


# The gamma family. Its members are monotone between poles, or, where a slope is not, convex.


def _at_ends(slope: Callable[[Plain], Plain]) -> Callable[[Plain, Plain], Plain]:
    """Return the larger slope of both ends, unless a pole of the gamma family lies between."""

    def steepest(low: Plain, high: Plain) -> Plain:
        apart = (low > 0) | ((np.floor(low) == np.floor(high)) & (low != np.floor(low)))
        return np.where(apart, np.maximum(np.abs(slope(low)), np.abs(slope(high))), np.inf)

    return steepest


def _lgamma(x: Plain) -> Plain:
    """Mend SciPy's lgamma: it is -inf at -inf, where C99 has +inf, and inf at subnormal numbers."""
    small = (np.abs(x) < _TINY) & (x != 0)
    near_pole = -np.log(np.where(small, np.abs(x), 1))
    return np.where(np.isinf(x), np.inf, np.where(small, near_pole, scipy.special.gammaln(x)))


def _lgamma_level(x: Plain, y: Plain) -> Plain:
    # Six ulps (CUDA; SLEEF has 1). Below 0, of the terms of the reflection:
    # log(pi / |sin(pi x)|) - lgamma(1 - x).
    reflected = np.where(x < 0, scipy.special.gammaln(1 + np.abs(x)) + 2, 0)
    return np.asarray(12 * (np.abs(y) + reflected))


_TINY = 1e-300
_STEPS = np.arange(10.0)


def _digamma_level(x: Plain, y: Plain) -> Plain:
    """Count the recurrence up to 10: psi(x) = log(z) - 1 / 2z - ... - 1/x - 1/(x + 1) - ...

    There are k roundings in x + k, one in its inverse, and one in each later sum; the logarithm has
    4, and four more operations follow.
    """
    z = np.where(x < 0, 1 - x, x)[..., None] + _STEPS
    steps = np.count_nonzero(z < 10, axis=-1)[..., None]
    terms = np.where(z < 10, (_STEPS + 5 + steps) / z, 0)
    counted = np.sum(terms, axis=-1) + 8 * np.log(np.maximum(z[..., 0], 11))
    # Below 0, by reflection: 1 - x rounds, which moves psi by at most pi^2 / 6.
    return np.asarray(counted + np.where(x < 0, 2 + 3 * np.abs(y) + counted, 0))


def _digamma_own(x: Plain) -> Any:
    # The reflection's pi / tan(pi r), r in (-1, 0), is computed in float64 in all formats.
    r = np.abs(np.where(x < 0, x - np.trunc(x), 0.5))
    return 8 * WITNESS_UNIT * np.where(x < 0, (np.pi / np.sin(np.pi * r)) ** 2 * r, 0)


def _trigamma_level(x: Plain, y: Plain) -> Plain:
    """Count six terms 1 / (x + k)^2 and the asymptotic series: 15 roundings each, all positive.

    Below 1/2 by reflection, pi^2 / sin(pi x)^2 - ...: two roundings of pi x move the sine by them.
    """
    below = x < 0.5
    turned = np.where(below, np.pi * x, 1.0)
    square = (np.pi / np.sin(turned)) ** 2
    count = 13 + 8 * np.abs(turned / np.tan(turned))
    reflected = np.where(np.isnan(count) | (x == 0), 13.0, count) * square
    return np.where(below, reflected + 18 * np.pi**2, 18 * np.abs(y))


def _trigamma_cut(x: Plain) -> Any:
    # The series ends before 1 / 30 z^9, which bounds the truncation error.
    return 1 / (30 * (np.where(x < 0.5, 1 - x, x) + 6) ** 9)


@stands_for(polygamma)
def _polygamma(_: Any, a: Bounded, *, n: int) -> Bounded:
    def run(x: Plain) -> Plain:
        return np.asarray(scipy.special.polygamma(n, x))

    def level(x: Plain, y: Plain) -> Plain:
        # n! times a sum of (x + k)^-(n + 1), k to 9, and as many terms of a series: a power is good
        # to 8, x + k to k, and each sum rounds. Below 0 the terms may differ in sign.
        nearest = np.abs(x - np.rint(x))
        sizes = 2 * math.factorial(n) * scipy.special.zeta(n + 1, np.where(x < 0, nearest, 1.0))
        evaluation = (24 + 9 * (n + 1)) * np.where(x < 0, sizes, np.abs(y))
        # Formats of 16 bits hold both factors, and the logarithm of n!.
        factors = _own_unit(a.arithmetic) / a.arithmetic.accumulate
        return np.asarray(evaluation + factors * (2 + math.lgamma(n + 1)) * np.abs(y))

    def at_zero(operands: Any, errors: Any) -> Any:
        # At other poles sin(pi x) is rounded, and not 0.
        return np.equal(operands[0], 0) & elementwise(operands, errors)

    slope = _at_ends(lambda x: np.asarray(scipy.special.polygamma(n + 1, x)))
    if n == 1:
        return bounded(
            a.arithmetic, a, run, slope, _trigamma_level, _trigamma_cut, handed_on=at_zero
        )
    return bounded(a.arithmetic, a, run, slope, level)


# SciPy's lgamma has an absolute error below 3: a logarithm and a quotient cancel at 1 and at 2.
register(
    "gammaln",
    _at_ends(lambda x: scipy.special.psi(x)),
    _lgamma_level,
    lambda _: 8 * WITNESS_UNIT,
    _lgamma,
)
register(
    "psi",
    _at_ends(lambda x: np.asarray(scipy.special.polygamma(1, x))),
    _digamma_level,
    _digamma_own,
)


# Modified Bessel functions, by Chebyshev series (Cephes): of e^-x I(x) up to 8, of that times
# sqrt(x) beyond. Clenshaw's recurrence rounds four times at each step, and hands an error on to the
# sum by a factor T_k, 1 at most: its running error, over the whole interval and with what the
# rounding of the series' argument adds, is this many units.
_SERIES = {0: (17.1, 1.3), 1: (8.7, 1.3)}


def _scaled_level(order: int) -> Callable[[Plain, Plain], Plain]:
    near, far = _SERIES[order]

    def level(x: Plain, y: Plain) -> Plain:
        size = np.abs(x)
        series = np.where(size <= 8, near * size**order, far / np.sqrt(np.maximum(size, 8)))
        return np.asarray(series + 3 * np.abs(y))

    return level


def _unscaled_level(order: int) -> Callable[[Plain, Plain], Plain]:
    scaled = _scaled_level(order)

    def level(x: Plain, y: Plain) -> Plain:
        # An exponential is good to 4.
        return np.asarray(np.exp(np.abs(x)) * scaled(x, np.zeros(x.shape)) + 8 * np.abs(y))

    return level


def _nearest(low: Plain, high: Plain) -> Plain:
    """Return the smallest size of the numbers between two."""
    return np.maximum(np.maximum(low, -high), 0)


def farthest(low: Plain, high: Plain) -> Plain:
    """Return the largest size of the numbers between two."""
    return np.maximum(np.abs(low), np.abs(high))


def _i0e_slope(low: Plain, high: Plain) -> Plain:
    nearest = _nearest(low, high)
    return np.asarray(scipy.special.i0e(nearest) - scipy.special.i1e(nearest))


def _i0e(arithmetic: Arithmetic, a: Any) -> Bounded:
    # The only series that is summed in the tensor's own format.
    level, unit = _scaled_level(0), _own_unit(arithmetic)
    return bounded(arithmetic, a, scipy.special.i0e, _i0e_slope, level, unit=unit)


def _i1_slope(low: Plain, high: Plain) -> Plain:
    x = farthest(low, high)
    return np.asarray((scipy.special.i0(x) + scipy.special.iv(2, x)) / 2)


register("i0", lambda low, high: scipy.special.i1(farthest(low, high)), _unscaled_level(0))
UFUNCS["i0e"] = _i0e
register("i1", _i1_slope, _unscaled_level(1))
# |(I0 + I2) / 2 - I1| is I0 / 2 at most.
register("i1e", lambda low, high: scipy.special.i0e(_nearest(low, high)) / 2, _scaled_level(1))


# The normal distribution and its relatives.


def _erfinv_slope(low: Plain, high: Plain) -> Plain:
    return np.asarray(np.sqrt(np.pi) / 2 * np.exp(scipy.special.erfinv(farthest(low, high)) ** 2))


def _erfinv_level(x: Plain, y: Plain) -> Plain:
    # The last Newton step divides erf(y) - x, in which erf is good to 3, by erf's slope; CUDA's
    # has 2 ulps.
    return np.asarray(4 * np.abs(y) + 3 * np.abs(x) * np.sqrt(np.pi) / 2 * np.exp(y**2))


def _ndtri_slope(low: Plain, high: Plain) -> Plain:
    ends = np.maximum(np.abs(scipy.special.ndtri(low)), np.abs(scipy.special.ndtri(high)))
    return np.asarray(np.sqrt(2 * np.pi) * np.exp(ends**2 / 2))


def _ndtri_level(x: Plain, y: Plain) -> Plain:
    # Two rational functions (Cephes): of x - 1/2 in the middle, and in the tails what is taken from
    # sqrt(-2 log p). Sixteen roundings of the larger number; the logarithm is good to 4.
    p = np.minimum(x, 1 - x)
    root = np.sqrt(np.maximum(-2 * np.log(p), 0))
    return np.asarray(16 * np.where(p > math.exp(-2), np.abs(y), root))


def _log_ndtr_slope(low: Plain, _: Plain) -> Plain:
    return np.asarray(math.sqrt(2 / math.pi) / scipy.special.erfcx(-low / math.sqrt(2)))


def _log_ndtr_level(x: Plain, y: Plain) -> Plain:
    # Below -1, log(erfcx(-t) / 2) - t^2, t = x / sqrt(2) with two roundings; both are negative.
    # Above, log1p(-q), q = erfc(t) / 2: good to 12, and e^(-t^2) has 4 t^2 more of those of t.
    t = x / math.sqrt(2)
    q = scipy.special.erfc(t) / 2
    above = q * (14 + 4 * t**2) / (1 - q) + 4 * np.abs(y)
    return np.where(x < -1, 6 * np.abs(y) + 22, above)


def _erfcx_slope(low: Plain, _: Plain) -> Plain:
    return np.asarray(np.abs(2 * low * scipy.special.erfcx(low) - 2 / math.sqrt(math.pi)))


def _erfcx_level(x: Plain, y: Plain) -> Plain:
    # By the place of 400 / (4 + x), two roundings of which move erfcx by 9 at most, in a polynomial
    # of degree 6; below 0, from 2 exp(x^2), whose exponent is rounded.
    return np.asarray((16 + np.where(x < 0, 2 * x**2, 0)) * np.abs(y))


register("erfinv", _erfinv_slope, _erfinv_level)
register("ndtri", _ndtri_slope, _ndtri_level)
register("log_ndtr", _log_ndtr_slope, _log_ndtr_level)
register("erfcx", _erfcx_slope, _erfcx_level)
