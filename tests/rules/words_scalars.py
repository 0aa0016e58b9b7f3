"""Words of the formulas of comparisons, rounding, trigonometry and logarithms, number by number.

Nothing here may come from the rules.
"""

from __future__ import annotations

import cmath
import math
import struct
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Plain: TypeAlias = Any


def _each(function: Callable[..., Any], *operands: Plain) -> Plain:
    """Apply a function of Python numbers at each place."""
    rows = np.broadcast_arrays(*operands)
    made = [function(*place) for place in zip(*(row.ravel().tolist() for row in rows), strict=True)]
    return np.array(made).reshape(rows[0].shape)


def float32(x: float) -> float:
    """The nearest number of 24 bits."""
    return float(struct.unpack("f", struct.pack("f", x))[0])


def bits(a: Plain, b: Plain, how: str) -> Plain:
    """Bit by bit, by arithmetic; of truth values, the truth."""

    def joined(p: int, q: int) -> int:
        total = 0
        for k in range(8):
            both = (p >> k) % 2 + (q >> k) % 2
            total += 2**k * {"and": both == 2, "or": both > 0, "xor": both == 1}[how]
        return total

    return _each(joined, a, b)


def flipped_bits(x: Plain) -> Plain:
    return _each(lambda p: 1 - p if isinstance(p, bool) else -1 - p, x)


def negative(x: Plain) -> Plain:
    return _each(lambda p: math.copysign(1, p) < 0, x)


def signed_one(x: Plain) -> Plain:
    return _each(lambda p: math.copysign(1, p), x)


def floor(x: Plain) -> Plain:
    return _each(lambda p: float(math.floor(p)), x)


def trunc(x: Plain) -> Plain:
    return _each(lambda p: float(int(p)), x)


def rounded(x: Plain, mode: str | None) -> Plain:
    return x if mode is None else {"floor": floor, "trunc": trunc}[mode](x)


def to_even(x: Plain, decimals: int) -> Plain:
    scale = 10.0**decimals
    return _each(lambda p: round(p * scale) / scale, x)


def modulo(a: Plain, b: Plain) -> Plain:
    return _each(lambda p, q: p % q, a, b)


def cut_modulo(a: Plain, b: Plain) -> Plain:
    return _each(math.fmod, a, b)


def numbers_only(x: Plain, nan: float | None, posinf: float | None, neginf: float | None) -> Plain:
    named = {math.inf: posinf or 0.0, -math.inf: neginf or 0.0}

    def number(p: float) -> float:
        return (nan or 0.0) if math.isnan(p) else named[p] if math.isinf(p) else p

    return _each(number, x)


def erfc(x: Plain) -> Plain:
    return _each(math.erfc, x)


def ceil(x: Plain) -> Plain:
    return _each(lambda p: -float(math.floor(-p)), x)


# Functions by the names that NumPy has for them, of real numbers and of complex ones.
_MATH: dict[str, tuple[Callable[[float], float], Callable[[complex], complex]]] = {
    "tan": (math.tan, cmath.tan), "sinh": (math.sinh, cmath.sinh), "cosh": (math.cosh, cmath.cosh),
    "arcsin": (math.asin, cmath.asin), "arccos": (math.acos, cmath.acos),
    "arctan": (math.atan, cmath.atan), "arcsinh": (math.asinh, cmath.asinh),
    "arccosh": (math.acosh, cmath.acosh), "arctanh": (math.atanh, cmath.atanh),
    "expm1": (math.expm1, lambda z: cmath.exp(z) - 1), "log10": (math.log10, cmath.log10),
    "log2": (math.log2, lambda z: cmath.log(z) / math.log(2)),
    "exp2": (lambda p: 2.0**p, lambda z: 2**z),
}  # fmt: skip


def _of_either(
    of_real: Callable[[float], float], of_complex: Callable[[complex], complex]
) -> Callable[[Plain], Plain]:
    def apply(x: Plain) -> Plain:
        return _each(of_complex if np.iscomplexobj(x) else of_real, x)

    return apply


def angle(a: Plain, b: Plain) -> Plain:
    """The angle of the point b + i a."""
    return _each(lambda p, q: cmath.phase(complex(q, p)), a, b)


def kept_off(x: Plain, eps: float | None) -> Plain:
    return x if eps is None else _each(lambda p: sorted((eps, p, 1 - eps))[1], x)


def rrelu(x: Plain, noise: Plain, lower: float, upper: float, training: bool) -> Plain:
    """With the slope that was drawn, if it lies within the limits."""

    def one(p: float, q: float) -> float:
        slope = sorted((lower, q, upper))[1] if training else (lower + upper) / 2
        return p if p > 0 else slope * p

    return _each(one, x, noise)


def exponent_of(x: Plain) -> Plain:
    return _each(lambda p: math.frexp(p)[1], x)


SCALARS: dict[str, Any] = {
    word.__name__: word
    for word in (
        float32, bits, flipped_bits, negative, signed_one, floor, trunc, rounded, to_even, modulo,
        cut_modulo, numbers_only, erfc, ceil, angle, kept_off,
        rrelu, exponent_of,
    )
} | {"inf": math.inf}  # fmt: skip
SCALARS |= {name: _of_either(*functions) for name, functions in _MATH.items()}
