"""Sums by index, extremes and order.

Kernels that add by place (atomically, or row by row into a tensor of the result's format) store
every partial sum, in an order of their own, and running sums may be made by a tree. A sum of k
roundings, in whatever order, is off by ``gamma_k * sum |terms|`` (Higham 2002, section 4.2), with
the roundoff of the format itself, also where other reductions accumulate in float32. Each element
has its own k: one that a single term falls on is exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded.array import (
    COMPLEX_FUNCTIONS,
    FUNCTIONS,
    Axis,
    Bounded,
    Error,
    Growth,
    Growths,
    Partial,
    Plain,
    assemble,
    carrying,
    value_of,
)
from gradwitness.engine.bounded.cumulative import rounded_at_places
from gradwitness.engine.bounded.infinities import reduced
from gradwitness.engine.bounded.reduction import in_no_order
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.rules.kernel_ops import added_rows, running_places, scattered
from gradwitness.rules.shape.indexing import added_up, numbered

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic


@stands_for(np.bincount)
def _bincount(_: Any, x: Plain, weights: Bounded, minlength: int = 0) -> Bounded:
    """Bound the sum of the weights at each index."""

    def run(numbers: Plain) -> Plain:
        return np.asarray(np.bincount(x, weights=numbers, minlength=minlength))

    if weights.arithmetic.stretches == 1:
        # However many threads there are, each adds in order at places of its own.
        in_turn = rounded_at_places(weights, x, minlength)
        if in_turn is not None:
            return in_turn
    counts = np.asarray(np.bincount(x, minlength=minlength))
    return _summed(weights, run, np.maximum(counts - 1, 0))


@stands_for(scattered)
def _scattered(_: Any, numbers: Bounded, places: Plain, size: int) -> Bounded:
    arithmetic = numbers.arithmetic
    wide = replace(arithmetic, scatters_wide=True)
    total = _bincount(_, places, Bounded(numbers.value, wide, *numbers.errors), size)
    return Bounded(total.value, arithmetic, *total.errors)


@stands_for(added_rows)
def _added_rows(_: Any, rows: Any, taken: Plain, places: Plain, size: int) -> Any:
    sums = np.zeros((size, *rows.shape[1:]))
    numbers = np.take(rows, taken, axis=0)
    return added_up(numbers, np.take(numbered(sums), places, axis=0), sums)


COMPLEX_FUNCTIONS.add("added_rows")


def _summed(a: Bounded, run: Callable[[Plain], Plain], roundings: Plain) -> Bounded:
    arithmetic, value = a.arithmetic, run(a.value)
    if not arithmetic.scatters_wide:
        arithmetic = replace(arithmetic, accumulate=arithmetic.unit + arithmetic.final)
    size = np.abs(a.value)
    unsorted = None
    if arithmetic.stretches:
        unsorted = in_no_order(arithmetic, run(np.square(size)), value, roundings)
    sizes = run(size)
    growths = of_sums(arithmetic, sizes, roundings, unsorted)
    partial = Partial(sizes, arithmetic.accumulate)
    return assemble(a.arithmetic, value, (a,), carrying(run), growths, reduced(run), partial)


def of_sums(
    arithmetic: Arithmetic, magnitude: Plain, roundings: Plain, unsorted: Plain | None
) -> Growths | None:
    """Return what sums add, each with roundings of its own: of terms with sizes that are summed."""
    if not roundings.any():
        return None
    numbers = np.flatnonzero(np.bincount(np.ravel(roundings)))

    def at(growth: Callable[[float], float], unsorted: Plain | None = None) -> Growth:
        table = np.zeros(numbers[-1] + 1)
        table[numbers] = [growth(float(n)) for n in numbers]
        factor = table[roundings]

        def grow(carried: Error) -> Error:
            # No sum of two floating-point numbers underflows.
            past: Any = 0.0 if carried is None else carried
            size = magnitude + past
            error = size * factor
            if unsorted is not None:
                error = np.minimum(error, unsorted + past * factor)
            return np.where((roundings == 0) | (size == 0), 0.0, error)

        return grow

    worst = arithmetic.sum_growth
    return at(worst), at(lambda n: min(worst(n), arithmetic.probable_growth(n)), unsorted)


@stands_for(np.max, np.min)
def _largest(func: Any, a: Bounded, axis: Axis = None, keepdims: bool = False) -> Bounded:
    """Nothing rounds; the error is at most the worst candidate's."""

    def worst(e: Plain) -> Plain:
        return np.asarray(np.max(e, axis=axis, keepdims=keepdims))

    value = func(a.value, axis=axis, keepdims=keepdims)
    return assemble(a.arithmetic, value, (a,), carrying(worst), handed_on=reduced(worst))


@stands_for(np.sort)
def _sort(_: Any, a: Bounded, axis: int | None = -1) -> Bounded:
    """Sort; the k-th smallest moves by at most the worst error along the axis."""
    if axis is None:
        a, axis = a.reshape(-1), 0
    value = np.sort(a.value, axis=axis)

    def worst(e: Plain) -> Plain:
        return np.broadcast_to(np.max(e, axis=axis, keepdims=True), value.shape)

    def carry(e: Error) -> Error:
        return e if e is None or not e.size else worst(e)

    return assemble(a.arithmetic, value, (a,), carry, handed_on=reduced(worst))


def _decided(func: Any, args: Any, kwargs: Any) -> Any:
    """Return plain indices and truth values: decided by the values."""
    result = func(*map(value_of, args), **kwargs)
    return result if func is np.nonzero else np.asarray(result)


FUNCTIONS |= {
    func.__name__: _decided
    for func in (
        np.all, np.any, np.argmax, np.argmin, np.argsort, np.argwhere, np.count_nonzero,
        np.flatnonzero, np.isclose, np.nonzero, np.searchsorted, running_places,
    )
}  # fmt: skip
