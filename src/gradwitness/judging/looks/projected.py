"""Products held against random combinations of their rows: Freivalds' check, for any product.

Where a result ``C`` shares an axis with one factor ``F`` alone, it is linear in F along that axis:
for any vector x over it, ``f(E, F x) = C x``. So the step is computed again on tensors that are as
thin there as a few random vectors are.

For Gaussian x, drawn after the program has computed C, the errors d of C along the axis show in
``f(E, F x) - C x`` as a normal number of deviation ``|d|``, beside what the witness rounds. With
whatever else is in it, that lies within ``a`` of 0 no more probably than alone (T. W. Anderson
1955), which is less than ``sqrt(2 / pi) a / |d|``; with s vectors, than that to the power of s.
Twice ``a`` takes account of what the witness's own rounding has to do with x.

The allowance ``a`` decides only what is judged in full instead. So it is what rounding probably
is: a sum of n terms, one after the other, is off by about u sqrt(n) times what its partial sums
are, which wander (the root of the sum of squares, here by random signs) and drift (to the result).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradwitness.engine.distant import scalar, scalars
from gradwitness.engine.floats import unit_roundoff
from gradwitness.judging.comparing.comparison import PROJECTED, SHARE, Comparison
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradwitness.tape import Value

# How probable it may be that a fast look misses what it says that it detects.
MISSED = 1e-6
# The most random vectors; the axis is at least so many times as long as there are.
VECTORS, TIMES = 6, 4
# One in so many is looked at with random signs, too.
SIGNED = 3
# From this length on an axis of what arrived is taken: its combinations serve other gradients, too.
LONG = 96
# What is allowed of wandering, of drift and of a store, over what is probable.
WANDERS, DRIFTS, STORES = 4.0, 2.0, 4.0
# What is allowed of all terms together, where partial sums wander further, and come back.
_STRAYS = 16.0


class Combined(NamedTuple):
    """A value, those of its numbers that are looked at, their combinations, and the witness's.

    Behind the witness's are some with random signs.
    """

    value: Value
    numbers: NDArray[Any]
    axis: int
    recorded: NDArray[Any]
    made: NDArray[Any]


def held(
    combined: Combined,
    terms: int,
    norm: float,
    without_signs: Callable[[], NDArray[Any]],
) -> Comparison | None:
    """Compare combinations of numbers that are sums of so many terms; None unless it is clear.

    ``norm`` is that of the whole value. ``without_signs`` adds up the terms' sizes.
    """
    value, numbers, axis, recorded, made = combined
    count, length = recorded.shape[axis], value.shape[axis]
    unit = unit_roundoff("float64" if value.dtype == "float64" else "float32")
    stored = unit_roundoff(value.dtype)
    roots = unit * (math.sqrt(terms) + math.sqrt(length))
    wanders, drifts = WANDERS * roots, DRIFTS * roots
    drifts += STORES * stored if stored > unit else 0.0
    detected = 2 * math.sqrt(2 / math.pi) / MISSED ** (1 / count)
    # The largest row is no smaller than the root of the mean of their squares.
    largest = norm / math.sqrt(math.prod(value.shape) / length)

    before = (slice(None),) * axis
    signed, made = made[(*before, slice(count, None))], made[(*before, slice(count))]
    off = np.abs(made - recorded)
    farthest, *squares = scalars(off.max(), _square(signed), _square(recorded))
    wandered, drifted = (
        math.sqrt(square / array.size)
        for square, array in zip(squares, (signed, recorded), strict=True)
    )
    # Nowhere is less allowed than of half of what is in the middle, see `_sizes`.
    common = (wanders * wandered + drifts * drifted) / 2
    if farthest <= common and 0 < detected * common <= SHARE * largest:
        figures = Figures(farthest, common, farthest / common, norm)
        return told(value, figures, detected * common, largest)

    off, signed, recorded = (_first(array, axis) for array in (off, signed, recorded))
    residual = off.max(axis=0)
    allowed = wanders * _sizes(signed) + drifts * _sizes(recorded)
    if not scalar((residual <= allowed).all()):
        # Partial sums may wander further, and come back.
        allowed += _STRAYS * unit * without_signs().max(axis=axis)
    farthest, ratio, most, within = scalars(
        residual.max(), (residual / allowed).max(), allowed.max(), (residual <= allowed).all()
    )
    if detected * most > SHARE * largest:
        largest = math.sqrt(scalar(_squares(numbers, axis).max()))
    figures = Figures(farthest, most, ratio, norm)
    return told(value, figures, detected * most, largest) if within else None


class Figures(NamedTuple):
    """How far combinations lie apart at most, what is allowed of them, and the value's norm."""

    error: float
    bound: float
    ratio: float
    norm: float


def told(value: Value, figures: Figures, detects: float, largest: float) -> Comparison | None:
    """Return the comparison of what lies within what is allowed; None if that tells too little.

    ``largest`` is the norm of the largest row. What its terms leave may be zero within rounding,
    but of a smaller row, whose terms do not cancel, an error would pass with that: bounds tell.
    """
    # NaN compares as false.
    if not 0 < detects <= SHARE * largest < math.inf:
        return None
    return Comparison(
        Verdict.AGREES,
        PROJECTED,
        math.prod(value.shape),
        error=figures.error,
        bound=figures.bound,
        ratio=figures.ratio,
        norm=figures.norm,
        detects=detects,
        detects_relative=detects / largest,
        missed=MISSED,
    )


def _square(combinations: NDArray[Any]) -> Any:
    """Return the sum of the squares of combinations."""
    flat = combinations.ravel()
    return flat.dot(flat)


def _sizes(combinations: NDArray[Any]) -> NDArray[Any]:
    """Return what random combinations tell of the size of each of the sums, along the first axis.

    A single one's may be small by chance.
    """
    squares = np.square(combinations).sum(axis=0) / len(combinations)
    sizes: NDArray[Any] = np.sqrt(np.maximum(squares, squares.sum() / (4 * squares.size)))
    return sizes


def _first(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return an array with a short axis in front, where it costs least."""
    moved = array.transpose(axis, *(k for k in range(array.ndim) if k != axis))
    return moved if moved.flags.c_contiguous else np.copy(moved, order="C")


def _squares(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return the sums of squares along an axis."""
    letters = "abcdefgh"[: array.ndim]
    sums: NDArray[Any] = np.einsum(
        f"{letters},{letters}->{letters.replace(letters[axis], '')}", array, array
    )
    return sums
