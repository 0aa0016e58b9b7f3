"""Words of the formulas of products, running extremes and ranks: one row at a time.

Nothing here may come from the rules.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Plain: TypeAlias = Any
Row: TypeAlias = "list[float]"


def _each_row(function: Callable[..., Any], dim: int, *arrays: Plain) -> Plain:
    """Apply a function to the rows along an axis; it returns as many numbers, or one."""
    moved = [np.moveaxis(x, dim, -1) for x in arrays]
    flat = [x.reshape(-1, x.shape[-1]).tolist() for x in moved]
    made = np.array([function(*rows) for rows in zip(*flat, strict=True)])
    if made.ndim == 1:
        return np.expand_dims(made.reshape(moved[0].shape[:-1]), dim)
    return np.moveaxis(made.reshape(moved[0].shape), -1, dim)


def _one_row(x: Plain, dim: int | None) -> tuple[Plain, int]:
    return (x.reshape(-1), 0) if dim is None else (x, dim)


def product(x: Plain, dim: int | None, keepdim: bool) -> Plain:
    if dim is None:
        return np.array(math.prod(np.ravel(x).tolist()))
    made = _each_row(math.prod, dim, x)
    return made if keepdim else np.squeeze(made, dim)


def _rest(row: Row) -> Row:
    return [math.prod(row[:i] + row[i + 1 :]) for i in range(len(row))]


def other_factors(x: Plain, dim: int | None) -> Plain:
    rows, axis = _one_row(x, dim)
    return _each_row(_rest, axis, rows).reshape(x.shape) if x.ndim else np.array(1.0)


def running_product(x: Plain, dim: int) -> Plain:
    return _each_row(lambda row: [math.prod(row[: i + 1]) for i in range(len(row))], dim, x)


def running_product_input(g: Plain, x: Plain, dim: int) -> Plain:
    def back(of_g: Row, row: Row) -> Row:
        n = len(row)
        return [
            sum(of_g[j] * math.prod(row[:i] + row[i + 1 : j + 1]) for j in range(i, n))
            for i in range(n)
        ]

    return _each_row(back, dim, g, x)


def _places(row: Row, sign: int) -> list[int]:
    return [max(range(k + 1), key=lambda i: (sign * row[i], i)) for k in range(len(row))]


def running_extreme(x: Plain, dim: int, sign: int) -> tuple[Plain, Plain]:
    values = _each_row(lambda row: [row[i] for i in _places(row, sign)], dim, x)
    return values, _each_row(lambda row: _places(row, sign), dim, x)


def to_running_extreme(g: Plain, x: Plain, dim: int, sign: int) -> Plain:
    def back(of_g: Row, row: Row) -> Row:
        out = [0.0] * len(row)
        for place, number in zip(_places(row, sign), of_g, strict=True):
            out[place] += number
        return out

    return _each_row(back, dim, g, x)


def without_nan(x: Plain) -> Plain:
    return np.array([0.0 if math.isnan(n) else n for n in np.ravel(x)]).reshape(x.shape)


def diagonal_sum(x: Plain) -> Plain:
    return np.array(sum(x[i, i] for i in range(min(x.shape))))


def on_diagonal(x: Plain) -> Plain:
    return np.array([[float(i == j) for j in range(x.shape[1])] for i in range(x.shape[0])])


def of_rank(
    x: Plain, k: int | None, dim: int | None, keepdim: bool, skips_nan: bool = False
) -> Any:
    if dim is None:
        row = [n for n in np.ravel(x).tolist() if not (skips_nan and math.isnan(n))]
        return np.array(sorted(row)[(len(row) - 1) // 2])

    def rank(row: Row) -> int:
        return (len(row) - 1) // 2 if k is None else k - 1

    values = _each_row(lambda row: sorted(row)[rank(row)], dim, x)
    places = _each_row(lambda row: sorted(range(len(row)), key=row.__getitem__)[rank(row)], dim, x)
    return tuple(y if keepdim else np.squeeze(y, dim) for y in (values, places))


def most_frequent(x: Plain, dim: int, keepdim: bool) -> Any:
    """The smallest of those that occur most often."""

    def best(row: Row) -> float:
        return min(row, key=lambda number: (-row.count(number), number))

    values = _each_row(best, dim, x)
    places = _each_row(lambda row: row.index(best(row)), dim, x)
    return tuple(y if keepdim else np.squeeze(y, dim) for y in (values, places))


def to_rank(g: Any, y: Any, x: Plain, dim: int | None, keepdim: bool) -> Plain:
    out = np.zeros(x.shape)
    if dim is None:
        out[x == y] = g / np.count_nonzero(x == y)
        return out
    of_y, places = (z if keepdim else np.expand_dims(z, dim) for z in (g[0], y[1]))
    for at in np.ndindex(places.shape):
        whole = list(at)
        whole[dim] = int(places[at])
        out[tuple(whole)] = of_y[at]
    return out


def trilinear(
    a: Plain, b: Plain, c: Plain, add_a: Any, add_b: Any, add_c: Any, summed: Any
) -> Plain:
    """Every term of its own: the places of a, b and c follow from that in the whole."""
    ndim = a.ndim + len(add_a)
    sizes = [1] * ndim
    kept = []
    for x, added in ((a, add_a), (b, add_b), (c, add_c)):
        kept.append([axis for axis in range(ndim) if axis not in added])
        for axis, length in zip(kept[-1], x.shape, strict=True):
            sizes[axis] = max(sizes[axis], length)
    left = [axis for axis in range(ndim) if axis not in summed]
    out = np.zeros([sizes[axis] for axis in left])
    for at in np.ndindex(*sizes):
        term = math.prod(
            float(x[tuple(at[axis] for axis in axes)])
            for x, axes in zip((a, b, c), kept, strict=True)
        )
        out[tuple(at[axis] for axis in left)] += term
    return out


def grouped_product(A: Plain, B: Plain, offs: Plain | None) -> Plain:
    """Term by term: which group a row, a column or a term belongs to is counted out."""
    if offs is None:
        return np.einsum("gik,gkj->gij", A, B)

    def group(place: int) -> int:
        return sum(place >= end for end in offs)

    rows, terms = A.shape[-2:]
    columns, parts = B.shape[-1], len(offs)
    out = np.zeros((parts, rows, columns) if A.ndim == B.ndim else (rows, columns))
    for i, k, j in np.ndindex(rows, terms, columns):
        if A.ndim == B.ndim:
            out[group(k), i, j] += A[i, k] * B[k, j]
        elif B.ndim == 3:
            out[i, j] += A[i, k] * B[group(i), k, j]
        else:
            out[i, j] += A[group(j), i, k] * B[k, j]
    return out


def crossed(a: Plain, b: Plain, dim: int) -> Plain:
    """One cross product of three numbers after the other, by the determinant's cofactors."""
    rows, others = (np.moveaxis(x, dim, -1) for x in np.broadcast_arrays(a, b))
    out = np.empty(rows.shape, np.result_type(a, b))
    for at in np.ndindex(rows.shape[:-1]):
        (p, q, r), (s, t, u) = rows[at], others[at]
        out[at] = (q * u - r * t, -(p * u - r * s), p * t - q * s)
    return np.moveaxis(out, -1, dim)


PRODUCTS: dict[str, Any] = {
    word.__name__: word
    for word in (
        product, other_factors, running_product, running_product_input, running_extreme,
        to_running_extreme, without_nan, diagonal_sum, on_diagonal, of_rank, to_rank, trilinear,
        grouped_product, crossed, most_frequent,
    )
}  # fmt: skip
