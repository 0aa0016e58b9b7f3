"""Views, copies and everything else that only moves numbers: all checked to the last bit."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from gradwitness.rules.registry import IN_BACKWARD, Array, Shaped, elementwise, rule
from gradwitness.rules.shape.indexing import added_up

Size: TypeAlias = tuple[int, ...]

# Why the numbers of a resized tensor may not be known.
UNSHOWN = "memory not shown by the tensor, or never written"


@rule(
    "aten.t",
    "y = x.T",
    meaning="is the transpose's backward: it transposes the gradient back",
    aliases=("aten.t_copy",),
)
def t(x: Array) -> Array:
    return x.T


t.vjp("x", "g.T")(lambda g: g.T)


@rule(
    "aten.transpose",
    "y = swap(x, dim0, dim1)",
    meaning="is the backward of swapping two axes: it swaps them in the gradient again",
    aliases=("aten.transpose_copy",),
)
def transpose(x: Array, *, dim0: int, dim1: int) -> Array:
    return np.swapaxes(x, dim0, dim1) if x.ndim else x


transpose.vjp("x", "swap(g, dim0, dim1)")(
    lambda g, *, dim0, dim1: np.swapaxes(g, dim0, dim1) if g.ndim else g
)


@rule(
    "aten.permute",
    "y = permute(x, dims)",
    meaning="is the backward of reordering axes: it puts the gradient's axes in the old order",
    aliases=("aten.permute_copy",),
)
def permute(x: Array, *, dims: Size) -> Array:
    return np.transpose(x, dims)


permute.vjp("x", "unpermute(g, dims)")(
    lambda g, *, dims: np.transpose(g, tuple(np.argsort([d % len(dims) for d in dims])))
)


def _reshaped(g: Array, x: Shaped) -> Array:
    return np.reshape(g, x.shape)


@rule(
    "aten.view",
    "y = reshape(x, size)",
    meaning="reshapes the gradient to the input's shape",
    aliases=("aten._unsafe_view", "aten._reshape_alias", "aten.view_copy"),
    ignores=("stride",),
)
def view(x: Array, *, size: Size) -> Array:
    return np.reshape(x, size)


view.vjp("x", "reshape(g, shape(x))")(_reshaped)


@rule(
    "aten.unsqueeze",
    "y = unsqueeze(x, dim)",
    meaning="removes from the gradient the axis that unsqueeze added",
    aliases=("aten.unsqueeze_copy",),
)
def unsqueeze(x: Array, *, dim: int) -> Array:
    return np.expand_dims(x, dim)


unsqueeze.vjp("x", "reshape(g, shape(x))")(_reshaped)


@rule(
    "aten.squeeze",
    "y = squeeze(x, dim)",
    meaning="puts the axes of size 1 that squeeze removed back into the gradient",
    aliases=("aten.squeeze_copy",),
)
def squeeze(x: Array, *, dim: int | Size | None = None) -> Array:
    named = range(x.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    return np.squeeze(x, tuple(d % x.ndim for d in named if x.ndim and x.shape[d] == 1))


squeeze.vjp("x", "reshape(g, shape(x))")(_reshaped)


@rule(
    "aten.expand",
    "y = expand(x, size)",
    meaning="sums the gradient over the axes along which the input was repeated",
    aliases=("aten.expand_copy",),
)
def expand(x: Array, *, size: Size) -> Array:
    kept = (1,) * (len(size) - x.ndim) + tuple(x.shape)
    return np.broadcast_to(x, tuple(k if s == -1 else s for s, k in zip(size, kept, strict=True)))


expand.vjps(x="g")


@elementwise(
    "aten.clone",
    "y = x",
    meaning="passes the gradient on unchanged",
    aliases=("aten.alias", "aten.alias_copy", "aten._to_copy", "aten.contiguous"),
)
def clone(x: Array) -> Array:
    return x


clone.vjps(x="g")


@rule("aten.detach", "y = x")
def detach(x: Array) -> Array:
    return x


# Inside a custom function's forward, which runs without grad mode, detach cuts nothing.
detach.vjps(x="g")


@rule(
    "aten.copy",
    "y = expand(src, shape(x))",
    meaning="sends the gradient to the source of the copy, and zero to what was written over",
    # It is cast to the source's format before it is summed.
    composite=IN_BACKWARD,
    node="CopyBackwards",
)
def copy(x: Array, src: Array) -> Array:
    return np.broadcast_to(src, x.shape)


copy.constant_in("x")
copy.vjps(src="g")


@rule(
    "aten.fill",
    "y = expand(value, shape(x))",
    meaning="sends the summed gradient to the value, and zero to what was written over",
)
def fill(x: Array, value: Array) -> Array:
    value = value if hasattr(value, "shape") else np.asarray(value, like=x)
    return np.broadcast_to(value, x.shape)


fill.constant_in("x")
fill.vjps(value="g")


@rule("aten.zero", "y = zeros(shape(x))", meaning="sends zero to what was written over")
def zero(x: Array) -> Array:
    return np.zeros_like(x)


zero.constant_in("x")


def _at(x: Array, dim: int, index: Any) -> tuple[Any, ...]:
    return (*(slice(None),) * (dim % x.ndim), index)


def _placed(g: Array, x: Array, index: Any) -> Array:
    """Return zeros of the shape of x with g at an index that names no element twice."""
    out = np.zeros_like(g, shape=x.shape)
    out[index] = g
    return out


@rule(
    "aten.select",
    "y = select(x, dim, index)",
    meaning="puts the gradient at the place that was selected, among zeros",
    aliases=("aten.select_copy",),
)
def select(x: Array, *, dim: int, index: int) -> Array:
    return x[_at(x, dim, index)]


select.vjp("x", "place(g, x, dim, index)")(
    lambda g, x, *, dim, index: _placed(g, x, _at(x, dim, index))
)


@rule(
    "aten.slice",
    "y = slice(x, dim, start, end, step)",
    meaning="puts the gradient at the places that were sliced out, among zeros",
    aliases=("aten.slice_copy",),
)
def slice_(
    x: Array, *, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Array:
    return x[_at(x, dim, slice(start, end, step))]


slice_.vjp("x", "place(g, x, dim, start, end, step)")(
    lambda g, x, *, dim, start, end, step: _placed(g, x, _at(x, dim, slice(start, end, step)))
)


@rule(
    "aten.narrow_copy",
    "y = slice(x, dim, start, start + n, 1)",
    meaning="puts the gradient at the places that were sliced out, among zeros",
)
def narrow_copy(x: Array, n: int, *, dim: int, start: int) -> Array:
    return x[_at(x, dim, slice(start, start + n))]


narrow_copy.vjp("x", "place(g, x, dim, start, start + n, 1)")(
    lambda g, x, n, *, dim, start: _placed(g, x, _at(x, dim, slice(start, start + n)))
)


def positions(size: Size, stride: Size, storage_offset: int | None) -> Array:
    """Return the place in its memory of each element of a strided view."""
    places = np.full((), storage_offset or 0)
    for length, step in zip(size, stride, strict=True):
        places = places[..., None] + step * np.arange(length)
    return places


def shown(size: Size, stride: Size, storage_offset: int | None, memory: Array | None) -> Array:
    """Return which element of x each element of a strided view shows."""
    if memory is None:
        return positions(size, stride, storage_offset)
    # Without an offset the view begins where x does.
    begin = memory.flat[0] if storage_offset is None and memory.size else storage_offset
    places = positions(size, stride, begin)
    element = np.full(1 + max(memory.max(initial=-1), places.max(initial=-1)), -1)
    element[memory] = np.reshape(np.arange(memory.size), memory.shape)
    indices = element[places]
    if np.any(indices < 0) or np.unique(memory).size != memory.size:
        raise NotImplementedError("a view of memory that its base does not show, or shows twice")
    return indices


@rule(
    "aten.as_strided",
    "y = as_strided(x, size, stride, storage_offset)",
    meaning="adds up, for each element of the base, the gradients of all places that show it",
    aliases=("aten.as_strided_copy",),
)
def as_strided(
    x: Array,
    *,
    size: Size,
    stride: Size,
    storage_offset: int | None = None,
    memory: Array | None = None,
) -> Array:
    elements = shown(size, stride, storage_offset, memory)
    return np.reshape(x, (math.prod(x.shape),))[elements]


@as_strided.vjp("x", "unstride(g, x, size, stride, storage_offset)")
def _(
    g: Array,
    x: Array,
    *,
    size: Size,
    stride: Size,
    storage_offset: int | None,
    memory: Array | None,
) -> Array:
    return added_up(g, shown(size, stride, storage_offset, memory), x)


def _refitted(x: Array, size: Size, memory: Array | None) -> Array:
    """Return the first numbers of a tensor's memory in another shape."""
    if memory is not None or math.prod(size) > math.prod(x.shape):
        raise NotImplementedError(UNSHOWN)
    return np.reshape(np.reshape(x, (math.prod(x.shape),))[: math.prod(size)], size)


@rule("aten.resize", "y = first(x, size)", ignores=("memory_format",))
def resize(x: Array, *, size: Size, memory: Array | None = None) -> Array:
    return _refitted(x, size, memory)


@rule("aten.resize_as", "y = first(x, shape(template))", ignores=("memory_format",))
def resize_as(x: Array, template: Shaped, *, memory: Array | None = None) -> Array:
    return _refitted(x, tuple(template.shape), memory)
