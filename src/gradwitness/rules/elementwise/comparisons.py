"""Comparisons, logic and bits: truth values and whole numbers, exact, without a gradient."""

from __future__ import annotations

import numpy as np

from gradwitness.rules.registry import Array, rule


@rule("aten.eq", "y = a == b")
def eq(a: Array, b: Array) -> Array:
    return np.equal(a, b)


@rule("aten.ne", "y = a != b")
def ne(a: Array, b: Array) -> Array:
    return np.not_equal(a, b)


@rule("aten.lt", "y = a < b")
def lt(a: Array, b: Array) -> Array:
    return np.less(a, b)


@rule("aten.le", "y = a <= b")
def le(a: Array, b: Array) -> Array:
    return np.less_equal(a, b)


@rule("aten.gt", "y = a > b")
def gt(a: Array, b: Array) -> Array:
    return np.greater(a, b)


@rule("aten.ge", "y = a >= b")
def ge(a: Array, b: Array) -> Array:
    return np.greater_equal(a, b)


@rule("aten.logical_and", "y = (a != 0) & (b != 0)")
def logical_and(a: Array, b: Array) -> Array:
    return np.not_equal(a, 0) & np.not_equal(b, 0)


@rule("aten.logical_or", "y = (a != 0) | (b != 0)")
def logical_or(a: Array, b: Array) -> Array:
    return np.not_equal(a, 0) | np.not_equal(b, 0)


@rule("aten.logical_xor", "y = (a != 0) != (b != 0)")
def logical_xor(a: Array, b: Array) -> Array:
    return np.not_equal(a, 0) ^ np.not_equal(b, 0)


@rule("aten.logical_not", "y = x == 0")
def logical_not(x: Array) -> Array:
    return np.equal(x, 0)


@rule("aten.bitwise_and", "y = bits(a, b, 'and')", aliases=("aten.__and__",))
def bitwise_and(a: Array, b: Array) -> Array:
    return np.bitwise_and(a, b)


@rule("aten.bitwise_or", "y = bits(a, b, 'or')", aliases=("aten.__or__",))
def bitwise_or(a: Array, b: Array) -> Array:
    return np.bitwise_or(a, b)


@rule("aten.bitwise_xor", "y = bits(a, b, 'xor')", aliases=("aten.__xor__",))
def bitwise_xor(a: Array, b: Array) -> Array:
    return np.bitwise_xor(a, b)


@rule("aten.bitwise_not", "y = flipped_bits(x)")
def bitwise_not(x: Array) -> Array:
    return np.bitwise_not(x)


@rule("aten.bitwise_left_shift", "y = x * 2 ** by", aliases=("aten.__lshift__",))
def left_shift(x: Array, by: Array) -> Array:
    return np.left_shift(x, by)


@rule("aten.bitwise_right_shift", "y = x // 2 ** by", aliases=("aten.__rshift__",))
def right_shift(x: Array, by: Array) -> Array:
    return np.right_shift(x, by)


@rule("aten.isnan", "y = x != x")
def isnan(x: Array) -> Array:
    return np.isnan(x)


@rule("aten.isinf", "y = abs(x) == inf")
def isinf(x: Array) -> Array:
    return np.isinf(x)


@rule("aten.isposinf", "y = x == inf")
def isposinf(x: Array) -> Array:
    return np.equal(x, np.inf)


@rule("aten.isneginf", "y = x == -inf")
def isneginf(x: Array) -> Array:
    return np.equal(x, -np.inf)


@rule("aten.signbit", "y = negative(x)")
def signbit(x: Array) -> Array:
    return np.signbit(x)
