"""Comparisons, logic and bits: truth values and whole numbers, exact, without a gradient."""

from __future__ import annotations

import numpy as np

from gradwitness.rules.registry import rule

rule("aten.eq", "y = a == b")(lambda a, b: np.equal(a, b))
rule("aten.ne", "y = a != b")(lambda a, b: np.not_equal(a, b))
rule("aten.lt", "y = a < b")(lambda a, b: np.less(a, b))
rule("aten.le", "y = a <= b")(lambda a, b: np.less_equal(a, b))
rule("aten.gt", "y = a > b")(lambda a, b: np.greater(a, b))
rule("aten.ge", "y = a >= b")(lambda a, b: np.greater_equal(a, b))

rule("aten.isnan", "y = x != x")(lambda x: np.isnan(x))
rule("aten.isinf", "y = abs(x) == inf")(lambda x: np.isinf(x))
rule("aten.isposinf", "y = x == inf")(lambda x: np.equal(x, np.inf))
rule("aten.isneginf", "y = x == -inf")(lambda x: np.equal(x, -np.inf))
rule("aten.signbit", "y = negative(x)")(lambda x: np.signbit(x))

rule("aten.logical_not", "y = x == 0")(lambda x: np.equal(x, 0))
rule("aten.logical_and", "y = (a != 0) & (b != 0)")(
    lambda a, b: np.not_equal(a, 0) & np.not_equal(b, 0)
)
rule("aten.logical_or", "y = (a != 0) | (b != 0)")(
    lambda a, b: np.not_equal(a, 0) | np.not_equal(b, 0)
)
rule("aten.logical_xor", "y = (a != 0) != (b != 0)")(
    lambda a, b: np.not_equal(a, 0) ^ np.not_equal(b, 0)
)

rule("aten.bitwise_not", "y = flipped_bits(x)")(lambda x: np.bitwise_not(x))
rule("aten.bitwise_and", "y = bits(a, b, 'and')", aliases=("aten.__and__",))(
    lambda a, b: np.bitwise_and(a, b)
)
rule("aten.bitwise_or", "y = bits(a, b, 'or')", aliases=("aten.__or__",))(
    lambda a, b: np.bitwise_or(a, b)
)
rule("aten.bitwise_xor", "y = bits(a, b, 'xor')", aliases=("aten.__xor__",))(
    lambda a, b: np.bitwise_xor(a, b)
)
rule("aten.bitwise_left_shift", "y = x * 2 ** by", aliases=("aten.__lshift__",))(
    lambda x, by: np.left_shift(x, by)
)
rule("aten.bitwise_right_shift", "y = x // 2 ** by", aliases=("aten.__rshift__",))(
    lambda x, by: np.right_shift(x, by)
)
