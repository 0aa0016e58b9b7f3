"""Functions with steps: rounding to integers, remainders, and signs.

A step moves the result as far as the function changes between value - error and value + error.
Rounding to integers is monotonic, so the two ends suffice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded.array import (
    UFUNCS,
    Bounded,
    Error,
    Growths,
    Plain,
    assemble,
    carrying,
    rounding,
    total,
    value_of,
)
from gradwitness.engine.floats import SHORT, numpy_dtype, unit_roundoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic


def _reach(ufunc: np.ufunc, x: Plain, e: Plain) -> Plain:
    """Return how far a monotonic function changes within an error."""
    here = ufunc(x)
    return np.asarray(np.maximum(ufunc(x + e) - here, here - ufunc(x - e)))


def _stepping(ufunc: np.ufunc) -> Callable[..., Bounded]:
    """Return the handler of a rounding to integers, which the format holds exactly."""

    def handler(arithmetic: Arithmetic, a: Any) -> Bounded:
        x = np.asarray(value_of(a))
        return assemble(arithmetic, ufunc(x), (a,), carrying(lambda e: _reach(ufunc, x, e)))

    return handler


def _moved_quotient(
    step: np.ufunc, x: Plain, d: Plain, of_x: Error, of_d: Error
) -> tuple[Plain, Error]:
    """Return the integer quotient, and how far errors of the operands move it."""
    integer = np.floor_divide(x, d) if step is np.floor else np.trunc((x - np.fmod(x, d)) / d)
    if of_x is None and of_d is None:
        return integer, None
    quotient = np.abs(x / d)
    room = np.abs(d) if of_d is None else np.abs(d) - of_d
    moved = (0.0 if of_x is None else of_x) + (0.0 if of_d is None else of_d * quotient)
    moved = np.where(room > 0, moved / room, np.where(moved == 0, 0.0, np.inf))
    near, reach = x / d, np.where(moved == 0, 0.0, moved + 2.0**-50 * quotient)
    ends = np.maximum(step(near + reach) - integer, integer - step(near - reach))
    return integer, np.where(moved == 0, 0.0, np.maximum(ends, 0.0))


def _floor_divide(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    """Take the floor of the exact quotient, as torch does through the exact remainder."""
    x, d = np.asarray(value_of(a)), np.asarray(value_of(b))

    def carry(of_x: Error, of_d: Error) -> Error:
        return _moved_quotient(np.floor, x, d, of_x, of_d)[1]

    value = np.floor_divide(x, d)
    return assemble(arithmetic, value, (a, b), carry, _large_only(arithmetic, value))


def _large_only(arithmetic: Arithmetic, value: Plain) -> Growths:
    """Return the rounding of integer differences, quotients and sums: only large ones round."""
    grow, _ = rounding(arithmetic, value, 3.0, underflows=False)

    def large(carried: Error) -> Error:
        exact = np.abs(value) < 0.25 / arithmetic.unit
        return np.where(exact, 0.0, np.asarray(grow(carried)))

    return large, large


def _remaining(ufunc: np.ufunc, step: np.ufunc) -> Callable[..., Bounded]:
    """Bound fmod, which is exact, or remainder, which may add the divisor to it and round once."""

    def handler(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
        x, d = np.asarray(value_of(a)), np.asarray(value_of(b))
        value = np.asarray(ufunc(x, d))

        def carry(of_x: Error, of_d: Error) -> Error:
            integer, moved = _moved_quotient(step, x, d, of_x, of_d)
            if moved is None:
                return None
            jump = moved * (np.abs(d) if of_d is None else np.abs(d) + of_d)
            return total(jump, of_x, None if of_d is None else np.abs(integer) * of_d)

        if ufunc is np.fmod:
            return assemble(arithmetic, value, (a, b), carry)
        added = value != np.fmod(x, d)
        grow, _ = rounding(arithmetic, value, underflows=False)

        def once(carried: Error) -> Error:
            return np.where(added, np.asarray(grow(carried)), 0.0)

        return assemble(arithmetic, value, (a, b), carry, (once, once))

    return handler


def _copysign(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    x, sign = np.asarray(value_of(a)), np.asarray(value_of(b))

    def carry(of_x: Error, of_sign: Error) -> Error:
        if of_sign is None:
            return of_x
        # An uncertain sign can flip the number.
        turned = np.where((of_sign > 0) & (np.abs(sign) <= of_sign), 2 * np.abs(x), 0.0)
        return total(of_x, turned)

    return assemble(arithmetic, np.copysign(x, sign), (a, b), carry)


def _heaviside(arithmetic: Arithmetic, a: Any, at_zero: Any) -> Bounded:
    x, half = np.asarray(value_of(a)), np.asarray(value_of(at_zero))

    def carry(of_x: Error, of_half: Error) -> Error:
        # An uncertain sign can make the step; what it is at 0 counts only there.
        highest = np.maximum(1.0, np.maximum(np.abs(half), np.abs(1 - half)))
        near = None if of_x is None else (of_x > 0) & (np.abs(x) <= of_x)
        step = None if near is None else np.where(near, highest, 0.0)
        return total(step, None if of_half is None else np.where(x == 0, of_half, 0.0))

    return assemble(arithmetic, np.heaviside(x, half), (a, at_zero), carry)


UFUNCS |= {ufunc.__name__: _stepping(ufunc) for ufunc in (np.floor, np.ceil, np.trunc, np.rint)}
UFUNCS |= {
    "floor_divide": _floor_divide,
    "fmod": _remaining(np.fmod, np.trunc),
    "remainder": _remaining(np.remainder, np.floor),
    "copysign": _copysign,
    "heaviside": _heaviside,
}


def _nextafter(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    """Take the neighbour in the tensor's own format; an error is not followed."""
    wider = "float32" if arithmetic.accumulate > unit_roundoff("float32") else "float64"
    kind = numpy_dtype(SHORT.get(arithmetic.final or arithmetic.store, wider))
    value = np.nextafter(*(np.asarray(value_of(x)).astype(kind) for x in (a, b)))

    def carry(*errors: Error) -> Error:
        doubtful = [np.broadcast_to(e != 0, value.shape) for e in errors if e is not None]
        return np.where(np.any(doubtful, axis=0), np.inf, 0.0) if doubtful else None

    return assemble(arithmetic, value.astype(np.float64), (a, b), carry)


UFUNCS["nextafter"] = _nextafter
