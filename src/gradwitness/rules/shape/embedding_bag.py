"""Bags of rows of a table: their sum, mean, or largest elements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.kernel_ops import added_rows
from gradwitness.rules.reduce.norms import length
from gradwitness.rules.registry import UNMADE, Array, rule
from gradwitness.rules.shape.indexing import added_up, over_count, rows_added

if TYPE_CHECKING:
    from collections.abc import Mapping

_SUM, _MEAN = 0, 1


def _bags(indices: Array, offsets: Array, last: bool, padding_idx: int) -> tuple[Array, Array]:
    """Return the bag that each index belongs to, and whether it counts."""
    starts = offsets[:-1] if last else offsets
    begun = np.bincount(starts, minlength=indices.size)[: indices.size]
    return np.cumsum(begun, axis=0) - 1, indices != padding_idx


def _count(offsets: Array, last: bool) -> int:
    return int(offsets.size - last)


def _largest(
    rows: Array, named: Array, bag: Array, count: int, recorded: Array
) -> tuple[Array, Array]:
    """Return the largest element of each bag along its rows, 0 in an empty bag, and whose it is.

    Where several are as large, the recorded index is taken if it is one of theirs.
    """
    out, chosen = np.zeros_like(rows, shape=(count, rows.shape[1])), np.copy(recorded)
    for k in np.unique(bag):
        own, members = rows[bag == k], named[bag == k]
        out[k] = np.max(own, axis=0)
        largest = np.equal(own, out[k]) | np.isnan(own)
        is_right = np.any(largest & (members[:, None] == recorded[k]), axis=0)
        chosen[k] = np.where(is_right, recorded[k], members[np.argmax(largest, axis=0)])
    return out, chosen


def _columns_apart(_shapes: Mapping[str, tuple[int, ...]], parameters: Mapping[str, Any]) -> str:
    """Return the axis that a table leaves apart, see `Rule`: that of its columns."""
    chosen = UNMADE if parameters["mode"] in (_SUM, _MEAN) else "_d"
    return f"_d,_,_,_->_d,{UNMADE},{UNMADE},{chosen}"


@rule(
    "aten._embedding_bag",
    "y = bags(weight, indices, offsets, mode, per_sample_weights, include_last_offset, "
    "padding_idx), None, None, chosen if mode == 2 else None",
    meaning="adds each bag's gradient to the rows that are in it, divided by their number for a "
    "mean; for the largest to those whose index the forward pass returned",
    ignores=("sparse",),
    given={"chosen": 3},
    apart=_columns_apart,
    # The gradient of a weight of a row is a sum over columns.
    apart_for={"per_sample_weights": ""},
)
def embedding_bag(
    weight: Array,
    indices: Array,
    offsets: Array,
    per_sample_weights: Array | None,
    *,
    scale_grad_by_freq: bool = False,  # noqa: ARG001 (the vjp reads it)
    mode: int = 0,
    include_last_offset: bool = False,
    padding_idx: int = -1,
    chosen: Array,
) -> tuple[Array, None, None, Array | None]:
    of, kept = _bags(indices, offsets, include_last_offset, padding_idx)
    count = _count(offsets, include_last_offset)
    if mode in (_SUM, _MEAN):
        if per_sample_weights is None:
            total = added_rows(weight, indices[kept], of[kept], count)
        else:
            rows = np.take(weight, indices[kept], axis=0) * per_sample_weights[kept][:, None]
            total = rows_added(rows, of[kept], count)
        if mode == _MEAN:
            total = total / np.maximum(np.bincount(of[kept], minlength=count), 1)[:, None]
        return total, None, None, None
    rows = np.take(weight, indices[kept], axis=0)
    total, own = _largest(rows, indices[kept], of[kept], count, chosen)
    return total, None, None, own


@embedding_bag.vjp(
    "weight",
    "bags_add(g[0], weight, indices, offsets, mode, per_sample_weights, include_last_offset, "
    "padding_idx, chosen, scale_grad_by_freq)",
)
def _(
    g: Any,
    weight: Array,
    indices: Array,
    offsets: Array,
    per_sample_weights: Array | None,
    *,
    scale_grad_by_freq: bool,
    mode: int,
    include_last_offset: bool,
    padding_idx: int,
    chosen: Array,
) -> Array:
    of, kept = _bags(indices, offsets, include_last_offset, padding_idx)
    if mode not in (_SUM, _MEAN):
        named = chosen >= 0
        filled = np.bincount(of[kept], minlength=len(named)) > 0
        named = named & filled[:, None]
        places = chosen * weight.shape[1] + np.arange(weight.shape[1], like=chosen)
        return added_up(g[0][named], places[named], weight)
    if mode == _SUM and per_sample_weights is None and not scale_grad_by_freq:
        return added_rows(g[0], of[kept], indices[kept], weight.shape[0])
    rows = np.take(g[0], of[kept], axis=0)
    if mode == _MEAN:
        rows = over_count(rows, of[kept], _count(offsets, include_last_offset))
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[kept][:, None]
    if scale_grad_by_freq:
        rows = over_count(rows, indices[kept], weight.shape[0])
    return rows_added(rows, indices[kept], weight.shape[0])


@embedding_bag.vjp(
    "per_sample_weights",
    "bags_dot(g[0], weight, indices, offsets, include_last_offset, padding_idx)",
)
def _(
    g: Any,
    weight: Array,
    indices: Array,
    offsets: Array,
    *,
    include_last_offset: bool,
    padding_idx: int,
) -> Array:
    of, kept = _bags(indices, offsets, include_last_offset, padding_idx)
    products = np.take(g[0], of, axis=0) * np.take(weight, indices, axis=0)
    return np.where(kept, np.sum(products, axis=1), 0)


# Rows whose length is as near to the longest as this may count as longer, or not: rounding decides.
_NEAR = 2.0**-20
# What torch adds to a length before it divides by it.
_SHY = 1e-7


@rule(
    "aten.embedding_renorm",
    "y = rows_shortened(weight, indices, max_norm, norm_type)",
    composite=True,
    doubles=("max_norm",),
)
def embedding_renorm(
    weight: Array,
    indices: Array,
    *,
    max_norm: Any,
    norm_type: Any,
    made: tuple[Any, ...] | None = None,
) -> Array:
    named = np.unique(indices)
    rows = weight[named]
    size = length(rows, norm_type, (1,), keepdims=True)
    longer = np.greater(size, max_norm)
    if made is not None:
        near = np.less(np.abs(size - max_norm), _NEAR * max_norm)
        moved = np.any(np.not_equal(made[0][named], rows), axis=1, keepdims=True)
        longer = np.where(near, moved, longer)
    out = np.concatenate([weight])  # a copy that dispatches
    out[named] = rows * np.where(longer, max_norm / (size + _SHY), 1)
    return out
