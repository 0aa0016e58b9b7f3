"""Further functions: logarithms and powers to other bases, largest elements, products.

A product of n numbers, in any order, is off by gamma_(n-1) of itself (Higham 2002, section 3.1).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded.array import (
    COMPLEX_FUNCTIONS,
    UFUNCS,
    Axis,
    Bounded,
    Error,
    Growth,
    Plain,
    assemble,
    rounding,
    value_of,
)
from gradwitness.engine.bounded.infinities import reduced
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.engine.bounded.transcendental import LIBRARY

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic


def _function(ufunc: np.ufunc, spread: Callable[[Plain, Plain], Plain]) -> None:
    """Register y = f(x), with ``spread(x, e)`` the change of y that an error e of x can make."""

    def handler(arithmetic: Arithmetic, a: Any) -> Bounded:
        x = np.asarray(value_of(a))
        y = np.asarray(ufunc(x))

        def carry(e: Error) -> Error:
            return None if e is None else np.asarray(spread(x, e))

        return assemble(arithmetic, y, (a,), carry, rounding(arithmetic, y, LIBRARY))

    UFUNCS[ufunc.__name__] = handler


def _exp2_spread(x: Plain, e: Plain) -> Plain:
    # As for exp: the upper end of a large error says enough.
    return np.where(e > 1, np.exp2(x + e), np.exp2(x) * np.expm1(e * math.log(2)))


def _log_spread(base: float) -> Callable[[Plain, Plain], Plain]:
    def spread(x: Plain, e: Plain) -> Plain:
        # Steepest at the lower end.
        return np.where(e < x, -np.log1p(-e / x) / math.log(base), np.inf)

    return spread


_function(np.exp2, _exp2_spread)
_function(np.log2, _log_spread(2))
_function(np.log10, _log_spread(10))


@stands_for(np.max, np.min)
def _largest(func: Any, a: Bounded, axis: Axis = None, keepdims: bool = False) -> Bounded:
    """No rounding, and as wrong as the worst of the candidates."""

    def worst(e: Plain) -> Plain:
        return np.asarray(np.max(e, axis=axis, keepdims=keepdims))

    def carry(e: Error) -> Error:
        return None if e is None else worst(e)

    value = func(a.value, axis=axis, keepdims=keepdims)
    return assemble(a.arithmetic, value, (a,), carry, handed_on=reduced(worst))


@stands_for(np.prod)
def _product(_: Any, a: Bounded, axis: Axis = None, keepdims: bool = False) -> Bounded:
    def run(x: Plain) -> Plain:
        return np.asarray(np.prod(x, axis=axis, keepdims=keepdims))

    def summed(x: Plain) -> Plain:
        return np.asarray(np.sum(x, axis=axis, keepdims=keepdims))

    value = run(a.value)
    return _factors(a, run, summed, np.full(value.shape, a.size // max(1, value.size) - 1.0))


@stands_for(np.cumprod)
def _running_product(_: Any, a: Bounded, axis: int | None = None) -> Bounded:
    if axis is None:
        a, axis = a.reshape(-1), 0

    def run(x: Plain) -> Plain:
        return np.asarray(np.cumprod(x, axis=axis))

    def summed(x: Plain) -> Plain:
        return np.asarray(np.cumsum(x, axis=axis))

    return _factors(a, run, summed, summed(np.ones(a.shape)) - 1)


def _factors(
    a: Bounded,
    run: Callable[[Plain], Plain],
    summed: Callable[[Plain], Plain],
    roundings: Plain,
) -> Bounded:
    """Bound products: each takes so many roundings, one fewer than there are factors."""
    size = np.abs(a.value)

    value = run(a.value)

    def carry(e: Error) -> Error:
        return None if e is None else run(size + e) - run(size)

    def lost(tier: Error) -> Plain:
        """Return what underflow may cost: a smallest number each time, times factors above 1.

        No partial product, in any order, is smaller than that of all factors below 1.
        """
        spread = np.zeros(size.shape) if tier is None else tier
        # A factor that is surely zero makes zero, whatever was lost before.
        zero = size + spread == 0
        least = run(np.where(zero, 1.0, np.minimum(np.maximum(size - spread, 0), 1.0)))
        most = run(np.where(zero, 1.0, np.maximum(size + spread, 1.0)))
        tiny = 2 * min(a.arithmetic.tiny, 2.0**-126)
        return np.where(least < tiny, roundings * tiny * most, 0.0)

    worst = _growth(a.arithmetic, value, roundings, lost(a.rigorous))
    probable = worst
    if a.probable is not a.rigorous:
        probable = _growth(a.arithmetic, value, roundings, lost(a.probable))

    def handed_on(operands: Any, errors: Any) -> Any:
        # An error could change the sign of a factor.
        return a.is_exact and reduced(summed)(operands, errors)

    return assemble(a.arithmetic, value, (a,), carry, (worst, probable), handed_on)


def _growth(arithmetic: Arithmetic, value: Plain, roundings: Plain, lost: Plain) -> Growth:
    counted = roundings * arithmetic.accumulate
    grown = np.where(counted < 1, counted / (1 - counted), np.inf)

    def grow(carried: Error) -> Error:
        size = np.abs(value) if carried is None else np.abs(value) + carried
        inner = np.where(size == 0, 0.0, size * grown + lost * (1 + grown))
        if not arithmetic.store:
            return np.asarray(inner)
        reach = size + inner
        stored = np.where(reach < arithmetic.tiny, reach, arithmetic.store * reach)
        return np.asarray(inner + np.where(roundings > 0, stored, 0.0))

    return grow


@stands_for(np.shape, np.ndim, np.size)
def _measured(func: Any, a: Bounded, *axis: int) -> Any:
    return func(a.value, *axis)


COMPLEX_FUNCTIONS.update(("shape", "ndim", "size"))
