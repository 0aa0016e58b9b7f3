"""Reductions into places: sums, means, largest, smallest and products of what an index sends."""

from __future__ import annotations

import math

import numpy as np

from gradwitness.rules.indexing import along
from gradwitness.rules.registry import Array, rule


def _flat(x: Array) -> Array:
    return np.reshape(x, (math.prod(x.shape),))


def _terms(x: Array, src: Array, places: Array, include_self: bool) -> tuple[Array, Array]:
    """Return all numbers that are reduced, and their places; an element that gets none is kept."""
    size = math.prod(x.shape)
    used = src[tuple(slice(n) for n in places.shape)]
    met = np.bincount(np.ravel(places), minlength=size) > 0
    own = np.flatnonzero(np.ones(size, dtype=bool) if include_self else ~met)
    numbers = np.concatenate([_flat(x)[own], _flat(used)])
    return numbers, np.concatenate([own, np.ravel(places)])


def _counts(where: Array, size: int) -> Array:
    return np.bincount(where, minlength=size)


def _best(numbers: Array, where: Array, size: int, sign: int) -> Array:
    """Return the largest number of each place, or with a sign of -1 the smallest."""
    if np.any(np.isnan(numbers)):
        raise NotImplementedError("NaN among numbers of which the largest is taken")
    order = np.argsort(sign * numbers, kind="stable")
    last = np.zeros(size, dtype=np.int64)
    # Of several numbers written to one place the last one stays: the largest.
    last[where[order]] = order
    return numbers[last]


@rule(
    "aten.scatter_reduce",
    "y = reduce_at(x, dim, index, src, kind, include_self)",
    meaning="gives each number that was reduced its share of the gradient: all of it in a sum, "
    "over their count in a mean, and in equal parts to those that tie for the largest or smallest",
)
def scatter_reduce(
    x: Array, index: Array, src: Array, kind: str, *, dim: int, include_self: bool = True
) -> Array:
    size = math.prod(x.shape)
    numbers, where = _terms(x, src, along(x, dim, index), include_self)
    if kind in ("amax", "amin"):
        total = _best(numbers, where, size, 1 if kind == "amax" else -1)
    elif kind in ("sum", "mean"):
        total = np.bincount(where, weights=numbers, minlength=size)
    else:
        raise NotImplementedError(f"scatter_reduce of kind {kind!r}")
    if kind == "mean":
        total = total / _counts(where, size)
    return np.reshape(total, x.shape)


def _shares(
    g: Array, y: Array, x: Array, src: Array, places: Array, kind: str, include_self: bool
) -> tuple[Array, Array]:
    """Return the gradient of one term at each place, and where a term gets it."""
    size = math.prod(x.shape)
    numbers, where = _terms(x, src, places, include_self)
    each = _flat(g)
    if kind == "mean":
        return each / _counts(where, size), np.ones(size)
    if kind == "sum":
        return each, np.ones(size)
    if kind not in ("amax", "amin"):
        raise NotImplementedError(f"scatter_reduce of kind {kind!r}")
    hits = np.bincount(where[np.equal(numbers, _flat(y)[where])], minlength=size)
    return each / np.maximum(hits, 1), _flat(y)


@scatter_reduce.vjp("x", "reduce_self(g, y, x, dim, index, src, kind, include_self)")
def _(
    g: Array,
    y: Array,
    x: Array,
    index: Array,
    src: Array,
    kind: str,
    *,
    dim: int,
    include_self: bool = True,
) -> Array:
    places = along(x, dim, index)
    share, best = _shares(g, y, x, src, places, kind, include_self)
    kept = np.ones(math.prod(x.shape), dtype=bool)
    if not include_self:
        kept = np.bincount(np.ravel(places), minlength=kept.size) == 0
    if kind in ("amax", "amin"):
        kept = kept & np.equal(_flat(x), best)
    return np.reshape(np.where(kept, share, 0), x.shape)


@scatter_reduce.vjp("src", "reduce_source(g, y, x, dim, index, src, kind, include_self)")
def _(
    g: Array,
    y: Array,
    x: Array,
    index: Array,
    src: Array,
    kind: str,
    *,
    dim: int,
    include_self: bool = True,
) -> Array:
    if src.shape != index.shape:
        raise NotImplementedError("a source of another shape than its index")
    places = along(x, dim, index)
    share, best = _shares(g, y, x, src, places, kind, include_self)
    if kind in ("amax", "amin"):
        return np.where(np.equal(src, best[places]), share[places], 0)
    return share[places]
