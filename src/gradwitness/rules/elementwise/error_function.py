"""The error function of many numbers, in a third of the time of SciPy's.

That is called for one number after the other, and the processor cannot guess which of its formulas
comes next. Here all go by one, Taylor's series around the nearest place of a table: with d = x - a,
and ``2 / sqrt(pi) exp(-a^2)`` for the derivative at a,
``erf(a) + erf'(a) d (1 - a d + (2 a^2 - 1) d^2 / 3 + (a / 2 - a^3 / 3) d^3)``.
Places are 2^-10 apart: the term of d^5 is less than 10^-17.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.rules.registry import Array

# Places of the table in each unit, and up to which number: there it is 1 in float64.
_IN_EACH, _UP_TO = 2**10, 6
# So few numbers are left to SciPy; so many go at once, and stay in the nearest cache.
_FEW, _AT_ONCE = 2**10, 2**14


def erf(x: Array) -> Array:
    """Return the error function."""
    if not isinstance(x, np.ndarray) or x.dtype != np.float64 or x.size < _FEW:
        return scipy.special.erf(x)
    y = np.empty(x.shape)
    of_x, of_y = np.ravel(x), np.ravel(y)
    for start in range(0, x.size, _AT_ONCE):
        _near_table(of_x[start : start + _AT_ONCE], of_y[start : start + _AT_ONCE])
    return y


@functools.cache
def _table() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the error function and its derivative at all places."""
    a = np.arange(-_UP_TO * _IN_EACH, _UP_TO * _IN_EACH + 1) / _IN_EACH
    return scipy.special.erf(a), 2 / math.sqrt(math.pi) * np.exp(-a * a)


def _near_table(x: NDArray[Any], y: NDArray[Any]) -> None:
    """Compute the error function into y."""
    values, slopes = _table()
    d = np.clip(x, -_UP_TO, _UP_TO)
    a = d * _IN_EACH
    np.rint(a, out=a)
    # A NaN is at no place, and stays one in d.
    places = (a + _UP_TO * _IN_EACH).astype(np.intp)
    a /= _IN_EACH
    d -= a
    square = a * a
    # From the highest term down: all in place, as nothing else takes longer than new memory.
    np.multiply(square, -1 / 3, out=y)
    y += 1 / 2
    y *= a
    y *= d
    square *= 2 / 3
    square -= 1 / 3
    for term in (square, -a, 1):
        y += term
        y *= d
    y *= np.take(slopes, places, mode="clip", out=square)
    y += np.take(values, places, mode="clip", out=square)
