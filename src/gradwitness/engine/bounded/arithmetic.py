"""Arithmetic, selection, comparison and sums: Higham 2002, sections 3.1, 3.3, 3.5 and 4.2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded.array import (
    COMPLEX_FUNCTIONS,
    UFUNCS,
    Axis,
    Bounded,
    Error,
    Partial,
    Plain,
    as_read,
    assemble,
    carrying,
    rounding,
    scaled,
    total,
    underflow,
    value_of,
)
from gradwitness.engine.bounded.infinities import multiplied, reduced, signed
from gradwitness.engine.bounded.reduction import reduction
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.engine.floats import gamma

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic


def _is_constant(operand: Any) -> bool:
    return not isinstance(operand, Bounded) and np.ndim(operand) == 0


def scales_exactly(factor: Any) -> bool:
    """Whether multiplying by a number is exact: zero, powers of two, and these times i."""
    if not _is_constant(factor) or (factor.real and factor.imag):
        return False
    return bool(factor == 0 or np.frexp(float(abs(factor)))[0] == 0.5)


def _additive(ufunc: np.ufunc) -> Callable[..., Bounded]:
    def handler(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
        value = ufunc(value_of(a), value_of(b))
        if any(_is_constant(operand) and operand == 0 for operand in (a, b)):
            return assemble(arithmetic, value, (a, b), total)
        # No sum of two floating-point numbers underflows.
        return assemble(
            arithmetic, value, (a, b), total, rounding(arithmetic, value, underflows=False)
        )

    return handler


def over_factors(left: Any, right: Any) -> Callable[[Error, Error], Error]:
    """Return the function from errors of two factors to that of their product."""

    def carry(of_a: Error, of_b: Error) -> Error:
        from_a = None if of_a is None else scaled(np.abs(right), of_a)
        from_b = None if of_b is None else scaled(np.abs(left), of_b)
        return total(from_a, from_b, None if of_a is None else scaled(of_a, of_b))

    return carry


def over_quotient(value: Plain, bottom: Any) -> Callable[[Error, Error], Error]:
    """Return the function from errors above and below to that of the quotient."""
    magnitude, below = np.abs(value), np.abs(bottom)

    def carry(of_a: Error, of_b: Error) -> Error:
        numerator = total(of_a, scaled(magnitude, of_b))
        if numerator is None:
            return None
        room = below if of_b is None else below - of_b
        return np.where(room > 0, numerator / room, np.inf)

    return carry


def over_matrices(left: Plain, right: Plain) -> Callable[[Error, Error], Error]:
    """Return the function from errors of two matrices to that of their product."""

    def carry(of_a: Error, of_b: Error) -> Error:
        from_b = None if of_b is None else product_of_sizes(left, of_b)
        if of_a is None:
            return from_b
        size_right = np.abs(right)
        return total(
            product_of_sizes(of_a, size_right if of_b is None else size_right + of_b), from_b
        )

    return carry


def _multiply(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    if _is_constant(b) and b == 1:
        a, b = b, a
    if _is_constant(a) and a == 1 and isinstance(b, Bounded):
        return Bounded(b.value.copy(), arithmetic, *b.errors)
    left, right = value_of(a), value_of(b)
    value, carry = left * right, over_factors(left, right)
    if scales_exactly(a) or scales_exactly(b):
        factor = left if scales_exactly(a) else right
        lost = underflow(arithmetic, value) if abs(factor) < 1 else None
        return assemble(arithmetic, value, (a, b), carry, lost, signed)
    grow = rounding(arithmetic, value)[0]

    def of_square(carried: Error) -> Error:
        # The square of 1 is 1, so that 1 - x^2 is certainly 0 there.
        added: Any = grow(carried)
        return added if carried is not None else np.where(value == 1, 0.0, added)

    growths = (of_square, of_square) if a is b else (grow, grow)
    return assemble(arithmetic, value, (a, b), carry, growths, signed)


def _divide(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    top, bottom = value_of(a), value_of(b)
    value = np.asarray(top / bottom)
    carry = over_quotient(value, bottom)
    if scales_exactly(b) and bottom != 0:
        lost = underflow(arithmetic, value) if abs(bottom) > 1 else None
        return assemble(arithmetic, value, (a, b), carry, lost, signed)
    # GPU kernels multiply by the reciprocal of a number: two roundings.
    count = 2.0 if np.ndim(bottom) == 0 else 1.0
    return assemble(arithmetic, value, (a, b), carry, rounding(arithmetic, value, count), signed)


def unchanged(ufunc: np.ufunc) -> Callable[..., Bounded]:
    """Return the handler of negation and the like: nothing rounds, errors pass unchanged."""

    def handler(arithmetic: Arithmetic, a: Any) -> Bounded:
        return assemble(arithmetic, ufunc(value_of(a)), (a,), total)

    return handler


def _chosen(ufunc: np.ufunc) -> Callable[..., Bounded]:
    """Maximum and minimum: nothing rounds; the error is at most the larger of the two."""

    def carry(of_a: Error, of_b: Error) -> Error:
        if of_a is None or of_b is None:
            return of_b if of_a is None else of_a
        return np.maximum(of_a, of_b)

    def handler(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
        return assemble(arithmetic, ufunc(value_of(a), value_of(b)), (a, b), carry)

    return handler


def _decided(ufunc: np.ufunc) -> Callable[..., Plain]:
    """Comparisons, steps and truth values: decided by the values, plain results."""

    def handler(arithmetic: Arithmetic, *operands: Any) -> Plain:
        del arithmetic
        return np.asarray(ufunc(*map(value_of, operands)))

    return handler


# Below so many rows, columns or terms, float32 saves less than the conversion costs.
_WIDE = 64
# Up to so many terms, float32 adds no more than 1/63 to a bound.
_LONG = 2**18
_SINGLE_UNIT, _SINGLE_TINY, _SINGLE_MAX = 2.0**-24, 2.0**-126, 2.0**127


def _in_single(x: Plain) -> tuple[Plain, float, float]:
    """Return magnitudes in float32, their smallest nonzero one and their largest."""
    single = x.astype(np.float32)
    np.abs(single, out=single)
    least = float(single.min(initial=np.inf))
    # Nonzero numbers that underflow here count as 0.
    if least == 0 and np.count_nonzero(single != 0) == np.count_nonzero(x != 0):
        # Less one, the bits of zero are the largest.
        bits = (single.view(np.uint32) - 1).min()
        least = np.inf if bits == 2**32 - 1 else float((bits + 1).view(np.float32))
    return single, least, float(single.max(initial=0.0))


def product_of_sizes(left: Plain, right: Plain) -> Plain:
    """Return ``|left| @ |right|``; for large matrices slightly more, at half the cost.

    Two roundings into float32 for each product, and n of products and sums, leave at least
    1 - gamma_(n + 2) of the sum, as long as nothing underflows or overflows (Higham 2002, 3.5).
    """
    if left.dtype.kind == "c" or right.dtype.kind == "c":
        left, right = np.abs(left), np.abs(right)
    n = left.shape[-1]
    sizes = (n, *left.shape[-2:-1], *right.shape[-1:])
    if left.ndim > 1 and right.ndim > 1 and min(sizes) >= _WIDE and n <= _LONG:
        (a, *ends_a), (b, *ends_b) = _in_single(left), _in_single(right)
        least, most = (one * other for one, other in zip(ends_a, ends_b, strict=True))
        # Each operand too: 0 times an out-of-range number would pass.
        fits = all(end >= _SINGLE_TINY for end in (least, ends_a[0], ends_b[0]))
        if fits and all(end <= _SINGLE_MAX for end in (most * n, ends_a[1], ends_b[1])):
            share = 1 - gamma(n + 2, _SINGLE_UNIT)
            product = np.asarray(a @ b, dtype=np.float64)
            product *= 1 / share
            return product
    return np.asarray(np.abs(left) @ np.abs(right))


def _matmul(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    a, b = as_read(a), as_read(b)
    left, right = np.asarray(value_of(a)), np.asarray(value_of(b))
    value, carry = left @ right, over_matrices(left, right)
    # n products and n - 1 sums, in any order: gamma_n (Higham 2002, section 3.5).
    sizes = product_of_sizes(left, right)
    growths = reduction(
        arithmetic,
        sizes,
        value,
        left.shape[-1],
        squares=lambda: np.asarray(np.square(left) @ np.square(right)),
    )
    partial = Partial(sizes, arithmetic.accumulate)
    return assemble(arithmetic, value, (a, b), carry, growths, multiplied, partial)


@stands_for(np.sum)
def _sum(_: Any, a: Bounded, axis: Axis = None, keepdims: bool = False) -> Bounded:
    a = as_read(a)

    def run(x: Plain) -> Plain:
        return np.asarray(np.sum(x, axis=axis, keepdims=keepdims))

    value = run(a.value)
    terms = a.size // max(1, value.size)
    size = np.abs(a.value)
    sizes = run(size)
    growths = reduction(a.arithmetic, sizes, value, terms - 1, squares=lambda: run(np.square(size)))
    partial = Partial(sizes, a.arithmetic.accumulate)
    return assemble(a.arithmetic, value, (a,), carrying(run), growths, reduced(run), partial)


UFUNCS |= {
    "add": _additive(np.add),
    "subtract": _additive(np.subtract),
    "multiply": _multiply,
    "divide": _divide,
    "negative": unchanged(np.negative),
    "positive": unchanged(np.positive),
    "absolute": unchanged(np.absolute),
    "fabs": unchanged(np.absolute),
    "reciprocal": lambda arithmetic, a: _divide(arithmetic, 1.0, a),
    "maximum": _chosen(np.maximum),
    "minimum": _chosen(np.minimum),
    "matmul": _matmul,
}
UFUNCS |= {
    ufunc.__name__: _decided(ufunc)
    for ufunc in (
        np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal, np.isfinite,
        np.isinf, np.isnan, np.logical_and, np.logical_not, np.logical_or, np.logical_xor, np.sign,
        np.signbit,
    )
}  # fmt: skip
# Each part is summed by itself, and the modulus of two sums of magnitudes is at most the sum of the
# moduli: the bound of real numbers holds.
COMPLEX_FUNCTIONS.add("sum")
