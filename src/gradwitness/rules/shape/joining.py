"""Joining tensors, and taking them apart."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from gradwitness.rules.kernel_ops import is_complex
from gradwitness.rules.registry import Array, rule

Size: TypeAlias = tuple[int, ...]
Several: TypeAlias = "tuple[Array, ...]"


def _joins(x: Array) -> bool:
    """Whether a tensor counts in cat: one of shape (0,) fits to every other, and adds nothing."""
    return tuple(x.shape) != (0,)


def _parts(x: Array, lengths: Size, dim: int) -> list[Array]:
    """Cut an array along an axis into parts of these lengths."""
    ends = list(accumulate(lengths))
    before = (slice(None),) * (dim % x.ndim)
    return [x[(*before, slice(end - n, end))] for n, end in zip(lengths, ends, strict=True)]


def _all(g: Any) -> Several:
    """Return the gradients of all results; a tuple comes in only where there are several."""
    return g if isinstance(g, tuple) else (g,)


@rule(
    "aten.cat",
    "y = cat(tensors, dim)",
    meaning="cuts the gradient into the parts that belong to the joined tensors",
)
def cat(tensors: Several, *, dim: int = 0) -> Array:
    return np.concatenate([x for x in tensors if _joins(x)] or tensors, axis=dim)


@cat.vjp("tensors", "cut(g, tensors, dim)")
def _(g: Array, tensors: Several, *, dim: int) -> list[Array]:
    lengths = tuple(x.shape[dim] if _joins(x) else 0 for x in tensors)
    return [
        part if _joins(x) else np.zeros_like(g, shape=(0,))
        for x, part in zip(tensors, _parts(g, lengths, dim), strict=True)
    ]


@rule(
    "aten.stack",
    "y = stack(tensors, dim)",
    meaning="gives each stacked tensor its layer of the gradient",
)
def stack(tensors: Several, *, dim: int = 0) -> Array:
    return np.stack(tensors, axis=dim)


stack.vjp("tensors", "layers(g, dim)")(lambda g, *, dim: _layers(g, dim))


def _layers(x: Array, dim: int) -> list[Array]:
    before = (slice(None),) * (dim % x.ndim)
    return [x[(*before, k)] for k in range(x.shape[dim])]


def _lengths(n: int, split_size: int) -> Size:
    """Lengths of parts of a size, of which the last may be smaller."""
    if split_size == 0:
        return (n,)
    return tuple(min(split_size, n - start) for start in range(0, n, split_size)) or (0,)


@rule(
    "aten.split",
    "y = split(x, split_size, dim)",
    meaning="joins the gradients of the parts, with zeros for the parts that were not used",
    aliases=("aten.unsafe_split", "aten.split_copy"),
)
def split(x: Array, *, split_size: int, dim: int = 0) -> list[Array]:
    return _parts(x, _lengths(x.shape[dim], split_size), dim)


split.vjp("x", "rejoin(g, dim)")(lambda g, *, dim: np.concatenate(_all(g), axis=dim))


@rule(
    "aten.split_with_sizes",
    "y = split_by(x, split_sizes, dim)",
    meaning="joins the gradients of the parts, with zeros for the parts that were not used",
    aliases=("aten.unsafe_split_with_sizes", "aten.split_with_sizes_copy"),
)
def split_with_sizes(x: Array, *, split_sizes: Size, dim: int = 0) -> list[Array]:
    return _parts(x, split_sizes, dim)


split_with_sizes.vjp("x", "rejoin(g, dim)")(lambda g, *, dim: np.concatenate(_all(g), axis=dim))


@rule(
    "aten.unbind",
    "y = layers(x, dim)",
    meaning="stacks the gradients of the layers, with zeros for the layers that were not used",
    aliases=("aten.unbind_copy",),
)
def unbind(x: Array, *, dim: int = 0) -> list[Array]:
    return _layers(x, dim)


unbind.vjp("x", "restack(g, dim)")(lambda g, *, dim: np.stack(_all(g), axis=dim))


def _corners(tensors: Several) -> list[tuple[int, int]]:
    """Return the rows and columns of each matrix; a vector is one row."""
    return [(1, x.size) if x.ndim < 2 else x.shape for x in tensors]


@rule(
    "aten.block_diag",
    "y = blocks(tensors)",
    meaning="gives each matrix the gradient of its block",
)
def block_diag(tensors: Several) -> Array:
    sizes = _corners(tensors)
    like = next(filter(is_complex, tensors), tensors[0])
    out = np.zeros_like(like, shape=tuple(sum(n) for n in zip(*sizes, strict=True)))
    row = column = 0
    for x, (m, n) in zip(tensors, sizes, strict=True):
        out[row : row + m, column : column + n] = np.reshape(x, (m, n))
        row, column = row + m, column + n
    return out


@block_diag.vjp("tensors", "block_of(g, tensors)")
def _(g: Array, tensors: Several) -> list[Array]:
    parts, row, column = [], 0, 0
    for x, (m, n) in zip(tensors, _corners(tensors), strict=True):
        parts.append(np.reshape(g[row : row + m, column : column + n], x.shape))
        row, column = row + m, column + n
    return parts


@rule("aten._chunk_cat", "y = chunks_side_by_side(tensors, dim, num_chunks)")
def chunk_cat(tensors: Several, *, dim: int, num_chunks: int) -> Array:
    def chunks(x: Array) -> Array:
        axis = dim % x.ndim
        short = -x.shape[axis] % num_chunks
        padding = np.zeros_like(x, shape=(*x.shape[:axis], short, *x.shape[axis + 1 :]))
        padded = np.concatenate([x, padding], axis=axis)
        return np.reshape(padded, (*x.shape[:axis], num_chunks, -1))

    return np.concatenate([chunks(x) for x in tensors], axis=-1)
