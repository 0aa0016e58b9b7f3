"""Picking elements by index or by mask, and writing to the places that they name.

The backward of picking adds each gradient to the place that its element came from. A place may be
named many times: it gets one sum of all its gradients, whose bound holds for every order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness.rules.kernel_ops import added_rows, is_complex, paired
from gradwitness.rules.kernel_ops import where as chosen
from gradwitness.rules.registry import Array, Shaped, rule

if TYPE_CHECKING:
    from collections.abc import Mapping

# Indices of advanced indexing, by axis; None takes a whole axis.
Indices: TypeAlias = "tuple[Array | None, ...]"


def numbered(x: Array) -> Array:
    """Return the number of each place of an array, in its shape."""
    return np.reshape(np.arange(math.prod(x.shape), like=x), x.shape)


def _by_place(places: Array, numbers: Array, size: int) -> Array:
    if not is_complex(numbers):
        return np.bincount(places, weights=numbers, minlength=size)
    parts = (np.real(numbers), np.imag(numbers))
    return paired(*(np.bincount(places, weights=part, minlength=size) for part in parts))


def flat(x: Array) -> Array:
    """Return the elements of an array along one axis."""
    return np.reshape(x, (math.prod(x.shape),))


def added_up(g: Array, places: Array, x: Array) -> Array:
    """Add up, for each place of x, the gradients that belong to it."""
    places = np.asarray(np.ravel(places), like=x)
    return np.reshape(_by_place(places, flat(g), math.prod(x.shape)), x.shape)


def plus(x: Array, src: Array, places: Array) -> Array:
    """Add numbers to the places that they belong to, each element and its numbers in one sum."""
    size = math.prod(x.shape)
    where = np.concatenate([np.arange(size, like=x), np.asarray(np.ravel(places), like=x)])
    return np.reshape(_by_place(where, np.concatenate([flat(x), flat(src)]), size), x.shape)


def rows_added(g: Array, index: Array, count: int, dim: int = 0) -> Array:
    """Add up, for each row along an axis, those rows of g whose index names it."""
    rows = np.moveaxis(g, dim, 0)
    added = added_rows(rows, np.arange(rows.shape[0], like=rows), np.ravel(index), count)
    return np.moveaxis(added, 0, dim)


def last_ones(places: Array, size: int) -> Array:
    """Return for each place to which numbers belong which is the last of them.

    What stays of several that are assigned to one place is not said on every device.
    """
    ends = np.cumsum(np.bincount(places, minlength=size), axis=0) - 1
    return np.argsort(places, kind="stable")[ends] if places.size else ends


def once(places: Array) -> Array:
    """Return places of which none may be named twice, by what is written to them."""
    if not places.size:
        return places
    named = np.zeros(int(np.max(places)) + 1, dtype=bool, like=places)
    named[np.ravel(places)] = True
    if np.count_nonzero(named) != places.size:
        raise NotImplementedError("several numbers written to one place: which of them stays?")
    return places


@rule(
    "aten.index_select",
    "y = take(x, dim, listed(index))",
    meaning="adds the gradient to the rows that the index named, as often as it named them",
)
def index_select(x: Array, index: Array, *, dim: int) -> Array:
    # A number has no axis, and stays one; an index without an axis is a list of one.
    return np.take(x, np.ravel(index), axis=dim) if x.ndim else x


@index_select.vjp("x", "add_rows(g, x, dim, listed(index))")
def _(g: Array, x: Array, index: Array, *, dim: int) -> Array:
    return rows_added(g, index, x.shape[dim], dim) if x.ndim else g


def over_count(rows: Array, groups: Array, count: int) -> Array:
    """Divide each row by the size of its group: kernels multiply by the reciprocal of that."""
    sizes = np.bincount(groups, minlength=count)
    share: Array = np.ones_like(rows, shape=sizes.shape) / np.maximum(sizes, 1)
    return rows * np.take(share, groups)[:, None]


def _columns_apart(shapes: Mapping[str, tuple[int, ...]], _parameters: Any) -> str:
    """Return the axis that a table leaves apart, see `Rule`: that of its columns."""
    return "_d,->" + "_" * len(shapes["indices"]) + "d"


@rule(
    "aten.embedding",
    "y = take(weight, 0, indices)",
    meaning="adds the gradient to the rows of the table that were looked up, except padding_idx",
    ignores=("sparse",),
    apart=_columns_apart,
    moves=True,
)
def embedding(
    weight: Array,
    indices: Array,
    *,
    padding_idx: int = -1,  # noqa: ARG001 (the vjp reads it)
    scale_grad_by_freq: bool = False,  # noqa: ARG001
) -> Array:
    return np.take(weight, indices, axis=0)


@embedding.vjp("weight", "add_rows(g, weight, 0, indices, padding_idx, scale_grad_by_freq)")
def _(
    g: Array, weight: Array, indices: Array, *, padding_idx: int, scale_grad_by_freq: bool
) -> Array:
    kept = indices != padding_idx
    rows, count = g[kept], weight.shape[0]
    if scale_grad_by_freq:
        rows = over_count(rows, indices[kept], count)
    return rows_added(rows, indices[kept], count)


def along(x: Array, dim: int, index: Array) -> Array:
    """Return the places of x that an index along one axis names; what has no axis has one of 1."""
    if not index.size:
        return index
    numbers, listed = np.atleast_1d(numbered(x)), np.atleast_1d(index)
    within = tuple(
        slice(None if k == dim % numbers.ndim else n) for k, n in enumerate(listed.shape)
    )
    return np.reshape(np.take_along_axis(numbers[within], listed, axis=dim), index.shape)


@rule(
    "aten.gather",
    "y = gather(x, dim, index)",
    meaning="adds each gradient to the element that was gathered",
    ignores=("sparse_grad",),
)
def gather(x: Array, index: Array, *, dim: int) -> Array:
    return flat(x)[along(x, dim, index)]


gather.vjp("x", "scatter_add(0 * x, dim, index, g)")(
    lambda g, x, index, *, dim: added_up(g, along(x, dim, index), x)
)


def _is_number(src: Any) -> bool:
    return not getattr(src, "shape", ())


def _read(index: Array) -> tuple[slice, ...]:
    """Return which part of a source an index reads."""
    return tuple(slice(n) for n in index.shape or (1,))


def used(src: Array, index: Array) -> Array:
    """Return the part of a source that an index reads; a number is read everywhere."""
    if _is_number(src):
        return src
    return np.reshape(src[_read(index)], index.shape)


def filled(x: Array, places: Array, src: Array) -> Array:
    """Return a copy of x with numbers of the source at places, each named once."""
    out = np.zeros_like(x, shape=(math.prod(x.shape),))
    out[...] = flat(x)
    out[places] = src
    return np.reshape(out, x.shape)


def given_back(shares: Array, src: Shaped) -> Array:
    """Return the gradient of a source from that of the part which was read: 0 for the rest."""
    out = np.zeros_like(shares, shape=src.shape or (1,))
    out[_read(shares)] = shares
    return np.reshape(out, src.shape)


@rule(
    "aten.scatter",
    "y = scatter(x, dim, index, src)",
    meaning="gives the source the gradient at the places it was written to, and zero to what it "
    "was written over",
)
def scatter(x: Array, index: Array, src: Array, *, dim: int) -> Array:
    places = along(x, dim, index)
    return filled(x, places if _is_number(src) else once(places), used(src, index))


scatter.vjp("x", "scatter(g, dim, index, 0)")(
    lambda g, x, index, *, dim: filled(g, along(x, dim, index), 0)
)
scatter.vjp("src", "gather(g, dim, index)")(
    lambda g, x, index, src, *, dim: given_back(flat(g)[once(along(x, dim, index))], src)
)


@rule(
    "aten.scatter_add",
    "y = scatter_add(x, dim, index, src)",
    meaning="passes the gradient on, and gives the source that of the places it was added to",
)
def scatter_add(x: Array, index: Array, src: Array, *, dim: int) -> Array:
    places = along(x, dim, index)
    return plus(x, np.broadcast_to(used(src, index), places.shape), places)


scatter_add.vjps(x="g")
scatter_add.vjp("src", "gather(g, dim, index)")(
    lambda g, x, index, src, *, dim: given_back(flat(g)[along(x, dim, index)], src)
)


def picked(x: Array, indices: Indices) -> Array:
    if any(index is not None and index.dtype == np.uint8 for index in indices):
        raise NotImplementedError("a mask of bytes")
    return x[tuple(slice(None) if index is None else index for index in indices)]


@rule(
    "aten.index",
    "y = pick(x, indices)",
    meaning="adds each gradient to the element that was picked by index",
    aliases=("aten._unsafe_index",),
)
def index_(x: Array, indices: Indices) -> Array:
    return picked(x, indices)


@index_.vjp("x", "put(0 * x, indices, g, True)")
def _(g: Array, x: Array, indices: Indices) -> Array:
    first, *others = indices
    if first is not None and first.dtype.kind == "i" and all(n is None for n in others):
        rows = np.reshape(g, (first.size, *x.shape[1:]))
        return rows_added(rows, first % max(1, x.shape[0]), x.shape[0])
    return added_up(g, picked(numbered(x), indices), x)


@rule(
    "aten.index_put",
    "y = put(x, indices, values, accumulate)",
    meaning="gives the values the gradient at the places they were put; what they were put over "
    "gets zero, or, where they were added, the gradient unchanged",
    aliases=("aten._index_put_impl",),
    ignores=("unsafe",),
)
def index_put(x: Array, indices: Indices, values: Array, *, accumulate: bool = False) -> Array:
    places = picked(numbered(x), indices)
    spread = np.broadcast_to(values, places.shape)
    if accumulate:
        return plus(x, spread, places)
    return filled(x, places if math.prod(values.shape) == 1 else once(places), spread)


@index_put.vjp("x", "put(g, indices, 0, accumulate)")
def _(g: Array, x: Array, indices: Indices, *, accumulate: bool) -> Array:
    return g if accumulate else filled(g, picked(numbered(x), indices), 0)


@index_put.vjp("values", "pick(g, indices)")
def _(g: Array, x: Array, indices: Indices, *, accumulate: bool) -> Array:
    if not accumulate:
        once(picked(numbered(x), indices))
    return picked(g, indices)


@rule(
    "aten.where",
    "y = where(condition, a, b)",
    meaning="sends each gradient to the branch that was taken",
    moves=True,
)
def where(condition: Array, a: Array, b: Array) -> Array:
    return chosen(condition, a, b)


where.vjps(a="where(condition, g, 0)", b="where(condition, 0, g)")


@rule(
    "aten.masked_fill",
    "y = where(mask, value, x)",
    meaning="stops the gradient where the mask was filled; the value gets the sum of what it "
    "stopped",
    moves=True,
)
def masked_fill(x: Array, mask: Array, value: Array) -> Array:
    return chosen(mask, value, x)


masked_fill.vjps(x="where(mask, 0, g)", value="where(mask, g, 0)")


@rule(
    "aten.masked_select",
    "y = select_where(x, mask)",
    meaning="puts the gradient back at the places where the mask was true, among zeros",
)
def masked_select(x: Array, mask: Array) -> Array:
    both = np.broadcast_shapes(x.shape, mask.shape)
    return np.broadcast_to(x, both)[np.broadcast_to(mask, both)]


@masked_select.vjp("x", "unselect(g, x, mask)")
def _(g: Array, x: Array, mask: Array) -> Array:
    both = np.broadcast_shapes(x.shape, mask.shape)
    out = np.zeros_like(g, shape=both)
    out[np.broadcast_to(mask, both)] = g
    return out
