"""Reductions of segments of rows, one after the other along an axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwitness.rules.reduce.scatter_reduce import reduced, to_source
from gradwitness.rules.registry import Array, Shaped, rule

_OF_NOTHING = {"sum": 0.0, "mean": np.nan, "max": -np.inf, "min": np.inf, "prod": 1.0}


def _sizes(lengths: Array | None, offsets: Array | None) -> Array:
    return lengths if offsets is None else np.diff(offsets, axis=-1)


def _places(x: Shaped, lengths: Array | None, offsets: Array | None, axis: int) -> Array:
    """Return the place in the result that each element is reduced into."""
    sizes = _sizes(lengths, offsets)
    count, within = sizes.shape[-1], math.prod(x.shape[axis + 1 :])
    rows = np.reshape(sizes, (math.prod(x.shape[:axis]), count))
    if np.any(np.sum(rows, axis=1) != x.shape[axis]):
        raise NotImplementedError("segments that leave elements out")
    segments = np.arange(count, like=rows)
    of_rows = [row * count + np.repeat(segments, of) for row, of in enumerate(rows)]
    places = np.concatenate([segments[:0], *of_rows])
    places = np.reshape(places, (*x.shape[: axis + 1], *(1,) * (x.ndim - axis - 1))) * within
    return places + np.reshape(np.arange(within, like=rows), x.shape[axis + 1 :])


def _begun(
    x: Array, kind: str, lengths: Array | None, offsets: Array | None, initial: Any
) -> tuple[Array, str, bool]:
    """Return a reduction into places that starts from the initial number, or for none from it."""
    sizes = _sizes(lengths, offsets)
    axis = sizes.ndim - 1
    shape = (*x.shape[:axis], sizes.shape[-1], *x.shape[axis + 1 :])
    start = np.full_like(x, _OF_NOTHING[kind] if initial is None else initial, shape=shape)
    how = {"max": "amax", "min": "amin", "mean": "sum"}.get(kind, kind)
    return start, how, initial is not None


def _lengths(start: Array, places: Array) -> Array:
    """Return how many elements each result is of, 1 where there is none."""
    counts = np.bincount(np.ravel(places), minlength=math.prod(start.shape))
    return np.reshape(np.maximum(counts, 1), start.shape)


@rule(
    "aten.segment_reduce",
    "y = reduce_segments(x, kind, lengths, offsets, axis, initial)",
    meaning="gives each element of a segment its share of the gradient: all of it in a sum, over "
    "their count in a mean, times the other factors in a product, and in equal parts to those that "
    "tie for the largest or smallest",
    ignores=("indices", "unsafe"),
)
def segment_reduce(
    x: Array,
    kind: str,
    *,
    lengths: Array | None = None,
    offsets: Array | None = None,
    axis: int = 0,
    initial: Any = None,
) -> Array:
    places = _places(x, lengths, offsets, axis)
    start, how, whole = _begun(x, kind, lengths, offsets, initial)
    total = reduced(start, x, places, how, whole)
    return total / _lengths(start, places) if kind == "mean" else total


@segment_reduce.vjp("x", "to_segments(g, y, x, kind, lengths, offsets, axis, initial)")
def _(
    g: Array,
    y: Array,
    x: Array,
    kind: str,
    *,
    lengths: Array | None,
    offsets: Array | None,
    axis: int,
    initial: Any,
) -> Array:
    places = _places(x, lengths, offsets, axis)
    start, how, whole = _begun(x, kind, lengths, offsets, initial)
    g = g / _lengths(start, places) if kind == "mean" else g
    return to_source(g, y, start, x, places, how, whole)
