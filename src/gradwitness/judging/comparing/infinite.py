"""Numbers that are not finite, and bounds: what a comparison makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradwitness.engine.floats import limits, round_to

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Truths = NDArray[np.bool_]

BOUNDLESS = "no finite bound"
# Why a number cannot be judged, in order of precedence.
UNUSABLE = (
    "overflow on the way, which may leave anything,",
    "NaN",
    "infinite, but a rounding error could make it finite,",
    BOUNDLESS,
)


class Judged(NamedTuple):
    """Which numbers count as equal, and which cannot be judged, for each reason."""

    same: Truths
    unusable: dict[str, Truths]


def unless_overflown(
    r: NDArray[Any],
    w: NDArray[Any],
    error: NDArray[np.float64],
    bound: NDArray[np.float64],
    probable: NDArray[np.float64],
    dtype: str,
) -> tuple[NDArray[np.float64], bool]:
    """Return the probable bound of what is right by it, where overflow left no other.

    That is what lies within it, and whether there is any; and where the number is beyond the format
    by more than that, the infinity that it has to be.
    """
    opened = np.isinf(bound) & np.isfinite(probable)
    within = opened & (error <= probable)
    right = within
    if w.dtype.kind != "c":
        least = round_to(np.sign(w) * (np.abs(w) - probable), dtype)
        right = within | (opened & np.isinf(r) & (r == least))
    return np.where(right, probable, bound), bool(within.any())


def judged_nonfinite(
    r: NDArray[Any],
    w: NDArray[Any],
    rigorous: NDArray[np.float64] | None,
    bound: NDArray[np.float64],
    probable: NDArray[np.float64],
    dtype: str,
) -> Judged:
    """Judge numbers of which not all are finite; ``bound`` includes the last rounding."""
    most = float(limits(dtype).max)
    reaches = np.abs(w) + bound >= most
    nan = np.isnan(r) | np.isnan(w)
    if w.dtype.kind == "c":
        # Infinities are never certain: what happens to the other part differs between programs.
        same = ~np.isfinite(w) | (~np.isfinite(r) & reaches)
        return _reasons(
            same, nan, ~np.isfinite(r) | ~np.isfinite(w), bound, np.zeros(r.shape, bool)
        )
    # Equal infinities, both NaN, or so large that the format overflows: no distance.
    overflow = np.isinf(r) & (np.sign(r) == np.sign(w)) & reaches
    # What overflows on the way may become anything.
    overflown = np.isfinite(w) & np.isinf(bound)
    same = (np.isnan(r) & np.isnan(w)) | (r == w) | overflow | (overflown & ~np.isfinite(r))
    # An infinity that no rounding error could undo is as good as a number.
    certain = np.isinf(w) & (True if rigorous is None else rigorous == 0) & (r == w)
    certain |= overflow & np.isfinite(w) & np.isinf(round_to(np.abs(w) - bound, dtype))
    unusable = ~(np.isfinite(r) & np.isfinite(w)) & ~certain
    return _reasons(same, nan, unusable, bound, overflown & np.isfinite(probable))


def _reasons(
    same: Truths, nan: Truths, unusable: Truths, bound: NDArray[np.float64], overflown: Truths
) -> Judged:
    reasons = (overflown, nan, unusable, unusable | ~np.isfinite(bound))
    return Judged(same, dict(zip(UNUSABLE, reasons, strict=True)))
