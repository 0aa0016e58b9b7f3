"""Steps that fall into no parts: all of their numbers, held against float64 without bounds.

A bound costs many times the numbers that it belongs to. What lies as near to float64's result as
float32 mostly comes is right without one; if a right step lies farther, that costs time and
nothing else. An error shows where it is more than twice what is allowed, less what float64 rounds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.floats import is_inexact, unit_roundoff, wide
from gradwitness.judging.comparison import CLOSE, Comparison
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.tape import Value

# How many roundings of a number, and of the root mean square of all, are allowed.
_ROUNDINGS = 64
# Only these are so much coarser than float64 that it counts as exact.
_COARSER = "float32", "complex64"
_ZERO_WHERE_EXACT = "error", "bound", "ratio", "detects", "detects_relative"


def exact(size: int) -> Comparison:
    """Return the comparison of so many numbers that are those expected, bit for bit."""
    zeros: dict[str, Any] = dict.fromkeys(_ZERO_WHERE_EXACT, 0.0)
    return Comparison(Verdict.AGREES, "", size, **zeros)


def is_clear(value: Value) -> bool:
    """Whether float64 tells what the numbers of a value should be, in its format."""
    return value.dtype in _COARSER or not is_inexact(value.dtype)


def close(value: Value, expected: Any) -> Comparison | None:
    """Compare all numbers of a value with float64's; None unless they are clearly the same."""
    recorded, size = value.array, math.prod(value.shape)
    # A sparse tensor that names a place twice has terms that are not known.
    if recorded is None or value.sparse > 1 or expected is None or not size:
        return None
    if recorded.shape != np.shape(expected):
        return None
    if not is_inexact(value.dtype):
        return exact(size) if np.array_equal(recorded, expected) else None
    if not is_clear(value):
        return None
    with np.errstate(all="ignore"):
        error, sizes = np.abs(wide(recorded) - expected), np.abs(expected)
        middle = float(np.linalg.norm(sizes)) / math.sqrt(size)
        allowed = _ROUNDINGS * unit_roundoff(value.dtype) * (sizes + middle)
        largest = float(sizes.max())
        # NaN compares as false.
        if not (0 < largest < math.inf and bool((error <= allowed).all())):
            return None
    at = np.unravel_index(int(np.argmax(error / allowed)), error.shape)
    detects = 2 * float(allowed.max())
    return Comparison(
        Verdict.AGREES,
        CLOSE,
        size,
        index=tuple(map(int, at)),
        error=float(error[at]),
        bound=float(allowed[at]),
        ratio=float(error[at] / allowed[at]),
        detects=detects,
        detects_relative=detects / largest,
    )
