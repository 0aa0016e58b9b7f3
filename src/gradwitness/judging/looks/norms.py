"""Norms of recorded arrays, in their own format where that is fast: a screen of whole tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 2**16
_MAX, _MIN = np.maximum.reduce, np.minimum.reduce


def norm_of(array: NDArray[Any]) -> float:
    """Return the Euclidean norm; not finite if any number is not, or their squares overflow."""
    repeated = 1
    if 0 in array.strides:
        pairs = zip(array.shape, array.strides, strict=True)
        repeated = math.prod(n for n, stride in pairs if stride == 0)
        if repeated > 1:
            array = array[tuple(0 if stride == 0 else slice(None) for stride in array.strides)]
    flat = array.ravel(order="K")
    if array.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    with np.errstate(all="ignore"):
        if array.dtype.kind == "b":
            squares = float(np.count_nonzero(array))
        elif flat.dtype.char in "fd":
            squares = float(np.dot(flat, flat))
            if squares == 0 and flat.any():
                squares = _in_blocks(flat)
        else:
            squares = _in_blocks(flat)
    return math.sqrt(squares * max(repeated, 1)) if squares >= 0 else math.nan


def peak_of(array: NDArray[Any]) -> float:
    """Return the largest magnitude."""
    if array.dtype.kind in "cb":
        return float(np.abs(array).max())
    # (As `max` and `min` do, without their detour.)
    return max(float(_MAX(array, axis=None)), -float(_MIN(array, axis=None)))


def _in_blocks(flat: NDArray[Any]) -> float:
    total = 0.0
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK].astype(np.float64)
        total += float(np.dot(block, block))
    return total
