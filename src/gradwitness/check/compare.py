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
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradwitness.engine.bounded import Error


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
    if not is_float(dtype):
        return _compare_exactly(recorded, value)
    r = recorded.astype(np.float64)
    w = value.astype(np.float64)
    errors = expected.errors if isinstance(expected, Bounded) else (None, None)
    # A kernel that works in float32 for 16-bit formats may give out some results in float32.
    final = expected.arithmetic.final if isinstance(expected, Bounded) else 0.0
    final = min(final, unit_roundoff(dtype))
    if isinstance(expected, Bounded) and unit_roundoff(dtype) > expected.arithmetic.unit:
        # What was computed in a wider format, of mixed operands, is stored in this one.
        final = unit_roundoff(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        bound = _allowed(w, errors[0], dtype, final) + allowance
        likely = bound
        if errors[1] is not errors[0]:
            likely = _allowed(w, errors[1], dtype, final) + allowance
        error = np.abs(r - w)
        reach = np.abs(w) + bound
    # Both infinite alike, both NaN, or a number so large that the format overflows: no distance.
    overflow = np.isinf(r) & (np.sign(r) == np.sign(w)) & (reach >= float(limits(dtype).max))
    alike = (np.isnan(r) & np.isnan(w)) | (r == w) | overflow
    error = np.where(alike, 0.0, np.where(np.isnan(error), np.inf, error))
    # An infinity that follows for certain is as good as a number.
    certain = np.isinf(w) & (True if errors[0] is None else errors[0] == 0) & (r == w)
    certain |= overflow & (np.abs(w) - bound > float(limits(dtype).max) * (1 + final))
    strange = ~(np.isfinite(r) & np.isfinite(w)) & ~certain
    return _judge(r, w, error, bound, likely, strange, dtype)


def _allowed(w: NDArray[np.float64], error: Error, dtype: str, final: float) -> NDArray[np.float64]:
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
    # Torch makes its 16-bit numbers from float32 ones, so that float64 ones are rounded twice.
    single = round_to(w, "float32") if dtype in ("float16", "bfloat16") else w
    off = np.maximum(np.abs(round_to(w, dtype) - w), np.abs(round_to(single, dtype) - w))
    return np.nan_to_num(off, nan=0.0, posinf=0.0)


def _judge(
    r: NDArray[np.float64],
    w: NDArray[np.float64],
    error: NDArray[np.float64],
    bound: NDArray[np.float64],
    likely: NDArray[np.float64],
    strange: NDArray[np.bool_],
    dtype: str,
) -> Comparison:
    # A NaN bound knows nothing: it allows everything, and the verdict says so below.
    bound = np.where(np.isnan(bound), np.inf, bound)
    outside = error > bound
    refuted = int(np.count_nonzero(outside))
    ratio = _ratio(error, bound)
    at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    usable = ~strange & np.isfinite(bound)
    measured = usable & np.isfinite(w)
    largest = float(np.max(np.abs(w), initial=0.0, where=measured))
    detects = 2 * float(np.max(bound, initial=0.0, where=measured))
    reason = ""
    if refuted:
        verdict = Verdict.DISAGREES
        if not np.isfinite(r[at]):
            wanted = f"{w[at]}" if np.isinf(w[at]) else "a finite number"
            reason = f"{r[at]} where {wanted} is expected"
    elif not usable.all():
        verdict = Verdict.INCONCLUSIVE
        reason = _unusable(r, w, strange, usable)
    elif largest > 0 and bool(np.all(np.abs(w) <= bound)):
        verdict = Verdict.INCONCLUSIVE
        reason = TOO_LITTLE
    else:
        verdict = Verdict.AGREES
    return Comparison(
        verdict=verdict,
        reason=reason,
        size=r.size,
        refuted=refuted,
        index=tuple(int(i) for i in at),
        recorded=float(r[at]),
        expected=float(w[at]),
        error=float(error[at]),
        bound=float(bound[at]),
        ratio=float(ratio[at]),
        likely_ratio=float(np.max(_ratio(error, likely))),
        ulps=ulps(error[at], float(w[at]), dtype),
        detects=detects,
        detects_relative=detects / largest if largest else (math.inf if detects else 0.0),
        norm=_norm(r),
    )


def _unusable(
    r: NDArray[np.float64],
    w: NDArray[np.float64],
    strange: NDArray[np.bool_],
    usable: NDArray[np.bool_],
) -> str:
    """Say what could not be judged: the strangest kind first, NaN."""
    lacking = ~usable
    nan = np.isnan(r) | np.isnan(w)
    kinds = (
        ("NaN", nan),
        ("an infinity that rounding decides", strange),
        ("no finite bound", lacking),
    )
    what, where = next((what, where) for what, where in kinds if where.any())
    return f"{what} in {np.count_nonzero(where)} of {r.size} elements"


def _ratio(error: NDArray[np.float64], bound: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = error / bound
    return np.where(error == 0, 0.0, np.where(np.isnan(quotient), np.inf, quotient))


def _norm(r: NDArray[Any]) -> float:
    size = np.abs(r) if np.iscomplexobj(r) else r
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.linalg.norm(size.astype(np.float64).ravel()))


def _compare_exactly(recorded: NDArray[Any], value: NDArray[Any]) -> Comparison:
    """Whole numbers and booleans: equal or not."""
    r, w = recorded.astype(np.float64), value.astype(np.float64)
    # Compared as they are: float64 cannot tell 2^53 from 2^53 + 1. A distance that it loses
    # counts as 1.
    distance = np.nan_to_num(np.abs(r - w), nan=np.inf)
    error = np.where(recorded == value, 0.0, np.maximum(distance, 1.0))
    zero = np.zeros(r.shape)
    return _judge(r, w, error, zero, zero, np.zeros(r.shape, dtype=bool), "float64")
