"""Words of formulas that pad, slide, look up bags of rows and write to places.

Nothing here may come from the rules.
"""

from __future__ import annotations

import math
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rules.words_moving import moved, sized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Plain: TypeAlias = Any
Sizes: TypeAlias = tuple[int, ...]


# Padding: the last axis first, as torch names it.


def _turned(i: int, n: int) -> int:
    """The element that lies at i, where a mirror stands on the first and on the last."""
    while not 0 <= i < n:
        i = -i if i < 0 else 2 * (n - 1) - i
    return i


def _nearby(i: int, n: int) -> int:
    return min(max(i, 0), n - 1)


def _padded(x: Plain, pad: Sizes, find: Callable[[int, int], int]) -> Plain:
    for k in range(len(pad) // 2):
        dim, before = x.ndim - 1 - k, pad[2 * k]
        out = sized(x, dim, x.shape[dim] + before + pad[2 * k + 1])
        for at in np.ndindex(out.shape):
            out[at] = x[moved(at, dim, find(at[dim] - before, x.shape[dim]))]
        x = out
    return x


def _padded_add(g: Plain, x: Plain, pad: Sizes, find: Callable[[int, int], int]) -> Plain:
    whole = np.arange(x.size, dtype=float).reshape(x.shape)
    out = np.zeros(x.size, g.dtype)
    for number, place in zip(g.flat, _padded(whole, pad, find).flat, strict=True):
        out[int(place)] += number
    return out.reshape(x.shape)


def mirrored(x: Plain, pad: Sizes) -> Plain:
    return _padded(x, pad, _turned)


def mirrored_add(g: Plain, x: Plain, pad: Sizes) -> Plain:
    return _padded_add(g, x, pad, _turned)


def held(x: Plain, pad: Sizes) -> Plain:
    return _padded(x, pad, _nearby)


def held_add(g: Plain, x: Plain, pad: Sizes) -> Plain:
    return _padded_add(g, x, pad, _nearby)


# Sliding blocks.


def _slides(sizes: Sizes, kernel: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes) -> Any:
    """Row and column of the columns, with channel and pixel that belong there."""
    axes = zip(sizes[-2:], kernel, dilation, padding, stride, strict=True)
    down, across = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in axes)
    for channel, i, j in np.ndindex(sizes[-3], *kernel):
        for a, b in np.ndindex(down, across):
            pixel = (
                a * stride[0] + i * dilation[0] - padding[0],
                b * stride[1] + j * dilation[1] - padding[1],
            )
            inside = 0 <= pixel[0] < sizes[-2] and 0 <= pixel[1] < sizes[-1]
            row = (channel * kernel[0] + i) * kernel[1] + j
            yield (row, a * across + b), (channel, *pixel), inside


def columns(x: Plain, *how: Sizes) -> Plain:
    if x.ndim == 4:
        return np.stack([columns(one, *how) for one in x])
    found = list(_slides(x.shape, *how))
    out = np.zeros([1 + n for n in found[-1][0]], x.dtype)
    for at, origin, inside in found:
        out[at] = x[origin] if inside else 0.0
    return out


def from_columns(x: Plain, sizes: Sizes, *how: Sizes) -> Plain:
    if len(sizes) == 4:
        return np.stack([from_columns(one, sizes[1:], *how) for one in x])
    out = np.zeros(sizes, x.dtype)
    for at, origin, inside in _slides(sizes, *how):
        if inside:
            out[origin] += x[at]
    return out


def channels(x: Plain, kernel: Sizes) -> int:
    return int(x.shape[-2] // math.prod(kernel))


# Bags.


def _members(
    indices: Plain, offsets: Plain, last: bool, padding: int
) -> Iterator[tuple[int, list[int]]]:
    """Of each bag, where among the indices its members stand."""
    ends = [*offsets.tolist(), *([] if last else [len(indices)])]
    for bag, (start, end) in enumerate(pairwise(ends)):
        yield bag, [at for at in range(start, end) if indices[at] != padding]


def bags(
    table: Plain, indices: Plain, offsets: Plain, mode: int, weights: Plain, *how: Any
) -> Plain:
    found = []
    for _, members in _members(indices, offsets, *how):
        rows = [table[indices[at]] * (1 if weights is None else weights[at]) for at in members]
        rows = rows or [np.zeros(table.shape[1])]
        if mode == 2:
            found.append([max(column) for column in zip(*rows, strict=True)])
        else:
            sums = [math.fsum(column) for column in zip(*rows, strict=True)]
            found.append([s / (len(rows) if mode == 1 else 1) for s in sums])
    return np.array(found)


def bags_add(
    g: Plain,
    table: Plain,
    indices: Plain,
    offsets: Plain,
    mode: int,
    weights: Plain,
    last: bool,
    padding: int,
    chosen: Plain,
    shared: bool,
) -> Plain:
    out = np.zeros(table.shape)
    often = indices.tolist().count if shared else lambda _: 1
    for bag, members in _members(indices, offsets, last, padding):
        for at in members if mode != 2 else ():
            factor = 1 / len(members) if mode == 1 else 1 if weights is None else weights[at]
            out[indices[at]] += factor * g[bag] / often(indices[at])
        for column in range(table.shape[1] if mode == 2 and members else 0):
            out[chosen[bag, column], column] += g[bag, column]
    return out


def bags_dot(g: Plain, table: Plain, indices: Plain, offsets: Plain, *how: Any) -> Plain:
    out = np.zeros(len(indices))
    for bag, members in _members(indices, offsets, *how):
        for at in members:
            out[at] = math.fsum(a * b for a, b in zip(g[bag], table[indices[at]], strict=True))
    return out


def rows_shortened(table: Plain, indices: Plain, longest: float, p: float) -> Plain:
    out = np.array(table)
    for i in set(indices.flatten().tolist()):
        size = sum(abs(n) ** p for n in table[i].tolist()) ** (1 / p)
        if size > longest:
            out[i] = table[i] * (longest / (size + 1e-7))
    return out


# Writing to places.


def put_rows(x: Plain, dim: int, index: Plain, source: Plain) -> Plain:
    out = np.array(x)
    rows = np.moveaxis(out, dim, 0)
    for place, i in enumerate(index):
        rows[i] = source if np.ndim(source) == 0 else np.moveaxis(source, dim, 0)[place]
    return out


def distinct(index: Plain) -> Plain:
    return np.array(sorted(set(index.tolist())))


def take_flat(x: Plain, index: Plain) -> Plain:
    numbers = x.flatten().tolist()
    return np.array([numbers[i] for i in index.flat]).reshape(index.shape)


def put_flat(x: Plain, index: Plain, source: Plain, accumulate: bool) -> Plain:
    numbers = x.flatten().tolist()
    for i, number in zip(index.flat, source.flat, strict=True):
        numbers[i] = number + (numbers[i] if accumulate else 0.0)
    return np.array(numbers).reshape(x.shape)


def fill_in(x: Plain, mask: Plain, source: Plain) -> Plain:
    out, kept = (np.array(a) for a in np.broadcast_arrays(x, mask))
    numbers = iter(source.flat)
    for at in np.ndindex(out.shape):
        if kept[at]:
            out[at] = next(numbers)
    return out


def fill_first(source: Plain, numbers: Plain) -> Plain:
    rest = [0.0] * (source.size - len(numbers))
    return np.array([*numbers, *rest]).reshape(source.shape)


def overwrite_diagonal(x: Plain, src: Plain, offset: int, dim1: int, dim2: int) -> Plain:
    out = np.array(x)
    planes = np.moveaxis(out, (dim1, dim2), (-2, -1))
    for at in np.ndindex(src.shape):
        row, column = at[-1] + max(-offset, 0), at[-1] + max(offset, 0)
        planes[(*at[:-1], row, column)] = src[at]
    return out


def overwrite(x: Plain, src: Plain, dim: int, *which: Any) -> Plain:
    out = np.array(x)
    rows = np.moveaxis(out, dim, 0)
    if len(which) == 1:
        rows[which[0]] = src
        return out
    for row, i in zip(np.moveaxis(src, dim, 0), range(len(rows))[slice(*which)], strict=True):
        rows[i] = row
    return out


def turned(x: Plain, quarters: int, dims: Sizes) -> Plain:
    """Row i, column j becomes row n - 1 - j, column i, where j runs to n - 1; each quarter."""
    one, two = (d % x.ndim for d in dims)
    for _ in range(quarters % 4):
        sizes = list(x.shape)
        sizes[one], sizes[two] = sizes[two], sizes[one]
        out = np.zeros(sizes, x.dtype)
        for at in np.ndindex(x.shape):
            to = list(at)
            to[one], to[two] = x.shape[two] - 1 - at[two], at[one]
            out[tuple(to)] = x[at]
        x = out
    return x


def embed_diagonal(x: Plain, offset: int, dim1: int, dim2: int) -> Plain:
    ndim, n = x.ndim + 1, x.shape[-1] + abs(offset)
    one, two = dim1 % ndim, dim2 % ndim
    rest = iter(x.shape[:-1])
    out = np.zeros([n if d in (one, two) else next(rest) for d in range(ndim)], x.dtype)
    for at in np.ndindex(x.shape):
        left = iter(at[:-1])
        place = {one: at[-1] + max(-offset, 0), two: at[-1] + max(offset, 0)}
        out[tuple(place[d] if d in place else next(left) for d in range(ndim))] = x[at]
    return out


def _groups(
    x: Plain, dim: int, index: Plain, src: Plain, itself: bool
) -> dict[Sizes, list[tuple[Any, float]]]:
    """By place of x: what is reduced there, and where in src it comes from; None is x itself."""
    found: dict[Sizes, list[tuple[Any, float]]] = {at: [] for at in np.ndindex(x.shape)}
    for at in np.ndindex(index.shape):
        found[moved(at, dim, int(index[at]))].append((at, float(src[at])))
    for at, group in found.items():
        if itself or not group:
            group.append((None, float(x[at])))
    return found


_REDUCED: dict[str, Any] = {
    "sum": math.fsum,
    "mean": lambda numbers: math.fsum(numbers) / len(numbers),
    "amax": max,
    "amin": min,
    "prod": math.prod,
}


def row_index(index: Plain, src: Plain, dim: int) -> Plain:
    """Say for each number of a source which row along an axis it goes to."""
    out = np.zeros(src.shape, dtype=int)
    for at in np.ndindex(src.shape):
        out[at] = index[at[dim]]
    return out


def reduce_at(x: Plain, dim: int, index: Plain, src: Plain, kind: str, itself: bool) -> Plain:
    out = np.zeros(x.shape)
    for at, group in _groups(x, dim, index, src, itself).items():
        out[at] = _REDUCED[kind]([number for _, number in group])
    return out


def _given(
    g: Plain, y: Plain, x: Plain, dim: int, index: Plain, src: Plain, kind: str, itself: bool
) -> Iterator[tuple[Any, Any, float]]:
    """Each term's place in x and in src, and its gradient."""
    for at, group in _groups(x, dim, index, src, itself).items():
        ties = [number == y[at] for _, number in group]
        for k, ((origin, _), tied) in enumerate(zip(group, ties, strict=True)):
            if kind == "prod":
                others = [number for j, (_, number) in enumerate(group) if j != k]
                yield at, origin, g[at] * math.prod(others)
                continue
            share = {"sum": 1.0, "mean": 1 / len(group)}.get(kind, tied / max(1, sum(ties)))
            yield at, origin, g[at] * share


def reduce_self(g: Plain, y: Plain, x: Plain, *how: Any) -> Plain:
    out = np.zeros(x.shape)
    for at, origin, number in _given(g, y, x, *how):
        out[at] += number if origin is None else 0.0
    return out


def reduce_source(
    g: Plain, y: Plain, x: Plain, dim: int, index: Plain, src: Plain, *how: Any
) -> Plain:
    out = np.zeros(src.shape)
    for _, origin, number in _given(g, y, x, dim, index, src, *how):
        if origin is not None:
            out[origin] += number
    return out


def _segments(
    x: Plain, kind: str, lengths: Plain | None, offsets: Plain | None, axis: int, initial: Any
) -> Iterator[tuple[Sizes, list[Sizes], list[float]]]:
    """Each result's place, those of its elements, and the numbers that are reduced."""
    sizes: Any = lengths if offsets is None else np.diff(offsets)
    rest = (*x.shape[:axis], sizes.shape[-1], *x.shape[axis + 1 :])
    for at in np.ndindex(rest):
        line = sizes[at[:axis]]
        begin = int(sum(line[: at[axis]]))
        group = [(*at[:axis], begin + k, *at[axis + 1 :]) for k in range(int(line[at[axis]]))]
        first = [] if initial is None else [float(initial)]
        yield at, group, first + [float(x[place]) for place in group]


def reduce_segments(x: Plain, kind: str, *how: Any) -> Plain:
    rows = list(_segments(x, kind, *how))
    out = np.zeros([1 + i for i in rows[-1][0]])
    for at, group, numbers in rows:
        if kind == "mean":
            out[at] = math.fsum(numbers) / max(len(group), 1)
        else:
            out[at] = _REDUCED[{"max": "amax", "min": "amin"}.get(kind, kind)](numbers)
    return out


def to_segments(g: Plain, y: Plain, x: Plain, kind: str, *how: Any) -> Plain:
    out = np.zeros(x.shape)
    for at, group, numbers in _segments(x, kind, *how):
        first = len(numbers) - len(group)
        for k, place in enumerate(group):
            if kind == "prod":
                others = numbers[: first + k] + numbers[first + k + 1 :]
                out[place] = g[at] * math.prod(others)
            elif kind in ("max", "min"):
                out[place] = g[at] * (x[place] == y[at]) / max(numbers.count(float(y[at])), 1)
            else:
                out[place] = g[at] / (len(group) if kind == "mean" else 1)
    return out


def strided(size: Sizes, stride: Sizes, offset: int | None) -> Plain:
    """The place in memory of each element of a strided view."""
    out = np.empty(size, np.int64)
    for at in np.ndindex(*size):
        out[at] = (offset or 0) + sum(k * step for k, step in zip(at, stride, strict=True))
    return out


def masked_pick(x: Plain, mask: Plain, indices: Plain, fill: float) -> Plain:
    """Elements of a table by rows and columns; where the mask is false, whatever fills."""
    out = np.full(mask.shape, fill, x.dtype)
    for at in np.ndindex(mask.shape):
        if mask[at]:
            out[at] = x[tuple(index[at] for index in indices)]
    return out


def masked_put(x: Plain, mask: Plain, indices: Plain, values: Plain) -> Plain:
    out = np.array(x)
    for at in np.ndindex(mask.shape):
        if mask[at]:
            out[tuple(index[at] for index in indices)] += values[at]
    return out


def first(x: Plain, size: Sizes) -> Plain:
    return np.array(np.ravel(x).tolist()[: math.prod(size)]).reshape(size)


def padded_places_not_0(x: Plain, size: int, fill_value: int) -> Plain:
    places = [list(at) for at in np.ndindex(x.shape) if x[at] != 0]
    return np.array((places + [[fill_value] * x.ndim] * size)[:size])


def xor_of_bits(x: Plain, dim: Any, keepdim: bool) -> Plain:
    """Along one axis, of what the numbers are in memory as float64."""
    (axis,) = dim
    out = np.zeros(np.take(x, 0, axis=axis).shape, np.uint64)
    for row in np.moveaxis(x, axis, 0):
        for at in np.ndindex(out.shape):
            out[at] ^= np.uint64(int.from_bytes(struct.pack("<d", row[at]), "little"))
    return np.expand_dims(out, axis) if keepdim else out


def chunks_side_by_side(tensors: Any, dim: int, num_chunks: int) -> Plain:
    """Matrices cut into so many parts by rows, of which the last may lack some: zeros."""
    assert dim == 0
    rows = []
    for k in range(num_chunks):
        row: list[float] = []
        for x in tensors:
            n = -(-len(x) // num_chunks)
            part = [number for line in x[k * n : (k + 1) * n] for number in line]
            row += part + [0.0] * (n * len(x[0]) - len(part))
        rows.append(row)
    return np.array(rows)


def neighbour(a: Plain, b: Plain) -> Plain:
    pairs = zip(np.ravel(a).tolist(), np.ravel(b).tolist(), strict=True)
    return np.array([math.nextafter(*pair) for pair in pairs]).reshape(np.shape(a))


PLACING: dict[str, Any] = {
    word.__name__: word
    for word in (
        mirrored, mirrored_add, held, held_add, columns, from_columns, channels, bags, bags_add,
        bags_dot, rows_shortened, put_rows, distinct, take_flat, put_flat, fill_in, fill_first,
        overwrite, overwrite_diagonal, turned, embed_diagonal, reduce_at, reduce_self,
        reduce_source, row_index, reduce_segments, to_segments, strided, masked_pick, masked_put,
        first, padded_places_not_0, xor_of_bits, chunks_side_by_side, neighbour,
    )
}  # fmt: skip
