"""The result of comparing two arrays, or the reason why they cannot be compared."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._record import record
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


TOO_LITTLE = "too little signal: all zeros would pass too"
_ELSEWHERE = "run it in a wider format (float32, float64), or probe it with other inputs"
ALL_ZERO = f"every expected number is 0 and the bound is wider than what is there: {_ELSEWHERE}"
COARSE = f"an error of a tenth of its largest number would pass: {_ELSEWHERE}"
PROBABLE = "by the probable bound: the worst case is too wide to tell anything"
NEAR = (
    "by distance: within a twentieth of its largest number of float64's result, in float32 half of "
    "the digits unless its terms cancel; its bound is wider"
)
IN_TURN = "rounded as its kernel adds, term after term; any order would show too little"
OWN = "by its own formula in float64: within a twentieth of its largest number of that"
SAMPLED = "by a sample of its numbers"
PROJECTED = "by random projections of its numbers"
CLOSE = "by its distance from float64's result, which is a few roundings"
# What an agreement may rest on instead of the worst case, as a verdict says it.
BASES = {
    PROBABLE: "by the probable bound",
    NEAR: "by distance",
    IN_TURN: "as its kernel rounds",
    OWN: "by its own formula",
    SAMPLED: "by a sample",
    PROJECTED: "by projection",
    CLOSE: "against float64",
}
EMPTY = "no elements: nothing was compared"
CANCELS = "zero within rounding: its terms cancel"
# An error of this share of the size of the terms is still detected.
VISIBLE = 1 / 16
# An agreement that would have missed a larger share of the largest number is none.
SHARE = 0.1


@record(frozen=True, slots=True)
class Comparison:
    """The result of comparing two arrays.

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
        Index of the worst element; None for an empty array.
    recorded, expected : float or complex
        The two numbers there.
    error, bound : float
        Their distance, and the distance that rounding allows.
    ratio : float
        error / bound; 0 where both are 0, inf where only the bound is.
    probable_ratio : float
        The same against the probable bound. Above 1: within the worst case, but suspicious.
    ulps : float
        The error in units in the last place of the expected number.
    detects : float
        Twice the largest bound: any larger change of any element is detected. Of what agrees by
        its probable bound or its distance, what would no longer agree: it would be left in doubt.
        Of what agrees against float64, what would be judged by its bounds, as wide as they are.
    detects_relative : float
        ``detects`` over the largest magnitude expected. Where that is 0: inf, but 0 if only an
        underflow would pass.
    probable_detects : float
        The same for the probable bound: any larger change is at least suspicious.
    distance : float
        The largest distance of two numbers, with what float64 may have lost of the expected one;
        inf where the recorded one is float64's, too.
    near : float
        The distance up to which numbers lie near float64's: of what 16 bits rounded a twentieth of
        the largest, in float32 half of its digits (the root of its unit roundoff), or a twentieth
        where terms cancel. Of what is too
        small for the format, its smallest normal number.
    surely_off : float
        How far off the right one some number is at least, whatever float64 may have lost.
    norm : float
        Euclidean norm of the recorded array.
    relative_error : float
        Of a disagreement: the largest error beyond its bound, over the largest magnitude expected.
        Of a doubt about which of two gradients is right: how far they lie apart, over the same.
        inf where that is 0, and where the arrays differ in shape or kind, are not finite, or hold
        integers. nan where nothing disagrees.
    tolerance : float
        The share of the largest number that the program declared to be near enough, if the verdict
        rests on that; else 0.
    share : float
        The share of the elements that were compared, 1 but where a fast look sufficed.
    missed : float
        How probable it is at most that an error of more than ``detects`` was not seen: of a fast
        look, for which ``detects`` is the Euclidean norm of the errors along an axis. Else 0.
    """

    verdict: Verdict
    reason: str
    size: int
    refuted: int = 0
    index: tuple[int, ...] | None = None
    recorded: complex = math.nan
    expected: complex = math.nan
    error: float = math.nan
    bound: float = math.nan
    ratio: float = math.nan
    probable_ratio: float = math.nan
    ulps: float = math.nan
    detects: float = math.nan
    detects_relative: float = math.nan
    probable_detects: float = math.nan
    distance: float = math.inf
    near: float = 0.0
    surely_off: float = -math.inf
    norm: float = math.nan
    relative_error: float = math.nan
    tolerance: float = 0.0
    share: float = 1.0
    missed: float = 0.0
    hides: float = 0.0

    @property
    def right_digits(self) -> float:
        """How many decimal digits of a disagreement are right: 0 if the error is as large."""
        return max(0.0, -math.log10(self.relative_error)) if self.relative_error > 0 else math.nan

    def verdict_to(self, digits: float | None) -> Verdict:
        """Return the verdict where a disagreement with so many right digits is let pass.

        So is a doubt about fewer digits than that.
        """
        if digits is not None and self.right_digits >= digits:
            return Verdict.AGREES
        return self.verdict

    @property
    def basis(self) -> str:
        """What an agreement rests on, where that is not the worst case; else empty."""
        return BASES.get(self.reason, "") if self.verdict is Verdict.AGREES else ""

    @property
    def suspicious(self) -> bool:
        """Whether the error is within the rigorous bound but not within the probable one."""
        return self.verdict is Verdict.AGREES and self.probable_ratio > 1


def settled_by(comparison: Comparison, terms: Callable[[], float]) -> Comparison:
    """Let only those numbers agree whose errors would have shown.

    If every number lies within its bound, all zeros would pass, and if a bound is wide, a large
    error would. But where large terms cancel, as in the gradient of a bias that a normalisation
    takes away again, zero is the right answer, and an error in a term is detected; what is larger
    than any bound is held to a twentieth of its size. Where only the worst case is wide, as in sums
    of many terms, numbers within the probable bound agree by that.

    Parameters
    ----------
    comparison : Comparison
    terms : callable
        Returns how large the largest number would be if no terms cancelled.
    """
    agrees = comparison.verdict is Verdict.AGREES
    if agrees and comparison.detects_relative > SHARE:
        reason = COARSE if math.isfinite(comparison.detects_relative) else ALL_ZERO
    elif comparison.reason == TOO_LITTLE:
        reason = TOO_LITTLE
    else:
        return comparison
    likely = by_probable(comparison)
    if likely is not comparison:
        return likely
    # What is beyond its probable bound is no zero; nor is what that bound would have shown.
    told = comparison.probable_detects <= SHARE or comparison.probable_ratio > 1
    if not told and comparison.detects <= VISIBLE * terms():
        if comparison.detects_relative >= 2:
            return replace(comparison, verdict=Verdict.AGREES, reason=CANCELS)
        # Larger than a bound, they are no zeros: as near as an agreement may be, they are right.
        half = SHARE / 2 * comparison.detects / comparison.detects_relative
        nearly = by_distance(replace(comparison, near=max(comparison.near, half)))
        if nearly.reason == NEAR:
            return nearly
    return replace(comparison, verdict=Verdict.INCONCLUSIVE, reason=reason)


def by_probable(comparison: Comparison) -> Comparison:
    """Let numbers within their probable bound agree by it, where only the worst case is too wide.

    Those beyond it are left in doubt, so that this is what such an agreement detects.
    """
    c = comparison
    if _is_coarse(c) and c.probable_detects <= SHARE and c.probable_ratio <= 1:
        scale = c.probable_detects / c.detects_relative
        return _agreeing(c, PROBABLE, c.detects * scale, c.probable_detects)
    return c


def by_distance(comparison: Comparison) -> Comparison:
    """Let numbers agree that lie so near to float64's that no error of a tenth is in them.

    They are right to that, however far rounding might have moved them. A change that takes one
    further off leaves them in doubt, so that this is what the agreement detects; only beyond the
    bound is it refuted. Where they are too small for the format, its zeros are right, and only what
    is refuted counts.
    """
    c = comparison
    within = _is_coarse(c) and c.probable_ratio <= 1 and math.isfinite(c.detects_relative)
    if not within or c.distance > c.near:
        return c
    largest, moved = c.detects / c.detects_relative, c.near + c.distance
    if largest < c.near:
        return _agreeing(c, NEAR, c.detects, 0.0)
    return _agreeing(c, NEAR, moved, moved / largest)


def _is_coarse(comparison: Comparison) -> bool:
    """Whether numbers are within bounds that are too wide to tell much."""
    within = comparison.reason in ("", TOO_LITTLE, COARSE, ALL_ZERO, CANCELS)
    agrees = comparison.verdict is not Verdict.DISAGREES
    return within and agrees and comparison.detects_relative > SHARE


def _agreeing(comparison: Comparison, reason: str, detects: float, relative: float) -> Comparison:
    return replace(
        comparison,
        verdict=Verdict.AGREES,
        reason=reason,
        detects=detects,
        detects_relative=relative,
    )


# How many threads may have shared the rows of a sum, each adding its own in turn.
_THREADS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)


def in_turn(
    comparison: Comparison, again: Callable[[int], tuple[Comparison, Any]], expected: Any
) -> tuple[Comparison, Any]:
    """Settle what is too coarse by rounding as the kernel does, if that explains every number.

    Parameters
    ----------
    comparison : Comparison
    again : callable
        Compares once more, with sums in turn rounded as so many threads do; returns the comparison
        and what was expected.
    expected : Any

    Returns
    -------
    (Comparison, Any)
        Those by which it agrees, or what was given.
    """
    if comparison.reason not in (TOO_LITTLE, COARSE, ALL_ZERO, CANCELS):
        return comparison, expected
    for threads in _THREADS:
        rounded, numbers = again(threads)
        if rounded.verdict is Verdict.AGREES and rounded.detects_relative <= SHARE:
            return _as_rounded(comparison, rounded, again(_THREADS[-1])[0]), numbers
        if _is_same(rounded, comparison):
            # Nothing is added in turn, but terms may come in no particular order. (Bounds that were
            # derived in pieces may differ in the last bit.)
            return _at_second_look(comparison, rounded), numbers
    return comparison, expected


def _is_same(rounded: Comparison, comparison: Comparison) -> bool:
    return math.isclose(rounded.detects, comparison.detects)


def _as_rounded(comparison: Comparison, rounded: Comparison, last: Comparison) -> Comparison:
    """Let numbers agree as their kernel rounds; what would agree without that is not detected.

    That is by what `in_turn` comes to where no number of threads explains them, the last included.
    """
    otherwise = comparison
    if comparison.reason != CANCELS and _is_same(last, comparison):
        otherwise = by_distance(comparison)
    if otherwise.verdict is Verdict.AGREES and otherwise.detects > rounded.detects:
        return _agreeing(rounded, IN_TURN, otherwise.detects, otherwise.detects_relative)
    return replace(rounded, reason=IN_TURN)


def _at_second_look(comparison: Comparison, again: Comparison) -> Comparison:
    likely = by_probable(again)
    if likely is not again:
        return likely
    if comparison.reason != CANCELS:
        return by_distance(comparison)
    if again.probable_detects <= SHARE:
        # It would have shown, were it right.
        return replace(comparison, verdict=Verdict.INCONCLUSIVE, reason=TOO_LITTLE)
    return comparison


def unjudged(reason: str, recorded: NDArray[Any] | None = None) -> Comparison:
    """Return an INCONCLUSIVE comparison, with the reason why none was possible."""
    if recorded is None:
        return Comparison(Verdict.INCONCLUSIVE, reason, 0)
    return Comparison(Verdict.INCONCLUSIVE, reason, recorded.size, norm=_norm(recorded))


def nothing(reason: str) -> Comparison:
    """Return the comparison for a gradient that is rightly absent."""
    return replace(unjudged(reason), verdict=Verdict.AGREES, norm=0.0)


def mismatch(reason: str, recorded: NDArray[Any] | None) -> Comparison:
    """Return the comparison for arrays that differ in shape or kind."""
    size = 0 if recorded is None else recorded.size
    norm = 0.0 if recorded is None else _norm(recorded)
    return Comparison(
        Verdict.DISAGREES,
        reason,
        size,
        size,
        error=math.inf,
        ratio=math.inf,
        probable_ratio=math.inf,
        norm=norm,
        relative_error=math.inf,
    )


def _norm(r: NDArray[Any]) -> float:
    size = np.abs(r) if np.iscomplexobj(r) else r
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.linalg.norm(size.astype(np.float64).ravel()))


def is_refuted(comparison: Comparison | None) -> bool:
    """Whether there is a comparison, and it disagrees."""
    return comparison is not None and comparison.verdict is Verdict.DISAGREES
