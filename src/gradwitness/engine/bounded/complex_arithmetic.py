"""Complex numbers: the bound is that of the error's modulus.

Rounding each part gives a modulus within the same relative bound. A product's parts are sums of two
products, which may cancel: its error is at most sqrt(2) gamma_2 of its modulus, a quotient's
sqrt(2) gamma_7 (Higham 2002, lemma 3.5). Torch divides by the larger part of the denominator first:
two more roundings. Since c gamma_k <= gamma_(c k), these are 3 and 13 roundings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded.arithmetic import (
    over_factors,
    over_matrices,
    over_quotient,
    product_of_sizes,
    scales_exactly,
    unchanged,
)
from gradwitness.engine.bounded.array import (
    COMPLEX_FUNCTIONS,
    COMPLEX_UFUNCS,
    UFUNCS,
    Bounded,
    Error,
    Growths,
    Partial,
    Plain,
    assemble,
    errors_of,
    is_complex,
    lifted,
    rounding,
    smallest_normal,
    total,
    value_of,
)
from gradwitness.engine.bounded.reduction import reduction
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.engine.bounded.transcendental import LIBRARY
from gradwitness.engine.floats import gamma
from gradwitness.rules.kernel_ops import paired

if TYPE_CHECKING:
    from gradwitness.engine.floats import Arithmetic

PRODUCT = 3.0
QUOTIENT = 13.0
# The parts of a product are made of four products and two sums, of a quotient of two more; each of
# them may underflow, though the result as a whole does not.
UNDERFLOWS = 8.0


def rounded(arithmetic: Arithmetic, value: Plain, count: float) -> Growths:
    """Return what roundings of the modulus and underflows of the parts add."""
    magnitude, factor = np.abs(value), gamma(count, arithmetic.unit)
    lost = UNDERFLOWS * smallest_normal(arithmetic)

    def grow(carried: Error) -> Error:
        size = magnitude if carried is None else magnitude + carried
        return np.asarray(factor * size + lost * (size > 0))

    return grow, grow


def _multiply(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    left, right = value_of(a), value_of(b)
    value, carry = np.asarray(left * right), over_factors(left, right)
    # A smaller factor may take a part below the smallest normal number.
    exact = any(scales_exactly(operand) and not 0 < abs(operand) < 1 for operand in (a, b))
    count = PRODUCT if is_complex(a) and is_complex(b) else 1.0
    growths = None if exact else rounded(arithmetic, value, count)
    return assemble(arithmetic, value, (a, b), carry, growths)


def _divide(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    value = np.asarray(value_of(a) / value_of(b))
    carry = over_quotient(value, value_of(b))
    return assemble(arithmetic, value, (a, b), carry, rounded(arithmetic, value, QUOTIENT))


def _matmul(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    left, right = np.asarray(value_of(a)), np.asarray(value_of(b))
    value, carry = left @ right, over_matrices(left, right)
    # Each part is a sum of 2 n products in any order, good to gamma_2n of at most the sum of the
    # products' moduli; so both together are good to sqrt(2) gamma_2n.
    count = int(PRODUCT) * left.shape[-1]
    sizes = product_of_sizes(left, right)
    growths = reduction(arithmetic, sizes, value, count)
    partial = Partial(sizes, arithmetic.accumulate)
    return assemble(arithmetic, value, (a, b), carry, growths, partial=partial)


def _absolute(arithmetic: Arithmetic, a: Any) -> Bounded:
    value = np.abs(value_of(a))
    # Squares that underflow, where the kernel takes the root of their sum.
    return assemble(arithmetic, value, (a,), total, rounding(arithmetic, value, LIBRARY))


@stands_for(np.real, np.imag)
def _part(func: Any, a: Bounded) -> Bounded:
    """No error of a complex number is less than that of its part."""
    return assemble(a.arithmetic, func(a.value), (a,), total)


@stands_for(paired)
def _paired(func: Any, re: Any, im: Any) -> Bounded:
    """Combine real and imaginary parts into complex numbers."""
    arithmetic = next(part.arithmetic for part in (re, im) if isinstance(part, Bounded))
    parts = [lifted(arithmetic, part) for part in (re, im)]
    value = func(*map(value_of, parts))

    def tier(k: int) -> Error:
        errors = [errors_of(part)[k] for part in parts]
        present = [e for e in errors if e is not None]
        return np.hypot(*present) if len(present) == 2 else total(*present)

    rigorous = _whole(tier(0), value)
    alike = all(errors_of(part)[0] is errors_of(part)[1] for part in parts)
    return Bounded(value, arithmetic, rigorous, rigorous if alike else _whole(tier(1), value))


def _whole(error: Error, value: Plain) -> Error:
    return error if error is None else np.broadcast_to(error, value.shape)


UFUNCS["conjugate"] = unchanged(np.conjugate)
COMPLEX_FUNCTIONS |= {"real", "imag", "paired"}
COMPLEX_UFUNCS |= {
    name: UFUNCS[name]
    for name in (
        "add", "subtract", "negative", "positive", "conjugate",
        "equal", "not_equal", "isfinite", "isinf", "isnan",
    )
}  # fmt: skip
COMPLEX_UFUNCS |= {
    "multiply": _multiply,
    "divide": _divide,
    "matmul": _matmul,
    "absolute": _absolute,
    "reciprocal": lambda arithmetic, a: _divide(arithmetic, 1.0, a),
}
