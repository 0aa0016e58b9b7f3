"""Questions about numbers, whose answers are truth values, places and counts: no gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwitness.rules.kernel_ops import accumulate_in_format, ignore_error, require_certain
from gradwitness.rules.reduce.sum_mean import Dim, axes
from gradwitness.rules.registry import Array, rule


@rule("aten.any", "y = any_of(x, dim, keepdim)", aliases=("aten._is_any_true",))
def any_(x: Array, *, dim: Dim = None, keepdim: bool = False) -> Array:
    return np.any(np.not_equal(x, 0), axis=axes(dim, x.ndim), keepdims=keepdim)


@rule("aten.all", "y = all_of(x, dim, keepdim)", aliases=("aten._is_all_true",))
def all_(x: Array, *, dim: Dim = None, keepdim: bool = False) -> Array:
    return np.all(np.not_equal(x, 0), axis=axes(dim, x.ndim), keepdims=keepdim)


def _extreme(index_of: Any, x: Array, dim: int | None, keepdim: bool) -> Array:
    # Of those that tie the first; NaN counts as the largest and as the smallest.
    if dim is None or not x.ndim:
        index = index_of(np.reshape(x, (math.prod(x.shape),)), axis=0)
        return np.reshape(index, (1,) * x.ndim if keepdim else ())
    return index_of(x, axis=dim, keepdims=keepdim)


@rule("aten.argmax", "y = place_of_largest(x, dim, keepdim)")
def argmax(x: Array, *, dim: int | None = None, keepdim: bool = False) -> Array:
    return _extreme(np.argmax, x, dim, keepdim)


@rule("aten.argmin", "y = place_of_largest(-x, dim, keepdim)")
def argmin(x: Array, *, dim: int | None = None, keepdim: bool = False) -> Array:
    return _extreme(np.argmin, x, dim, keepdim)


@rule("aten.nonzero", "y = places_not_0(x)")
def nonzero(x: Array) -> Array:
    return np.argwhere(np.not_equal(x, 0))


@rule("aten.nonzero_static", "y = padded_places_not_0(x, size, fill_value)")
def nonzero_static(x: Array, *, size: int, fill_value: int = -1) -> Array:
    places = np.argwhere(np.not_equal(x, 0))[:size]
    out = np.zeros((size, x.ndim), np.int64, like=x) + fill_value
    out[: len(places)] = places
    return out


@rule("aten.hash_tensor", "y = xor_of_bits(x, dim, keepdim)", ignores=("mode",))
def hash_tensor(x: Array, *, dim: Dim = (), keepdim: bool = False) -> Array:
    numbers = ignore_error(x)
    wide = numbers.astype(np.float64 if numbers.dtype.kind == "f" else np.int64)
    form: Any = {"axis": axes(dim or None, x.ndim), "keepdims": keepdim}
    return np.bitwise_xor.reduce(wide.view(np.uint64), **form)


def _slots(edges: Array, x: Array, right: bool) -> Array:
    """Return how many edges lie below each number, or with ``right`` not above it."""
    side: Any = "right" if right else "left"
    if edges.ndim == 1:
        return np.searchsorted(edges, x, side=side)
    rows = np.reshape(edges, (-1, edges.shape[-1]))
    items = np.reshape(x, (rows.shape[0], x.shape[-1]))
    pairs = (np.searchsorted(rows[k], items[k], side=side) for k in range(rows.shape[0]))
    return np.reshape(np.stack(list(pairs)), x.shape)


@rule("aten.bucketize", "y = count_below(boundaries, x, right)", ignores=("out_int32",))
def bucketize(x: Array, boundaries: Array, *, right: bool = False) -> Array:
    return _slots(boundaries, x, right)


@rule(
    "aten.searchsorted",
    "y = count_below(edges, x, right or side == 'right')",
    ignores=("out_int32", "sorter"),
)
def searchsorted(edges: Array, x: Array, *, right: bool = False, side: str | None = None) -> Array:
    return _slots(edges, x, right or side == "right")


@rule("aten.repeat_interleave", "y = each_place(repeats)", ignores=("output_size",))
def repeat_interleave(repeats: Array) -> Array:
    return np.repeat(np.arange(len(repeats), like=repeats), repeats)


@rule("aten.isin", "y = is_member(elements, test_elements, invert)", ignores=("assume_unique",))
def isin(elements: Array, test_elements: Array, *, invert: bool = False) -> Array:
    among = np.reshape(test_elements, (-1,))
    equal = np.equal(np.expand_dims(elements, -1), among)
    return np.any(equal, axis=-1) != invert


@rule("aten.histc", "y = histogram(x, bins, min, max)", composite=True)
def histc(x: Array, *, bins: int = 100, min: Any = 0, max: Any = 0) -> Array:  # noqa: A002
    numbers = ignore_error(x)
    if min == max and numbers.size:
        min, max = np.min(numbers), np.max(numbers)  # noqa: A001
    if min == max:
        min, max = min - 1, max + 1  # noqa: A001
    inside = (numbers >= min) & (numbers <= max)
    reach = (x[inside] - min) * bins
    position = reach / (max - min)
    # Such small whole numbers are exact in every format, and so is their quotient if it is whole.
    reached = ignore_error(reach)
    exact = (np.abs(reached) <= 256) & (reached == np.rint(reached))
    exact &= ignore_error(position) == np.rint(ignore_error(position))
    position = np.where(exact, ignore_error(position), position)
    # The last bin holds its upper end.
    bin_of = require_certain(np.floor(np.minimum(position, bins - 0.5)))
    bin_of = bin_of.astype(np.int64)
    counts = np.bincount(bin_of, minlength=bins)
    if np.all(counts <= 256):
        return counts.astype(np.float64)
    # Each bin is counted up in the tensor's format, in which 1 may be too little to add.
    return np.bincount(
        bin_of, weights=accumulate_in_format(np.ones_like(x[inside])), minlength=bins
    )


@rule("aten.count_nonzero", "y = count_not_0(x, dim)")
def count_nonzero(x: Array, *, dim: Dim = None) -> Array:
    return np.sum(np.not_equal(x, 0), axis=axes(dim, x.ndim))


@rule("aten.bincount", "y = counts(x, weights, minlength)")
def bincount(x: Array, weights: Array | None, *, minlength: int = 0) -> Array:
    return np.bincount(x, weights=weights, minlength=minlength)


def _distinct(rows: Array, order: Array, inverse: bool, counts: bool) -> tuple[Array, ...]:
    """Return which rows are the first of their kind in an order, their numbers and how many."""
    moved = np.asarray(np.ones(len(order), bool), like=order)
    # NaN equals nothing, not even itself.
    moved[1:] = np.any(rows[order][1:] != rows[order][:-1], axis=1)
    begins = np.flatnonzero(moved)
    number = np.zeros(len(order), np.int64, like=order)
    number[order] = np.cumsum(moved) - 1
    none = np.zeros(0, np.int64, like=order)
    lengths = np.diff(np.append(begins, len(order)))
    return order[begins], number if inverse else none, lengths if counts else none


def _rows(x: Array, dim: int) -> Array:
    """Return the layers of x along an axis, each as a row of numbers."""
    layers = np.moveaxis(ignore_error(x), dim, 0)
    return np.reshape(layers, (len(layers), math.prod(layers.shape[1:])))


@rule(
    "aten._unique2",
    "y = distinct_numbers(x, return_inverse, return_counts)",
    ignores=("sorted",),
)
def unique2(
    x: Array, *, return_inverse: bool = False, return_counts: bool = False
) -> tuple[Array, ...]:
    flat = np.reshape(x, (math.prod(x.shape),))
    rows = _rows(flat, 0)
    order = np.argsort(rows[:, 0], kind="stable")
    first, inverse, counts = _distinct(rows, order, return_inverse, return_counts)
    return flat[first], np.reshape(inverse, x.shape) if return_inverse else inverse, counts


@rule(
    "aten.unique_dim",
    "y = distinct_layers(x, dim, return_inverse, return_counts)",
    ignores=("sorted",),
)
def unique_dim(
    x: Array,
    *,
    dim: int,
    # It returns the two others whether they are asked for or not.
    return_inverse: bool = False,  # noqa: ARG001
    return_counts: bool = False,  # noqa: ARG001
) -> tuple[Array, ...]:
    rows = _rows(x, dim)
    order = np.lexsort(rows.T[::-1]) if rows.size else np.arange(len(rows), like=rows)
    first, inverse, counts = _distinct(rows, order, True, True)
    return np.take(x, first, axis=dim), inverse, counts


@rule("aten.unique_consecutive", "y = runs(x, return_inverse, return_counts, dim)")
def unique_consecutive(
    x: Array,
    *,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> tuple[Array, ...]:
    source = np.reshape(x, (math.prod(x.shape),)) if dim is None else x
    axis = 0 if dim is None else dim
    rows = _rows(source, axis)
    # Along an axis it returns the two others whether they are asked for or not.
    returned = (return_inverse or dim is not None, return_counts or dim is not None)
    first, inverse, counts = _distinct(rows, np.arange(len(rows), like=rows), *returned)
    if return_inverse and dim is None:
        inverse = np.reshape(inverse, x.shape)
    return np.take(source, first, axis=axis), inverse, counts
