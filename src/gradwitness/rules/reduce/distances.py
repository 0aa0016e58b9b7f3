"""Distances between each row of one matrix and each row of another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwitness.rules.kernel_ops import over
from gradwitness.rules.linalg.solving import turned
from gradwitness.rules.reduce.norms import NEAR_SINGLE, clear, length, signed, slope
from gradwitness.rules.registry import Array, rule
from gradwitness.rules.shape.indexing import added_up, numbered


def _gaps(a: Array, b: Array) -> Array:
    """Return each row of a less each row of b."""
    return np.expand_dims(a, -2) - np.expand_dims(b, -3)


def _slopes(g: Array, y: Array, gap: Array, p: Any) -> Array:
    """Return the gradient of the gaps, along the last axis, of which y are the lengths."""
    last = (gap.ndim - 1,)
    if p == math.inf:
        size = np.abs(gap)
        clear(size, last, NEAR_SINGLE)
        # All differences that tie get the whole gradient, not a share.
        top = np.max(size, axis=-1, keepdims=True)
        return np.where(np.equal(size, top), signed(np.expand_dims(g, -1), gap), 0)
    return slope(np.expand_dims(g, -1), np.expand_dims(y, -1), gap, p, last)


@rule(
    "aten._cdist_forward",
    "y = distances(a, b, p)",
    meaning="adds, for each row, the differences over the distances, times the gradient, for "
    "p = 2; a distance 0 gives 0",
    node="CdistBackward",
    ignores=("compute_mode",),
)
def cdist(a: Array, b: Array, *, p: Any) -> Array:
    return length(_gaps(a, b), p, (max(a.ndim, b.ndim),))


cdist.vjp("a", "distances_slope(g, a, b, p, 0)")(
    lambda g, y, a, b, *, p: np.sum(_slopes(g, y, _gaps(a, b), p), axis=-2)
)
cdist.vjp("b", "distances_slope(g, a, b, p, 1)")(
    lambda g, y, a, b, *, p: -np.sum(_slopes(g, y, _gaps(a, b), p), axis=-3)
)


@rule(
    "aten._euclidean_dist",
    "y = distances(a, b, 2.0)",
    meaning="adds, for each row, the differences over the distances, times the gradient; a "
    "distance 0 gives 0",
    composite=True,
)
def euclidean(a: Array, b: Array) -> Array:
    # One matrix product makes a^2 - 2 a b + b^2: small distances lose their digits.
    of_a = np.sum(a * a, axis=-1, keepdims=True)
    of_b = np.sum(b * b, axis=-1, keepdims=True)
    left = np.concatenate([a * -2, of_a, np.ones_like(of_a)], axis=-1)
    right = np.concatenate([b, np.ones_like(of_b), of_b], axis=-1)
    return np.sqrt(np.maximum(left @ turned(right), 0))


@euclidean.vjp("a", "distances_slope(g, a, b, 2.0, 0)")
def _(g: Array, y: Array, a: Array, b: Array) -> Array:
    ratio = over(g, y)
    return a * np.sum(ratio, axis=-1, keepdims=True) - ratio @ b


@euclidean.vjp("b", "distances_slope(g, a, b, 2.0, 1)")
def _(g: Array, y: Array, a: Array, b: Array) -> Array:
    ratio = turned(over(g, y))
    return b * np.sum(ratio, axis=-1, keepdims=True) - ratio @ a


def _pairs(a: Array) -> tuple[Array, Array]:
    """Return which rows are compared: each with all that come after it."""
    first, second = np.triu_indices(a.shape[0], 1)
    return first, second


@rule(
    "aten._pdist_forward",
    "y = pair_distances(a, p)",
    meaning="adds, for each row, the differences over the distances, times the gradient, for "
    "p = 2; a distance 0 gives 0",
    node="PdistBackward",
)
def pdist(a: Array, *, p: Any = 2.0) -> Array:
    first, second = _pairs(a)
    return length(a[first] - a[second], p, (1,))


@pdist.vjp("a", "pair_distances_slope(g, a, p)")
def _(g: Array, y: Array, a: Array, *, p: Any) -> Array:
    first, second = _pairs(a)
    slopes = _slopes(g, y, a[first] - a[second], p)
    rows = numbered(a)
    return added_up(np.stack([slopes, -slopes]), np.stack([rows[first], rows[second]]), a)
