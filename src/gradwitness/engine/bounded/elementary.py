"""Arithmetic, selection, comparison and sums: Higham 2002, sections 3.1, 3.3, 3.5 and 4.2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import RuleError
from gradwitness.engine.bounded.array import (
    FUNCTIONS,
    UFUNCS,
    Bounded,
    Error,
    Plain,
    assemble,
    reduction,
    rounding,
    scaled,
    total,
    underflow,
    value_of,
)
from gradwitness.engine.bounded.infinities import multiplied, reduced, signed

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic


def _is_constant(item: Any) -> bool:
    return not isinstance(item, Bounded) and np.ndim(item) == 0


def _scales_exactly(item: Any) -> bool:
    """Whether multiplying by a number rounds nothing: zero and powers of two."""
    return _is_constant(item) and bool(item == 0 or abs(np.frexp(float(item))[0]) == 0.5)


def _additive(ufunc: np.ufunc) -> Callable[..., Bounded]:
    def handler(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
        value = ufunc(value_of(a), value_of(b))
        if any(_is_constant(item) and item == 0 for item in (a, b)):
            return assemble(arithmetic, value, (a, b), total)
        # No sum of two floating-point numbers underflows.
        return assemble(
            arithmetic, value, (a, b), total, rounding(arithmetic, value, underflows=False)
        )

    return handler


def _multiply(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    left, right = value_of(a), value_of(b)
    value = left * right

    def carry(of_a: Error, of_b: Error) -> Error:
        both = None if of_a is None else scaled(of_a, of_b)
        return total(scaled(np.abs(right), of_a), scaled(np.abs(left), of_b), both)

    if _scales_exactly(a) or _scales_exactly(b):
        factor = left if _scales_exactly(a) else right
        lost = underflow(arithmetic, value) if abs(factor) < 1 else None
        return assemble(arithmetic, value, (a, b), carry, lost, signed)
    return assemble(arithmetic, value, (a, b), carry, rounding(arithmetic, value), signed)


def _divide(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    top, bottom = value_of(a), value_of(b)
    value = np.asarray(top / bottom)
    magnitude, below = np.abs(value), np.abs(bottom)

    def carry(of_a: Error, of_b: Error) -> Error:
        numerator = total(of_a, scaled(magnitude, of_b))
        if numerator is None:
            return None
        room = below if of_b is None else below - of_b
        return np.where(room > 0, numerator / room, np.inf)

    if _scales_exactly(b) and bottom != 0:
        lost = underflow(arithmetic, value) if abs(bottom) > 1 else None
        return assemble(arithmetic, value, (a, b), carry, lost, signed)
    # GPU kernels multiply by the reciprocal of a number: two roundings.
    count = 2.0 if np.ndim(bottom) == 0 else 1.0
    return assemble(arithmetic, value, (a, b), carry, rounding(arithmetic, value, count), signed)


def _unchanged(ufunc: np.ufunc) -> Callable[..., Bounded]:
    """Negation and absolute value: no rounding, errors carried as they are."""

    def handler(arithmetic: Arithmetic, a: Any) -> Bounded:
        return assemble(arithmetic, ufunc(value_of(a)), (a,), total)

    return handler


def _chosen(ufunc: np.ufunc) -> Callable[..., Bounded]:
    """Maximum and minimum: as wrong as the worse of the two, and no rounding."""

    def carry(of_a: Error, of_b: Error) -> Error:
        if of_a is None or of_b is None:
            return of_b if of_a is None else of_a
        return np.maximum(of_a, of_b)

    def handler(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
        return assemble(arithmetic, ufunc(value_of(a), value_of(b)), (a, b), carry)

    return handler


def _decided(ufunc: np.ufunc) -> Callable[..., Plain]:
    """Comparisons and steps: decided by the values, plain results."""

    def handler(arithmetic: Arithmetic, *operands: Any) -> Plain:
        del arithmetic
        return np.asarray(ufunc(*map(value_of, operands)))

    return handler


def _matmul(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    left, right = np.asarray(value_of(a)), np.asarray(value_of(b))
    value = left @ right
    size_left, size_right = np.abs(left), np.abs(right)

    def carry(of_a: Error, of_b: Error) -> Error:
        from_b = None if of_b is None else np.asarray(size_left @ of_b)
        if of_a is None:
            return from_b
        return total(np.asarray(of_a @ (size_right if of_b is None else size_right + of_b)), from_b)

    # n products and n - 1 sums, in any order: gamma_n (Higham 2002, section 3.5).
    growths = reduction(arithmetic, size_left @ size_right, value, left.shape[-1])
    return assemble(arithmetic, value, (a, b), carry, growths, multiplied)


def _sum(func: Any, args: Any, kwargs: Any) -> Bounded:
    del func
    if len(args) != 1 or not kwargs.keys() <= {"axis", "keepdims"}:
        raise RuleError("np.sum in a rule takes axis and keepdims by keyword, and nothing else")
    (a,) = args
    value = np.asarray(np.sum(a.value, **kwargs))
    terms = a.size // max(1, value.size)
    growths = reduction(a.arithmetic, np.sum(np.abs(a.value), **kwargs), value, terms - 1)

    def run(x: Plain) -> Plain:
        return np.asarray(np.sum(x, **kwargs))

    def carry(e: Error) -> Error:
        return None if e is None else run(e)

    return assemble(a.arithmetic, value, (a,), carry, growths, reduced(run))


UFUNCS |= {
    "add": _additive(np.add),
    "subtract": _additive(np.subtract),
    "multiply": _multiply,
    "divide": _divide,
    "negative": _unchanged(np.negative),
    "positive": _unchanged(np.positive),
    "absolute": _unchanged(np.absolute),
    "maximum": _chosen(np.maximum),
    "minimum": _chosen(np.minimum),
    "matmul": _matmul,
}
UFUNCS |= {
    ufunc.__name__: _decided(ufunc)
    for ufunc in (
        np.greater,
        np.greater_equal,
        np.less,
        np.less_equal,
        np.equal,
        np.not_equal,
        np.isfinite,
        np.isnan,
        np.sign,
    )
}
FUNCTIONS["sum"] = _sum
