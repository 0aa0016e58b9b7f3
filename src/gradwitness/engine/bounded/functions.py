"""Elementary functions: how an operand's error passes through, and what the library adds.

A bound e on the operand becomes the largest ``|f(x + t) - f(x)|`` over ``|t| <= e``, from above. What
the library's own evaluation adds is counted in units of roundoff of the result: vectorized
libraries give 1 ulp (2 u) for most functions and 2 ulp (4 u) for the fast exp; 4 u is granted to all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from gradwitness.engine.bounded.array import (
    UFUNCS,
    Bounded,
    Error,
    Plain,
    assemble,
    rounding,
    scaled,
    total,
    value_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic

LIBRARY = 4.0


def _function(ufunc: np.ufunc, spread: Callable[[Plain, Plain, Plain], Plain]) -> None:
    """Register y = f(x), with ``spread(x, y, e)`` the change of y that an error e of x can make."""

    def handler(arithmetic: Arithmetic, a: Any) -> Bounded:
        x = np.asarray(value_of(a))
        y = np.asarray(ufunc(x))

        def carry(e: Error) -> Error:
            return None if e is None else spread(x, y, e)

        return assemble(arithmetic, y, (a,), carry, rounding(arithmetic, y, LIBRARY))

    UFUNCS[ufunc.__name__] = handler


def _log_spread(x: Plain, _: Plain, e: Plain) -> Plain:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(e < x, -np.log1p(-e / x), np.inf)


def _log1p_spread(x: Plain, y: Plain, e: Plain) -> Plain:
    return _log_spread(1 + x, y, e)


def _tanh_spread(x: Plain, _: Plain, e: Plain) -> Plain:
    # 1 - tanh(x)^2 is largest at the end of the interval that lies nearest to zero.
    return e / np.cosh(np.minimum(np.maximum(np.abs(x) - e, 0), 300)) ** 2


_function(np.exp, lambda _, y, e: y * np.expm1(e))
_function(np.expm1, lambda _, y, e: (y + 1) * np.expm1(e))
_function(np.log, _log_spread)
_function(np.log1p, _log1p_spread)
_function(np.tanh, _tanh_spread)
_function(np.sin, lambda _, __, e: e)
_function(np.cos, lambda _, __, e: e)


def _erf(arithmetic: Arithmetic, a: Any) -> Bounded:
    x = np.asarray(value_of(a))

    def carry(e: Error) -> Error:
        nearest = np.maximum(np.abs(x) - (0.0 if e is None else e), 0)
        return scaled(2 / np.sqrt(np.pi) * np.exp(-(nearest**2)), e)

    # An absolute error: vectorized kernels use the rational approximation 7.1.26 of Abramowitz
    # and Stegun, good to 1.5e-7 (2.5 u in float32), not to a number of ulps of a small result.
    added = rounding(arithmetic, np.ones_like(x), LIBRARY)
    return assemble(arithmetic, special.erf(x), (a,), carry, added)


def _square_root(arithmetic: Arithmetic, a: Any) -> Bounded:
    x = np.asarray(value_of(a))
    y = np.sqrt(x)

    def carry(e: Error) -> Error:
        if e is None:
            return None
        # |sqrt(x + t) - sqrt(x)| = |t| / (sqrt(x + t) + sqrt(x)).
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(y > 0, e / y, np.sqrt(e))

    # IEEE 754 asks for a correctly rounded root; 2 leaves room for a vector unit's estimate.
    return assemble(arithmetic, y, (a,), carry, rounding(arithmetic, y, 2.0))


def _square(arithmetic: Arithmetic, a: Any) -> Bounded:
    x = np.asarray(value_of(a))
    y = x * x

    def carry(e: Error) -> Error:
        return None if e is None else (2 * np.abs(x) + e) * e

    return assemble(arithmetic, y, (a,), carry, rounding(arithmetic, y))


def _power(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    x, p = np.asarray(value_of(a)), np.asarray(value_of(b))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        y = np.asarray(np.power(x, p))

    def carry(of_x: Error, of_p: Error) -> Error:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            base = None
            if of_x is not None:
                size = np.abs(x)
                far = np.where(p >= 1, size + of_x, np.maximum(size - of_x, 0))
                base = np.abs(p) * np.where(far > 0, far ** (p - 1), np.inf) * of_x
            exponent = None
            if of_p is not None:
                exponent = np.abs(y) * np.expm1(np.abs(np.log(np.abs(x))) * of_p)
        return total(base, exponent)

    if p.ndim == 0 and p in (0, 1):
        return assemble(arithmetic, y, (a, b), carry)
    # Small whole and half powers are multiplications and roots; others go through exp and log.
    count = 2.0 if p.ndim == 0 and p in (-2, -1, -0.5, 0.5, 2, 3) else LIBRARY
    return assemble(arithmetic, y, (a, b), carry, rounding(arithmetic, y, count))


UFUNCS |= {"erf": _erf, "sqrt": _square_root, "square": _square, "power": _power}
