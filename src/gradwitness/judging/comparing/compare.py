"""A recorded array compared with the witness's, number by number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import (
    chunks,
    is_complex,
    is_inexact,
    limits,
    round_to,
    ulps,
    unit_roundoff,
)
from gradwitness.judging.comparing.allowance import allowed, may_exceed, near, own_share, ratio_of
from gradwitness.judging.comparing.comparison import ALL_ZERO as ALL_ZERO
from gradwitness.judging.comparing.comparison import CANCELS as CANCELS
from gradwitness.judging.comparing.comparison import COARSE as COARSE
from gradwitness.judging.comparing.comparison import EMPTY as EMPTY
from gradwitness.judging.comparing.comparison import PROBABLE as PROBABLE
from gradwitness.judging.comparing.comparison import SHARE as SHARE
from gradwitness.judging.comparing.comparison import TOO_LITTLE as TOO_LITTLE
from gradwitness.judging.comparing.comparison import Comparison as Comparison
from gradwitness.judging.comparing.comparison import in_turn as in_turn
from gradwitness.judging.comparing.comparison import mismatch as mismatch
from gradwitness.judging.comparing.comparison import settled_by as settled_by
from gradwitness.judging.comparing.comparison import unjudged as unjudged
from gradwitness.judging.comparing.infinite import (
    BOUNDLESS,
    UNUSABLE,
    judged_nonfinite,
    unless_overflown,
)
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.engine.floats import Arithmetic


def compare(
    recorded: NDArray[Any], expected: Any, dtype: str, *, allowance: float = 0.0
) -> Comparison:
    """Judge a recorded array.

    Parameters
    ----------
    recorded : ndarray
        In the recorded format.
    expected : Bounded or ndarray
        The witness's numbers; a plain array is exact.
    dtype : str
        The recorded format, into which the last operation rounded.
    allowance : float
        Added to every bound: for a computation whose formula is not known (see `local`).

    Returns
    -------
    Comparison
        DISAGREES if a number lies outside its rigorous bound: of complex numbers the modulus of the
        difference counts. INCONCLUSIVE if both sides share NaN, or an infinity that a rounding
        error could undo (see `engine.bounded.infinities`), if a bound is not finite, if the witness
        has a complex number that is not, or if the bounds are so wide that an array of zeros would
        pass (see `settled_by`).
    """
    comparing = Comparing(recorded, dtype, allowance)
    comparing.take(expected)
    return comparing.result()


class Comparing:
    """Judges a recorded array as `compare` does, piece by piece if need be.

    Parameters
    ----------
    recorded : ndarray
    dtype : str
    allowance : float
        As for `compare`.
    """

    def __init__(self, recorded: NDArray[Any], dtype: str, allowance: float = 0.0) -> None:
        self._recorded = recorded
        self._dtype = dtype
        self._allowance = allowance
        self._scan = _Scan(dtype)
        # Set if the arrays cannot be compared number by number.
        self._incomparable: Comparison | None = None

    def take(
        self,
        expected: Any,
        index: tuple[slice, ...] = (),
        picked: NDArray[Any] | None = None,
        times: int = 1,
    ) -> None:
        """Compare the witness's numbers, those of a piece, or picked ones, each so many times."""
        array = self._recorded
        recorded = array[index] if picked is None else picked
        value = np.asarray(expected.value if isinstance(expected, Bounded) else expected)
        if recorded.shape != value.shape:
            self._incomparable = mismatch(f"shape {recorded.shape}, expected {value.shape}", array)
        elif recorded.size == 0:
            self._incomparable = unjudged(EMPTY, array)
        elif value.dtype.kind == "c" and not is_complex(self._dtype):
            self._incomparable = unjudged(
                f"real numbers ({self._dtype}) where complex ones are expected", array
            )
        else:
            self._scan.begins(tuple(at.start or 0 for at in index), recorded.shape, times)
            if is_inexact(self._dtype):
                self._floats(recorded, value, expected)
            else:
                self._scan.exactly(recorded, value)

    def result(self, size: int = 0) -> Comparison:
        """Return the judgement, of so many elements if not all were compared."""
        return self._incomparable or self._scan.result(size)

    def _floats(self, recorded: NDArray[Any], value: NDArray[Any], expected: Any) -> None:
        dtype = self._dtype
        errors = expected.errors if isinstance(expected, Bounded) else (None, None)
        final = expected.arithmetic.final if isinstance(expected, Bounded) else 0.0
        if isinstance(expected, Bounded):
            self._scan.arithmetic = expected.arithmetic
        # A kernel that works in float32 for 16-bit formats may return some results in float32.
        final = min(final, unit_roundoff(dtype))
        if isinstance(expected, Bounded) and unit_roundoff(dtype) > expected.arithmetic.unit:
            # A result computed in a wider format, from mixed operands, is stored in this one.
            final = unit_roundoff(dtype)
        shared = errors[0] is errors[1]
        # Memory that was never written to may hold NaNs of any kind, and bounds overflow.
        with np.errstate(all="ignore"):
            for r, w, *pair in chunks(recorded, value, *(errors[:1] if shared else errors)):
                bounds = iter(pair)
                rigorous = None if errors[0] is None else next(bounds)
                if not pair and not self._allowance and np.array_equal(r, w):
                    # No error is allowed and there is none: the numbers were passed on unchanged.
                    self._scan.equal(r)
                    continue
                bound = allowed(w, rigorous, dtype, final)
                probable = bound
                if not shared:
                    probable = allowed(w, None if errors[1] is None else next(bounds), dtype, final)
                if self._allowance:
                    bound, probable = bound + self._allowance, probable + self._allowance
                self._scan.numbers(r, w, rigorous, bound, probable)


class _Scan:
    """Accumulates the comparison of one chunk after another."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self.arithmetic: Arithmetic | None = None  # in which the numbers were computed
        self._limits = limits(dtype) if is_inexact(dtype) else None
        self._size = 0
        self._refuted = 0
        # The largest error beyond its bound, and the largest of all.
        self._farthest = self._largest_error = 0.0
        # The current piece: its start and shape, and how many of its numbers were compared.
        self._piece: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
        self._within = 0
        self._times = 1  # that each number of the piece counts
        # Ratio, recorded, expected, error and bound of the worst number; its index.
        self._worst: tuple[float, complex, complex, float, float]
        self._worst = (-1.0, math.nan, math.nan, math.nan, math.nan)
        self._worst_index: tuple[int, ...] = ()
        self._probable = 0.0
        self._largest = 0.0
        self._widest = 0.0
        self._probably_widest = 0.0
        self._below_bound = True
        self._by_probable = False
        self._squares = 0.0
        self._unusable = dict.fromkeys(UNUSABLE, 0)

    def begins(self, start: tuple[int, ...], shape: tuple[int, ...], times: int) -> None:
        """Begin a piece at a start index; axes that are not named start at 0."""
        self._piece = (start, shape)
        self._within, self._times = 0, times

    def _index_of(self, offset: int) -> tuple[int, ...]:
        start, shape = self._piece
        index = [int(i) for i in np.unravel_index(self._within + offset, shape)]
        return (*map(sum, zip(start, index, strict=False)), *index[len(start) :])

    def numbers(
        self,
        r: NDArray[np.float64],
        w: NDArray[np.float64],
        rigorous: NDArray[np.float64] | None,
        bound: NDArray[np.float64],
        probable: NDArray[np.float64],
    ) -> None:
        """Compare a chunk of floating-point numbers; ``bound`` includes the last rounding."""
        error = np.abs(r - w)
        measured = None
        # A maximum is NaN if any number is.
        if not (np.isfinite(error.max()) and np.isfinite(bound.max())):
            shared = probable is bound
            # A NaN bound knows nothing: it allows everything, and is counted as unusable.
            bound = np.where(np.isnan(bound), np.inf, bound)
            probable = bound if shared else np.where(np.isnan(probable), np.inf, probable)
            if not shared:
                bound, within = unless_overflown(r, w, error, bound, probable, self._dtype)
                self._by_probable = self._by_probable or within
            judged = judged_nonfinite(r, w, rigorous, bound, probable, self._dtype)
            error = np.where(judged.same, 0.0, np.where(np.isnan(error), np.inf, error))
            for name, where in judged.unusable.items():
                self._unusable[name] += self._times * int(np.count_nonzero(where))
            measured = ~judged.unusable[BOUNDLESS] & np.isfinite(w)
        self._take(r, w, error, bound, probable, measured)

    def equal(self, r: NDArray[np.float64]) -> None:
        """Count numbers that equal the expected ones, as they must; none is NaN."""
        if self._worst[0] < 0:
            self._worst = (0.0, r[0].item(), r[0].item(), 0.0, 0.0)
            self._worst_index = self._index_of(0)
        self._below_bound = self._measure(r) == 0 and self._below_bound
        self._count(r)

    def exactly(self, recorded: NDArray[Any], value: NDArray[Any]) -> None:
        """Compare integers or booleans: equal or not."""
        r, w = (np.ravel(array).astype(np.float64) for array in (recorded, value))
        # Compared in their own type: float64 cannot tell 2^53 from 2^53 + 1. A distance lost
        # that way counts as 1.
        distance = np.nan_to_num(np.abs(r - w), nan=np.inf)
        error = np.where(np.ravel(recorded == value), 0.0, np.maximum(distance, 1.0))
        zero = np.zeros(r.shape)
        self._take(r, w, error, zero, zero, None)

    def _take(
        self,
        r: NDArray[np.float64],
        w: NDArray[np.float64],
        error: NDArray[np.float64],
        bound: NDArray[np.float64],
        probable: NDArray[np.float64],
        measured: NDArray[np.bool_] | None,
    ) -> None:
        """Compare numbers; `measured` says which of them have a usable size (None: all)."""
        self._largest_error = max(self._largest_error, float(error.max(initial=0.0)))
        finite = measured is None
        if not finite or may_exceed(error, bound, min(self._worst[0], 1.0)):
            self._find_worst(r, w, error, bound)
        if probable is bound:
            self._probable = max(self._probable, self._worst[0])
        elif not finite or may_exceed(error, probable, self._probable):
            self._probable = max(self._probable, float(np.max(ratio_of(error, probable))))
        self._measure(w if measured is None else w[measured])
        widest = bound if measured is None else bound[measured]
        self._widest = max(self._widest, float(np.max(widest, initial=0.0)))
        if probable is not bound:
            widest = probable if measured is None else probable[measured]
        self._probably_widest = max(self._probably_widest, float(np.max(widest, initial=0.0)))
        self._below_bound = self._below_bound and bool(np.all(np.abs(w) <= bound))
        self._count(r)

    def _find_worst(
        self,
        r: NDArray[np.float64],
        w: NDArray[np.float64],
        error: NDArray[np.float64],
        bound: NDArray[np.float64],
    ) -> None:
        ratio = ratio_of(error, bound)
        at = int(np.argmax(ratio))
        if ratio[at] >= 1:
            beyond = error[error > bound]
            self._refuted += beyond.size
            self._farthest = max(self._farthest, float(beyond.max(initial=0.0)))
        if ratio[at] > self._worst[0]:
            self._worst = tuple(array[at].item() for array in (ratio, r, w, error, bound))
            self._worst_index = self._index_of(at)

    def _measure(self, w: NDArray[np.float64]) -> float:
        """Update the largest finite magnitude; return the largest, infinity included."""
        if w.dtype.kind == "c":
            w = np.abs(w)
        size = float(max(w.max(initial=0.0), -w.min(initial=0.0)))
        finite = size if math.isfinite(size) else self._measure(w[np.isfinite(w)])
        self._largest = max(self._largest, finite)
        return size

    def _count(self, r: NDArray[np.float64]) -> None:
        # Not np.dot: waking BLAS threads for so few numbers costs more than the rest together.
        parts = (r.real, r.imag) if r.dtype.kind == "c" else (r,)
        self._squares += sum(float(np.einsum("i,i->", x, x)) for x in parts)
        self._size += r.size
        self._within += r.size

    def result(self, size: int) -> Comparison:
        """Return the judgement, of so many elements if not all were compared."""
        size = size or self._size
        ratio, r, w, error, bound = self._worst
        lost = self._widest and self._widest * own_share(self.arithmetic)
        detects = 2 * self._widest
        reason = ""
        unusable = next((name for name in UNUSABLE if self._unusable[name]), None)
        if self._refuted:
            verdict = Verdict.DISAGREES
            if not (np.isfinite(r) and np.isfinite(w)):
                reason = f"{r} where {self._named(w)} is expected"
        elif unusable is not None:
            verdict = Verdict.INCONCLUSIVE
            reason = f"{unusable} in {self._unusable[unusable]} of {size} elements"
        elif self._largest > 0 and self._below_bound:
            verdict = Verdict.INCONCLUSIVE
            reason = TOO_LITTLE
        else:
            verdict = Verdict.AGREES
            reason = PROBABLE if self._by_probable else ""
        # Both an operation and the store of its result may flush a number to zero.
        underflows = self._limits is None or detects <= 4 * float(self._limits.smallest_normal)
        relative = 0.0 if underflows else math.inf
        return Comparison(
            verdict=verdict,
            reason=reason,
            size=size,
            refuted=self._refuted,
            index=self._worst_index,
            recorded=r,
            expected=w,
            error=error,
            bound=bound,
            ratio=ratio,
            probable_ratio=self._probable,
            ulps=ulps(error, w, self._dtype if self._limits is not None else "float64"),
            detects=detects,
            detects_relative=detects / self._largest if self._largest else relative,
            probable_detects=2 * self._probably_widest / (self._largest or math.nan),
            distance=self._largest_error + lost,
            surely_off=self._largest_error - lost,
            near=near(self.arithmetic, self._dtype, self._largest),
            norm=math.sqrt(self._squares) if self._squares >= 0 else math.nan,
            relative_error=self._relative_error(),
        )

    def _named(self, w: complex) -> str:
        rounded = complex(w) if self._limits is None else round_to(np.asarray(w), self._dtype)
        return "a finite number" if np.isfinite(rounded) else str(rounded)

    def _relative_error(self) -> float:
        if not self._refuted:
            return math.nan
        # An index that is off by one is not nearly right.
        measurable = self._limits is not None and self._largest > 0
        return self._farthest / self._largest if measurable else math.inf


# How the reasons begin where bounds are too wide to judge numbers that are finite.
TOO_WIDE = (TOO_LITTLE, COARSE, ALL_ZERO, BOUNDLESS)
