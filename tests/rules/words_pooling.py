"""Words of formulas that pool, written by loops over single elements.

Nothing here may come from the rules.
"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

Plain: TypeAlias = Any
Sizes: TypeAlias = tuple[int, ...]
# The coordinates along one axis that belong to one result.
Spans: TypeAlias = list[list[int]]


def _starts(n: int, k: int, s: int, p: int, d: int, ceil: bool) -> list[int]:
    """Where windows begin: as long as they end inside, or with ceil begin inside."""
    last, found, at = n + p - d * (k - 1) - 1, [], -p
    while at <= last or (ceil and at < n and at - s < last):
        found.append(at)
        at += s
    return found


def _walk(
    x: Plain, kernel: Any, stride: Any, padding: Any, ceil: bool, dilation: Any = 1
) -> tuple[list[Spans], list[Spans]]:
    """For each axis, what each window meets: in the padded input, and in the input."""
    padded, inside = [], []
    many = 3 if not isinstance(kernel, int) and len(kernel) == 3 else 2
    for axis in range(many):
        k, s, p, d = (
            two if isinstance(two, int) else two[axis]
            for two in (kernel, stride or kernel, padding, dilation)
        )
        n = x.shape[axis - many]
        spans = [[at + d * i for i in range(k)] for at in _starts(n, k, s, p, d, ceil)]
        padded.append([[i for i in span if i < n + p] for span in spans])
        inside.append([[i for i in span if 0 <= i < n] for span in spans])
    return padded, inside


def _each(x: Plain, spans: list[Spans]) -> Iterator[tuple[Sizes, list[Sizes]]]:
    """Each result's place, and the places in x that belong to it."""
    rest = x.shape[: x.ndim - len(spans)]
    for at in np.ndindex(*rest, *map(len, spans)):
        near = (axis[i] for axis, i in zip(spans, at[len(rest) :], strict=True))
        yield at, [(*at[: len(rest)], *place) for place in product(*near)]


def _made(x: Plain, spans: list[Spans]) -> Plain:
    return np.zeros((*x.shape[: x.ndim - len(spans)], *map(len, spans)))


def _sums(x: Plain, spans: list[Spans]) -> Plain:
    out = _made(x, spans)
    for at, places in _each(x, spans):
        out[at] = math.fsum(x[place] for place in places)
    return out


def _add(g: Plain, x: Plain, spans: list[Spans]) -> Plain:
    out = np.zeros(x.shape)
    for at, places in _each(x, spans):
        for place in places:
            out[place] += g[at]
    return out


def _sizes(spans: list[Spans]) -> Plain:
    sizes = np.zeros([len(axis) for axis in spans])
    for at in np.ndindex(sizes.shape):
        sizes[at] = math.prod(len(axis[i]) for axis, i in zip(spans, at, strict=True))
    return sizes


def _largest(x: Plain, spans: list[Spans]) -> tuple[Plain, Plain]:
    values, index = _made(x, spans), _made(x, spans)
    for at, places in _each(x, spans):
        best = max(places, key=lambda place: float(x[place]))
        plane = x.shape[-len(spans) :]
        values[at] = x[best]
        index[at] = list(np.ndindex(plane)).index(best[-len(spans) :])
    return values, index


def fraction_max(x: Plain, kernel: Sizes, sizes: Sizes, samples: Plain) -> tuple[Plain, Plain]:
    """Windows begin where the whole parts of equal steps from a random place have come to."""
    many = len(sizes)
    values, index = (np.zeros((*x.shape[:-many], *sizes)) for _ in range(2))
    for n, c in np.ndindex(*x.shape[:2]):
        spans = []
        for axis in range(many):
            drawn = samples[n, c, 1 - axis if many == 2 else axis]
            room, count = x.shape[2 + axis] - kernel[axis], sizes[axis]
            step = room / max(count - 1, 1)
            begin = [int((i + drawn) * step) - int(drawn * step) for i in range(count - 1)]
            spans.append([[at + k for k in range(kernel[axis])] for at in [*begin, room]])
        of_plane = _largest(x[n, c], spans)
        values[n, c], index[n, c] = of_plane
    return values, index


def to_index(g: Plain, y: Plain, x: Plain, kernel: Any) -> Plain:
    many = 3 if not isinstance(kernel, int) and len(kernel) == 3 else 2
    out, plane = np.zeros(x.shape), list(np.ndindex(*x.shape[-many:]))
    for at in np.ndindex(y[1].shape):
        out[(*at[:-many], *plane[int(y[1][at])])] += g[0][at]
    return out


def unpool(x: Plain, indices: Plain, sizes: Sizes) -> Plain:
    many = len(sizes)
    out, plane = np.zeros((*x.shape[:-many], *sizes)), list(np.ndindex(*sizes))
    for at in np.ndindex(x.shape):
        out[(*at[:-many], *plane[int(indices[at])])] = x[at]
    return out


def at_index(g: Plain, x: Plain, indices: Plain) -> Plain:
    many = 2 if x.ndim < 5 else 3
    out, plane = np.zeros(x.shape), list(np.ndindex(*g.shape[-many:]))
    for at in np.ndindex(x.shape):
        out[at] = g[(*at[:-many], *plane[int(indices[at])])]
    return out


def repool(g: Plain, x: Plain, indices: Plain) -> Plain:
    """Of several numbers that are written to one place the last stays."""
    many = 2 if x.ndim < 5 else 3
    out, plane = np.zeros(x.shape), list(np.ndindex(*g.shape[-many:]))
    staying = {(*at[:-many], int(indices[at])): at for at in np.ndindex(x.shape)}
    for at in staying.values():
        out[at] = g[(*at[:-many], *plane[int(indices[at])])]
    return out


def window_max(
    x: Plain, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool
) -> tuple[Plain, Plain]:
    return _largest(x, _walk(x, kernel, stride, padding, ceil, dilation)[1])


def window_sum(x: Plain, *walk: Any) -> Plain:
    return _sums(x, _walk(x, *walk)[1])


def window_add(g: Plain, x: Plain, *walk: Any) -> Plain:
    return _add(g, x, _walk(x, *walk)[1])


def window_size(x: Plain, *how: Any) -> Plain:
    *walk, with_padding, override = how
    padded, inside = _walk(x, *walk)
    return override or _sizes(padded if with_padding else inside)


def _cut(x: Plain, count: Sizes) -> list[Spans]:
    """For each axis, which elements overlap each of ``count`` equal stretches of it."""
    return [
        [[j for j in range(n) if (j + 1) * m > i * n and j * m < (i + 1) * n] for i in range(m)]
        for n, m in zip(x.shape[-len(count) :], count, strict=True)
    ]


def part_max(x: Plain, count: Sizes) -> tuple[Plain, Plain]:
    return _largest(x, _cut(x, count))


def part_sum(x: Plain, count: Sizes) -> Plain:
    return _sums(x, _cut(x, count))


def part_size(x: Plain, count: Sizes) -> Plain:
    return _sizes(_cut(x, count))


def part_add(g: Plain, x: Plain, count: Sizes) -> Plain:
    return _add(g, x, _cut(x, count))


def _squares(small: Sizes, r: int) -> Iterator[tuple[Sizes, Sizes]]:
    """Each place among many channels, and the pixel that it becomes."""
    for at in np.ndindex(*small):
        *rest, channel, row, column = at
        down, right = divmod(channel % r**2, r)
        yield at, (*rest, channel // r**2, row * r + down, column * r + right)


def shuffle(x: Plain, r: int) -> Plain:
    *rest, channels, rows, columns = x.shape
    out = np.zeros((*rest, channels // r**2, rows * r, columns * r), x.dtype)
    for at, pixel in _squares(x.shape, r):
        out[pixel] = x[at]
    return out


def unshuffle(x: Plain, r: int) -> Plain:
    *rest, channels, rows, columns = x.shape
    out = np.zeros((*rest, channels * r**2, rows // r, columns // r), x.dtype)
    for at, pixel in _squares(out.shape, r):
        out[at] = x[pixel]
    return out


POOLING: dict[str, Any] = {
    word.__name__: word
    for word in (
        to_index, window_max, window_sum, window_add, window_size, part_max, part_sum, part_size,
        part_add, unpool, repool, at_index, fraction_max, shuffle, unshuffle,
    )
}  # fmt: skip
