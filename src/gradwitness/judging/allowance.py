"""How far a recorded number may lie from the witness's, and by how much it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.floats import limits, part, round_to

if TYPE_CHECKING:
    from numpy.typing import NDArray


def allowed(
    w: NDArray[np.float64], error: NDArray[np.float64] | None, dtype: str, final: float
) -> NDArray[np.float64]:
    """Return the bound: what the formula's roundings allow, and the last one into the format."""
    if error is None:
        return _store(w, dtype)
    if not final and error.min() > 0:
        return error
    reach = np.abs(w) + error
    # Below the smallest normal number the store may lose everything.
    tiny = float(limits(dtype).smallest_normal)
    last: Any = np.where(reach < tiny, reach, final * reach) if final else 0.0
    exact = error == 0
    if exact.any():
        last = np.where(exact, _store(w, dtype), last)
    return np.asarray(error + last)


def _store(w: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """Return what rounding to a format, and nothing else, does to a number."""
    if part(dtype) == "float64":
        return np.zeros(w.shape)
    # Torch makes its 16-bit numbers from float32 ones, so that float64 ones are rounded twice.
    off = np.abs(round_to(w, dtype) - w)
    if dtype in ("float16", "bfloat16"):
        off = np.maximum(off, np.abs(round_to(round_to(w, "float32"), dtype) - w))
    return np.nan_to_num(off, nan=0.0, posinf=0.0) if not np.isfinite(off).all() else off


def ratio_of(error: NDArray[np.float64], bound: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return errors as multiples of their bounds; no error is 0 of any bound."""
    if not error.any():
        return error
    if bound.min() > 0 and np.isfinite(error.max()):
        return error / bound
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = error / bound
    return np.where(error == 0, 0.0, np.where(np.isnan(quotient), np.inf, quotient))
