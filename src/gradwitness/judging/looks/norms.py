"""Norms of recorded arrays, in their own format where that is fast: a screen of whole tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.distant import is_distant, scalar, scalars

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK, _LARGE = 2**16, 2**24
# Of so few numbers a copy costs less than to go through them twice.
_FEW = 2**14
_MAX, _MIN = np.maximum.reduce, np.minimum.reduce


def norm_of(array: NDArray[Any]) -> float:
    """Return the Euclidean norm; not finite if any number is not, or their squares overflow."""
    if type(array) is np.ndarray and array.dtype.char in "fd" and array.flags.c_contiguous:
        flat = array.reshape(-1)
        length = math.sqrt(flat.dot(flat))
        if length > 0:
            return length
    repeated = 1
    if 0 in array.strides:
        pairs = zip(array.shape, array.strides, strict=True)
        repeated = math.prod(n for n, stride in pairs if stride == 0)
        if repeated > 1:
            array = array[tuple(0 if stride == 0 else slice(None) for stride in array.strides)]
    flat = array.ravel(order="K")
    if array.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    if array.dtype.kind == "b":
        squares = float(scalar(np.count_nonzero(array)))
    elif flat.dtype.char in "fd":
        squares = float(scalar(np.dot(flat, flat)))
        if squares == 0 and scalar(flat.any()):
            squares = _in_blocks(flat)
    else:
        squares = _in_blocks(flat)
    return math.sqrt(squares * max(repeated, 1)) if squares >= 0 else math.nan


def peak_of(array: NDArray[Any]) -> float:
    """Return the largest magnitude."""
    if array.dtype.kind in "cb":
        return float(scalar(np.abs(array).max()))
    if is_distant(array):
        highest, lowest = scalars(array.max(), array.min())
        return float(max(highest, -lowest))
    if array.size <= _FEW and array.dtype.char in "fd":
        sizes = np.abs(array).ravel(order="K")
        largest: float = sizes.item(sizes.argmax())
        return largest
    # (As `max` and `min` do, without their detour.)
    return max(float(_MAX(array, axis=None)), -float(_MIN(array, axis=None)))


def are_equal(one: Any, other: Any) -> bool:
    """Return whether all numbers of two arrays of one shape are equal; NaN equals nothing."""
    equal: Any = one == other
    if type(equal) is not np.ndarray:
        return bool(scalar(equal.all()))
    # (The first False, which is found sooner than it is known that there is none.)
    flat = equal.ravel(order="K")
    return not flat.size or bool(flat.item(flat.argmin()))


def largest_of(array: Any) -> tuple[int, float]:
    """Return the place of the largest number in the flattened array, and it; NaN if any is."""
    if is_distant(array):
        # NumPy's place is that of a NaN; what is another library's is not known.
        at, largest = scalars(array.argmax(), array.max())
        return int(at), largest
    at = int(array.argmax())
    return at, float(array.flat[at])


def _in_blocks(flat: NDArray[Any]) -> float:
    # Many blocks of a processor are one of a device.
    size = _LARGE if is_distant(flat) else _BLOCK
    blocks = (flat[at : at + size].astype(np.float64) for at in range(0, flat.size, size))
    return float(scalar(sum(np.dot(block, block) for block in blocks)))
