"""Running sums, sums by place, and order.

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

from gradwitness._errors import RuleError
from gradwitness.engine.bounded.array import (
    FUNCTIONS,
    Bounded,
    Error,
    Growth,
    Growths,
    Plain,
    assemble,
    value_of,
)
from gradwitness.engine.bounded.infinities import reduced

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic


def _bincount(func: Any, args: Any, kwargs: Any) -> Bounded:
    """np.bincount with weights: the sum of the weights that belong to each place."""
    if len(args) != 1 or kwargs.keys() != {"weights", "minlength"}:
        raise RuleError("np.bincount in a rule takes weights and minlength by keyword")
    (places,) = args
    weights = kwargs["weights"]

    def run(numbers: Plain) -> Plain:
        return np.asarray(func(places, weights=numbers, minlength=kwargs["minlength"]))

    counts = np.asarray(func(places, minlength=kwargs["minlength"]))
    return _summed(weights, run, np.maximum(counts - 1, 0))


def _summed(a: Bounded, run: Callable[[Plain], Plain], roundings: Plain) -> Bounded:
    def carry(e: Error) -> Error:
        return None if e is None else run(e)

    growths = _growths(a.arithmetic, run(np.abs(a.value)), roundings)
    return assemble(a.arithmetic, run(a.value), (a,), carry, growths, reduced(run))


def _growths(arithmetic: Arithmetic, magnitude: Plain, roundings: Plain) -> Growths | None:
    if not roundings.any():
        return None
    stored = replace(arithmetic, accumulate=arithmetic.unit + arithmetic.final)
    numbers, which = np.unique(roundings, return_inverse=True)

    def at(growth: Callable[[float], float]) -> Growth:
        factor = np.array([growth(float(n)) for n in numbers])[which].reshape(roundings.shape)

        def grow(carried: Error) -> Error:
            # No sum of two floating-point numbers underflows.
            size = magnitude if carried is None else magnitude + carried
            return np.where((roundings == 0) | (size == 0), 0.0, size * factor)

        return grow

    return at(stored.worst_growth), at(stored.probable_growth)


def _sort(func: Any, args: Any, kwargs: Any) -> Bounded:
    """np.sort: the k-th smallest moves by no more than the worst error along the axis."""
    if len(args) != 1 or kwargs.keys() != {"axis"}:
        raise RuleError("np.sort in a rule takes its axis by keyword, and nothing else")
    (a,) = args
    value = func(a.value, **kwargs)

    def worst(e: Plain) -> Plain:
        return np.broadcast_to(np.max(e, axis=kwargs["axis"], keepdims=True), value.shape)

    def carry(e: Error) -> Error:
        return e if e is None or not e.size else worst(e)

    return assemble(a.arithmetic, value, (a,), carry, handed_on=reduced(worst))


def _decided(func: Any, args: Any, kwargs: Any) -> Plain:
    """Places: decided by the values, plain results."""
    return np.asarray(func(*map(value_of, args), **kwargs))


FUNCTIONS |= {"bincount": _bincount, "sort": _sort}
FUNCTIONS |= {
    func.__name__: _decided for func in (np.argmax, np.argmin, np.argsort, np.searchsorted)
}
