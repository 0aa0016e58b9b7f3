"""Words of formulas that join, split, index and order, written by loops over single elements.

Nothing here may come from the rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Plain: TypeAlias = Any
Sizes: TypeAlias = tuple[int, ...]
At: TypeAlias = tuple[int, ...]


def moved(at: At, dim: int, to: int) -> At:
    """A place with another coordinate on one axis."""
    dim %= len(at)
    return (*at[:dim], to, *at[dim + 1 :])


def sized(x: Plain, dim: int, n: int) -> Plain:
    return np.zeros(moved(x.shape, dim, n), x.dtype)


# Joining and splitting.


def cat(tensors: Plain, dim: int) -> Plain:
    kept = [x for x in tensors if x.size or x.ndim != 1]
    out = sized(kept[0], dim, sum(x.shape[dim] for x in kept))
    start = 0
    for x in kept:
        for at in np.ndindex(x.shape):
            out[moved(at, dim, start + at[dim])] = x[at]
        start += x.shape[dim]
    return out


def cut(g: Plain, tensors: Plain, dim: int) -> list[Plain]:
    found, start = [], 0
    for x in tensors:
        part = np.zeros(x.shape, g.dtype)
        for at in np.ndindex(x.shape):
            part[at] = g[moved(at, dim, start + at[dim])]
        start += x.shape[dim] if x.size or x.ndim != 1 else 0
        found.append(part)
    return found


def split_by(x: Plain, sizes: Sizes, dim: int) -> list[Plain]:
    return cut(x, [sized(x, dim, n) for n in sizes], dim)


def split(x: Plain, size: int, dim: int) -> list[Plain]:
    full, rest = divmod(x.shape[dim], size)
    return split_by(x, (size,) * full + (rest,) * (rest > 0), dim)


def rejoin(parts: Plain, dim: int) -> Plain:
    return cat(parts if isinstance(parts, tuple) else (parts,), dim)


def layers(x: Plain, dim: int) -> list[Plain]:
    return [part.reshape(np.delete(x.shape, dim)) for part in split(x, 1, dim)]


def stack(tensors: Plain, dim: int) -> Plain:
    sizes = list(tensors[0].shape)
    sizes.insert(dim % (len(sizes) + 1), len(tensors))
    out = np.zeros(sizes, np.result_type(*tensors))
    for at in np.ndindex(out.shape):
        rest = list(at)
        out[at] = tensors[rest.pop(dim)][tuple(rest)]
    return out


def restack(parts: Plain, dim: int) -> Plain:
    return stack(parts if isinstance(parts, tuple) else (parts,), dim)


# Rearranging.


def _copies(x: Plain, repeats: Sizes) -> Iterator[tuple[At, At]]:
    sizes = (1,) * (len(repeats) - x.ndim) + x.shape
    for at in np.ndindex(*(n * r for n, r in zip(sizes, repeats, strict=True))):
        origin = tuple(i % n for i, n in zip(at, sizes, strict=True))
        yield at, origin[len(repeats) - x.ndim :]


def tile(x: Plain, repeats: Sizes) -> Plain:
    pairs = list(_copies(x, repeats))
    out = np.zeros([1 + i for i in pairs[-1][0]], x.dtype)
    for at, origin in pairs:
        out[at] = x[origin]
    return out


def untile(g: Plain, x: Plain, repeats: Sizes) -> Plain:
    out = np.zeros(x.shape, g.dtype)
    for at, origin in _copies(x, repeats):
        out[origin] += g[at]
    return out


def flip(x: Plain, dims: Sizes) -> Plain:
    out = np.zeros(x.shape, x.dtype)
    for at in np.ndindex(x.shape):
        over = {d % x.ndim for d in dims}
        out[tuple(x.shape[d] - 1 - i if d in over else i for d, i in enumerate(at))] = x[at]
    return out


def roll(x: Plain, shifts: Sizes, dims: Sizes) -> Plain:
    if not dims:
        return roll(x.reshape(-1), shifts, (0,)).reshape(x.shape)
    out = np.zeros(x.shape, x.dtype)
    for at in np.ndindex(x.shape):
        to = list(at)
        for shift, d in zip(shifts, dims, strict=True):
            to[d] = (to[d] + shift) % x.shape[d]
        out[tuple(to)] = x[at]
    return out


def unroll(g: Plain, shifts: Sizes, dims: Sizes) -> Plain:
    return roll(g, tuple(-s for s in shifts), dims)


def _kept(x: Plain, keep: Callable[[int, int], bool]) -> Plain:
    out = np.zeros(x.shape, x.dtype)
    for at in np.ndindex(x.shape):
        out[at] = x[at] if keep(at[-2], at[-1]) else 0.0
    return out


def lower_part(x: Plain, diagonal: int) -> Plain:
    return _kept(x, lambda i, j: j - i <= diagonal)


def upper_part(x: Plain, diagonal: int) -> Plain:
    return _kept(x, lambda i, j: j - i >= diagonal)


def _on_diagonal(x: Plain, offset: int, dim1: int, dim2: int) -> list[tuple[At, At]]:
    one, two = dim1 % x.ndim, dim2 % x.ndim
    found = []
    for at in np.ndindex(x.shape):
        if at[two] - at[one] == offset:
            rest = [i for d, i in enumerate(at) if d not in (one, two)]
            found.append(((*rest, min(at[one], at[two])), at))
    return found


def diagonal_of(x: Plain, *where: int) -> Plain:
    pairs = _on_diagonal(x, *where)
    out = np.zeros(np.max([at for at, _ in pairs], axis=0) + 1, x.dtype)
    for at, origin in pairs:
        out[at] = x[origin]
    return out


def along_diagonal(g: Plain, x: Plain, *where: int) -> Plain:
    out = np.zeros(x.shape, g.dtype)
    for at, origin in _on_diagonal(x, *where):
        out[origin] = g[at]
    return out


def _seen(x: Plain, dim: int, size: int, step: int) -> Iterator[tuple[At, At]]:
    count = (x.shape[dim] - size) // step + 1
    for at in np.ndindex(*moved(x.shape, dim, count), size):
        yield at, moved(at[:-1], dim, at[dim if dim >= 0 else dim - 1] * step + at[-1])


def windows(x: Plain, *how: int) -> Plain:
    pairs = list(_seen(x, *how))
    out = np.zeros([1 + i for i in pairs[-1][0]], x.dtype)
    for at, origin in pairs:
        out[at] = x[origin]
    return out


def add_windows(g: Plain, x: Plain, *how: int) -> Plain:
    out = np.zeros(x.shape, g.dtype)
    for at, origin in _seen(x, *how):
        out[origin] += g[at]
    return out


def padded(x: Plain, pad: Sizes, value: float) -> Plain:
    """Torch's order: the last axis first, before and after."""
    for k in range(len(pad) // 2):
        dim = x.ndim - 1 - k
        out = sized(x, dim, x.shape[dim] + pad[2 * k] + pad[2 * k + 1]) + value
        for at in np.ndindex(x.shape):
            if 0 <= at[dim] + pad[2 * k] < out.shape[dim]:
                out[moved(at, dim, at[dim] + pad[2 * k])] = x[at]
        x = out
    return x


def unpadded(g: Plain, x: Plain, pad: Sizes) -> Plain:
    return padded(g, tuple(-n for n in pad), 0.0).reshape(x.shape)


# Indexing.


def take(x: Plain, dim: int, index: Plain) -> Plain:
    if np.ndim(x) == 0:  # no rows to take
        return x
    if index.ndim > 1:
        return np.array([take(x, dim, row) for row in index])
    return stack([layers(x, dim)[i] for i in index], dim)


def _places_of_blocks(tensors: Plain) -> Any:
    """Where each number of each matrix stands."""
    row = column = 0
    for x in tensors:
        m, n = x.shape if x.ndim == 2 else (1, x.size)
        yield [(row + i, column + j) for i in range(m) for j in range(n)]
        row, column = row + m, column + n


def blocks(tensors: Plain) -> Plain:
    places = list(_places_of_blocks(tensors))
    sizes = [max(at[k] for part in places for at in part) + 1 for k in (0, 1)]
    out = np.zeros(sizes, np.result_type(*tensors))
    for x, part in zip(tensors, places, strict=True):
        for number, at in zip(np.ravel(x), part, strict=True):
            out[at] = number
    return out


def block_of(g: Plain, tensors: Plain) -> Plain:
    pairs = zip(tensors, _places_of_blocks(tensors), strict=True)
    return [np.array([g[at] for at in part]).reshape(x.shape) for x, part in pairs]


def listed(index: Plain) -> Plain:
    return np.array(index.flatten().tolist())


def add_rows(
    g: Plain, x: Plain, dim: int, index: Plain, padding: int | None = None, shared: bool = False
) -> Plain:
    if np.ndim(x) == 0:
        return g
    out = np.zeros(x.shape, g.dtype)
    rows = np.moveaxis(g, dim, 0) if index.ndim == 1 else g.reshape(-1, *x.shape[1:])
    named = index.reshape(-1).tolist()
    for i, row in zip(named, rows, strict=True):
        if i != padding:
            np.moveaxis(out, dim, 0)[i] += row / (named.count(i) if shared else 1)
    return out


def gather(x: Plain, dim: int, index: Plain) -> Plain:
    out = np.zeros(index.shape, x.dtype)
    for at in np.ndindex(index.shape):
        out[at] = x[moved(at, dim, index[at])]
    return out


def scatter(x: Plain, dim: int, index: Plain, src: Plain) -> Plain:
    out = np.array(x)
    for at in np.ndindex(index.shape):
        out[moved(at, dim, index[at])] = src if np.ndim(src) == 0 else src[at]
    return out


def scatter_add(x: Plain, dim: int, index: Plain, src: Plain) -> Plain:
    out = np.array(x)
    for at in np.ndindex(index.shape):
        out[moved(at, dim, index[at])] += src[at]
    return out


def _named(x: Plain, indices: Plain) -> tuple[Sizes, list[At]]:
    """The shape of what advanced indices pick, and where each element of it lies.

    Masks become the indices of what is true; the indices are broadcast together; their axes stand
    where the first of them stood, or in front if an axis was left out between them.
    """
    given: list[Any] = []
    for index in indices:
        if index is not None and index.dtype == bool:
            given += [np.array(row) for row in zip(*np.argwhere(index), strict=True)]
        else:
            given.append(index)
    given += [None] * (x.ndim - len(given))
    used = [d for d, index in enumerate(given) if index is not None]
    common = np.broadcast_shapes(*(given[d].shape for d in used))
    spread = {d: np.broadcast_to(given[d], common) for d in used}
    front = used[0] if used == list(range(used[0], used[-1] + 1)) else 0
    rest = [n for d, n in enumerate(x.shape) if d not in used]
    places: list[At] = []
    for at in np.ndindex(*rest[:front], *common, *rest[front:]):
        inner, outer = at[front : front + len(common)], [*at[:front], *at[front + len(common) :]]
        at_axis = (spread[d][inner] if d in used else outer.pop(0) for d in range(x.ndim))
        places.append(tuple(map(int, at_axis)))
    sizes = tuple(map(int, (*rest[:front], *common, *rest[front:])))
    return sizes, places


def pick(x: Plain, indices: Plain) -> Plain:
    sizes, places = _named(x, indices)
    return np.array([x[place] for place in places]).reshape(sizes)


def put(x: Plain, indices: Plain, values: Plain, accumulate: bool) -> Plain:
    out = np.array(x)
    sizes, places = _named(x, indices)
    for place, number in zip(places, np.broadcast_to(values, sizes).flat, strict=True):
        out[place] = number + (out[place] if accumulate else 0.0)
    return out


def select_where(x: Plain, mask: Plain) -> Plain:
    x, mask = np.broadcast_arrays(x, mask)
    return np.array([number for number, kept in zip(x.flat, mask.flat, strict=True) if kept])


def unselect(g: Plain, x: Plain, mask: Plain) -> Plain:
    numbers = iter(g)
    kept = np.broadcast_arrays(x, mask)[1]
    flat = [next(numbers) if one else 0.0 for one in kept.flat]
    return np.array(flat).reshape(kept.shape)


MOVING: dict[str, Any] = {
    word.__name__: word
    for word in (
        cat, cut, split_by, split, rejoin, layers, stack, restack, tile, untile, flip, roll, unroll,
        lower_part, upper_part, diagonal_of, along_diagonal, windows, add_windows, padded, unpadded,
        take, blocks, block_of, listed, add_rows, gather, scatter, scatter_add, pick, put,
        select_where, unselect,
    )
}  # fmt: skip
