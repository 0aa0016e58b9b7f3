"""Histograms of numbers and of points; no gradient.

A bin holds its lower edge, and the last one its upper one too. Without limits they are the smallest
and the largest number, or 1/2 on either side of it where these are one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.kernel_ops import require_certain
from gradwitness.rules.registry import Array, rule
from gradwitness.rules.shape.create import spaced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _points(x: Array) -> Array:
    return np.reshape(x, (-1, x.shape[-1]))


def _limits(numbers: Array, limits: Sequence[Any]) -> tuple[Any, Any]:
    if limits:
        low, high = limits
    elif numbers.size:
        low, high = np.min(numbers), np.max(numbers)
    else:
        low, high = 0.0, 1.0
    return (low - 0.5, high + 0.5) if low == high else (low, high)


def _own_edges(points: Array, bins: Sequence[int], limits: Sequence[Any] | None) -> list[Array]:
    """Return evenly spaced edges along each axis, between given limits or those of the points."""
    pairs = (_limits(x, (limits or ())[2 * k : 2 * k + 2]) for k, x in enumerate(points.T))
    return [spaced(*pair, count + 1, points) for pair, count in zip(pairs, bins, strict=True)]


def _among_recorded(x: Array, edges: Array) -> Array:
    if np.any(edges[1:] < edges[:-1]):
        raise NotImplementedError("edges of bins that do not ascend")
    return np.searchsorted(edges[1:-1], x, side="right")


def _among_own(x: Array, edges: Array) -> Array:
    """Return how many inner edges are not above each number, if no rounding of an edge decides."""
    below = np.floor(np.clip(x[:, None] - edges[1:-1], -0.5, 0.5))
    return np.sum(np.equal(require_certain(below), 0), axis=1)


def _filled(
    points: Array,
    edges: Sequence[Array],
    weight: Array | None,
    density: bool,
    slot: Callable[[Array, Array], Array],
) -> Array:
    """Add up the weights of what lies in each bin, or divide each by their sum and its volume."""
    inside = np.asarray(np.ones(len(points), bool), like=points)
    for x, e in zip(points.T, edges, strict=True):
        inside = inside & (x >= e[0]) & (x <= e[-1])
    shape = tuple(len(e) - 1 for e in edges)
    kept = points[inside]
    slots = tuple(slot(x, e) for x, e in zip(kept.T, edges, strict=True)) if len(kept) else ()
    place = np.ravel_multi_index(slots, shape) if slots else np.zeros(0, np.int64, like=points)
    count = int(np.prod(shape))
    total = np.zeros_like(points, shape=(count,))
    if weight is None:
        total[:] = np.bincount(place, minlength=count)
    else:
        total = np.bincount(place, weights=weight[inside], minlength=count)
    total = np.reshape(total, shape)
    if not density:
        return total
    if not len(kept):
        return np.where(np.asarray(np.ones(shape, bool), like=points), np.nan, total)
    share = total / np.sum(total)
    for axis, e in enumerate(edges):
        share = share / np.reshape(np.diff(e), (-1, *(1,) * (len(shape) - 1 - axis)))
    return share


@rule(
    "aten.histogram",
    "y = counted(x, edges, weight, density), edges_of(x, bins, range)",
    composite=True,
    doubles=("range",),
    given={"edges": 1},
)
def histogram(
    x: Array,
    bins: Any,
    weight: Array | None,
    *,
    range: Sequence[Any] | None = None,  # noqa: A002 (the schema's name)
    density: bool = False,
    edges: Array,
) -> tuple[Array, Array]:
    points = np.reshape(x, (-1, 1))
    weight = None if weight is None else np.reshape(weight, (-1,))
    own = _own_edges(points, [bins], range)[0] if isinstance(bins, int) else bins
    return _filled(points, [edges], weight, density, _among_recorded), own


@rule(
    "aten._histogramdd_bin_edges",
    "y = edges_of_points(x, bins, range)",
    composite=True,
    doubles=("range",),
    ignores=("weight", "density"),
)
def histogramdd_bin_edges(
    x: Array,
    *,
    bins: Sequence[int],
    range: Sequence[Any] | None = None,  # noqa: A002 (the schema's name)
) -> tuple[Array, ...]:
    return tuple(_own_edges(_points(x), bins, range))


@rule(
    "aten._histogramdd_from_bin_cts",
    "y = counted_points(x, edges_of_points(x, bins, range), weight, density)",
    composite=True,
    doubles=("range",),
)
def histogramdd_from_bin_cts(
    x: Array,
    weight: Array | None,
    *,
    bins: Sequence[int],
    range: Sequence[Any] | None = None,  # noqa: A002 (the schema's name)
    density: bool = False,
) -> Array:
    points = _points(x)
    weight = None if weight is None else np.reshape(weight, (-1,))
    return _filled(points, _own_edges(points, bins, range), weight, density, _among_own)


@rule(
    "aten._histogramdd_from_bin_tensors",
    "y = counted_points(x, bins, weight, density)",
    composite=True,
)
def histogramdd_from_bin_tensors(
    x: Array, bins: Sequence[Array], weight: Array | None, *, density: bool = False
) -> Array:
    weight = None if weight is None else np.reshape(weight, (-1,))
    return _filled(_points(x), bins, weight, density, _among_recorded)
