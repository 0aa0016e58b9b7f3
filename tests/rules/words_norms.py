"""Words of the formulas of lengths and distances: one vector at a time.

Nothing here may come from the rules.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

Plain: TypeAlias = Any
Dim: TypeAlias = "int | tuple[int, ...] | None"


def _length(numbers: list[float], p: float) -> float:
    sizes = [abs(number) for number in numbers]
    if math.isinf(p):
        return max(sizes) if p > 0 else min(sizes)
    if p == 0:
        return float(len(sizes) - sizes.count(0.0))
    return float(math.fsum(size**p for size in sizes) ** (1 / p))


def _slope(numbers: list[float], p: float) -> list[float]:
    """The gradient of a length; that of an extreme is shared among those that tie."""
    size = _length(numbers, p)
    if math.isinf(p):
        hits = [abs(number) == size for number in numbers]
        return [math.copysign(1, n) / sum(hits) if hit else 0.0
                for n, hit in zip(numbers, hits, strict=True)]  # fmt: skip
    if p == 0 or size == 0:
        return [0.0] * len(numbers)
    return [math.copysign((abs(n) / size) ** (p - 1), n) if n else 0.0 for n in numbers]


def _vectors(x: Plain, dim: Dim) -> tuple[tuple[int, ...], Iterator[tuple[Any, list[float]]]]:
    """The axes that are measured over, and each place that is left with its vector."""
    named = range(x.ndim) if dim is None or dim == () else (dim,) if isinstance(dim, int) else dim
    over = tuple(sorted({d % x.ndim for d in named}))
    left = [range(1) if d in over else range(n) for d, n in enumerate(x.shape)]
    places = np.ndindex(*map(len, left))
    at = (tuple(slice(None) if d in over else i for d, i in enumerate(place)) for place in places)
    return over, ((place, np.ravel(x[place]).tolist()) for place in at)


def length_of(x: Plain, p: float | None, dim: Dim, keepdim: bool) -> Plain:
    over, vectors = _vectors(x, dim)
    sizes = [1 if d in over else n for d, n in enumerate(x.shape)]
    flat = [_length(numbers, 2 if p is None else p) for _, numbers in vectors]
    kept = sizes if keepdim else [n for d, n in enumerate(x.shape) if d not in over]
    return np.array(flat).reshape(kept)


def length_slope(x: Plain, p: float | None, dim: Dim) -> Plain:
    out = np.zeros(x.shape)
    for place, numbers in _vectors(x, dim)[1]:
        out[place] = np.reshape(_slope(numbers, 2 if p is None else p), out[place].shape)
    return out


def _factor(row: Plain, p: float, longest: float) -> float:
    size = _length(np.ravel(row).tolist(), p)
    return longest / (size + 1e-7) if size > longest else 1.0


def shortened(x: Plain, p: float, dim: int, longest: float) -> Plain:
    rows = np.moveaxis(x, dim, 0)
    return np.moveaxis(np.array([row * _factor(row, p, longest) for row in rows]), 0, dim)


def shortened_input(g: Plain, x: Plain, p: float, dim: int, longest: float) -> Plain:
    """The quotient rule, slice by slice."""
    out = []
    for of_g, row in zip(np.moveaxis(g, dim, 0), np.moveaxis(x, dim, 0), strict=True):
        factor = _factor(row, p, longest)
        if factor == 1.0:
            out.append(of_g)
            continue
        along = math.fsum(np.ravel(of_g * row)) * factor**2 / longest
        out.append(of_g * factor - along * np.reshape(_slope(np.ravel(row).tolist(), p), row.shape))
    return np.moveaxis(np.array(out), 0, dim)


def _pairs(a: Plain, b: Plain) -> Iterator[tuple[tuple[int, ...], Any, Any, list[float]]]:
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (np.broadcast_to(x, batch + x.shape[-2:]) for x in (a, b))
    for place in np.ndindex(*batch):
        for i in range(a.shape[-2]):
            for j in range(b.shape[-2]):
                yield (
                    (*place, i, j),
                    (*place, i),
                    (*place, j),
                    (a[*place, i] - b[*place, j]).tolist(),
                )


def distances(a: Plain, b: Plain, p: float) -> Plain:
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    out = np.empty((*batch, a.shape[-2], b.shape[-2]))
    for place, _, _, gap in _pairs(a, b):
        out[place] = _length(gap, p)
    return out


def distances_slope(g: Plain, a: Plain, b: Plain, p: float, which: int) -> Plain:
    """Of an extreme every difference that ties gets all; no sample has ties."""
    out = np.zeros((*g.shape[:-2], *(a, b)[which].shape[-2:]))
    for place, *rows, gap in _pairs(a, b):
        out[rows[which]] += (1, -1)[which] * g[place] * np.array(_slope(gap, p))
    return out


def pair_distances(a: Plain, p: float) -> Plain:
    whole = distances(a, a, p)
    return np.array([whole[i, j] for i in range(len(a)) for j in range(i + 1, len(a))])


def pair_distances_slope(g: Plain, a: Plain, p: float) -> Plain:
    out, given = np.zeros(a.shape), iter(g)
    for i in range(len(a)):
        for j in range(i + 1, len(a)):
            part = next(given) * np.array(_slope((a[i] - a[j]).tolist(), p))
            out[i] += part
            out[j] -= part
    return out


NORMS: dict[str, Any] = {
    word.__name__: word
    for word in (
        length_of, length_slope, shortened, shortened_input, distances, distances_slope,
        pair_distances, pair_distances_slope,
    )
}  # fmt: skip
