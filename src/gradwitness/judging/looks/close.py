"""All numbers of a step, held against float64 without bounds.

A bound costs many times the numbers that it belongs to. What lies as near to float64's result as
float32 mostly comes is right without one; if a right step lies farther, its bounds decide, which
costs time and nothing else. An error shows where it is more than twice what is allowed, less what
float64 rounds.
"""

from __future__ import annotations

import math
import operator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.distant import beside, on_host, scalar, scalars
from gradwitness.engine.floats import is_inexact, limits, ulps, unit_roundoff, wide
from gradwitness.judging.comparing.comparison import CLOSE, SHARE, Comparison
from gradwitness.judging.looks.norms import largest_of, peak_of
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.judging.looks.sums import Sums
    from gradwitness.tape import Value

# How many roundings of float32 are allowed, of a number and of the root mean square of all: ...
_ROUNDINGS = 64
# ... of a long sum so many for each term (Higham 2002, section 4.2: at worst one for each), ...
_OF_EACH_TERM = 1 / 4
# ... and where each number is made of few others, of itself alone.
_OF_ITSELF = 8
_SINGLE = unit_roundoff("float32")
# Only these are so much coarser than float64 that it counts as exact.
_COARSER = frozenset(["float32", "complex64", "bfloat16", "float16"])


def exact(size: int, norm: float = math.nan) -> Comparison:
    """Return the comparison of so many numbers that are those expected, bit for bit."""
    return Comparison(
        Verdict.AGREES,
        "",
        size,
        error=0.0,
        bound=0.0,
        ratio=0.0,
        ulps=0.0,
        detects=0.0,
        detects_relative=0.0,
        norm=norm,
    )


def is_clear(value: Value) -> bool:
    """Whether float64 tells what the numbers of a value should be, in its format."""
    return value.dtype in _COARSER or not is_inexact(value.dtype)


class Closeness:
    """How near the numbers of a value lie to float64's, one piece after another.

    Parameters
    ----------
    value : Value
        Whose numbers are recorded.
    norm : float
        Their Euclidean norm. (An error in them adds less to the root mean square of all, and so to
        what is allowed, than it is large itself.)
    sums : Sums
        What they are sums of.
    by_element : bool
        Whether each number is held against itself alone. What is farther off is then left.

    Attributes
    ----------
    value : Value
    left : list of ndarray of int
        The places of what was left, in the flattened array.
    roundings : float
        What is allowed of a number, as a share of its size.
    largest : float
        The largest magnitude, once there is a result.
    expected : ndarray or None
        What was compared last, if that was all at once.
    """

    def __init__(self, value: Value, norm: float, sums: Sums, *, by_element: bool = False) -> None:
        self.value = value
        self._recorded: Any = value.array
        self._by_element = by_element
        self._size = math.prod(value.shape)
        self._norm = norm
        self._middle = 0.0 if by_element else max(sums.size, norm / math.sqrt(self._size))
        self.roundings = _SINGLE * (
            _OF_ITSELF if by_element else max(_ROUNDINGS, _OF_EACH_TERM * sums.length)
        )
        self._rounds = is_inexact(value.dtype)
        # 16 bits are rounded to once more, from float32.
        self._stored, self._smallest = 0.0, 0.0
        if self._rounds and unit_roundoff(value.dtype) > _SINGLE:
            self._stored = unit_roundoff(value.dtype)
            self._smallest = float(limits(value.dtype).smallest_normal)
        self._worst, self._farthest = -1.0, 0.0
        self._figures: dict[str, Any] = {}
        self.left: list[NDArray[np.intp]] = []
        self.largest = math.nan
        self.expected: Any = None

    def take(self, expected: Any, index: tuple[slice, ...] = ()) -> bool:
        """Compare all numbers, or those of the piece at an index; False if they are not near."""
        recorded = self._recorded[index] if index else self._recorded
        if expected is None or recorded.shape != np.shape(expected):
            return False
        expected = beside(expected, recorded)
        self.expected = None if index else expected
        if not self._rounds:
            return bool(scalar(np.array_equal(recorded, expected)))
        error = _magnitudes(expected - (wide(recorded) if self._stored else recorded))
        at, farthest = largest_of(error)
        common = self.roundings * self._middle
        self._farthest = max(self._farthest, farthest)
        if farthest <= common:
            # So are they all, whatever each is itself.
            self._note(farthest / common if common else 0.0, at, expected, recorded, index)
            return True
        bound = self._allowed(np.abs(expected))
        near = error <= bound
        if not scalar(near.all()):
            if not (self._by_element and near.ndim and math.isfinite(farthest)):
                return False
            self._leave(~near, index)
            error[~near] = 0.0
            at, _ = largest_of(error)
        off, most = scalars(error.reshape(-1)[at], bound.reshape(-1)[at])
        self._note(off / most if off else 0.0, at, expected, recorded, index)
        return True

    def result(self, **of_whole: Any) -> Comparison | None:
        """Return the comparison; None if the numbers are all zero, or not all are finite.

        Of some of a value's numbers, the figures of the whole value are given.
        """
        self.largest = largest = peak_of(self._recorded)
        if not self._rounds:
            return replace(exact(self._size, self._norm), **of_whole)
        if not (0 < largest < math.inf and math.isfinite(self._norm)):
            return None
        # Twice what is allowed, or at most what an agreement may miss: what lies farther off than
        # half of that is left to the bounds. So is what is as near to zero: whether its terms
        # cancel, the root mean square of all does not tell, which one large factor makes large.
        detects = 2 * float(self._allowed(largest))
        if detects > SHARE * largest:
            if 2 * self._farthest > SHARE * largest:
                return None
            detects = SHARE * largest
        told: dict[str, Any] = {
            "reason": CLOSE,
            "size": self._size,
            "detects": detects,
            "detects_relative": detects / largest,
            "norm": self._norm,
            **self._figures,
            **of_whole,
        }
        return Comparison(Verdict.AGREES, **told)

    def _allowed(self, size: Any) -> Any:
        """Return what is allowed of numbers of a size; an array of sizes is made into it."""
        stored = self._stored * np.maximum(size, self._smallest) if self._stored else 0.0
        if self._middle:
            size += self._middle
        size *= self.roundings
        if self._stored:
            size += stored
        return size

    def _note(
        self,
        ratio: float,
        at: int,
        expected: Any,
        recorded: NDArray[Any],
        index: tuple[slice, ...],
    ) -> None:
        """Keep the figures of a piece's largest error, if it is more of what is allowed."""
        if ratio <= self._worst:
            return
        self._worst = ratio
        place = _place(at, recorded.shape)
        w, r = scalars(expected[place], recorded[place])
        if recorded.dtype.kind != "c":
            w, r = w.real, r.real
        off = abs(w - r)
        self._figures = {
            "index": tuple(map(operator.add, place, self._start(index))) if index else place,
            "expected": w,
            "recorded": r,
            "error": off,
            "bound": float(self._allowed(abs(w))),
            "ratio": ratio,
            "ulps": ulps(off, w, self.value.dtype),
        }

    def _leave(self, far: NDArray[np.bool_], index: tuple[slice, ...]) -> None:
        flat, start, shape = on_host(np.flatnonzero(far)), self._start(index), self.value.shape
        if len(index) <= 1:
            # A range of rows is a range in the flattened array.
            flat = flat + start[0] * math.prod(shape[1:])
        else:
            whole = map(np.add, np.unravel_index(flat, far.shape), start)
            flat = np.ravel_multi_index(tuple(whole), shape)
        self.left.append(flat)

    def _start(self, index: tuple[slice, ...]) -> tuple[int, ...]:
        """Return where a piece begins."""
        begun = tuple(at.start or 0 for at in index)
        return begun + (0,) * (len(self.value.shape) - len(begun))


def _place(at: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the index of a number, from its place in the flattened array."""
    index = []
    for length in reversed(shape):
        at, k = divmod(at, length)
        index.append(k)
    return tuple(reversed(index))


def _magnitudes(numbers: Any) -> Any:
    """Return the magnitudes of numbers that nobody else needs: real ones in their place."""
    if not isinstance(numbers, np.ndarray) or numbers.dtype.kind == "c":
        return np.abs(numbers)
    return np.abs(numbers, out=numbers)


def together(near: Comparison, bounded: Comparison) -> Comparison:
    """Return one comparison of numbers of which bounds judged some."""
    return replace(
        near,
        detects=max(near.detects, bounded.detects),
        detects_relative=near.detects_relative * max(1.0, bounded.detects / near.detects),
    )
