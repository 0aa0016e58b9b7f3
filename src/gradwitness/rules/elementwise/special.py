"""Special functions: of the gamma family, of Bessel's, of the normal distribution; entropies."""

from __future__ import annotations

import math

import numpy as np
import scipy

from gradwitness.rules.registry import Array, elementwise, rule
from gradwitness.rules.scalar_rule import GIVEN, scalar_rule

scalar_rule(
    "aten.lgamma",
    "y = lgamma(x)",
    "g * digamma(x)",
    meaning="multiplies the gradient by digamma(x)",
)

scalar_rule(
    "aten.digamma",
    "y = digamma(x)",
    "g * polygamma(1, x)",
    meaning="multiplies the gradient by trigamma(x)",
)

scalar_rule(
    "aten.polygamma",
    "y = polygamma(n, x)",
    "g * polygamma(n + 1, x)",
    meaning="multiplies the gradient by the next derivative, polygamma(n + 1, x)",
    parameters={"n": GIVEN},
)


def _lowered(x: Array, p: int) -> Array:
    """Return x, x - 1/2, ..., p numbers in all, along a new last axis."""
    return np.expand_dims(x, -1) - np.arange(p - 1.0, -1, -1, like=x) / 2


@rule(
    "aten.mvlgamma",
    "y = sum(lgamma(lowered(x, p)), [-1], False) + p * (p - 1) / 4 * log(pi)",
    meaning="multiplies the gradient by the sum of digamma(x), digamma(x - 1/2), ..., p in all",
    composite=True,
)
def mvlgamma(x: Array, *, p: int) -> Array:
    return np.sum(scipy.special.gammaln(_lowered(x, p)), axis=-1) + p * (p - 1) / 4 * math.log(
        math.pi
    )


mvlgamma.vjp("x", "g * sum(digamma(lowered(x, p)), [-1], False)")(
    lambda g, x, *, p: g * np.sum(scipy.special.psi(_lowered(x, p)), axis=-1)
)


@elementwise("aten.i0", "y = bessel(0, x)", meaning="multiplies the gradient by I1(x)")
def i0(x: Array) -> Array:
    return scipy.special.i0(x)


i0.vjp("x", "g * bessel(1, x)")(lambda g, x: g * scipy.special.i1(x))


@elementwise(
    "aten.special_i0e",
    "y = exp(-abs(x)) * bessel(0, x)",
    meaning="multiplies the gradient by e^-|x| I1(x) - sign(x) y",
)
def i0e(x: Array) -> Array:
    return scipy.special.i0e(x)


i0e.vjp("x", "g * (exp(-abs(x)) * bessel(1, x) - sign(x) * y)")(
    lambda g, y, x: g * (scipy.special.i1e(x) - np.sign(x) * y)
)


@elementwise(
    "aten.special_i1",
    "y = bessel(1, x)",
    meaning="multiplies the gradient by I0(x) - y / x, which is 1/2 at 0",
)
def i1(x: Array) -> Array:
    return scipy.special.i1(x)


# Whose inverse overflows.
_TINY = 1e-300


@i1.vjp("x", "g * where(abs(x) < 1e-300, 0.5, bessel(0, x) - y / where(x == 0, 1, x))")
def _(g: Array, y: Array, x: Array) -> Array:
    zero = np.less(np.absolute(x), _TINY)
    return g * np.where(zero, 0.5, scipy.special.i0(x) - y * (1 / np.where(zero, 1, x)))


@elementwise(
    "aten.special_i1e",
    "y = exp(-abs(x)) * bessel(1, x)",
    meaning="multiplies the gradient by e^-|x| I0(x) - y (sign(x) + 1 / x), which is 1/2 at 0",
)
def i1e(x: Array) -> Array:
    return scipy.special.i1e(x)


@i1e.vjp(
    "x",
    "g * where(abs(x) < 1e-300, 0.5, "
    "exp(-abs(x)) * bessel(0, x) - y * (sign(x) + 1 / where(x == 0, 1, x)))",
)
def _(g: Array, y: Array, x: Array) -> Array:
    zero = np.less(np.absolute(x), _TINY)
    return g * np.where(
        zero, 0.5, scipy.special.i0e(x) - y * (np.sign(x) + 1 / np.where(zero, 1, x))
    )


scalar_rule(
    "aten.erfinv",
    "y = erfinv(x)",
    "sqrt(pi) / 2 * exp(y * y) * g",
    meaning="multiplies the gradient by sqrt(pi) / 2 exp(y^2)",
)


@elementwise(
    "aten.special_erfcx",
    "y = exp(x * x) * erfc(x)",
    meaning="multiplies the gradient by 2 x y - 2 / sqrt(pi)",
)
def erfcx(x: Array) -> Array:
    return scipy.special.erfcx(x)


erfcx.vjp("x", "g * (2 * x * y - 2 / sqrt(pi))")(
    lambda g, y, x: (2 * x * y - 2 / math.sqrt(math.pi)) * g
)


@elementwise(
    "aten.special_ndtri",
    "y = sqrt(2) * erfinv(2 * x - 1)",
    meaning="multiplies the gradient by sqrt(2 pi) exp(y^2 / 2), the inverse of the normal density",
)
def ndtri(x: Array) -> Array:
    return scipy.special.ndtri(x)


ndtri.vjp("x", "g * sqrt(2 * pi) * exp(y * y / 2)")(
    lambda g, y: g * math.sqrt(2 * math.pi) * np.exp(np.square(y) / 2)
)


@elementwise(
    "aten.special_log_ndtr",
    "y = log(erfc(-x / sqrt(2)) / 2)",
    meaning="multiplies the gradient by the normal density over its distribution function",
)
def log_ndtr(x: Array) -> Array:
    return scipy.special.log_ndtr(x)


log_ndtr.vjp("x", "g * exp(-(y + x * x / 2)) / sqrt(2 * pi)")(
    lambda g, y, x: g / math.sqrt(2 * math.pi) * np.exp(-(y + np.square(x) / 2))
)


@rule(
    "aten.special_entr",
    "y = where(x < 0, -inf, where(x == 0, 0, -x * log(where(x > 0, x, 1))))",
    meaning="multiplies the gradient by -1 - log(x); below 0 it gives NaN",
    composite=True,
)
def entr(x: Array) -> Array:
    return np.where(
        np.less(x, 0), -np.inf, np.where(np.equal(x, 0), 0, -x * np.log(np.where(x > 0, x, 1)))
    )


entr.vjp("x", "g * (-1 - log(x))")(lambda g, x: g * (-(1 + np.log(x))))
