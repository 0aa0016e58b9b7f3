"""Two arrays read once, in pieces that stay in the processor's cache.

Where the same distance is allowed everywhere, a judgement rests on a few of their numbers: the one
farthest off, the largest, and those that are no larger than what is allowed. One pass notes for
each piece how far and how large its numbers are; only the pieces that matter are looked at again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.files.mapping import PIECE, forget, pieces
from gradwitness.judging.compare import Comparison, compare

if TYPE_CHECKING:
    from numpy.typing import NDArray

# So many squares are added at a time, as in `compare`: in another order the norm has other bits.
_SQUARES = 2**14
# A float32 difference is off by less than this share.
_NEAR = 2.0**-20


def extent(array: NDArray[Any]) -> tuple[float, float]:
    """Return the largest magnitude, NaN if there is one, and the smallest that is not zero."""
    largest, smallest = 0.0, math.inf
    with np.errstate(all="ignore"):
        for (numbers,) in pieces(array):
            size = np.abs(numbers)
            largest = float(np.maximum(largest, size.max(initial=0.0)))
            smallest = min(smallest, float(np.min(size, initial=np.inf, where=size > 0)))
    return largest, smallest


@dataclass(frozen=True)
class Distances:
    """What one pass tells of two arrays of finite real numbers.

    Attributes
    ----------
    recorded, expected : ndarray
        Of one shape.
    starts : ndarray
        Where each piece begins, and after them the number of elements.
    smallest, largest : ndarray
        Of the magnitudes expected in each piece.
    errors : ndarray
        The largest distance in each piece, rounded to float32 if both arrays fit it.
    squares : float
        The sum of the squares of what was recorded.
    """

    recorded: NDArray[Any]
    expected: NDArray[Any]
    starts: NDArray[np.int64]
    smallest: NDArray[np.float64]
    largest: NDArray[np.float64]
    errors: NDArray[np.float64]
    squares: float

    def smallest_nonzero(self) -> float:
        """Return the smallest magnitude expected that is not zero."""
        smallest = float(self.smallest.min())
        return smallest if smallest > 0 else extent(self.expected)[1]

    def piece(self, number: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the numbers of a piece in float64."""
        ends = {"start": int(self.starts[number]), "stop": int(self.starts[number + 1])}
        parts = [(r.copy(), w.copy()) for r, w in pieces(self.recorded, self.expected, **ends)]
        r, w = map(np.concatenate, zip(*parts, strict=True))
        return r, w

    def compared(self, allowance: float, dtype: str) -> tuple[Comparison, float]:
        """Return what `compare` does if every number may be so far off, and the largest distance.

        The allowance is positive and finite.
        """
        biggest = int(np.argmax(self.largest))
        r, w = self.piece(biggest)
        at = int(np.argmax(np.abs(w)))
        # The figures are those of a few numbers: the worst, one farthest off, and the largest.
        telling = {"largest": (r[at], w[at])}
        most, refuted, index, worst = -1.0, 0, 0, -1.0
        reach = min(allowance, float(self.errors.max())) * (1 - _NEAR)
        for number in np.flatnonzero(self.errors >= reach) if reach else [0]:
            r, w = self.piece(int(number))
            error = np.abs(r - w)
            ratio = error / allowance
            if error.max() > most:
                at = int(np.argmax(error))
                most, telling["farthest"] = float(error[at]), (r[at], w[at])
            at = int(np.argmax(ratio))
            if ratio[at] > worst:
                worst, index = float(ratio[at]), int(self.starts[number]) + at
                telling["worst"] = r[at], w[at]
            refuted += int(np.count_nonzero(error > allowance))
        order = ("worst", "farthest", "largest")
        r, w = (np.array([telling[name][side] for name in order]) for side in (0, 1))
        bound = np.full(len(order), allowance)
        comparison = compare(r, Bounded(w, Arithmetic.stepwise(dtype), bound, bound), dtype)
        place = np.unravel_index(index, self.expected.shape)
        return replace(
            comparison,
            size=self.expected.size,
            refuted=refuted,
            index=tuple(map(int, place)),
            norm=math.sqrt(self.squares),
        ), most


def distances(recorded: NDArray[Any], expected: NDArray[Any]) -> Distances | None:
    """Read two arrays of one shape; None if there are no numbers, or one is not finite and real."""
    dtypes = recorded.dtype, expected.dtype
    if not recorded.size or any(dtype.kind == "c" for dtype in dtypes):
        return None
    work = np.float64 if max(dtype.itemsize for dtype in dtypes) > 4 else np.float32
    space, wide = np.empty(PIECE, work), np.empty(PIECE)
    starts, smallest, largest, errors = [0], [], [], []
    squares = 0.0
    with np.errstate(all="ignore"):
        for r, w in pieces(recorded, expected, dtype=work):
            part = space[: r.size]
            np.abs(w, out=part)
            smallest.append(float(part.min()))
            largest.append(float(part.max()))
            # Equal numbers are far from rare, and their beginning tells others from them.
            if (r[:64] == w[:64]).all() and (r == w).all():
                error = 0.0
            else:
                np.subtract(r, w, out=part)
                error = max(float(part.max()), -float(part.min()))
            if not math.isfinite(largest[-1] + error):
                forget(recorded, expected)
                return None
            errors.append(error)
            starts.append(starts[-1] + r.size)
            numbers = r
            if work is np.float32:
                numbers = wide[: r.size]
                numbers[:] = r
            for at in range(0, r.size, _SQUARES):
                x = numbers[at : at + _SQUARES]
                # Not np.dot: see `compare`.
                squares += float(np.einsum("i,i->", x, x))
    return Distances(
        recorded,
        expected,
        np.array(starts),
        *(np.array(figures) for figures in (smallest, largest, errors)),
        squares,
    )
