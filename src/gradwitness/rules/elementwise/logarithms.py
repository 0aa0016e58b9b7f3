"""Logarithms with a factor, of sums and of odds; the complementary error function."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from gradwitness.rules.kernel_ops import is_complex, running_logsumexp
from gradwitness.rules.registry import Array, rule
from gradwitness.rules.scalar_rule import scalar_rule

_LOG_2 = math.log(2)


def _enter_times_log(name: str, log: np.ufunc, pole: int, slope: str, *, meaning: str) -> None:
    """Enter a times a logarithm of b, which is 0 one above its pole; 0 times anything is 0."""
    word, neutral = log.__name__, pole + 1
    nowhere = f"(a == 0) & (b <= {pole})"

    @rule(
        name,
        f"y = where(a == 0, 0, a * {word}(where(a == 0, {neutral}, b)))",
        meaning=f"{meaning}, the factor gets 0",
        composite=True,
    )
    def entered(a: Array, b: Array) -> Array:
        zero = np.equal(a, 0) & ~np.isnan(b)
        return np.where(zero, 0, a * log(np.where(zero, neutral, b)))

    @entered.vjp("a", f"g * where({nowhere}, 0, {word}(where({nowhere}, {neutral}, b)))")
    def _(g: Array, a: Array, b: Array) -> Array:
        none = np.equal(a, 0) & np.less_equal(b, pole)
        logarithm = log(np.where(none, neutral, b))
        # Torch forms the same of g and b: a gradient of 0 stays 0.
        product = np.where(np.equal(g, 0) & ~np.isnan(b), 0, g * logarithm)
        return np.where(none, 0, product)

    entered.vjps(b=slope)


_enter_times_log(
    "aten.xlogy",
    np.log,
    0,
    "g * a / b",
    meaning="multiplies the gradient by log b for the factor, and by a / b for the argument; where "
    "the factor is 0 and the argument not positive",
)
_enter_times_log(
    "aten.special_xlog1py",
    np.log1p,
    -1,
    "g * a / (b + 1)",
    meaning="multiplies the gradient by log(1 + b) for the factor, and by a / (1 + b) for the "
    "argument; where the factor is 0 and the argument not above -1",
)


@rule(
    "aten.logaddexp",
    "y = log(exp(a) + exp(b))",
    meaning="divides the gradient by 1 + exp(b - a) for the first operand, by 1 + exp(a - b) for "
    "the second",
)
def logaddexp(a: Array, b: Array) -> Array:
    alike = np.isinf(a) & np.equal(a, b)
    front = np.greater_equal(np.real(a), np.real(b))
    gap = np.where(alike, 0, np.where(front, b - a, a - b))
    return np.where(alike, a, np.where(front, a, b) + np.log1p(np.exp(gap)))


logaddexp.vjps(a="g / (1 + exp(b - a))", b="g / (1 + exp(a - b))")


@rule(
    "aten.logaddexp2",
    "y = log(2 ** a + 2 ** b) / log(2)",
    meaning="divides the gradient by 1 + 2^(b - a) for the first operand, by 1 + 2^(a - b) for "
    "the second",
)
def logaddexp2(a: Array, b: Array) -> Array:
    alike = np.isinf(a) & np.equal(a, b)
    gap = np.where(alike, 0, a - b)
    return np.where(alike, a, np.maximum(a, b) + np.log1p(np.exp2(-np.abs(gap))) / _LOG_2)


logaddexp2.vjp("a", "g / (1 + 2 ** (b - a))")(lambda g, a, b: g / (1 + np.exp2(b - a)))
logaddexp2.vjp("b", "g / (1 + 2 ** (a - b))")(lambda g, a, b: g / (1 + np.exp2(a - b)))


@rule(
    "aten.logcumsumexp",
    "y = log_running_sum(x, dim)",
    meaning="gives each element, for every running sum that it is part of, the gradient times "
    "e^x over that sum",
)
def logcumsumexp(x: Array, *, dim: int) -> Array:
    return _running(x, dim) if x.ndim and x.size else x


def _running(x: Array, dim: int) -> Array:
    if not is_complex(x):
        return running_logsumexp(x, dim)
    layers = [np.take(x, step, axis=dim) for step in range(x.shape[dim])]
    return np.stack(list(itertools.accumulate(layers, logaddexp.function)), axis=dim)


@logcumsumexp.vjp("x", "exp(x) * flip(running_sum(flip(g / exp(y), [dim]), dim), [dim])")
def _(g: Array, y: Array, x: Array, *, dim: int) -> Array:
    if not (x.ndim and x.size):
        return g

    def part(logarithms: Array) -> Array:
        # In logarithms, from the end on: no e^x overflows.
        return np.exp(np.flip(_running(np.flip(logarithms - y, dim), dim), dim) + x)

    if is_complex(x):
        return part(np.log(g))
    size = np.log(np.abs(g))
    return part(np.where(g > 0, size, -np.inf)) - part(np.where(g < 0, size, -np.inf))


def _kept_off(x: Array, eps: Any) -> Array:
    return x if eps is None else np.minimum(np.maximum(x, eps), 1 - eps)


@rule(
    "aten.logit",
    "y = log(kept_off(x, eps) / (1 - kept_off(x, eps)))",
    meaning="divides the gradient by x (1 - x), and gives 0 beyond the limits that keep the input "
    "off 0 and 1",
    composite=True,
)
def logit(x: Array, *, eps: Any = None) -> Array:
    p = _kept_off(x, eps)
    return np.log(p / (1 - p))


@logit.vjp("x", "where(kept_off(x, eps) == x, g / (x * (1 - x)), 0)")
def _(g: Array, x: Array, *, eps: Any) -> Array:
    low, high = (0, 1) if eps is None else (eps, 1 - eps)
    outside = np.less(x, low) | np.greater(x, high)
    return np.where(outside, np.nan if eps is None else 0, g / (x * (1 - x)))


scalar_rule(
    "aten.erfc",
    "y = erfc(x)",
    "-(2 / sqrt(pi)) * exp(-(x * x)) * g",
    meaning="multiplies the gradient by -2 / sqrt(pi) exp(-x^2)",
    aliases=("aten.special_erfc",),
)
