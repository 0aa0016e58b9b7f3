"""Writing to places: along an axis, by a mask, into a part, onto a diagonal."""

from __future__ import annotations

import math
import string
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradwitness.rules.kernel_ops import times
from gradwitness.rules.registry import Array, Shaped, rule
from gradwitness.rules.shape.indexing import (
    Indices,
    added_up,
    filled,
    flat,
    numbered,
    once,
    picked,
    plus,
    rows_added,
)
from gradwitness.rules.shape.shape import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

Size: TypeAlias = tuple[int, ...]


def _rows(x: Array, dim: int, index: Array) -> Array:
    """Return the places of x in the rows that an index names along an axis."""
    if not x.ndim:
        return np.reshape(np.zeros_like(index), ())
    return np.take(numbered(x), np.ravel(index), axis=dim)


def _rows_apart(shapes: Mapping[str, Size], parameters: Mapping[str, Any]) -> str:
    """Return the axes that rows leave apart, see `Rule`: all but that along which they lie."""
    axes = [*string.ascii_letters[: len(shapes["x"])]]
    if not axes:
        return ""
    axes[parameters["dim"]] = "_"
    x = "".join(axes)
    return f"{x},,{x}->{x}"


@rule(
    "aten.index_add",
    "y = x + alpha * add_rows(source, x, dim, index)",
    meaning="passes the gradient on, and gives the source, times alpha, that of the rows it was "
    "added to",
    apart=_rows_apart,
)
def index_add(x: Array, index: Array, source: Array, *, dim: int, alpha: Any = 1) -> Array:
    if not x.ndim:
        return plus(x, alpha * source, _rows(x, dim, index))
    # One sum of what stands there and what is added.
    rows = np.concatenate([x, times(alpha, source)], axis=dim)
    places = np.concatenate([np.arange(x.shape[dim], like=index), np.ravel(index)])
    return rows_added(rows, places, x.shape[dim], dim)


index_add.vjps(x="g")


@index_add.vjp("source", "alpha * take(g, dim, index)")
def _(g: Array, index: Array, source: Shaped, *, dim: int, alpha: Any) -> Array:
    taken = np.take(g, np.ravel(index), axis=dim) if g.ndim else g
    return times(alpha, np.reshape(taken, source.shape))


@rule(
    "aten.index_copy",
    "y = put_rows(x, dim, index, source)",
    meaning="gives the source the gradient of the rows that it was written to, and zero to what it "
    "was written over",
)
def index_copy(x: Array, index: Array, source: Array, *, dim: int) -> Array:
    places = once(_rows(x, dim, index))
    return filled(x, places, np.reshape(source, places.shape))


index_copy.vjp("x", "put_rows(g, dim, index, 0)")(
    lambda g, x, index, *, dim: filled(g, _rows(x, dim, index), 0)
)


@index_copy.vjp("source", "take(g, dim, index)")
def _(g: Array, x: Array, index: Array, source: Shaped, *, dim: int) -> Array:
    return np.reshape(flat(g)[once(_rows(x, dim, index))], source.shape)


@rule(
    "aten.index_fill",
    "y = put_rows(x, dim, index, value)",
    meaning="stops the gradient in the rows that were filled; the value gets the sum of what was "
    "stopped",
)
def index_fill(x: Array, index: Array, value: Any, *, dim: int) -> Array:
    return filled(x, _rows(x, dim, index), value)


index_fill.vjp("x", "put_rows(g, dim, index, 0)")(
    lambda g, x, index, *, dim: filled(g, _rows(x, dim, index), 0)
)
index_fill.vjp("value", "take(g, dim, distinct(index))")(
    lambda g, x, index, *, dim: flat(g)[np.unique(_rows(x, dim, index))]
)


@rule(
    "aten.take",
    "y = take_flat(x, index)",
    meaning="adds each gradient to the element that was taken",
)
def take(x: Array, index: Array) -> Array:
    return flat(x)[index]


take.vjp("x", "put_flat(0 * x, index, g, True)")(
    lambda g, x, index: added_up(g, flat(numbered(x))[index], x)
)


@rule(
    "aten.put",
    "y = put_flat(x, index, source, accumulate)",
    meaning="gives the source the gradient at the places it was put; what it was put over gets "
    "zero, or, where it was added, the gradient unchanged",
)
def put(x: Array, index: Array, source: Array, *, accumulate: bool = False) -> Array:
    places = np.ravel(flat(numbered(x))[index])
    if accumulate:
        return plus(x, source, places)
    return filled(x, once(places), flat(source))


put.vjp("x", "g if accumulate else put_flat(g, index, 0 * source, False)")(
    lambda g, x, index, *, accumulate: g if accumulate else filled(g, flat(numbered(x))[index], 0)
)


@put.vjp("source", "reshape(take_flat(g, index), shape(source))")
def _(g: Array, index: Array, source: Shaped) -> Array:
    return np.reshape(flat(g)[index], source.shape)


def _masked(x: Array, mask: Array) -> Array:
    """Return the places of x, in order, where a mask is true."""
    both = np.broadcast_shapes(x.shape, mask.shape)
    return np.broadcast_to(numbered(x), both)[np.broadcast_to(mask, both)]


@rule(
    "aten.masked_scatter",
    "y = fill_in(x, mask, source)",
    meaning="stops the gradient where the mask was true, and gives it to the source, in order, "
    "with zeros for what was not used",
)
def masked_scatter(x: Array, mask: Array, source: Array) -> Array:
    x = np.broadcast_to(x, np.broadcast_shapes(x.shape, mask.shape))
    places = _masked(x, mask)
    return filled(x, places, flat(source)[: places.size])


masked_scatter.vjps(x="where(mask, 0, g)")


@masked_scatter.vjp("source", "fill_first(source, select_where(g, mask))")
def _(g: Array, mask: Array, source: Shaped) -> Array:
    places = _masked(g, mask)
    out = np.zeros_like(g, shape=(math.prod(source.shape),))
    out[: places.size] = flat(g)[places]
    return np.reshape(out, source.shape)


def _over(x: Array, dim: int, which: Any) -> Array:
    """Return the places of x that an index or a slice along an axis names."""
    return numbered(x)[(*(slice(None),) * (dim % x.ndim), which)]


@rule(
    "aten.select_scatter",
    "y = overwrite(x, src, dim, index)",
    meaning="gives the source the gradient of the layer that it was written to, and zero to what "
    "it was written over",
)
def select_scatter(x: Array, src: Array, *, dim: int, index: int) -> Array:
    return filled(x, _over(x, dim, index), src)


select_scatter.vjp("x", "overwrite(g, 0 * src, dim, index)")(
    lambda g, x, *, dim, index: filled(g, _over(x, dim, index), 0)
)
select_scatter.vjp("src", "select(g, dim, index)")(
    lambda g, x, *, dim, index: flat(g)[_over(x, dim, index)]
)


@rule(
    "aten.slice_scatter",
    "y = overwrite(x, src, dim, start, end, step)",
    meaning="gives the source the gradient of the slice that it was written to, and zero to what "
    "it was written over",
)
def slice_scatter(
    x: Array,
    src: Array,
    *,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Array:
    return filled(x, _over(x, dim, slice(start, end, step)), src)


slice_scatter.vjp("x", "overwrite(g, 0 * src, dim, start, end, step)")(
    lambda g, x, *, dim, start, end, step: filled(g, _over(x, dim, slice(start, end, step)), 0)
)
slice_scatter.vjp("src", "slice(g, dim, start, end, step)")(
    lambda g, x, *, dim, start, end, step: flat(g)[_over(x, dim, slice(start, end, step))]
)


def _diagonal(x: Array, offset: int, dim1: int, dim2: int) -> tuple[Size, Array]:
    """Return the shape with a diagonal for the last axis of x, and the places on it."""
    n = x.shape[-1] + abs(offset)
    sizes = list(x.shape[:-1])
    for dim in sorted((dim1 % (x.ndim + 1), dim2 % (x.ndim + 1))):
        sizes.insert(dim, n)
    numbers = np.reshape(np.arange(math.prod(sizes), like=x), sizes)
    return tuple(sizes), np.diagonal(numbers, offset, dim1, dim2)


@rule(
    "aten.diag_embed",
    "y = embed_diagonal(x, offset, dim1, dim2)",
    meaning="reads the gradient off the diagonal",
)
def diag_embed(x: Array, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Array:
    sizes, places = _diagonal(x, offset, dim1, dim2)
    return filled(np.zeros_like(x, shape=sizes), places, x)


diag_embed.vjp("x", "diagonal_of(g, offset, dim1, dim2)")(
    lambda g, *, offset, dim1, dim2: np.diagonal(g, offset, dim1, dim2)
)


def _on_diagonal(x: Array, offset: int, dim1: int, dim2: int) -> Array:
    return np.diagonal(numbered(x), offset, dim1, dim2)


@rule(
    "aten.diagonal_scatter",
    "y = overwrite_diagonal(x, src, offset, dim1, dim2)",
    meaning="gives the source the gradient of the diagonal that it was written to, and zero to "
    "what it was written over",
)
def diagonal_scatter(
    x: Array, src: Array, *, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Array:
    return filled(x, _on_diagonal(x, offset, dim1, dim2), src)


diagonal_scatter.vjp("x", "overwrite_diagonal(g, 0 * src, offset, dim1, dim2)")(
    lambda g, x, *, offset, dim1, dim2: filled(g, _on_diagonal(x, offset, dim1, dim2), 0)
)
diagonal_scatter.vjp("src", "diagonal_of(g, offset, dim1, dim2)")(
    lambda g, *, offset, dim1, dim2: np.diagonal(g, offset, dim1, dim2)
)


@rule(
    "aten.as_strided_scatter",
    "y = put_flat(x, strided(size, stride, storage_offset), src, False)",
    meaning="gives the source the gradient of the strided view that it was written to, and zero to "
    "what it was written over",
)
def as_strided_scatter(
    x: Array,
    src: Array,
    *,
    size: Size,
    stride: Size,
    storage_offset: int | None = None,
    memory: Array | None = None,
) -> Array:
    return filled(x, once(shown(size, stride, storage_offset, memory)), src)


as_strided_scatter.vjp("x", "put_flat(g, strided(size, stride, storage_offset), 0 * src, False)")(
    lambda g, *, size, stride, storage_offset, memory: filled(
        g, shown(size, stride, storage_offset, memory), 0
    )
)
as_strided_scatter.vjp("src", "take_flat(g, strided(size, stride, storage_offset))")(
    lambda g, *, size, stride, storage_offset, memory: flat(g)[
        once(shown(size, stride, storage_offset, memory))
    ]
)


def _where_masked(x: Array, mask: Array, indices: Indices) -> tuple[Array, Array]:
    """Return the places of x that indices name, and where a mask lets them count.

    Where it does not they may lie outside.
    """
    inside = tuple(
        None if index is None else np.clip(index, -n, n - 1)
        for index, n in zip(indices, x.shape, strict=False)
    )
    places = picked(numbered(x), inside)
    return places, np.broadcast_to(mask, places.shape)


@rule(
    "aten._unsafe_masked_index",
    "y = masked_pick(x, mask, indices, fill)",
    meaning="adds each gradient to the element that was picked by index, where the mask was true",
    node="UnsafeMaskedIndexBackward",
)
def unsafe_masked_index(x: Array, mask: Array, indices: Indices, *, fill: Any) -> Array:
    places, kept = _where_masked(x, mask, indices)
    return np.where(kept, flat(x)[places], fill)


@unsafe_masked_index.vjp("x", "masked_put(0 * x, mask, indices, g)")
def _(g: Array, x: Array, mask: Array, indices: Indices) -> Array:
    places, kept = _where_masked(x, mask, indices)
    return added_up(g[kept], places[kept], x)


@rule(
    "aten._unsafe_masked_index_put_accumulate",
    "y = masked_put(x, mask, indices, values)",
    meaning="passes the gradient on, and gives the values that of the places they were added to, "
    "where the mask was true",
    node="UnsafeMaskedIndexPutAccumulateBackward",
)
def unsafe_masked_index_put(x: Array, mask: Array, indices: Indices, values: Array) -> Array:
    places, kept = _where_masked(x, mask, indices)
    return plus(x, np.broadcast_to(values, places.shape)[kept], places[kept])


unsafe_masked_index_put.vjps(x="g")


@unsafe_masked_index_put.vjp("values", "masked_pick(g, mask, indices, 0)")
def _(g: Array, x: Array, mask: Array, indices: Indices) -> Array:
    places, kept = _where_masked(x, mask, indices)
    return np.where(kept, flat(g)[places], 0)
