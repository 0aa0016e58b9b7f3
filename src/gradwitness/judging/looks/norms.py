"""Norms of recorded arrays, in their own format where that is fast: a screen of whole tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.distant import is_distant, scalar, scalars

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK, _LARGE = 2**16, 2**24


def norm_of(array: NDArray[Any]) -> float:
    """Return the Euclidean norm; not finite if any number is not, or their squares overflow."""
    repeated = math.prod(
        n for n, stride in zip(array.shape, array.strides, strict=True) if stride == 0
    )
    if repeated > 1:
        array = array[tuple(0 if stride == 0 else slice(None) for stride in array.strides)]
    flat = array.ravel(order="K")
    if array.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    with np.errstate(all="ignore"):
        if array.dtype.kind == "b":
            squares = float(scalar(np.count_nonzero(array)))
        elif flat.dtype in (np.float32, np.float64):
            squares = scalar(np.dot(flat, flat))
            if squares == 0 and scalar(flat.any()):
                squares = _in_blocks(flat)
        else:
            squares = _in_blocks(flat)
    return math.sqrt(squares * max(repeated, 1)) if squares >= 0 else math.nan


def peak_of(array: NDArray[Any]) -> float:
    """Return the largest magnitude."""
    if array.dtype.kind in "cb":
        return float(scalar(np.abs(array).max()))
    highest, lowest = scalars(array.max(), array.min())
    return float(max(highest, -lowest))


def _in_blocks(flat: NDArray[Any]) -> float:
    # Many blocks of a processor are one of a device.
    size = _LARGE if is_distant(flat) else _BLOCK
    blocks = (flat[at : at + size].astype(np.float64) for at in range(0, flat.size, size))
    return float(scalar(sum(np.dot(block, block) for block in blocks)))
