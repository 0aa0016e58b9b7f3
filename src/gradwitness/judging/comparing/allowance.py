"""How far a recorded number may lie from the witness's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.engine.floats import SHORT, is_inexact, limits, part, round_to, unit_roundoff

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.engine.floats import Arithmetic


def allowed(
    w: NDArray[np.float64], error: NDArray[np.float64] | None, dtype: str, final: float
) -> NDArray[np.float64]:
    """Return the bound: the formula's roundings, and the final one into the format."""
    if error is None:
        return _store(w, dtype)
    if not final and error.min() > 0:
        return error
    exact = error == 0
    if final:
        reach = np.abs(w) + error
        # Below the smallest normal number the store may lose everything.
        small = reach < float(limits(dtype).smallest_normal)
        bound = (
            error + np.where(small, reach, final * reach) if small.any() else error + final * reach
        )
    else:
        bound = error.copy()
    if exact.any():
        bound[exact] = _store(w[exact], dtype)
    return bound


def last_rounding(arithmetic: Arithmetic, dtype: str) -> float:
    """Return the unit roundoff with which a step's result is stored in a recorded format.

    A kernel that works in float32 for 16-bit formats may return some results in float32. A result
    computed in a wider format, from mixed operands, is stored in this one.
    """
    own = unit_roundoff(dtype)
    return own if own > arithmetic.unit else min(arithmetic.final, own)


def _store(w: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """Return the error of only rounding a number to a format."""
    if part(dtype) == "float64":
        return np.zeros(w.shape)
    # Torch rounds to 16 bits by way of float32, so float64 numbers are rounded twice.
    error = np.abs(round_to(w, dtype) - w)
    if part(dtype) in ("float16", "bfloat16"):
        single = "complex64" if w.dtype.kind == "c" else "float32"
        error = np.maximum(error, np.abs(round_to(round_to(w, single), dtype) - w))
    return np.nan_to_num(error, nan=0.0, posinf=0.0) if not np.isfinite(error).all() else error


def own_share(arithmetic: Arithmetic | None) -> float:
    """Return what share of a bound float64 may have lost; inf where that is not known."""
    return math.inf if arithmetic is None else arithmetic.own_share


def near(arithmetic: Arithmetic | None, dtype: str, largest: float) -> float:
    """Return how far a number may lie from float64's to be near it, whatever its bound.

    What 16 bits rounded may do so by a twentieth of the largest number, float32's by half of its
    digits. Where all are so small that the format rounds them to zero, it is near them.
    """
    if arithmetic is None or not is_inexact(dtype):
        return 0.0
    unit = arithmetic.coarsest
    share = 1 / 20 if unit >= min(SHORT) else math.sqrt(unit)
    if largest > float(limits(dtype).smallest_subnormal) / 2:
        return share * largest
    return min(float(limits(name).smallest_normal) for name in (dtype, "float32"))


def ratio_of(error: NDArray[np.float64], bound: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return errors as multiples of their bounds; 0 where there is no error."""
    most = error.max(initial=0.0)
    if most == 0:
        return error
    if bound.min() > 0 and np.isfinite(most):
        return error / bound
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = error / bound
    return np.where(error == 0, 0.0, np.where(np.isnan(quotient), np.inf, quotient))


def may_exceed(error: NDArray[np.float64], bound: NDArray[np.float64], ratio: float) -> bool:
    """Whether an error may be more than a multiple of its bound: quotients take longer."""
    # Less than the multiple by more than the product's rounding.
    return ratio < 0 or not (error <= bound * (ratio * (1 - 2.0**-50))).all()
