"""Comparisons, logic and bits: truth values and whole numbers, exact, without a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.rules.registry import Array, rule

if TYPE_CHECKING:
    from collections.abc import Callable


def _enter_unary(name: str, text: str, function: Callable[[Array], Array]) -> None:
    @rule(name, text)
    def _(x: Array) -> Array:
        return function(x)


def _enter_binary(
    name: str, text: str, function: Callable[[Array, Array], Array], *aliases: str
) -> None:
    @rule(name, text, aliases=aliases)
    def _(a: Array, b: Array) -> Array:
        return function(a, b)


_enter_binary("aten.eq", "y = a == b", np.equal)
_enter_binary("aten.ne", "y = a != b", np.not_equal)
_enter_binary("aten.lt", "y = a < b", np.less)
_enter_binary("aten.le", "y = a <= b", np.less_equal)
_enter_binary("aten.gt", "y = a > b", np.greater)
_enter_binary("aten.ge", "y = a >= b", np.greater_equal)

_enter_unary("aten.isnan", "y = x != x", np.isnan)
_enter_unary("aten.isinf", "y = abs(x) == inf", np.isinf)
_enter_unary("aten.isposinf", "y = x == inf", lambda x: np.equal(x, np.inf))
_enter_unary("aten.isneginf", "y = x == -inf", lambda x: np.equal(x, -np.inf))
_enter_unary("aten.signbit", "y = negative(x)", np.signbit)


@rule("aten.logical_and", "y = (a != 0) & (b != 0)")
def logical_and(a: Array, b: Array) -> Array:
    return np.not_equal(a, 0) & np.not_equal(b, 0)


@rule("aten.logical_or", "y = (a != 0) | (b != 0)")
def logical_or(a: Array, b: Array) -> Array:
    return np.not_equal(a, 0) | np.not_equal(b, 0)


@rule("aten.logical_xor", "y = (a != 0) != (b != 0)")
def logical_xor(a: Array, b: Array) -> Array:
    return np.not_equal(a, 0) ^ np.not_equal(b, 0)


_enter_unary("aten.logical_not", "y = x == 0", lambda x: np.equal(x, 0))

_enter_binary("aten.bitwise_and", "y = bits(a, b, 'and')", np.bitwise_and, "aten.__and__")
_enter_binary("aten.bitwise_or", "y = bits(a, b, 'or')", np.bitwise_or, "aten.__or__")
_enter_binary("aten.bitwise_xor", "y = bits(a, b, 'xor')", np.bitwise_xor, "aten.__xor__")
_enter_unary("aten.bitwise_not", "y = flipped_bits(x)", np.bitwise_not)


@rule("aten.bitwise_left_shift", "y = x * 2 ** by", aliases=("aten.__lshift__",))
def left_shift(x: Array, by: Array) -> Array:
    return np.left_shift(x, by)


@rule("aten.bitwise_right_shift", "y = x // 2 ** by", aliases=("aten.__rshift__",))
def right_shift(x: Array, by: Array) -> Array:
    return np.right_shift(x, by)
