"""Words of formulas that make tensors from numbers, and that ask questions about numbers.

Nothing here may come from the rules.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Plain: TypeAlias = Any
Dim: TypeAlias = "int | tuple[int, ...] | None"


def identity(n: int, m: int | None) -> Plain:
    return np.array([[float(i == j) for j in range(n if m is None else m)] for i in range(n)])


def _places(rows: int, columns: int, keep: Callable[[int, int], bool]) -> Plain:
    pairs = itertools.product(range(rows), range(columns))
    return np.array([pair for pair in pairs if keep(*pair)]).T


def lower_places(rows: int, columns: int, offset: int) -> Plain:
    return _places(rows, columns, lambda i, j: j - i <= offset)


def upper_places(rows: int, columns: int, offset: int) -> Plain:
    return _places(rows, columns, lambda i, j: j - i >= offset)


def ramp(start: Any, end: Any, step: Any) -> Plain:
    at, by, found = Fraction(start or 0), Fraction(1 if step is None else step), []
    while (at < Fraction(end)) if by > 0 else (at > Fraction(end)):
        found.append(at)
        at += by
    whole = all(n is None or isinstance(n, int) for n in (start, end, step))
    return np.array([int(n) if whole else float(n) for n in found])


def spaced(start: Any, end: Any, steps: int) -> Plain:
    first, last = Fraction(start), Fraction(end)
    gaps = max(steps - 1, 1)
    return np.array([float(first + (last - first) * i / gaps) for i in range(steps)])


def _reduced(x: Plain, dim: Dim, keepdim: bool, ask: Callable[[list[bool]], bool]) -> Plain:
    named = (dim,) if isinstance(dim, int) else dim
    over = {d % x.ndim for d in named} if named else set(range(x.ndim))
    groups: dict[tuple[int, ...], list[bool]] = {}
    for at in np.ndindex(x.shape):
        key = tuple(0 if d in over else i for d, i in enumerate(at))
        groups.setdefault(key, []).append(bool(x[at] != 0))
    sizes = [1 if d in over else n for d, n in enumerate(x.shape)]
    kept = sizes if keepdim else [n for d, n in enumerate(x.shape) if d not in over]
    return np.array([ask(group) for group in groups.values()]).reshape(kept)


def any_of(x: Plain, dim: Dim, keepdim: bool) -> Plain:
    return _reduced(x, dim, keepdim, lambda group: True in group)


def all_of(x: Plain, dim: Dim, keepdim: bool) -> Plain:
    return _reduced(x, dim, keepdim, lambda group: False not in group)


def place_of_largest(x: Plain, dim: int | None, keepdim: bool) -> Plain:
    if dim is None:
        flat = [float(n) for n in x.flat]
        return np.array(flat.index(max(flat))).reshape([1] * x.ndim if keepdim else [])
    lines = np.moveaxis(x, dim, -1)
    found = [list(lines[at]).index(max(lines[at])) for at in np.ndindex(lines.shape[:-1])]
    out = np.array(found).reshape(lines.shape[:-1])
    return np.expand_dims(out, dim) if keepdim else out


def places_not_0(x: Plain) -> Plain:
    return np.array([at for at in np.ndindex(x.shape) if x[at] != 0])


def count_below(edges: Plain, x: Plain, right: bool) -> Plain:
    out = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        row = edges if edges.ndim == 1 else edges[at[:-1]]
        out[at] = sum(bool(edge <= x[at] if right else edge < x[at]) for edge in row)
    return out


def each_place(repeats: Plain) -> Plain:
    return np.array([place for place, n in enumerate(repeats) for _ in range(n)])


def is_member(x: Plain, among: Plain, invert: bool) -> Plain:
    known = {float(n) for n in among.flat}
    return np.array([(float(n) in known) != invert for n in x.flat]).reshape(x.shape)


def histogram(x: Plain, bins: int, low: float, high: float) -> Plain:
    """Exactly: in fractions, the last bin with its upper end."""
    numbers = [Fraction(float(n)) for n in np.ravel(x)]
    least, most = (min(numbers), max(numbers)) if low == high else (Fraction(low), Fraction(high))
    width = (most - least) / bins
    found = [int((n - least) // width) for n in numbers if least <= n <= most]
    return np.array([sum(min(k, bins - 1) == b for k in found) for b in range(bins)], np.float64)


def _limits(numbers: list[float], limits: Any) -> tuple[float, float]:
    low, high = limits or (min(numbers), max(numbers))
    return (low - 0.5, high + 0.5) if low == high else (low, high)


def edges_of_points(x: Plain, bins: list[int], limits: Any) -> list[Plain]:
    found = []
    for k, count in enumerate(bins):
        column = [float(row[k]) for row in x.reshape(-1, len(bins))]
        low, high = _limits(column, limits and limits[2 * k : 2 * k + 2])
        found.append(np.array([low + (high - low) * i / count for i in range(count + 1)]))
    return found


def edges_of(x: Plain, bins: Any, limits: Any) -> Plain:
    return edges_of_points(x.reshape(-1, 1), [bins], limits)[0] if isinstance(bins, int) else bins


def _holds(edges: Plain, k: int, number: float) -> bool:
    at_end = k == len(edges) - 2 and number == edges[-1]
    return bool(edges[k] <= number < edges[k + 1] or at_end)


def counted_points(x: Plain, edges: list[Plain], weight: Plain | None, density: bool) -> Plain:
    shape = tuple(len(e) - 1 for e in edges)
    found, total = np.zeros(shape), 0.0
    weights = np.ones(x.shape[:-1]) if weight is None else weight
    for point, share in zip(x.reshape(-1, len(edges)), weights.ravel(), strict=True):
        for at in np.ndindex(shape):
            if all(_holds(e, k, number) for e, k, number in zip(edges, at, point, strict=True)):
                found[at] += share
                total += share
    if density:
        for at in np.ndindex(shape):
            volume = math.prod(e[k + 1] - e[k] for e, k in zip(edges, at, strict=True))
            found[at] /= total * volume
    return found


def counted(x: Plain, edges: Plain, weight: Plain | None, density: bool) -> Plain:
    return counted_points(x[..., None], [edges], weight, density)


def count_not_0(x: Plain, dim: int | list[int] | None) -> Plain:
    if dim is None:
        return np.array(sum(n != 0 for n in x.flat))
    axes = {d % x.ndim for d in ([dim] if isinstance(dim, int) else dim)}
    kept = [d for d in range(x.ndim) if d not in axes]
    out = np.zeros([x.shape[d] for d in kept], np.int64)
    for at in np.ndindex(x.shape):
        out[tuple(at[d] for d in kept)] += x[at] != 0
    return out


def counts(x: Plain, weights: Plain | None, minlength: int) -> Plain:
    size = max([int(n) + 1 for n in x] + [minlength])
    each = [1] * len(x) if weights is None else weights
    found = [[w for n, w in zip(x, each, strict=True) if n == k] for k in range(size)]
    return np.array([sum(part) if weights is None else math.fsum(part) for part in found])


def _grouped(rows: list[Any], kinds: list[Any], inverse: bool, lengths: bool) -> Any:
    """The place of each row among the kinds that are told apart, and how many each has."""
    places = [kinds.index(row) for row in rows]
    empty = np.zeros(0, np.int64)
    return (
        np.array(places) if inverse else empty,
        np.array([places.count(k) for k in range(len(kinds))]) if lengths else empty,
    )


def distinct_numbers(x: Plain, inverse: bool, lengths: bool) -> Any:
    rows = x.flatten().tolist()
    kinds = sorted(set(rows))
    places, found = _grouped(rows, kinds, inverse, lengths)
    return np.array(kinds, x.dtype), places.reshape(x.shape) if inverse else places, found


def distinct_layers(x: Plain, dim: int, inverse: bool, lengths: bool) -> Any:
    del inverse, lengths  # it returns both in any case
    rows = [tuple(layer.flatten()) for layer in np.moveaxis(x, dim, 0)]
    kinds = sorted(set(rows))
    layers = np.array(kinds).reshape(len(kinds), *np.moveaxis(x, dim, 0).shape[1:])
    return np.moveaxis(layers, 0, dim), *_grouped(rows, kinds, True, True)


def runs(x: Plain, inverse: bool, lengths: bool, dim: int | None) -> Any:
    whole = x.flatten() if dim is None else np.moveaxis(x, dim, 0)
    rows = [tuple(np.ravel(layer)) for layer in whole]
    if dim is not None:
        inverse = lengths = True
    begun = [i for i, row in enumerate(rows) if i == 0 or row != rows[i - 1]]
    numbers = [sum(b <= i for b in begun) - 1 for i in range(len(rows))]
    places, found = _grouped(numbers, sorted(set(numbers)), inverse, lengths)
    if dim is None and inverse:
        places = places.reshape(x.shape)
    return np.moveaxis(whole[begun], 0, dim or 0), places, found


CREATE: dict[str, Any] = {
    word.__name__: word
    for word in (
        identity, lower_places, upper_places, ramp, spaced, any_of, all_of, place_of_largest,
        places_not_0, count_below, each_place, is_member,
        histogram, edges_of, edges_of_points, counted, counted_points, count_not_0, counts,
        distinct_numbers, distinct_layers, runs,
    )
}  # fmt: skip
