"""Overflow on the way: where a format may have run out of numbers that float64 has.

A computed number that may lie half a step or more beyond the largest one of its format may be
infinite in the other arithmetic, and what is made of it anything: NaN, or 0. So its rigorous bound
is infinite. The probable one takes it that nothing overflowed, which torch's kernels may well avoid
(16-bit numbers in float32): numbers within that are right.

A few roundings are taken not to carry a number over the end: where a mask holds the format's lowest
number, scores less their maximum lie there, and would all be in doubt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradwitness.engine.floats import first_infinite

if TYPE_CHECKING:
    from gradwitness.engine.bounded.infinities import Error, Plain
    from gradwitness.engine.floats import Arithmetic


_FEW = 8


class Partial(NamedTuple):
    """How large the partial sums of a reduction may be, and the unit roundoff of their format."""

    sizes: Plain
    unit: float


def is_large(
    arithmetic: Arithmetic, value: Plain, error: Error, partial: Partial | None, *, rounds: bool
) -> bool:
    """Whether some number of a result may be infinite, or may have been on the way.

    In one pass: each rounding has added a unit of what it rounds to the error.
    """
    limit = first_infinite(arithmetic.unit)
    if partial is not None:
        limit = min(limit, first_infinite(partial.unit))
    if rounds and error is not None:
        return not error.max(initial=0.0) < limit * min(arithmetic.unit, arithmetic.accumulate)
    size = value if value.dtype.kind != "c" else np.abs(value)
    return not (size.max(initial=0.0) < limit and size.min(initial=0.0) > -limit)


def overflowing(
    arithmetic: Arithmetic, value: Plain, error: Error, partial: Partial | None
) -> Error:
    """Return a rigorous bound, infinite where a finite number may have overflowed."""
    past = 0.0 if error is None else error
    size = np.abs(value)
    beyond = _beyond(size, past, arithmetic.unit)
    if partial is not None:
        beyond |= _beyond(partial.sizes, past, partial.unit)
    beyond &= np.isfinite(value)
    return np.where(beyond, np.inf, past) if beyond.any() else error


def _beyond(size: Plain, error: Any, unit: float) -> Any:
    return size + np.maximum(error - _FEW * unit * size, 0.0) >= first_infinite(unit)
