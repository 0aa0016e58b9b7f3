"""One recorded array against what the witness computed, number by number."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.check.verdict import Verdict
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import is_float, limits, round_to, ulps, unit_roundoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray


TOO_LITTLE = "too little signal: all zeros would pass too"
CANCELS = "zero within rounding: its terms cancel"
# Of the size of the terms: an error of so much of it is seen.
_VISIBLE = 1 / 16


@dataclass(frozen=True)
class Comparison:
    """What came of comparing two arrays.

    The figures are those of the worst element: the one whose error is the largest multiple of its
    bound.

    Attributes
    ----------
    verdict : Verdict
    reason : str
        Why it is INCONCLUSIVE, or what is wrong beyond the figures, or `CANCELS`.
    size, refuted : int
        Elements compared, elements outside their bound.
    index : tuple of int or None
        Place of the worst element; None for an empty array.
    recorded, expected : float
        The two numbers there.
    error, bound : float
        Their distance, and the distance that rounding allows.
    ratio : float
        error / bound; 0 where both are 0, inf where only the bound is.
    likely_ratio : float
        The same against the probable bound. Above 1: within the worst case, but suspicious.
    ulps : float
        The error in units in the last place of the expected number.
    detects : float
        Twice the largest bound. Any change of any element by more than this is seen.
    detects_relative : float
        ``detects`` over the largest magnitude expected.
    norm : float
        Euclidean norm of the recorded array.
    """

    verdict: Verdict
    reason: str
    size: int
    refuted: int
    index: tuple[int, ...] | None
    recorded: float
    expected: float
    error: float
    bound: float
    ratio: float
    likely_ratio: float
    ulps: float
    detects: float
    detects_relative: float
    norm: float

    @property
    def suspicious(self) -> bool:
        """Whether the error is within the worst case but not within what is probable."""
        return self.verdict is Verdict.AGREES and self.likely_ratio > 1


def settled_by(comparison: Comparison, terms: Callable[[], float]) -> Comparison:
    """Tell a true zero from numbers without a signal.

    Of both all zeros would pass. But where large terms cancel, as the gradient of a bias does that
    a normalisation takes away again, zero is the right answer, and an error in a term is seen.

    Parameters
    ----------
    comparison : Comparison
    terms : callable
        Returns the size that the largest number would have if no terms cancelled.
    """
    if comparison.reason != TOO_LITTLE or not comparison.detects <= _VISIBLE * terms():
        return comparison
    return replace(comparison, verdict=Verdict.AGREES, reason=CANCELS)


def unjudged(reason: str, recorded: NDArray[Any] | None = None) -> Comparison:
    """Return the comparison that could not be made."""
    size = 0 if recorded is None else recorded.size
    norm = math.nan if recorded is None else _norm(recorded)
    nan = math.nan
    return Comparison(
        Verdict.INCONCLUSIVE,
        reason,
        size,
        0,
        None,
        nan,
        nan,
        nan,
        nan,
        nan,
        nan,
        nan,
        nan,
        nan,
        norm,
    )


def nothing(reason: str) -> Comparison:
    """Return the comparison of a gradient that is rightly absent."""
    return replace(unjudged(reason), verdict=Verdict.AGREES, norm=0.0)


def mismatch(reason: str, recorded: NDArray[Any] | None) -> Comparison:
    """Return the comparison of arrays that differ in more than numbers."""
    size = 0 if recorded is None else recorded.size
    norm = 0.0 if recorded is None else _norm(recorded)
    nan, inf = math.nan, math.inf
    return Comparison(
        Verdict.DISAGREES,
        reason,
        size,
        size,
        None,
        nan,
        nan,
        inf,
        nan,
        inf,
        inf,
        nan,
        nan,
        nan,
        norm,
    )


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
        DISAGREES if a number lies outside its rigorous bound. INCONCLUSIVE if both sides share
        NaN, or an infinity that a rounding error could undo (see `engine.bounded.infinities`), if
        a bound is not finite, if the bounds are so wide that an array of zeros would pass (see
        `settled_by`), or if the numbers are complex.
    """
    value = np.asarray(expected.value if isinstance(expected, Bounded) else expected)
    if recorded.shape != value.shape:
        return mismatch(f"shape {recorded.shape}, expected {value.shape}", recorded)
    if recorded.size == 0:
        return unjudged("no elements: nothing was compared", recorded)
    if np.iscomplexobj(recorded) or np.iscomplexobj(value):
        return unjudged("complex numbers", recorded)
    seen = _Scan(dtype)
    if not is_float(dtype):
        seen.exactly(recorded, value)
        return seen.result(recorded)
    errors = expected.errors if isinstance(expected, Bounded) else (None, None)
    final = expected.arithmetic.final if isinstance(expected, Bounded) else 0.0
    # A kernel that works in float32 for 16-bit formats may give out some results in float32.
    final = min(final, unit_roundoff(dtype))
    if isinstance(expected, Bounded) and unit_roundoff(dtype) > expected.arithmetic.unit:
        # What was computed in a wider format, of mixed operands, is stored in this one.
        final = unit_roundoff(dtype)
    together = errors[0] is errors[1]
    # Memory that was never written to may hold NaNs of any kind, and bounds overflow.
    with np.errstate(all="ignore"):
        for r, w, *pair in _chunks(recorded, value, *(errors[:1] if together else errors)):
            known = iter(pair)
            rigorous = None if errors[0] is None else next(known)
            bound = _allowed(w, rigorous, dtype, final) + allowance
            likely = bound
            if not together:
                likely = _allowed(w, None if errors[1] is None else next(known), dtype, final)
                likely += allowance
            seen.numbers(r, w, rigorous, bound, likely)
    return seen.result(recorded)


# So many numbers at a time: what is computed of them stays in the processor's cache.
_CHUNK = 2**14


def _chunks(*arrays: NDArray[Any] | None) -> Iterator[tuple[NDArray[np.float64], ...]]:
    """Walk through arrays of one shape, in float64, in C order; what is None is left out."""
    given = [array for array in arrays if array is not None]
    yield from np.nditer(
        given,
        flags=["external_loop", "buffered"],
        order="C",
        op_dtypes=[np.float64] * len(given),
        casting="unsafe",
        buffersize=_CHUNK,
    )


class _Scan:
    """What comes of comparing numbers, gathered from one piece after another."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._limits = limits(dtype) if is_float(dtype) else None
        self._size = 0
        self._refuted = 0
        # Ratio, place, recorded, expected, error and bound of the worst number.
        self._worst = (-1.0, 0, math.nan, math.nan, math.nan, math.nan)
        self._likely = 0.0
        self._largest = 0.0
        self._widest = 0.0
        self._below_bound = True
        self._squares = 0.0
        self._strange = dict.fromkeys(_STRANGE, 0)

    def numbers(
        self,
        r: NDArray[np.float64],
        w: NDArray[np.float64],
        rigorous: NDArray[np.float64] | None,
        bound: NDArray[np.float64],
        likely: NDArray[np.float64],
    ) -> None:
        """Take in a piece of floating-point numbers; ``bound`` holds the last rounding too."""
        error = np.abs(r - w)
        usable = np.isfinite(error) & np.isfinite(bound)
        if not usable.all():
            error, usable = self._among_strange(r, w, rigorous, bound, error)
            # A NaN bound knows nothing: it allows everything, and is counted as unusable.
            bound = np.where(np.isnan(bound), np.inf, bound)
            likely = np.where(np.isnan(likely), np.inf, likely)
        self._take(r, w, error, bound, likely, usable & np.isfinite(w))

    def _among_strange(
        self,
        r: NDArray[np.float64],
        w: NDArray[np.float64],
        rigorous: NDArray[np.float64] | None,
        bound: NDArray[np.float64],
        error: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the errors where numbers are not finite, and which numbers can be judged."""
        assert self._limits is not None  # noqa: S101 (only integers have none)
        # Both infinite alike, both NaN, or so large that the format overflows: no distance.
        reach = np.abs(w) + bound
        overflow = np.isinf(r) & (np.sign(r) == np.sign(w)) & (reach >= float(self._limits.max))
        nan = np.isnan(r) | np.isnan(w)
        alike = (np.isnan(r) & np.isnan(w)) | (r == w) | overflow
        error = np.where(alike, 0.0, np.where(np.isnan(error), np.inf, error))
        # An infinity that follows for certain is as good as a number.
        certain = np.isinf(w) & (True if rigorous is None else rigorous == 0) & (r == w)
        least = round_to(np.abs(w) - bound, self._dtype)
        certain |= overflow & np.isfinite(w) & np.isinf(least)
        strange = ~(np.isfinite(r) & np.isfinite(w)) & ~certain
        usable = ~strange & np.isfinite(bound)
        for name, where in zip(_STRANGE, (nan, strange, ~usable), strict=True):
            self._strange[name] += int(np.count_nonzero(where))
        return error, usable

    def exactly(self, recorded: NDArray[Any], value: NDArray[Any]) -> None:
        """Take in whole numbers or booleans: equal or not."""
        r, w = (np.ravel(array).astype(np.float64) for array in (recorded, value))
        # Compared as they are: float64 cannot tell 2^53 from 2^53 + 1. A distance that it loses
        # counts as 1.
        distance = np.nan_to_num(np.abs(r - w), nan=np.inf)
        error = np.where(np.ravel(recorded == value), 0.0, np.maximum(distance, 1.0))
        zero = np.zeros(r.shape)
        self._take(r, w, error, zero, zero, np.ones(r.shape, dtype=bool))

    def _take(
        self,
        r: NDArray[np.float64],
        w: NDArray[np.float64],
        error: NDArray[np.float64],
        bound: NDArray[np.float64],
        likely: NDArray[np.float64],
        measured: NDArray[np.bool_],
    ) -> None:
        ratio = _ratio(error, bound)
        self._refuted += int(np.count_nonzero(error > bound))
        at = int(np.argmax(ratio))
        if ratio[at] > self._worst[0]:
            figures = (float(array[at]) for array in (r, w, error, bound))
            self._worst = (float(ratio[at]), self._size + at, *figures)  # type: ignore[assignment]
        worst_likely = ratio[at] if likely is bound else np.max(_ratio(error, likely))
        self._likely = max(self._likely, float(worst_likely))
        size = np.abs(w)
        self._largest = max(self._largest, float(np.max(size, initial=0.0, where=measured)))
        self._widest = max(self._widest, float(np.max(bound, initial=0.0, where=measured)))
        self._below_bound = self._below_bound and bool(np.all(size <= bound))
        self._squares += float(np.dot(r, r))
        self._size += r.size

    def result(self, recorded: NDArray[Any]) -> Comparison:
        """Return the judgement."""
        ratio, place, r, w, error, bound = self._worst
        detects = 2 * self._widest
        reason = ""
        strange = next((name for name in _STRANGE if self._strange[name]), None)
        if self._refuted:
            verdict = Verdict.DISAGREES
            if not np.isfinite(r):
                wanted = f"{w}" if np.isinf(w) else "a finite number"
                reason = f"{r} where {wanted} is expected"
        elif strange is not None:
            verdict = Verdict.INCONCLUSIVE
            reason = f"{strange} in {self._strange[strange]} of {self._size} elements"
        elif self._largest > 0 and self._below_bound:
            verdict = Verdict.INCONCLUSIVE
            reason = TOO_LITTLE
        else:
            verdict = Verdict.AGREES
        relative = math.inf if detects else 0.0
        return Comparison(
            verdict=verdict,
            reason=reason,
            size=self._size,
            refuted=self._refuted,
            index=tuple(int(i) for i in np.unravel_index(place, recorded.shape)),
            recorded=r,
            expected=w,
            error=error,
            bound=bound,
            ratio=ratio,
            likely_ratio=self._likely,
            ulps=ulps(error, w, self._dtype if self._limits is not None else "float64"),
            detects=detects,
            detects_relative=detects / self._largest if self._largest else relative,
            norm=math.sqrt(self._squares) if self._squares >= 0 else math.nan,
        )


# What cannot be judged: the strangest kind first.
_STRANGE = ("NaN", "an infinity that rounding decides", "no finite bound")


def _allowed(
    w: NDArray[np.float64], error: NDArray[np.float64] | None, dtype: str, final: float
) -> NDArray[np.float64]:
    """Return the bound: what the formula's roundings allow, and the last one into the format."""
    if error is None:
        return _store(w, dtype)
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
    if dtype == "float64":
        return np.zeros(w.shape)
    # Torch makes its 16-bit numbers from float32 ones, so that float64 ones are rounded twice.
    off = np.abs(round_to(w, dtype) - w)
    if dtype in ("float16", "bfloat16"):
        off = np.maximum(off, np.abs(round_to(round_to(w, "float32"), dtype) - w))
    return np.nan_to_num(off, nan=0.0, posinf=0.0) if not np.isfinite(off).all() else off


def _ratio(error: NDArray[np.float64], bound: NDArray[np.float64]) -> NDArray[np.float64]:
    if not error.any():
        return error
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = error / bound
    return np.where(error == 0, 0.0, np.where(np.isnan(quotient), np.inf, quotient))


def _norm(r: NDArray[Any]) -> float:
    size = np.abs(r) if np.iscomplexobj(r) else r
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.linalg.norm(size.astype(np.float64).ravel()))
