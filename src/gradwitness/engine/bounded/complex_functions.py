"""Elementary functions of complex numbers.

An error t of the operand, of modulus e at most, moves ``f(z)`` by at most what the addition theorem
of f leaves of ``f(z + t) - f(z)``, or by e times the largest slope within that distance. Where a
branch cut of f passes as near as e there is no bound.

The C library gives each part within 5 ulp of itself (*The GNU C Library*, Known Maximum Errors in
Math Functions), 10 units of the modulus. A general power it computes as ``exp(p log(z))``: an
error of the product becomes a relative one of the power.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded.array import (
    COMPLEX_UFUNCS,
    Bounded,
    Error,
    Growths,
    Plain,
    assemble,
    carrying,
    scaled,
    total,
    value_of,
)
from gradwitness.engine.bounded.complex_arithmetic import PRODUCT, QUOTIENT, rounded
from gradwitness.engine.bounded.transcendental import LIBRARY, TRIGONOMETRY, base_spread
from gradwitness.engine.floats import gamma

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic

_FIVE_ULPS = 10.0
# e^a, the sine and the cosine of b, and their product.
_EXPONENTIAL = LIBRARY + TRIGONOMETRY + 1.0
# log(u) z / (u - 1) with u = 1 + z, whose rounding moves log(u) / (u - 1) by two units at most.
_LOG_NEAR_1 = _FIVE_ULPS + QUOTIENT + PRODUCT + 2.0


def _crossed(cut: Plain, e: Plain, spread: Plain) -> Plain:
    """Return a spread where it is known: nothing moves without an error, nor is known at a cut."""
    return np.where(e == 0, 0.0, np.where(cut | np.isnan(spread), np.inf, spread))


def _function(
    ufunc: np.ufunc,
    spread: Callable[[Plain, Plain], Plain],
    count: float = _FIVE_ULPS,
    run: Callable[[Plain], Plain] | None = None,
    kernel: Callable[[Plain], Plain] = np.abs,
) -> None:
    """Register f, with the change ``spread(z, e)`` that an error e can make.

    Its own error is so many units of ``kernel(f(z))``, or of the numbers that a kernel adds up.
    """

    def handler(arithmetic: Arithmetic, a: Any) -> Bounded:
        z = np.asarray(value_of(a))
        y = np.asarray((run or ufunc)(z))
        own = rounded(arithmetic, y if kernel is np.abs else kernel(z), count)
        return assemble(arithmetic, y, (a,), carrying(lambda e: spread(z, e)), own)

    COMPLEX_UFUNCS[ufunc.__name__] = handler


# Logarithms and roots jump at the negative half of the axis.


def _behind(z: Plain, e: Plain) -> Plain:
    """Whether the negative half of the axis, with 0, may be reached."""
    return np.asarray((np.abs(z.imag) <= e) & (z.real - e <= 0))


def _log_spread(z: Plain, e: Plain) -> Plain:
    # |log(1 + t / z)|, whose series has the largest sum for a negative t / z.
    return _crossed(_behind(z, e), e, -np.log1p(-np.minimum(e / np.abs(z), 1)))


def _root_spread(z: Plain, e: Plain) -> Plain:
    # |t| / |sqrt(z + t) + sqrt(z)|: on one side of the cut the roots lie within 90 degrees.
    size = np.abs(z)
    jump = np.sqrt(size + e) + np.sqrt(size)
    return np.where(e == 0, 0.0, np.where(_behind(z, e), jump, e / np.sqrt(size)))


def _log1p(z: Plain) -> Plain:
    """Return log(1 + z), with the digits of a small z, which NumPy's loses."""
    x, y = z.real, z.imag
    near = np.where(np.abs(z) < 0.5, x * (2 + x) + y * y, 0.0)
    length = np.where(np.abs(z) < 0.5, np.log1p(near) / 2, np.log(np.hypot(1 + x, y)))
    return np.asarray(length + 1j * np.arctan2(y, 1 + x))


# exp(z + t) = exp(z) exp(t), and |exp(t) - 1| <= exp(e) - 1.


def _exp_spread(z: Plain, e: Plain) -> Plain:
    return np.asarray(scaled(np.abs(np.exp(z)), np.expm1(e)))


def _expm1_terms(z: Plain) -> Plain:
    """Return the terms that a kernel adds up: expm1(x) cos(y), -2 sin(y / 2)^2 and e^x sin(y)."""
    x, y = z.real, z.imag
    parts = np.abs(np.expm1(x) * np.cos(y)) + 2 * np.sin(y / 2) ** 2
    return np.asarray(np.hypot(parts, np.exp(x) * np.sin(y)))


# sin(z + t) = sin(z) cos(t) + cos(z) sin(t), with |cos(t) - 1| <= cosh(e) - 1 and
# |sin(t)| <= sinh(e); the hyperbolic ones likewise.


def _turned(own: np.ufunc, other: np.ufunc) -> Callable[[Plain, Plain], Plain]:
    def spread(z: Plain, e: Plain) -> Plain:
        less = 2 * np.sinh(e / 2) ** 2
        return _crossed(e < 0, e, np.abs(own(z)) * less + np.abs(other(z)) * np.sinh(e))

    return spread


def _tangent(cosine: np.ufunc, tangent: np.ufunc) -> Callable[[Plain, Plain], Plain]:
    # sin(t) / (cos(z) cos(z + t)), and |cos(t)| >= cos(e).
    def spread(z: Plain, e: Plain) -> Plain:
        least = np.cos(np.minimum(e, np.pi / 2)) - np.abs(tangent(z)) * np.sinh(e)
        moved = np.sinh(e) / (np.abs(cosine(z)) ** 2 * least)
        return _crossed(least <= 0, e, moved)

    return spread


# The inverses have the slopes 1 / sqrt((1 - w)(1 + w)), or its square, with w = z or i z, and cuts
# from 1 and -1 outwards; that of arccosh is all of the axis below 1.


def _arc(turn: complex, power: float, *, inwards: bool = False) -> Callable[[Plain, Plain], Plain]:
    def spread(z: Plain, e: Plain) -> Plain:
        w = turn * z
        near = (np.abs(1 - w) - e) * (np.abs(1 + w) - e)
        beyond = w.real - e <= 1 if inwards else np.abs(w.real) + e >= 1
        at_end = (np.abs(1 - w) <= e) | (np.abs(1 + w) <= e)
        cut = at_end | ((np.abs(w.imag) <= e) & beyond)
        return _crossed(cut, e, e / np.power(np.where(cut, 1.0, near), power))

    return spread


_function(np.exp, _exp_spread, _EXPONENTIAL)
_function(np.expm1, _exp_spread, _EXPONENTIAL, kernel=_expm1_terms)
_function(np.log, _log_spread)
_function(np.log2, lambda z, e: _log_spread(z, e) / math.log(2), _FIVE_ULPS + QUOTIENT)
_function(np.log10, lambda z, e: _log_spread(z, e) / math.log(10), _FIVE_ULPS + QUOTIENT)
_function(np.log1p, lambda z, e: _log_spread(1 + z, e), _LOG_NEAR_1, _log1p)
_function(np.sqrt, _root_spread)
_function(np.sin, _turned(np.sin, np.cos))
_function(np.cos, _turned(np.cos, np.sin))
_function(np.sinh, _turned(np.sinh, np.cosh))
_function(np.cosh, _turned(np.cosh, np.sinh))
_function(np.tan, _tangent(np.cos, np.tan))
_function(np.tanh, _tangent(np.cosh, np.tanh))
_function(np.arcsin, _arc(1, 0.5))
_function(np.arccos, _arc(1, 0.5))
_function(np.arctan, _arc(1j, 1))
_function(np.arcsinh, _arc(1j, 0.5))
_function(np.arccosh, _arc(1, 0.5, inwards=True))
_function(np.arctanh, _arc(1, 1))


def _power(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    x, p = (np.asarray(value_of(operand), np.complex128) for operand in (a, b))
    y = np.asarray(np.power(x, p))
    exact = not isinstance(b, Bounded) or b.is_exact
    if p.ndim == 0 and exact and p in (-2, -1, 0, 1, 2, 3):
        products = max(0, abs(int(p.real)) - 1)
        count = PRODUCT * products + (QUOTIENT if p.real < 0 else 0.0)
        growths = rounded(arithmetic, y, count) if count else None
        carry = carrying(lambda e: base_spread(np.abs(x), p.real, e))
        return assemble(arithmetic, y, (a,), carry, growths)
    # exp(0 log 0), as C has it; NumPy has 1.
    y = np.where((x == 0) & (p == 0), np.nan, y)
    whole = exact & (p.imag == 0) & (p.real == np.rint(p.real))
    logarithm = np.where(x == 0, 0.0, np.log(np.where(x == 0, 1.0, x)))

    def carry_both(of_x: Error, of_p: Error) -> Error:
        turned: Error = None
        if of_x is not None:
            turned = np.abs(p) * _log_spread(x, of_x)
        if of_p is not None:
            log_moved = 0.0 if of_x is None else _log_spread(x, of_x)
            turned = total(turned, scaled(np.abs(logarithm) + log_moved, of_p))
        if turned is None:
            return None
        moved = np.asarray(scaled(np.abs(y), np.expm1(turned)))
        if of_x is None:
            return moved
        # A whole power has no cut.
        return np.where(whole, base_spread(np.abs(x), p.real, of_x), moved)

    product = np.abs(p * logarithm) * gamma(_FIVE_ULPS + PRODUCT, arithmetic.unit)
    return assemble(arithmetic, y, (a, b), carry_both, _exponentiated(arithmetic, y, product))


def _exponentiated(arithmetic: Arithmetic, y: Plain, exponent: Plain) -> Growths:
    """Return the rounding of an exponential whose exponent is off by so much."""
    grow, _ = rounded(arithmetic, y, _EXPONENTIAL)

    def both(carried: Error) -> Error:
        size: Plain = np.asarray(total(np.abs(y), carried))
        return total(grow(carried), scaled(size, np.expm1(exponent)))

    return both, both


def _exp2(arithmetic: Arithmetic, a: Any) -> Bounded:
    """As exp(z log 2), of which the logarithm and the product are rounded."""
    z = np.asarray(value_of(a)) * math.log(2)
    y = np.asarray(np.exp(z))
    carry = carrying(lambda e: _exp_spread(z, e * math.log(2)))
    exponent = np.abs(z) * gamma(2, arithmetic.unit)
    return assemble(arithmetic, y, (a,), carry, _exponentiated(arithmetic, y, exponent))


def _square(arithmetic: Arithmetic, a: Any) -> Bounded:
    return _power(arithmetic, a, 2)


COMPLEX_UFUNCS |= {"power": _power, "exp2": _exp2, "square": _square}
