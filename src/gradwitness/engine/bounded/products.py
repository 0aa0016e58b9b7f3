"""Products of elements, whole and cumulative.

A product of n numbers, in any order, is off by gamma_(n-1) of itself (Higham 2002, section 3.1); of
complex numbers, as each product is, see `complex_arithmetic`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded.array import (
    COMPLEX_FUNCTIONS,
    Axis,
    Bounded,
    Error,
    Growth,
    Plain,
    assemble,
    carrying,
    is_complex,
)
from gradwitness.engine.bounded.complex_arithmetic import PRODUCT, UNDERFLOWS
from gradwitness.engine.bounded.infinities import reduced
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.engine.bounded.transcendental import lost_where
from gradwitness.engine.floats import first_infinite

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic


@stands_for(np.prod)
def _product(_: Any, a: Bounded, axis: Axis = None, keepdims: bool = False) -> Bounded:
    def run(x: Plain) -> Plain:
        return np.asarray(np.prod(x, axis=axis, keepdims=keepdims))

    def summed(x: Plain) -> Plain:
        return np.asarray(np.sum(x, axis=axis, keepdims=keepdims))

    value = run(a.value)
    return _bounded_product(
        a, run, summed, np.full(value.shape, a.size // max(1, value.size) - 1.0)
    )


@stands_for(np.cumprod)
def _cumulative_product(_: Any, a: Bounded, axis: int | None = None) -> Bounded:
    if axis is None:
        a, axis = a.reshape(-1), 0

    def run(x: Plain) -> Plain:
        return np.asarray(np.cumprod(x, axis=axis))

    def summed(x: Plain) -> Plain:
        return np.asarray(np.cumsum(x, axis=axis))

    return _bounded_product(a, run, summed, summed(np.ones(a.shape)) - 1)


def _bounded_product(
    a: Bounded,
    run: Callable[[Plain], Plain],
    summed: Callable[[Plain], Plain],
    roundings: Plain,
) -> Bounded:
    """Bound products; ``roundings`` counts those of each, one fewer than its factors."""
    size = np.abs(a.value)
    value = run(a.value)
    if is_complex(a):
        roundings = PRODUCT * roundings
    carry = carrying(lambda e: run(size + e) - run(size))

    def lost(tier: Error) -> Plain:
        """Return what underflow may cost: a smallest number each time, times factors above 1.

        No partial product, in any order, is smaller than the product of all factors below 1.
        """
        spread = np.zeros(size.shape) if tier is None else tier
        # A factor that is certainly zero makes the product zero, whatever was lost before.
        zero = size + spread == 0
        least = run(np.where(zero, 1.0, np.minimum(np.maximum(size - spread, 0), 1.0)))
        most = run(np.where(zero, 1.0, np.maximum(size + spread, 1.0)))
        tiny = (UNDERFLOWS if is_complex(a) else 2) * min(a.arithmetic.tiny, 2.0**-126)
        return np.where(least < tiny, roundings * tiny * most, 0.0)

    worst = _growth(a.arithmetic, value, roundings, lost(a.rigorous))
    probable = worst
    if a.probable is not a.rigorous:
        probable = _growth(a.arithmetic, value, roundings, lost(a.probable))
    # In another order the factors above 1 may come first.
    beyond = run(np.maximum(size, 1.0)) >= first_infinite(a.arithmetic.accumulate)
    if beyond.any():
        worst = lost_where(beyond, worst)

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


COMPLEX_FUNCTIONS.update(("prod", "cumprod"))
