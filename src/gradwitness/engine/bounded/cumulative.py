"""Cumulative sums: terms added in order, every partial sum stored in the format.

Kernels add in order, or in contiguous pieces (one for each thread, or level of a tree), and then
the pieces' sums. Every number stored on the way to the sum of the first k + 1 terms is a sum of
neighbours: the difference of two cumulative sums, and so within their range R = ``max - min``, zero
included. By induction over the tree of additions, k additions, each off by at most u of what it
stores, are together off by ``((1 + u)^k - 1) R``. Where signs change, R is far below
``sum |terms|``.

In any order k additions are off by ``k u sum |terms|``, however large k u is (C.-P. Jeannerod and
S. M. Rump, *Improved error bounds for inner products in floating-point arithmetic*, SIAM J. Matrix
Anal. Appl. 34, 2013). The smaller bound is used. 16-bit numbers may also be added in another order
if in float32 (on a GPU): the k roundings of float32 which that costs are added to the first bound.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded.array import (
    COMPLEX_FUNCTIONS,
    Bounded,
    Error,
    Growth,
    Growths,
    Partial,
    Plain,
    assemble,
    carrying,
    rounding,
    total,
)
from gradwitness.engine.bounded.infinities import reduced
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.engine.floats import SHORT, round_to
from gradwitness.rules.kernel_ops import added_in_turn, added_on_the_way, running_logsumexp

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic


@stands_for(np.cumsum)
def _cumsum(_: Any, a: Bounded, axis: int | None = None) -> Bounded:
    if axis is None:
        a, axis = a.reshape(-1), 0

    def run(numbers: Plain) -> Plain:
        return np.asarray(np.cumsum(numbers, axis=axis))

    value = run(a.value)
    sizes = run(np.abs(a.value))
    growths = _growths(a.arithmetic, value, sizes, axis)
    partial = Partial(sizes, a.arithmetic.unit + a.arithmetic.final)
    return assemble(a.arithmetic, value, (a,), carrying(run), growths, reduced(run), partial)


def _growths(arithmetic: Arithmetic, value: Plain, magnitude: Plain, axis: int) -> Growths | None:
    if value.ndim == 0 or value.shape[axis] < 2:
        return None
    sizes = [1] * value.ndim
    sizes[axis] = value.shape[axis]
    additions = np.arange(value.shape[axis])
    stored = replace(arithmetic, accumulate=arithmetic.unit + arithmetic.final)
    unit = stored.accumulate
    low = bool(arithmetic.store or arithmetic.final)
    if low:
        top = np.maximum(np.maximum.accumulate(value, axis=axis), 0)
        spread = top - np.minimum(np.minimum.accumulate(value, axis=axis), 0)

    def at(most: Callable[[float], float]) -> Growth:
        counts, caps = additions.astype(float), np.array([most(float(k)) for k in additions])
        any_order = np.minimum(caps, counts * unit).reshape(sizes)
        ordered = np.minimum(caps, np.expm1(counts * np.log1p(unit))).reshape(sizes)
        wide = (additions * arithmetic.accumulate).reshape(sizes)

        def grow(carried: Error) -> Error:
            # No sum of two floating-point numbers underflows.
            past: Any = 0.0 if carried is None else carried
            size = magnitude + past
            error = np.where(size == 0, 0.0, size * any_order)
            if low:
                near = np.where(size == 0, 0.0, (spread + past) * ordered + size * wide)
                error = np.fmin(error, near)
            return error

        return grow

    return at(lambda _: math.inf), at(stored.probable_growth)


@stands_for(added_in_turn)
def _added_in_turn(_: Any, terms: Bounded) -> Bounded:
    """Bound a sum in order: each stored number is a sum of neighbours that ends at another term.

    Of those that end at term j, m_j be the largest. What is stored there is off by u of it, and of
    what was off before: together at most ``u sum m_j (1 + u)^(n - j)``. As random roundings they
    are off by ``lambda u sqrt(sum m_j^2)`` (Higham and Mary 2019, section 2).
    """
    arithmetic, count = terms.arithmetic, terms.shape[0]
    if count == 0 or not (arithmetic.store or arithmetic.final):
        return np.sum(terms, axis=0)  # type: ignore[call-overload, no-any-return]
    if arithmetic.stretches:
        return _rounded_in_turn(terms, arithmetic.stretches)
    unit = arithmetic.unit + arithmetic.final
    sums = np.cumsum(np.concatenate([np.zeros_like(terms.value[:1]), terms.value]), axis=0)
    low, high = (ufunc.accumulate(sums, axis=0)[:-1] for ufunc in (np.minimum, np.maximum))
    largest = np.maximum(sums[1:] - low, high - sums[1:])
    with np.errstate(over="ignore"):
        left = (1 + unit) ** np.arange(count - 1, -1, -1.0)
    left = left.reshape(-1, *(1,) * (terms.ndim - 1))
    size = np.sum(np.abs(terms.value), axis=0)

    def grow(carried: Error) -> Error:
        past: Any = 0.0 if carried is None else carried
        whole = size + past
        ordered = unit * np.sum((largest + past) * left, axis=0)
        error = np.fmin(ordered, count * unit * whole)
        return np.asarray(np.where(whole == 0, 0.0, error + count * arithmetic.accumulate * whole))

    def probable(carried: Error) -> Error:
        past: Any = 0.0 if carried is None else carried
        squares = np.sum(np.square(largest + past), axis=0)
        random = arithmetic.confidence * unit
        error = random * np.sqrt(squares) * (1 + random * math.sqrt(count))
        wide = count * arithmetic.accumulate * (size + past)
        return np.asarray(np.fmin(error + wide, np.asarray(grow(carried))))

    carry = carrying(lambda e: np.sum(e, axis=0))
    partial = Partial(size, unit)
    return assemble(arithmetic, sums[-1], (terms,), carry, (grow, probable), partial=partial)


@stands_for(added_on_the_way)
def _added_on_the_way(_: Any, parts: Any) -> Any:
    return np.cumsum(parts, axis=0)[-1]


def _rounded_in_turn(terms: Bounded, stretches: int) -> Bounded:
    """Round each partial sum as a kernel of so many threads does."""
    arithmetic, count = terms.arithmetic, terms.shape[0]
    name = SHORT[arithmetic.final or arithmetic.store]
    rows = -(-count // stretches)
    shape = (-(-count // rows), rows, *terms.shape[1:])

    def in_stretches(numbers: Any) -> Plain:
        filled = np.zeros((shape[0] * rows, *terms.shape[1:]))
        filled[:count] = numbers
        return filled.reshape(shape)

    values = in_stretches(terms.value)
    errors = in_stretches(0.0 if terms.rigorous is None else terms.rigorous)
    stored = error = np.zeros_like(values[:, 0])
    for row in range(rows):
        stored, error = _stored(arithmetic, name, stored, error, values[:, row], errors[:, row])
    total_error = error.sum(0) + shape[0] * arithmetic.accumulate * np.abs(stored).sum(0)
    return Bounded(stored.sum(0), arithmetic, total_error, total_error)


def _stored(
    arithmetic: Arithmetic, name: str, sums: Plain, error: Plain, terms: Plain, errors: Plain
) -> tuple[Plain, Plain]:
    """Return 16-bit sums with one more term each, as they are stored, and how far they may be off.

    They are where the error of a term decides to which side a sum is rounded.
    """
    exact = sums + terms
    # Most sums of two 16-bit numbers are float32 numbers, and half of a step apart.
    single = np.where(round_to(exact, "float32") == exact, 0.0, np.abs(exact))
    off = error + errors + arithmetic.accumulate * single
    stored = round_to(exact, name)
    error = np.maximum(round_to(exact + off, name) - stored, stored - round_to(exact - off, name))
    return stored, error


# More terms at one place are not added one by one: it would take seconds.
_MOST = 2**16


def rounded_at_places(terms: Bounded, places: Plain, size: int) -> Bounded | None:
    """Round each partial sum at its place as a kernel does that adds in order, in 16 bits.

    Returns
    -------
    Bounded or None
        None where sums are not of 16 bits, or too long.
    """
    arithmetic = terms.arithmetic
    name = SHORT.get(arithmetic.final or arithmetic.store)
    counts = np.bincount(places, minlength=size)
    if name is None or arithmetic.scatters_wide or counts.max(initial=0) > _MOST:
        return None
    # The first terms of all places, then the second ones, and so on.
    in_order = np.argsort(places, kind="stable")
    rank = np.empty_like(places)
    rank[in_order] = np.arange(places.size) - np.repeat(np.cumsum(counts) - counts, counts)
    turns = np.split(np.argsort(rank, kind="stable"), np.cumsum(np.bincount(rank))[:-1])
    errors = np.zeros_like(terms.value) if terms.rigorous is None else terms.rigorous
    sums, error = np.zeros(size), np.zeros(size)
    for turn in turns:
        at = places[turn]
        sums[at], error[at] = _stored(
            arithmetic, name, sums[at], error[at], terms.value[turn], errors[turn]
        )
    return Bounded(sums, arithmetic, error, error)


# The error of one step max + log1p(exp(-|a - b|)) without the rounding of its sum: 0.4 from the
# difference, 4 from the exponential, 4 log 2 from the logarithm.
_STEP = 8.0


@stands_for(running_logsumexp)
def _running_logsumexp(_: Any, a: Bounded, axis: int) -> Bounded:
    """Bound a cumulative logsumexp: no error of a term or a step grows on the way."""
    value: Plain = np.logaddexp.accumulate(a.value, axis=axis)
    errors = np.cumsum(np.where(np.isfinite(value), np.abs(value) + _STEP, 0), axis=axis)
    first = np.take(errors, [0], axis=axis) if value.size else errors
    kernel = a.arithmetic.accumulate * (errors - first)
    rounded, _grow = rounding(a.arithmetic, value)
    carry = carrying(lambda e: np.maximum.accumulate(e, axis=axis))

    def grow(carried: Error) -> Error:
        # The first number of each row is a copy.
        stored: Any = rounded(total(carried, kernel))
        return total(np.where(kernel > 0, stored, 0), kernel)

    return assemble(a.arithmetic, value, (a,), carry, (grow, grow))


# Each part is summed by itself, see `arithmetic`.
COMPLEX_FUNCTIONS.update(("cumsum", "added_in_turn"))
