"""Mistake: the right numbers in the wrong places, such as transposed, flipped or shifted."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._printable import listed
from gradwitness.diagnose.case import Explanation
from gradwitness.diagnose.evidence import fits, refuted

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
MISPLACED = "right numbers in the wrong places"
_TAKE_T = " nn.Linear.weight.grad is (out, in): take .T."
_AXES = 4  # with more, only the reversed order is tried
_FURTHEST = 3  # the longest shift that is tried


def arrangement(case: Case) -> Iterator[Explanation]:
    """Suppose that the claim holds the right numbers in another order."""
    by_cause: dict[str, dict[str, NDArray[np.float64]]] = {}
    descriptions: dict[str, list[str]] = {}
    tried: dict[str, int] = {}
    for exhibit in refuted(case):
        if not _same_numbers(exhibit):
            continue
        for count, (cause, how, predicted) in enumerate(_orders(exhibit), 1):
            if exhibit.name not in by_cause.get(cause, {}) and fits(exhibit, predicted):
                by_cause.setdefault(cause, {})[exhibit.name] = predicted
                descriptions.setdefault(cause, []).append(how)
                tried.setdefault(cause, count)
    for cause, predictions in by_cause.items():
        how = "; or: ".join(dict.fromkeys(descriptions[cause]))
        is_matrix = all(predicted.ndim == 2 for predicted in predictions.values())
        linear = is_matrix and all(_is_of_linear(case, name) for name in predictions)
        remedy = _TAKE_T if cause == TRANSPOSED and linear else ""
        yield Explanation(
            cause,
            f"The gradient of {listed(predictions)} holds the right numbers in the wrong places: "
            f"{how}.{remedy}",
            predictions,
            freedom=tried[cause],
            reveals=False,
        )


def _is_of_linear(case: Case, name: str) -> bool:
    """Whether a matrix may be a weight of nn.Linear, which is used transposed."""
    if case.alone is not None or case.tape is None:
        return case.alone is None
    leaves = {leaf.id for _, leaf in case.tape.leaves() if leaf.name == name}
    return any(c.base_op == "aten.t" and leaves & {*c.operands} for c in case.tape.calls)


def reordered(case: Case) -> Iterator[Explanation]:
    """Suppose that slices along an axis are reordered, such as the gates of an LSTM."""
    for exhibit in refuted(case):
        g, h = exhibit.witness, exhibit.claim
        if g.shape != h.shape or g.ndim < 1 or not _same_numbers(exhibit):
            continue
        for axis in range(g.ndim):
            predicted, moved = _match_slices(g, h, axis)
            if moved and fits(exhibit, predicted):
                yield Explanation(
                    REORDERED,
                    f"The gradient of {exhibit.name} has its slices along axis {axis} in a "
                    f"different order; {moved} of {g.shape[axis]} are misplaced.",
                    {exhibit.name: predicted},
                    freedom=math.factorial(g.shape[axis]) * g.ndim,
                    reveals=False,
                )
                break


def misplaced(case: Case) -> Iterator[Explanation]:
    """Suppose that each row along an axis holds its own numbers, but not in their places."""
    for exhibit in refuted(case):
        g, h = exhibit.witness, exhibit.claim
        if g.shape != h.shape or g.ndim < 2 or not _same_numbers(exhibit):
            continue
        for axis in range(g.ndim):
            predicted = np.empty_like(g)
            order = np.argsort(h, axis, kind="stable")
            np.put_along_axis(predicted, order, np.sort(g, axis), axis)
            if fits(exhibit, predicted):
                rows = g.size // g.shape[axis]
                yield Explanation(
                    MISPLACED,
                    f"The gradient of {exhibit.name} holds the right numbers along axis {axis}, in "
                    f"the wrong places: look at the indices that the gradient is sent back by.",
                    {exhibit.name: predicted},
                    freedom=math.factorial(g.shape[axis]) ** rows * g.ndim,
                    reveals=False,
                )
                break


def _same_numbers(exhibit: Exhibit) -> bool:
    """Whether the claim may hold the right numbers: equally many, with the same norm."""
    g, h = exhibit.witness, exhibit.claim
    if g.size != h.size or g.size < 2:
        return False
    apart = abs(float(np.linalg.norm(g)) - float(np.linalg.norm(h)))
    return apart <= float(np.max(exhibit.allowance)) * math.sqrt(g.size)


def _orders(exhibit: Exhibit) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Yield arrangements: the cause, a description, the rearranged numbers."""
    g, shape = exhibit.witness, exhibit.claim.shape
    for axes in _permutations(g.ndim):
        permuted = g.transpose(axes)
        cause, text = _describe(axes)
        if permuted.shape == shape:
            yield cause, text, permuted
        else:
            # Claims are reshaped to the right shape if their size allows.
            short = text.removeprefix("it is ").removeprefix("its axes are ")
            or_misread = f"{text}, or was {short} and read without its strides"
            yield cause, or_misread, permuted.reshape(shape)
        if permuted.shape != g.shape and g.shape == shape:
            # The reverse: read as a tensor with permuted axes, and permuted back.
            misread = g.reshape(permuted.shape).transpose(np.argsort(axes))
            yield STRIDES, f"its memory is read as shape {permuted.shape}", misread
    if g.shape != shape:
        yield STRIDES, f"it has shape {shape} instead of {g.shape}", g.reshape(shape)
        return
    for count in range(1, min(g.ndim, _AXES) + 1):
        for axes in itertools.combinations(range(g.ndim), count):
            yield FLIPPED, f"it is flipped along axis {listed(map(str, axes))}", np.flip(g, axes)
    for axis, distance in itertools.product(range(g.ndim), range(1, _FURTHEST + 1)):
        for step in (distance, -distance) if distance < g.shape[axis] else ():
            text = f"it is shifted by {step:+d} along axis {axis}"
            yield SHIFTED, f"{text}, and wraps around", np.roll(g, step, axis)
    # A shift of the whole memory, as by an index that is off by one.
    for step in (1, -1):
        yield SHIFTED, f"its whole memory is shifted by {step:+d}", np.roll(g, step)


def _permutations(ndim: int) -> Iterator[tuple[int, ...]]:
    if ndim > _AXES:
        yield tuple(reversed(range(ndim)))
        return
    same = tuple(range(ndim))
    yield from (axes for axes in itertools.permutations(same) if axes != same)


def _describe(axes: tuple[int, ...]) -> tuple[str, str]:
    moved = [axis for axis, source in enumerate(axes) if axis != source]
    if len(axes) == 2:
        return TRANSPOSED, "it is transposed"
    if len(moved) == 2:
        return TRANSPOSED, f"it is transposed in axes {moved[0]} and {moved[1]}"
    return PERMUTED, f"its axes are permuted to {axes}"


def _match_slices(
    g: NDArray[np.float64], h: NDArray[np.float64], axis: int
) -> tuple[NDArray[np.float64], int]:
    """Return g with its slices in the order of h's, and how many moved.

    Slices are sorted by a projection, whose order rounding changes only among equal ones.
    """
    rows, claimed = (np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1) for a in (g, h))
    direction = np.random.default_rng(0).standard_normal(rows.shape[1])
    order = np.empty(len(rows), np.intp)
    order[np.argsort(claimed @ direction, kind="stable")] = np.argsort(
        rows @ direction, kind="stable"
    )
    moved = int(np.sum(np.any(rows[order] != rows, axis=1)))
    return np.take(g, order, axis), moved
