"""Reductions into places: sums, means, largest, smallest and products of what an index sends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.rules.kernel_ops import accumulate_in_format
from gradwitness.rules.registry import Array, Shaped, rule
from gradwitness.rules.shape.indexing import along, flat, given_back, last_ones, numbered, used

if TYPE_CHECKING:
    from collections.abc import Callable


def _terms(x: Array, src: Array, places: Array, include_self: bool) -> tuple[Array, Array]:
    """Return all numbers that are reduced, and their places; an element that gets none is kept."""
    size = math.prod(x.shape)
    if include_self:
        own = np.arange(size, like=places)
    else:
        own = np.flatnonzero(np.bincount(np.ravel(places), minlength=size) == 0)
    numbers = np.concatenate([flat(x)[own], flat(np.broadcast_to(used(src, places), places.shape))])
    return numbers, np.concatenate([own, np.ravel(places)])


def _best(numbers: Array, where: Array, size: int, sign: int) -> Array:
    """Return the largest number of each place, or with a sign of -1 the smallest."""
    if np.any(np.isnan(numbers)):
        raise NotImplementedError("NaN among numbers of which the largest is taken")
    order = np.argsort(sign * numbers, kind="stable")
    # In that order the last of each place is the largest.
    return numbers[order[last_ones(where[order], size)]]


def _products(numbers: Array, where: Array, size: int) -> Array:
    """Return the product of the numbers of each place."""
    order = np.argsort(where, kind="stable")
    counts: Array = np.bincount(where, minlength=size)
    # Each number's turn at its place; what is left of a row of factors is 1.
    turns = np.arange(where.size, like=where) - (np.cumsum(counts, axis=0) - counts)[where[order]]
    factors = np.ones_like(numbers, shape=(size, max(1, int(np.max(counts))) if size else 1))
    factors[where[order], turns] = numbers[order]
    return np.prod(accumulate_in_format(factors), axis=1)


def reduced(x: Array, src: Array, places: Array, kind: str, include_self: bool) -> Array:
    """Return x with what a source sends to places reduced there."""
    size = math.prod(x.shape)
    numbers, where = _terms(x, src, places, include_self)
    if kind in ("amax", "amin"):
        total = _best(numbers, where, size, 1 if kind == "amax" else -1)
    elif kind == "prod":
        total = _products(numbers, where, size)
    else:
        total = np.bincount(where, weights=numbers, minlength=size)
    if kind == "mean":
        total = total / np.bincount(where, minlength=size)
    return np.reshape(total, x.shape)


def _shares(
    g: Array, y: Array, x: Array, src: Array, places: Array, kind: str, include_self: bool
) -> tuple[Array, Array]:
    """Return the gradient of one term at each place, and where a term gets it."""
    size = math.prod(x.shape)
    numbers, where = _terms(x, src, places, include_self)
    if kind == "mean":
        return flat(g) / np.bincount(where, minlength=size), flat(y)
    if kind == "sum":
        return flat(g), flat(y)
    hits = np.bincount(where[np.equal(numbers, flat(y)[where])], minlength=size)
    return flat(g) / np.maximum(hits, 1), flat(y)


def _to_self(
    g: Array, y: Array, x: Array, src: Array, places: Array, kind: str, include_self: bool
) -> Array:
    kept = np.asarray(np.ones(math.prod(x.shape), dtype=bool), like=x)
    if not include_self:
        kept = np.bincount(np.ravel(places), minlength=kept.size) == 0
    if kind == "prod":
        # The product of the others, of which none is divided by 0.
        factor = np.where(np.equal(x, 0), 1, x)
        share = flat(g * reduced(factor, src, places, kind, include_self) / factor)
    else:
        share, best = _shares(g, y, x, src, places, kind, include_self)
        if kind in ("amax", "amin"):
            kept = kept & np.equal(flat(x), best)
    return np.reshape(np.where(kept, share, 0), x.shape)


def to_source(
    g: Array, y: Array, x: Array, src: Array, places: Array, kind: str, include_self: bool
) -> Array:
    sent = np.broadcast_to(used(src, places), places.shape)
    if kind == "prod":
        nought = np.equal(sent, 0)
        alone = nought & (np.bincount(places[nought], minlength=math.prod(x.shape))[places] == 1)
        rest = reduced(x, np.where(alone, 1, sent), places, kind, include_self)
        shares = flat(g * y)[places] / np.where(nought, 1, sent)
        shares = np.where(alone, flat(g * rest)[places], shares)
    else:
        share, best = _shares(g, y, x, src, places, kind, include_self)
        shares = share[places]
        if kind in ("amax", "amin"):
            shares = np.where(np.equal(sent, best[places]), shares, 0)
    return given_back(shares, src)


def _rows(x: Array, dim: int, index: Array, src: Array) -> Array:
    """Return the places of x that an index of rows sends a source to."""
    return np.reshape(np.take(np.atleast_1d(numbered(x)), index, axis=dim), src.shape)


_MEANING = (
    "gives each number that was reduced its share of the gradient: all of it in a sum, over their "
    "count in a mean, times the other factors in a product, and in equal parts to those that tie "
    "for the largest or smallest"
)


def _enter(op: str, index_text: str, places: Callable[[Shaped, int, Array, Shaped], Array]) -> None:
    """Enter the rule of a reduction; ``places`` says where an index sends a source to."""
    arguments = f"x, dim, {index_text}, src, kind, include_self"

    @rule(op, f"y = reduce_at({arguments})", meaning=_MEANING)
    def entered(
        x: Array, index: Array, src: Array, kind: str, *, dim: int, include_self: bool = True
    ) -> Array:
        return reduced(x, src, places(x, dim, index, src), kind, include_self)

    entered.vjp("x", f"reduce_self(g, y, {arguments})")(
        lambda g, y, x, index, src, kind, *, dim, include_self: _to_self(
            g, y, x, src, places(x, dim, index, src), kind, include_self
        )
    )
    entered.vjp("src", f"reduce_source(g, y, {arguments})")(
        lambda g, y, x, index, src, kind, *, dim, include_self: to_source(
            g, y, x, src, places(x, dim, index, src), kind, include_self
        )
    )


_enter("aten.scatter_reduce", "index", lambda x, dim, index, _: along(x, dim, index))
_enter("aten.index_reduce", "row_index(index, src, dim)", _rows)
