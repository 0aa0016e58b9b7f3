"""Rounding to whole numbers, remainders, signs, exponents, and what is preferred to NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.kernel_ops import ignore_error
from gradwitness.rules.registry import Array, elementwise, rule
from gradwitness.rules.scalar_rule import scalar_rule

if TYPE_CHECKING:
    from collections.abc import Callable

_FLAT = "gives 0: the result is constant between its steps"


scalar_rule("aten.floor", "y = floor(x)", "0", meaning=_FLAT)

scalar_rule("aten.ceil", "y = ceil(x)", "0", meaning=_FLAT)

scalar_rule("aten.trunc", "y = trunc(x)", "0", meaning=_FLAT, aliases=("aten.fix",))


@rule("aten.round", "y = to_even(x, decimals)", meaning=_FLAT)
def round_(x: Array, *, decimals: int = 0) -> Array:
    if decimals == 0:
        return np.rint(x)
    # Torch's scale is a float64 power of ten; a negative number of digits divides first.
    scale = 10.0 ** abs(decimals)
    return np.rint(x * scale) / scale if decimals > 0 else np.rint(x / scale) * scale


@rule(
    "aten.sign",
    "y = sign(x)",
    meaning="gives 0: a sign is constant but for its step",
)
def sign(x: Array) -> Array:
    return sign_of(x)


def sign_of(x: Array) -> Array:
    """Return the sign of real numbers."""
    # The sign of NaN is 0, as torch has it.
    return np.where(np.greater(x, 0), 1.0, np.where(np.less(x, 0), -1.0, 0.0))


sign.constant_in("x")
round_.constant_in("x")


@rule("aten.frac", "y = x - sign(x) * floor(abs(x))", meaning="passes the gradient on unchanged")
def frac(x: Array) -> Array:
    # Exact: the digits behind the point are digits of the number.
    return np.fmod(x, 1)


frac.vjps(x="g")


@rule(
    "aten.remainder",
    "y = modulo(a, b)",
    meaning="passes the gradient on to the dividend; the divisor's own gradient is -g floor(a / b)",
)
def remainder(a: Array, b: Array) -> Array:
    return np.remainder(a, b)


remainder.vjps(a="g")
remainder.vjp("b", "-g * floor(a / b)")(lambda g, a, b: -g * np.floor_divide(a, b))


@rule(
    "aten.fmod",
    "y = cut_modulo(a, b)",
    meaning="passes the gradient on to the dividend; the divisor's own gradient is -g times the "
    "quotient, cut off",
)
def fmod(a: Array, b: Array) -> Array:
    return np.fmod(a, b)


# As torch has it, the rounded quotient is cut off.
fmod.vjps(a="g", b="-g * trunc(a / b)")


@rule("aten.floor_divide", "y = floor(a / b)")
def floor_divide(a: Array, b: Array) -> Array:
    return np.floor_divide(a, b)


@rule("aten.heaviside", "y = where(x == 0, values, x > 0)")
def heaviside(x: Array, values: Array) -> Array:
    return np.where(np.equal(x, 0), values, np.where(np.isnan(x), x, np.greater(x, 0)))


@rule(
    "aten.copysign",
    "y = abs(a) * signed_one(b)",
    meaning="multiplies the gradient by the sign that the first operand was given relative to its "
    "own; at 0 it gives 0, and nothing to the second operand",
)
def copysign(a: Array, b: Array) -> Array:
    return np.copysign(a, b)


@copysign.vjp("a", "g * where(a == 0, 0, y / a)")
def _(g: Array, y: Array, a: Array) -> Array:
    if g.ndim and not a.ndim:
        # The result is of another format: it is not quite what it is divided by.
        return np.where(np.equal(a, 0), 0, g * (y / a))
    same = np.equal(np.signbit(y), np.signbit(a))
    turned = np.where(np.equal(a, 0), 0, np.where(same, g, -g))
    # Two infinities make no sign.
    return np.where(np.isfinite(a), turned, np.nan)


copysign.constant_in("b")


@rule(
    "aten.nan_to_num",
    "y = numbers_only(x, nan, posinf, neginf)",
    meaning="lets the gradient through where the input was a finite number",
)
def nan_to_num(x: Array, *, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Array:
    if bool(np.any(np.isinf(x))) and (posinf is None or neginf is None):
        raise NotImplementedError("infinities that become the format's largest number")
    finite = np.where(np.isfinite(x), x, 0)
    y = np.where(np.isnan(x), 0.0 if nan is None else nan, finite)
    y = np.where(np.equal(x, np.inf), 0.0 if posinf is None else posinf, y)
    return np.where(np.equal(x, -np.inf), 0.0 if neginf is None else neginf, y)


nan_to_num.vjp("x", "where(abs(x) < inf, g, 0)")(lambda g, x: np.where(np.isfinite(x), g, 0))


def _enter_numbers_first(
    name: str, sign: str, better: Callable[[Array, Array], Array], word: str
) -> None:
    """Enter the greater or smaller of two, of which a number is preferred to NaN."""
    of_a = f"(a {sign} b) | (b != b)"

    def is_a(a: Array, b: Array) -> Array:
        return better(a, b) | np.isnan(b)

    @rule(
        name,
        f"y = where({of_a}, a, b)",
        meaning=f"gives the gradient to the {word} of the two, to the first where they tie, and "
        "none to NaN",
    )
    def extreme(a: Array, b: Array) -> Array:
        return np.where(is_a(a, b), a, b)

    extreme.vjp("a", f"where({of_a}, g, 0)")(lambda g, a, b: np.where(is_a(a, b), g, 0))
    extreme.vjp("b", f"where({of_a}, 0, g)")(lambda g, a, b: np.where(is_a(a, b), 0, g))


_enter_numbers_first("aten.fmax", ">=", np.greater_equal, "greater")
_enter_numbers_first("aten.fmin", "<=", np.less_equal, "smaller")


@rule(
    "aten.ldexp",
    "y = a * 2.0 ** b",
    meaning="multiplies the gradient by 2^b, and for the exponent by y log 2",
    composite=True,
)
def ldexp(a: Array, b: Array) -> Array:
    return a * np.power(2.0, b)


ldexp.vjp("a", "g * 2.0 ** b")(lambda g, b: g * np.power(2.0, b))
ldexp.vjps(b="g * y * log(2)")


@rule(
    "aten.frexp",
    "y = x / 2.0 ** exponent_of(x), exponent_of(x)",
    meaning="divides the gradient by the power of two that was taken out",
)
def frexp(x: Array) -> tuple[Array, Array]:
    exponent = np.frexp(ignore_error(x))[1]
    return x * np.exp2(-exponent.astype(np.float64)), exponent.astype(np.int64)


frexp.vjp("x", "g[0] / 2.0 ** exponent_of(x)")(lambda g, y1: g[0] / np.exp2(y1.astype(np.float64)))


@elementwise(
    "aten.nextafter",
    "y = neighbour(a, b)",
    meaning="passes the gradient on, but where the two numbers are equal: there it gives 0",
)
def nextafter(a: Array, b: Array) -> Array:
    return np.nextafter(a, b)


nextafter.vjps(a="where(a == b, 0, g)")
nextafter.constant_in("b")
