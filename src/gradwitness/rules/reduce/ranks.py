"""Elements chosen by their rank, or by how often they occur.

Which of several equal elements is named is torch's own affair: an index that was recorded is taken
if the element there is a right one. NaN counts as the largest.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gradwitness.rules.reduce.sort_extremes import only
from gradwitness.rules.registry import Array, rule
from gradwitness.rules.shape.create import plain
from gradwitness.rules.shape.indexing import along, filled


def _alike(x: Array, y: Array) -> Array:
    return np.equal(x, y) | (np.isnan(x) & np.isnan(y))


def _named(x: Array, is_right: Array, dim: int, keepdim: bool, index: Array) -> tuple[Array, Array]:
    """Return a right element along an axis, and its index: the recorded one, or else the first."""
    recorded = np.reshape(np.clip(index, 0, x.shape[dim] - 1), np.shape(np.take(x, [0], axis=dim)))
    first = np.argmax(is_right, axis=dim, keepdims=True)
    kept = np.take_along_axis(is_right, recorded, axis=dim)
    place = np.where(kept, recorded, first)
    element = np.take_along_axis(x, place, axis=dim)
    return (element, place) if keepdim else (np.squeeze(element, dim), np.squeeze(place, dim))


def _ranked(x: Array, rank: Any, dim: int, keepdim: bool, index: Array) -> tuple[Array, Array]:
    """Return the element of a rank along an axis: of one for all, or of one for each line."""
    if not x.ndim:
        return only(x)
    ordered = np.sort(plain(x), axis=dim)
    ranks = np.broadcast_to(
        np.asarray(rank, like=ordered), np.shape(np.take(ordered, [0], axis=dim))
    )
    element = np.take_along_axis(ordered, ranks, axis=dim)
    return _named(x, _alike(x, element), dim, keepdim, index)


def _middle(x: Array, dim: int | None, skips_nan: bool) -> Array:
    """Return the rank of the median of each line: its lower one, or NaN if there is any."""
    lines: Array = np.reshape(np.isnan(x), (x.size,)) if dim is None else np.isnan(x)
    axis = (dim or 0) if x.ndim else None
    count, unknown = (
        lines.size if axis is None else lines.shape[axis],
        np.sum(lines, axis=axis, keepdims=dim is not None),
    )
    if skips_nan:
        return np.maximum(count - unknown - 1, 0) // 2
    return np.where(unknown > 0, count - 1, (count - 1) // 2)


def _to_ranked(g: Any, y: Any, x: Array, *, dim: int | None, keepdim: bool) -> Array:
    if dim is None:
        hit = _alike(x, y)
        return np.where(hit, g / np.maximum(np.count_nonzero(hit), 1), 0)
    if not x.ndim:
        return g[0]
    of_y, place = (item if keepdim else np.expand_dims(item, dim) for item in (g[0], y[1]))
    return filled(np.zeros_like(of_y, shape=x.shape), along(x, dim, place), of_y)


def _enter_median(op: str, skips_nan: bool, of_what: str) -> None:
    @rule(
        op,
        f"y = of_rank(x, None, dim, keepdim, {skips_nan})",
        meaning=f"gives the gradient to the median{of_what}, the lower of two, along an axis to "
        "the one whose index the forward pass returned, else in equal shares to all that tie",
        given={"index": 1},
        moves=True,
    )
    def median(x: Array, *, dim: int | None = None, keepdim: bool = False, index: Array) -> Any:
        rank = _middle(plain(x), dim, skips_nan)
        if dim is not None:
            return _ranked(x, rank, dim, keepdim, index)
        return np.take(np.sort(np.reshape(x, (x.size,)), axis=0), rank) if x.size else np.nan

    median.vjp("x", "to_rank(g, y, x, dim, keepdim)")(_to_ranked)


_enter_median("aten.median", False, "")
_enter_median("aten.nanmedian", True, " of the numbers that are not NaN")


@rule(
    "aten.kthvalue",
    "y = of_rank(x, k, dim, keepdim)",
    meaning="gives the gradient to the k-th smallest, whose index the forward pass returned",
    given={"index": 1},
)
def kthvalue(
    x: Array, *, k: int, dim: int = -1, keepdim: bool = False, index: Array
) -> tuple[Array, Array]:
    return _ranked(x, k - 1, dim, keepdim, index)


kthvalue.vjp("x", "to_rank(g, y, x, dim, keepdim)")(_to_ranked)


def _occurrences(line: Array) -> Array:
    """Return for each number of a line how often it occurs there."""
    ordered = np.sort(line)
    ends = functools.partial(np.searchsorted, ordered, line)
    return ends(side="right") - ends(side="left")


@rule(
    "aten.mode",
    "y = most_frequent(x, dim, keepdim)",
    meaning="gives the gradient to the most frequent element, whose index the forward pass "
    "returned",
    given={"index": 1},
)
def mode(x: Array, *, dim: int = -1, keepdim: bool = False, index: Array) -> tuple[Array, Array]:
    if not x.ndim:
        return only(x)
    times = np.apply_along_axis(_occurrences, dim, plain(x))
    most = np.equal(times, np.max(times, axis=dim, keepdims=True))
    return _named(x, most, dim, keepdim, index)


mode.vjp("x", "to_rank(g, y, x, dim, keepdim)")(_to_ranked)
