"""Words of formulas that compare, sort and add up along an axis, by loops over single elements.

Nothing here may come from the rules.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rules.words_moving import At, layers, moved, scatter, sized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Plain: TypeAlias = Any
Sizes: TypeAlias = tuple[int, ...]


def _lines(x: Plain, dim: int) -> Iterator[tuple[At, list[float]]]:
    """Each line along an axis, with its place where that axis has length 1."""
    for at in np.ndindex(*moved(x.shape, dim, 1)):
        yield at, [x[moved(at, dim, i)].item() for i in range(x.shape[dim])]


def first_ordered(x: Plain, k: int, dim: int, largest: bool) -> tuple[Plain, Plain]:
    values, indices = sized(x, dim, k), sized(x, dim, k)
    for at, line in _lines(x, dim):
        order = sorted(range(len(line)), key=lambda i: -line[i] if largest else line[i])
        for place, i in enumerate(order[:k]):
            values[moved(at, dim, place)] = line[i]
            indices[moved(at, dim, place)] = i
    return values, indices


def ordered(x: Plain, dim: int, descending: bool) -> tuple[Plain, Plain]:
    return first_ordered(x, x.shape[dim], dim, descending)


def put_back(g: Plain, x: Plain, dim: int, index: Plain) -> Plain:
    return scatter(np.zeros(x.shape), dim, index, g)


def max_of(x: Plain, dim: int | None, keepdim: bool) -> Any:
    if dim is None:
        return np.array(max(float(n) for n in x.flat))
    found = first_ordered(x, 1, dim, True)
    return found if keepdim else tuple(layers(one, dim)[0] for one in found)


def min_of(x: Plain, dim: int | None, keepdim: bool) -> Any:
    found = max_of(-x, dim, keepdim)
    return -found if dim is None else (-found[0], found[1])


def to_extreme(g: Plain, y: Plain, x: Plain, dim: int | None, keepdim: bool) -> Plain:
    if dim is None:
        tied = [float(n) == float(y) for n in x.flat]
        return np.array([float(g) / sum(tied) if one else 0.0 for one in tied]).reshape(x.shape)
    line = moved(x.shape, dim, 1)
    return put_back(g[0].reshape(line), x, dim, y[1].reshape(line))


def _groups(x: Plain, dim: int | Sizes) -> dict[At, list[At]]:
    """Places of x by the place of their reduction, on axes that are kept."""
    named = (dim,) if isinstance(dim, int) else dim
    over = {d % x.ndim for d in named} if named else set(range(x.ndim))
    found: dict[At, list[At]] = {}
    for at in np.ndindex(x.shape):
        found.setdefault(tuple(0 if d in over else i for d, i in enumerate(at)), []).append(at)
    return found


def amax(x: Plain, dim: int | Sizes, keepdim: bool) -> Plain:
    groups = _groups(x, dim)
    sizes = [1 + i for i in max(groups)]
    best = np.array([max(x[at] for at in group) for group in groups.values()]).reshape(sizes)
    named = (dim,) if isinstance(dim, int) else dim or tuple(range(x.ndim))
    return best if keepdim else best.reshape(np.delete(sizes, list(named)).astype(int))


def amin(x: Plain, dim: int | Sizes, keepdim: bool) -> Plain:
    return -amax(-x, dim, keepdim)


def share_ties(g: Plain, y: Plain, x: Plain, dim: int | Sizes, keepdim: bool) -> Plain:
    out = np.zeros(x.shape)
    rows = zip(_groups(x, dim).values(), g.flat, y.flat, strict=True)
    for group, share, best in rows:
        tied = [at for at in group if x[at] == best]
        for at in tied:
            out[at] = share / len(tied)
    return out


def _by_number(function: Callable[..., Any]) -> Callable[..., Plain]:
    """Apply a function to each number of x and its limits, None being no limit."""

    def apply(x: Plain, low: Plain, high: Plain) -> Plain:
        low = -math.inf if low is None else low
        high = math.inf if high is None else high
        rows = np.broadcast_arrays(x, low, high)
        return np.array([function(*map(float, row)) for row in zip(*(r.flat for r in rows),
                        strict=True)]).reshape(rows[0].shape)  # fmt: skip

    return apply


def running_sum(x: Plain, dim: int) -> Plain:
    out = np.zeros(x.shape, x.dtype)
    for at, line in _lines(x, dim):
        for place, total in enumerate(itertools.accumulate(line)):
            out[moved(at, dim, place)] = total
    return out


ORDERING: dict[str, Any] = {
    "greater": lambda a, b: _by_number(lambda p, q, _: p if p > q else q)(a, b, None),
    "limit": _by_number(lambda x, low, high: min(max(x, low), high)),
    "is_within": _by_number(lambda x, low, high: low <= x <= high),
    "is_below": _by_number(lambda x, low, high: x < low < high),
    "is_above": _by_number(lambda x, low, high: x > high or high < low),
}
ORDERING |= {
    word.__name__: word
    for word in (
        first_ordered, ordered, put_back, max_of, min_of, to_extreme, amax, amin, share_ties,
        running_sum,
    )
}  # fmt: skip
