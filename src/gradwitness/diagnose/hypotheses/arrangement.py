"""The right numbers in the wrong places: transposed, permuted, flipped, shifted, misread."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import fits, named, refuted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gradwitness.diagnose.case import Case, Exhibit

TRANSPOSED = "transposed"
PERMUTED = "axes permuted"
FLIPPED = "axis flipped"
STRIDES = "strides ignored"
SHIFTED = "index shift"
REORDERED = "slices in another order"
_AXES = 4  # beyond so many, only the reversed order is tried
_FURTHEST = 3  # shifts that are tried


def arrangement(case: Case) -> Iterator[Explanation]:
    """Suppose that the claim holds the right numbers in another order."""
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    said: dict[str, list[str]] = {}
    tried: dict[str, int] = {}
    for exhibit in refuted(case):
        if not _same_numbers(exhibit):
            continue
        for number, (cause, how, predicted) in enumerate(_orders(exhibit), 1):
            if exhibit.name not in found.get(cause, {}) and fits(exhibit, predicted):
                found.setdefault(cause, {})[exhibit.name] = predicted
                said.setdefault(cause, []).append(how)
                tried.setdefault(cause, number)
    for cause, predictions in found.items():
        how = "; or: ".join(dict.fromkeys(said[cause]))
        yield Explanation(
            cause,
            f"The gradient of {named(predictions)} holds the right numbers in the wrong places: "
            f"{how}.",
            predictions,
            freedom=tried[cause],
            reveals=False,
        )


def reordered(case: Case) -> Iterator[Explanation]:
    """Suppose that slices along an axis stand in another order, such as the gates of an LSTM."""
    for exhibit in refuted(case):
        g, h = exhibit.witness, exhibit.claim
        if g.shape != h.shape or g.ndim < 1 or not _same_numbers(exhibit):
            continue
        for axis in range(g.ndim):
            predicted, moved = _matched(g, h, axis)
            if moved and fits(exhibit, predicted):
                yield Explanation(
                    REORDERED,
                    f"The gradient of {exhibit.name} has its slices along axis {axis} in another "
                    f"order; {moved} of {g.shape[axis]} are not in their place.",
                    {exhibit.name: predicted},
                    freedom=math.factorial(g.shape[axis]) * g.ndim,
                    reveals=False,
                )
                break


def _same_numbers(exhibit: Exhibit) -> bool:
    """Whether the claim may hold the right numbers: as many, and with the same norm."""
    g, h = exhibit.witness, exhibit.claim
    if g.size != h.size or g.size < 2:
        return False
    apart = abs(float(np.linalg.norm(g)) - float(np.linalg.norm(h)))
    return apart <= float(np.max(exhibit.allowance)) * math.sqrt(g.size)


def _orders(exhibit: Exhibit) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Yield arrangements: cause, in words, the numbers so arranged."""
    g, shape = exhibit.witness, exhibit.claim.shape
    for axes in _permutations(g.ndim):
        turned = g.transpose(axes)
        cause, words = _called(axes)
        if turned.shape == shape:
            yield cause, words, turned
        else:
            # Claims are brought into the right shape where their size allows.
            what = words.removeprefix("it is ").removeprefix("its axes are ")
            both = f"{words}, or the memory of one so {what} is read without its strides"
            yield cause, both, turned.reshape(shape)
        if turned.shape != g.shape and g.shape == shape:
            # The other way round: taken for a tensor with its axes so, and turned back.
            misread = g.reshape(turned.shape).transpose(np.argsort(axes))
            yield STRIDES, f"its memory is read as that of one with shape {turned.shape}", misread
    if g.shape != shape:
        yield STRIDES, f"it has shape {shape} instead of {g.shape}", g.reshape(shape)
        return
    for count in range(1, min(g.ndim, _AXES) + 1):
        for axes in itertools.combinations(range(g.ndim), count):
            which = " and ".join(map(str, axes))
            yield FLIPPED, f"it is flipped along axis {which}", np.flip(g, axes)
    for axis, by in itertools.product(range(g.ndim), range(1, _FURTHEST + 1)):
        for step in (by, -by):
            words = f"it is shifted by {step:+d} along axis {axis}"
            yield SHIFTED, f"{words}, and wraps around", np.roll(g, step, axis)
    # A shift of the rows in memory, as an index that is one off makes.
    for step in (1, -1):
        yield SHIFTED, f"all of its memory is shifted by {step:+d}", np.roll(g, step)


def _permutations(ndim: int) -> Iterator[tuple[int, ...]]:
    if ndim > _AXES:
        yield tuple(reversed(range(ndim)))
        return
    same = tuple(range(ndim))
    yield from (axes for axes in itertools.permutations(same) if axes != same)


def _called(axes: tuple[int, ...]) -> tuple[str, str]:
    moved = [axis for axis, source in enumerate(axes) if axis != source]
    if len(axes) == 2:
        return TRANSPOSED, "it is transposed"
    if len(moved) == 2:
        return TRANSPOSED, f"it is transposed in axes {moved[0]} and {moved[1]}"
    return PERMUTED, f"its axes are permuted to {axes}"


def _matched(
    g: NDArray[np.float64], h: NDArray[np.float64], axis: int
) -> tuple[NDArray[np.float64], int]:
    """Return g with its slices in the order of h's, and how many moved.

    Slices are told apart by a projection, whose order rounding changes among equal ones only.
    """
    rows, claimed = (np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1) for a in (g, h))
    direction = np.random.default_rng(0).standard_normal(rows.shape[1])
    order = np.empty(len(rows), np.intp)
    order[np.argsort(claimed @ direction, kind="stable")] = np.argsort(
        rows @ direction, kind="stable"
    )
    moved = int(np.sum(np.any(rows[order] != rows, axis=1)))
    return np.take(g, order, axis), moved
