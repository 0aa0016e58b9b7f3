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
from gradwitness.judging.comparing.compare import Comparing, Comparison

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_GLANCE = 16
# The numbers among which one that confirms nothing is looked for again.
_LINE = 2**12
# Of the lines of a piece, the share from which all are read again: one by one they take longer.
_MANY = 1 / 16
# Numbers that are picked before they are compared.
_MOST_PICKED = 2**16
# Numbers read again after which those of mapped files are given back.
_KEPT = 2**22
# A float32 difference is off by less than this share.
_NEAR = 2.0**-20


def extent(array: NDArray[Any]) -> tuple[float, float]:
    """Return the largest finite magnitude, and the smallest that is not zero."""
    largest, smallest = 0.0, math.inf
    with np.errstate(all="ignore"):
        for (numbers,) in pieces(array):
            size = np.abs(numbers)
            most = size.max(initial=0.0)
            if not math.isfinite(most):
                most = np.max(size, initial=0.0, where=np.isfinite(size))
            largest = max(largest, float(most))
            smallest = min(smallest, float(np.min(size, initial=np.inf, where=size > 0)))
    return largest, smallest


@dataclass(frozen=True)
class Distances:
    """What one pass tells of two arrays of real numbers.

    The figures are those of finite numbers; what is beside one that is not is no distance.

    Attributes
    ----------
    recorded, expected : ndarray
        Of one shape.
    starts, lines : ndarray
        Where each piece begins, and each line of a piece; after them the number of elements.
    smallest : ndarray
        Of the magnitudes expected in each line; NaN if all of them are. 0 in a line of a mixed
        piece in which a number is not finite.
    largest, errors : ndarray
        The largest magnitude expected and the largest distance in each piece, as computed in the
        format of the pass.
    odd : ndarray
        Which pieces hold a number that is not finite.
    mixed : ndarray
        Which of these hold other pairs than NaN and NaN that are not finite.
    nans : ndarray
        How many numbers expected in each piece are NaN.
    """

    recorded: NDArray[Any]
    expected: NDArray[Any]
    starts: NDArray[np.int64]
    lines: NDArray[np.int64]
    smallest: NDArray[np.float64]
    largest: NDArray[np.float64]
    errors: NDArray[np.float64]
    odd: NDArray[np.bool_]
    mixed: NDArray[np.bool_]
    nans: NDArray[np.int64]

    @property
    def work(self) -> type[np.floating[Any]]:
        """The format of the pass: float32 if both arrays fit it."""
        return _work(self.recorded.dtype, self.expected.dtype)

    def silent_lines(self, bound: float) -> NDArray[np.bool_]:
        """Return which lines to read again for numbers that are no larger than a bound."""
        silent = self.smallest <= bound
        begins = np.searchsorted(self.lines, self.starts)
        lines = np.diff(begins)
        many = np.add.reduceat(silent, begins[:-1], dtype=np.int64) > _MANY * lines
        return silent | np.repeat(many, lines)

    def smallest_nonzero(self) -> float:
        """Return the smallest magnitude expected that is not zero."""
        smallest = float(np.fmin.reduce(self.smallest))
        return smallest if smallest > 0 else extent(self.expected)[1]

    def numbers(
        self, parts: NDArray[np.int64], which: NDArray[np.bool_], dtype: Any = np.float64
    ) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
        """Iterate over some of the parts that begin at these places: places and their numbers."""
        both = self.recorded, self.expected
        return ((at, r, w) for at, (r, w) in _read_again(both, parts, which, dtype))

    def expected_numbers(
        self, parts: NDArray[np.int64], which: NDArray[np.bool_]
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """Iterate over what was expected in some parts, in the format of the pass."""
        return ((at, w) for at, (w,) in _read_again((self.expected,), parts, which, self.work))

    def compared(self, allowance: float, dtype: str) -> tuple[Comparison, float]:
        """Return what `compare` does if every number may be so far off, and the largest distance.

        The allowance is finite, and 0 only if no number is off. Where none is farther off, the one
        told as farthest is so in the format of the pass. Where one is not finite, the distance is
        NaN.
        """
        # The figures are those of a few numbers: those that are not finite, the worst, one farthest
        # off, and the largest, wherever that is.
        worst, farthest = _Peak(), _Peak()
        picked = _Picked(self.recorded, dtype, allowance)
        far = self.errors > allowance * (1 - _NEAR)
        beyond = 0
        with np.errstate(all="ignore"):
            if nans := int(self.nans[~self.mixed].sum()):
                picked.take_nan(self._first_nan(), nans)
            for at, *both in self.numbers(self.starts, self.mixed):
                odd = ~_finite(*both)
                picked.take(at + np.flatnonzero(odd), *(numbers[odd] for numbers in both))
            refuted = picked.refuted
            for at, r, w in self._finite_numbers(far, np.float64):
                error = np.abs(r - w)
                farthest.take(error, at, r, w)
                worst.take(error / allowance, at, r, w)
                beyond += int(np.count_nonzero(error > allowance))
            if not far.any():
                first = np.arange(self.errors.size) == np.argmax(self.errors)
                for at, r, w in self._finite_numbers(first, self.work):
                    farthest.take(r - w, at, r, w)
                worst = farthest
        r, w = np.array([worst.pair, farthest.pair, (self.largest.max(),) * 2]).T
        picked.take(np.array([worst.index, farthest.index, farthest.index]), r, w)
        comparison = replace(picked.result(), refuted=refuted + beyond)
        gap = math.nan if self.odd.any() else abs(farthest.pair[0] - farthest.pair[1])
        return comparison, gap

    def _first_nan(self) -> int:
        """Return where the first pair of NaN is in the pieces that are not mixed."""
        piece = np.arange(self.nans.size) == np.argmax(self.odd & ~self.mixed)
        read = ((at, np.isnan(r)) for at, r, _ in self.numbers(self.starts, piece))
        return next(at + int(np.argmax(nan)) for at, nan in read if nan.any())

    def _finite_numbers(
        self, which: NDArray[np.bool_], dtype: Any
    ) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
        """Iterate over some pieces, with zeros in place of pairs that are not both finite."""
        for at, *both in self.numbers(self.starts, which, dtype):
            if self.odd.any():
                finite = _finite(*both)
                both = [np.where(finite, numbers, 0) for numbers in both]
            yield at, both[0], both[1]


class _Picked:
    """Compares some of an array's numbers, and tells the result as one of all.

    Parameters
    ----------
    recorded : ndarray
        The whole array.
    dtype : str
    allowance : float
        How far each number may be off.
    """

    def __init__(self, recorded: NDArray[Any], dtype: str, allowance: float) -> None:
        self._comparing = Comparing(recorded, dtype)
        self._shape = recorded.shape
        self._arithmetic = Arithmetic.stepwise(dtype)
        self._allowance = allowance
        self._count = 0
        self._worst = 0
        self._waiting: list[tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]] = []

    @property
    def refuted(self) -> int:
        """How many of them lie outside their allowance."""
        self._compare()
        return self.result().refuted if self._count else 0

    def take(self, places: NDArray[np.int64], r: NDArray[Any], w: NDArray[Any]) -> None:
        """Compare the numbers at some places, in C order."""
        self._waiting.append((places, r, w))
        if sum(len(each) for each, *_ in self._waiting) >= _MOST_PICKED:
            self._compare()

    def take_nan(self, place: int, count: int) -> None:
        """Compare NaN with NaN, the first at a place: one comparison is as good as many."""
        nan = np.array([math.nan])
        self._take(np.array([place]), nan, nan, times=count)

    def _compare(self) -> None:
        """Compare the numbers that wait, all at once."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            places, r, w = map(np.concatenate, zip(*waiting, strict=True))
            self._take(places, r, w)

    def _take(
        self, places: NDArray[np.int64], r: NDArray[Any], w: NDArray[Any], times: int = 1
    ) -> None:
        if not r.size:
            return
        start, self._count = self._count, self._count + r.size
        bound = np.full(r.shape, self._allowance)
        expected = Bounded(w, self._arithmetic, bound, bound)
        self._comparing.take(expected, (slice(start, self._count),), r, times)
        at = self._comparing.result().index
        if at and at[0] >= start:
            self._worst = int(places[at[0] - start])

    def result(self) -> Comparison:
        """Return the judgement, where the numbers that were not picked tell nothing more."""
        self._compare()
        place = np.unravel_index(self._worst, self._shape)
        result = self._comparing.result(math.prod(self._shape))
        return replace(result, index=tuple(map(int, place)))


def _finite(r: NDArray[Any], w: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(r) & np.isfinite(w))


def _read_again(
    arrays: tuple[NDArray[Any], ...],
    parts: NDArray[np.int64],
    which: NDArray[np.bool_],
    dtype: Any,
) -> Iterator[tuple[int, tuple[NDArray[Any], ...]]]:
    """Iterate over some of the parts of arrays that begin at these places."""
    if not which.any():
        return
    edges = np.flatnonzero(np.diff(which, prepend=False, append=False))
    read = 0
    for start, stop in parts[edges].reshape(-1, 2).tolist():
        at = start
        for numbers in pieces(*arrays, dtype=dtype, start=start, stop=stop):
            yield at, numbers
            at += numbers[0].size
        # With one number come some megabytes of its file.
        read += max(stop - start, _KEPT // 16)
        if read >= _KEPT:
            forget(*arrays)
            read = 0
    forget(*arrays)


class _Peak:
    """The first pair of numbers at which a figure is largest in magnitude."""

    def __init__(self) -> None:
        self.height, self.index, self.pair = -1.0, 0, (0.0, 0.0)

    def take(self, figures: NDArray[Any], start: int, r: NDArray[Any], w: NDArray[Any]) -> None:
        for at in sorted((int(np.argmax(figures)), int(np.argmin(figures)))):
            if abs(figures[at]) > self.height:
                self.height, self.index = float(abs(figures[at])), start + at
                self.pair = float(r[at]), float(w[at])


def _work(*dtypes: np.dtype[Any]) -> type[np.floating[Any]]:
    """Return a format that holds all numbers of these formats."""
    return np.float64 if max(dtype.itemsize for dtype in dtypes) > 4 else np.float32


def distances(recorded: NDArray[Any], expected: NDArray[Any]) -> Distances | None:
    """Read two arrays of one shape; None if there are no numbers, or complex ones."""
    dtypes = recorded.dtype, expected.dtype
    if not recorded.size or any(dtype.kind == "c" for dtype in dtypes):
        return None
    work = _work(*dtypes)
    space = np.empty(PIECE // np.dtype(work).itemsize, work)
    # Made anew for each piece, they would be asked of the system each time.
    same, known = np.empty((2, space.size), np.bool_)
    in_piece = np.arange(0, space.size, _LINE)
    starts, lines, odd, mixed, nans = [0], [], [], [], []
    largest: list[float] = []
    errors: list[float] = []
    smallest: list[NDArray[Any]] = []
    with np.errstate(all="ignore"):
        for r, w in pieces(recorded, expected, dtype=work):
            part, ends = space[: r.size], in_piece[: -(-r.size // _LINE)]
            # Both come from memory at once, which is sooner than one after the other. Equal
            # numbers are far from rare, and their beginning tells others from them.
            error, is_odd, count = 0.0, False, 0
            if (
                r[:_GLANCE].tobytes() != w[:_GLANCE].tobytes()
                or not np.equal(r, w, out=same[: r.size]).all()
            ):
                np.subtract(r, w, out=part)
                error, is_odd = _highest(part)
                error = max(error, -float(np.fmin.reduce(part, initial=0)))
            np.abs(w, out=part)
            most, holds_nan = _highest(part)
            figures = max(most, 0.0), error, np.fmin.reduceat(part, ends)
            # Where all that is not finite are pairs of NaN, the figures are those of the others.
            is_mixed = not math.isfinite(figures[0] + error)
            if is_odd or holds_nan:
                nan = np.isnan(w, out=known[: r.size])
                count = int(np.count_nonzero(nan))
                is_mixed |= not np.array_equal(np.isnan(r, out=same[: r.size]), nan)
            if is_mixed:
                figures = _of_finite(r, w, ends, part)
            odd.append(is_odd or is_mixed)
            mixed.append(is_mixed)
            nans.append(count)
            lines.append(starts[-1] + ends)
            largest.append(figures[0])
            errors.append(figures[1])
            smallest.append(figures[2])
            starts.append(starts[-1] + r.size)
    lines.append(np.array(starts[-1:]))
    return Distances(
        recorded,
        expected,
        np.array(starts),
        np.concatenate(lines),
        np.concatenate(smallest).astype(np.float64),
        np.array(largest),
        np.array(errors),
        np.array(odd),
        np.array(mixed),
        np.array(nans),
    )


def _highest(numbers: NDArray[Any]) -> tuple[float, bool]:
    """Return the largest number that is not NaN, -inf if all are, and whether any is."""
    high = np.maximum.reduce(numbers)
    is_nan = bool(np.isnan(high))
    return float(np.fmax.reduce(numbers, initial=-np.inf) if is_nan else high), is_nan


def _of_finite(
    r: NDArray[Any], w: NDArray[Any], ends: NDArray[np.int64], part: NDArray[Any]
) -> tuple[float, float, NDArray[Any]]:
    """Return the figures of a piece in which a number, or a distance in its format, is not finite.

    Where a number is not, the smallest of its line is 0: the line is read again. ``part`` is
    written to.
    """
    known = np.isfinite(w)
    finite = np.isfinite(r) & known
    np.subtract(r, w, out=part)
    np.copyto(part, 0, where=~finite)
    error = float(max(np.maximum.reduce(part), -np.minimum.reduce(part)))
    if not math.isfinite(error):
        error = float(np.max(np.abs(r.astype(np.float64) - w), where=finite, initial=0))
    np.abs(w, out=part)
    np.copyto(part, 0, where=~known)
    largest = float(np.maximum.reduce(part))
    np.copyto(part, 0, where=~finite)
    return largest, error, np.minimum.reduceat(part, ends)
