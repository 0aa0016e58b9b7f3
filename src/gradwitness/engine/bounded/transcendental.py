"""Elementary functions: how an operand's error passes through, and what the library adds.

A bound e on the operand becomes the largest ``|f(x + t) - f(x)|`` over ``|t| <= e``, from above.
The library's own error is counted in units of roundoff of the result, one ulp being at most 2 u.
Vectorized libraries guarantee 1 ulp for most functions and 2 ulp for the fast exp: 4 u is granted.
Sine and cosine take 3.5 ulp (SLEEF's u35 versions), the general power 4 ulp (CUDA's powf).
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
    Growth,
    Plain,
    assemble,
    carrying,
    errors_of,
    once_stored,
    rounding,
    scaled,
    smallest_normal,
    total,
    value_of,
)
from gradwitness.rules.elementwise.error_function import erf

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic

LIBRARY = 4.0
TRIGONOMETRY = 7.0
_POWER = 8.0
# Exponents computed by multiplications, roots and quotients, with their roundings; a root counts
# twice, for vector units that refine an estimate.
_POWERS = {-2: 2.0, -1: 1.0, 0.5: 2.0, 2: 1.0, 3: 2.0}


def function(
    ufunc: Callable[[Plain], Plain],
    spread: Callable[[Plain, Plain], Plain],
    count: float = LIBRARY,
) -> None:
    """Register y = f(x), with ``spread(x, e)`` the change of y that an error e of x can make."""

    def handler(arithmetic: Arithmetic, a: Any) -> Bounded:
        x = np.asarray(value_of(a))
        y = np.asarray(ufunc(x))
        growths = rounding(arithmetic, y, count, nonzero=(x != 0) & np.isfinite(x))
        return assemble(arithmetic, y, (a,), carrying(lambda e: spread(x, e)), growths)

    UFUNCS[ufunc.__name__] = handler


def _exp_spread(x: Plain, e: Plain) -> Plain:
    # expm1 keeps the digits of a small e; for a large one the upper end is close, and cannot become
    # 0 times infinity.
    near = np.exp(x) * np.expm1(e)
    large = e > 1
    return np.where(large, np.exp(x + e), near) if large.any() else near


def _exp2_spread(x: Plain, e: Plain) -> Plain:
    return np.where(e > 1, np.exp2(x + e), np.exp2(x) * np.expm1(e * math.log(2)))


def _log_spread(x: Plain, e: Plain) -> Plain:
    # Steepest at the lower end.
    return np.where(e < x, -np.log1p(-e / x), np.inf)


def _tanh_spread(x: Plain, e: Plain) -> Plain:
    # 1 - tanh(x)^2 is largest at the end of the interval that lies nearest to zero.
    return np.asarray(e / np.cosh(np.minimum(np.maximum(np.abs(x) - e, 0), 300)) ** 2)


function(np.exp, _exp_spread)
function(np.expm1, _exp_spread)
function(np.exp2, _exp2_spread)
function(np.log, _log_spread)
function(np.log1p, lambda x, e: _log_spread(1 + x, e))
function(np.log2, lambda x, e: _log_spread(x, e) / math.log(2))
function(np.log10, lambda x, e: _log_spread(x, e) / math.log(10))
function(np.tanh, _tanh_spread)
function(np.sin, lambda _, e: e, TRIGONOMETRY)
function(np.cos, lambda _, e: e, TRIGONOMETRY)


# In float32 torch's kernels do not take erf from a math library; they are granted an absolute error
# in units of roundoff of 1.
# (1) Vector code after Abramowitz and Stegun 7.1.26, 1 - r(t) exp(-x^2) with t = 1 / (1 + p |x|),
# good to 2.5 u itself. Its coefficients change sign: 6 roundings in each term of r, 3 in t,
# 2 x^2 + 1 around the exponential, 40 in it (exp_u20: 20 ulp) make 78.2 exp(-x^2) at 0, then less.
# (2) oneDNN's polynomial inside gelu: 12.8 at most, over every float32 with |x| >= 1/2.
_ERF_SERIES = 79.0
_ERF_POLYNOMIAL = 16.0


def _erf(arithmetic: Arithmetic, a: Any) -> Bounded:
    x = np.asarray(value_of(a))
    # float64 kernels are SLEEF's, good to 1 ulp.
    single = arithmetic.accumulate > 2.0**-50
    series, level = (_ERF_SERIES, _ERF_POLYNOMIAL) if single else (0.0, LIBRARY)
    bell = np.exp(-(x**2))

    def carry(e: Error) -> Error:
        if e is None:
            return None
        nearest = np.exp(-(np.maximum(np.abs(x) - e, 0) ** 2))
        evaluation = arithmetic.accumulate * series * (nearest - bell)
        return total(scaled(2 / np.sqrt(np.pi) * nearest, e), evaluation)

    # In a third of SciPy's time, but not to the last digit of float64.
    y = erf(x) if single else scipy.special.erf(x)
    # 16-bit numbers go through the float32 kernel and are rounded once more.
    kernel = np.asarray(arithmetic.accumulate * (level + series * bell))
    return assemble(arithmetic, y, (a,), carry, once_stored(arithmetic, y, kernel))


def _square_root(arithmetic: Arithmetic, a: Any) -> Bounded:
    x = np.asarray(value_of(a))
    y = np.sqrt(x)

    def spread(e: Plain) -> Any:
        # |sqrt(x + t) - sqrt(x)| = |t| / (sqrt(x + t) + sqrt(x)), as long as x + t has a root.
        root = np.sqrt(np.maximum(x - e, 0))
        return np.where((e <= x) & (x > 0), e / (y + root), np.sqrt(x + e))

    # IEEE 754 requires a correctly rounded root; 2 allows for vector units that refine an estimate.
    return assemble(arithmetic, y, (a,), carrying(spread), rounding(arithmetic, y, 2.0))


def _square(arithmetic: Arithmetic, a: Any) -> Bounded:
    x = np.asarray(value_of(a))
    y = x * x
    carry = carrying(lambda e: (2 * np.abs(x) + e) * e)
    return assemble(arithmetic, y, (a,), carry, rounding(arithmetic, y))


def _power(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    x, p = np.asarray(value_of(a)), np.asarray(value_of(b))
    y = np.asarray(np.power(x, p))

    def carry(of_x: Error, of_p: Error) -> Error:
        e = 0.0 if of_x is None else of_x
        base = None if of_x is None else base_spread(x, p, of_x)
        if of_p is None:
            return base
        # First the base moves, then the exponent. A base that may be 0 or negative has no
        # logarithm.
        steepest = np.where(
            x - e > 0, np.maximum(np.abs(np.log(x - e)), np.abs(np.log(x + e))), np.inf
        )
        reach = np.abs(y) if base is None else np.abs(y) + base
        # 0^s is 0 for all s > 0.
        still = (of_p == 0) | ((np.abs(x) + e == 0) & (p - of_p > 0))
        moved = np.where(still, 0.0, reach * np.expm1(steepest * of_p))
        return total(base, moved)

    if p.ndim == 0 and p in (0, 1) and errors_of(b)[0] is None:
        return assemble(arithmetic, y, (a, b), carry)
    growths = rounding(arithmetic, y, _POWERS.get(float(p), _POWER) if p.ndim == 0 else _POWER)
    if p.ndim == 0 and p == -2:
        # A square that underflows has lost its digits before it is inverted.
        lost = lost_where(x * x < smallest_normal(arithmetic), growths[0])
        growths = lost, lost
    return assemble(arithmetic, y, (a, b), carry, growths)


def base_spread(x: Plain, p: Plain, e: Plain) -> Plain:
    """Return the most that x^p can change: e times the largest slope, |p| |x|^(p - 1)."""
    far = np.where(p >= 1, np.abs(x) + e, np.maximum(np.abs(x) - e, 0))
    return np.where((p == 0) | (e == 0), 0.0, np.abs(p) * np.power(far, p - 1) * e)


def lost_where(lost: Plain, growth: Growth) -> Growth:
    """Return a growth without a bound where all digits may be lost."""

    def grow(carried: Error) -> Error:
        return total(growth(carried), np.where(lost, np.inf, 0.0))

    return grow


UFUNCS |= {"erf": _erf, "sqrt": _square_root, "square": _square, "power": _power}
