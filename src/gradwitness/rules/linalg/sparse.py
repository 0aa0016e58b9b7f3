"""Sparse matrices: made, masked, multiplied.

They are recorded as arrays of all their numbers, with -0.0 where they name none; a zero that they
name is 0.0. A number that is not named has no gradient.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwitness.rules.kernel_ops import scattered
from gradwitness.rules.reduce.sum_mean import axes, spread
from gradwitness.rules.registry import Array, rule


def named(x: Array) -> Array:
    """Return where a sparse tensor names a number."""
    return np.logical_not(np.logical_and(np.equal(x, 0), np.signbit(np.real(x))))


def _where_named(x: Array, y: Array) -> Array:
    return np.where(named(x), y, -0.0)


to_sparse = rule(
    "aten._to_sparse",
    "y = x",
    meaning="passes the gradient on, as a tensor of the other kind",
    aliases=tuple(f"aten._to_sparse_{layout}" for layout in ("csr", "csc", "bsr", "bsc")),
    ignores=("blocksize", "dense_dim", "sparse_dim"),
    node="ToSparseBackward",
)(lambda x: np.where(np.equal(x, 0), -0.0, x))
to_sparse.vjps(x="g")


@rule(
    "aten._to_dense",
    "y = x",
    meaning="passes the gradient on where the tensor names a number",
)
def to_dense(x: Array, *, masked_grad: bool | None = None) -> Array:
    del masked_grad
    return x


@to_dense.vjp("x", "where(named(x) or masked_grad is False, g, 0)")
def _(g: Array, x: Array, *, masked_grad: bool | None) -> Array:
    return g if masked_grad is False else _where_named(x, g)


coalesce = rule(
    "aten._coalesce",
    "y = x",
    meaning="passes the gradient on",
)(lambda x: x)
coalesce.vjps(x="g")


@rule(
    "aten.sparse_mask",
    "y = where(named(mask), x, 0)",
    meaning="passes the gradient on where the mask names a number",
)
def sparse_mask(x: Array, mask: Array) -> Array:
    return _where_named(mask, x)


sparse_mask.vjp("x", "where(named(mask), g, 0)")(lambda g, mask: _where_named(mask, g))


def _places(indices: Array, size: Any) -> Array:
    """Return where each number lies among all of them, of those behind named axes too."""
    axes = len(indices)
    within = math.prod(size[axes:])
    nowhere = np.zeros(1, int, like=indices)
    rows = np.ravel_multi_index(tuple(indices), tuple(size[:axes])) if axes else nowhere
    places = np.reshape(rows, (-1, 1)) * within + np.arange(within, like=indices)
    return np.reshape(places, (indices.shape[1], *size[axes:]))


@rule(
    "aten._sparse_coo_tensor_with_dims_and_tensors",
    "y = add_at(indices, values, size)",
    meaning="sends each number the gradient at its place",
    ignores=("sparse_dim", "dense_dim", "is_coalesced"),
)
def sparse_coo_tensor(values: Array, *, indices: Array, size: Any) -> Array:
    places = np.ravel(_places(indices, size))
    count = math.prod(size)
    total = np.reshape(scattered(np.ravel(values), places, count), tuple(size))
    is_named = np.bincount(places, minlength=count) > 0
    return np.where(np.reshape(is_named, tuple(size)), total, -0.0)


@sparse_coo_tensor.vjp("values", "g[indices]")
def _(g: Array, *, indices: Array, size: Any) -> Array:
    return np.ravel(g)[_places(indices, size)]


def _named_places(x: Array, found: Array) -> Any:
    """Return where the numbers lie that were handed out, by the axes that are named.

    Other layouts than rows one after the other have another order.
    """
    behind = tuple(range(x.ndim - found.ndim + 1, x.ndim))
    places = np.any(named(x), axis=behind) if behind else named(x)
    if np.count_nonzero(places) != len(found) or np.any(np.not_equal(x[places], found)):
        raise NotImplementedError("numbers of a sparse tensor that do not lie row by row")
    return places


@rule(
    "aten.values",
    "y = x[named(x)]",
    meaning="puts each number's gradient at its place",
    # The second has no gradient in torch.
    aliases=("aten._values",),
    given={"found": 0},
)
def values(x: Array, *, found: Array) -> Array:
    return x[_named_places(x, found)]


@values.vjp("x", "add_at(named(x), g)")
def _(g: Array, x: Array, *, found: Array) -> Array:
    places = _named_places(x, found)
    sent = np.zeros_like(g, shape=x.shape)
    sent[places] = g
    behind = (..., *(np.newaxis,) * (x.ndim - places.ndim))
    return np.where(places[behind], sent, -0.0)


def _counted(x: Array) -> Array:
    """Return where numbers are named, which those of integers and truths do not tell."""
    if x.dtype.kind in "biu":
        raise NotImplementedError("the places of a sparse tensor without floating-point numbers")
    return named(x)


@rule("aten.indices", "y = places(named(x))", aliases=("aten._indices",), given={"found": 0})
def indices(x: Array, *, found: Array) -> Array:
    # In any order, and some perhaps twice.
    behind = tuple(range(len(found), x.ndim))
    is_named = np.any(_counted(x), axis=behind) if behind else _counted(x)
    told = np.zeros_like(is_named)
    told[tuple(found)] = True
    return found if np.all(np.equal(told, is_named)) else np.transpose(np.argwhere(is_named))


def _ends(is_named: Array, found: Array) -> Array:
    """Return how many numbers the rows up to each name."""
    if is_named.shape[-2] != found.shape[-1] - 1:
        raise NotImplementedError("a sparse tensor of blocks")
    counts = np.count_nonzero(is_named, axis=-1)
    return np.cumsum(np.concatenate([np.zeros_like(counts[..., :1]), counts], axis=-1), axis=-1)


def _within(is_named: Array, found: Array) -> Array:
    """Return where in its row each number lies."""
    if np.count_nonzero(is_named) != found.size:
        raise NotImplementedError("a sparse tensor of blocks, or one that names a place twice")
    return np.reshape(np.nonzero(is_named)[-1], found.shape)


@rule("aten.crow_indices", "y = cumulative_counts(named(x))", given={"found": 0})
def crow_indices(x: Array, *, found: Array) -> Array:
    return _ends(_counted(x), found)


@rule("aten.ccol_indices", "y = cumulative_counts(transpose(named(x)))", given={"found": 0})
def ccol_indices(x: Array, *, found: Array) -> Array:
    return _ends(np.swapaxes(_counted(x), -1, -2), found)


@rule("aten.col_indices", "y = columns(named(x))", given={"found": 0})
def col_indices(x: Array, *, found: Array) -> Array:
    return _within(_counted(x), found)


@rule("aten.row_indices", "y = rows(named(x))", given={"found": 0})
def row_indices(x: Array, *, found: Array) -> Array:
    return _within(np.swapaxes(_counted(x), -1, -2), found)


@rule(
    "aten._sparse_sum",
    "y = sum(x, dim)",
    meaning="sends to each number that the tensor names the gradient of its sum",
)
def sparse_sum(x: Array, *, dim: Any = None) -> Array:
    return np.sum(x, axis=axes(dim, x.ndim))


@sparse_sum.vjp("x", "where(named(x), repeat(g, x, dim), 0)")
def _(g: Array, x: Array, *, dim: Any) -> Array:
    return _where_named(x, spread(g, x, dim, False))


def _exponentials(x: Array, dim: int) -> tuple[Array, Array]:
    """Return what is named, less the largest along an axis, and its exponentials."""
    is_named = named(x)
    top = np.max(np.where(is_named, x, -np.inf), axis=dim, keepdims=True)
    down = np.where(is_named, x - np.where(np.isfinite(top), top, 0), 0)
    return down, np.where(is_named, np.exp(down), 0)


def _total(e: Array, dim: int) -> Array:
    """Return the sum along an axis; 1 where nothing is named."""
    total = np.sum(e, axis=dim, keepdims=True)
    return np.where(np.equal(total, 0), 1, total)


@rule(
    "aten._sparse_softmax",
    "y = where(named(x), exp(x) / sum(where(named(x), exp(x), 0), dim, True), 0)",
    meaning="subtracts from the gradient its mean under the result's weights, and multiplies by "
    "the result",
    ignores=("half_to_float",),
    composite=True,
)
def sparse_softmax(x: Array, *, dim: int) -> Array:
    _, e = _exponentials(x, dim)
    return _where_named(x, e / _total(e, dim))


@sparse_softmax.vjp("x", "where(named(x), y * (g - sum(g * y, dim, True)), 0)")
def _(g: Array, y: Array, x: Array, *, dim: int) -> Array:
    return _where_named(x, y * (g - np.sum(g * y, axis=dim, keepdims=True)))


@rule(
    "aten._sparse_log_softmax",
    "y = where(named(x), x - log(sum(where(named(x), exp(x), 0), dim, True)), 0)",
    meaning="subtracts from the gradient its sum, times the softmax",
    ignores=("half_to_float",),
    composite=True,
)
def sparse_log_softmax(x: Array, *, dim: int) -> Array:
    down, e = _exponentials(x, dim)
    return _where_named(x, down - np.log(_total(e, dim)))


@sparse_log_softmax.vjp(
    "x", "where(named(x), g - exp(y) * sum(where(named(x), g, 0), dim, True), 0)"
)
def _(g: Array, y: Array, x: Array, *, dim: int) -> Array:
    total = np.sum(_where_named(x, g), axis=dim, keepdims=True)
    return _where_named(x, g - np.exp(y) * total)


sparse_product = rule(
    "aten._sparse_sparse_matmul",
    "y = A @ B",
    meaning="sends g B^T and A^T g to the factors, where they name a number",
)(lambda A, B: A @ B)
sparse_product.vjp("A", "where(named(A), g @ B.T, 0)")(
    lambda g, A, B: _where_named(A, g @ np.swapaxes(B, -1, -2))
)
sparse_product.vjp("B", "where(named(B), A.T @ g, 0)")(
    lambda g, A, B: _where_named(B, np.swapaxes(A, -1, -2) @ g)
)


@rule(
    "aten._sparse_addmm",
    "y = alpha * (A @ B) + beta * b",
    meaning="sends g B^T, where it names a number, to the sparse matrix, A^T g to the other",
)
def sparse_addmm(b: Array, A: Array, B: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    # A product with no zeros to round: any order, and no term where A names no number.
    return alpha * (A @ B) + beta * b


sparse_addmm.vjps(b="beta * g", B="alpha * (A.T @ g)")
sparse_addmm.vjp("A", "where(named(A), alpha * (g @ B.T), 0)")(
    lambda g, A, B, *, alpha: _where_named(A, alpha * (g @ np.swapaxes(B, -1, -2)))
)


@rule(
    "aten.sparse_sampled_addmm",
    "y = where(named(s), alpha * (A @ B) + beta * s, 0)",
    meaning="keeps the gradient where the sparse matrix names a number, and sends g B^T and A^T g "
    "to the factors",
)
def sampled_addmm(s: Array, A: Array, B: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    return _where_named(s, alpha * (A @ B) + beta * s)


@sampled_addmm.vjp("s", "where(named(s), beta * g, 0)")
def _(g: Array, s: Array, *, beta: Any) -> Array:
    return _where_named(s, beta * g)


@sampled_addmm.vjp("A", "alpha * (where(named(s), g, 0) @ B.T)")
def _(g: Array, s: Array, B: Array, *, alpha: Any) -> Array:
    return alpha * (_where_named(s, g) @ np.swapaxes(B, -1, -2))


@sampled_addmm.vjp("B", "alpha * (A.T @ where(named(s), g, 0))")
def _(g: Array, s: Array, A: Array, *, alpha: Any) -> Array:
    return alpha * (np.swapaxes(A, -1, -2) @ _where_named(s, g))


# Products reduced otherwise: A names some numbers of each row, whose products with B's rows are
# added up, averaged, or of which one is taken. Rows of which none is named give 0.


def _counts(A: Array) -> Array:
    return np.maximum(np.count_nonzero(named(A), axis=1), 1)[:, None]


def _taken(A: Array, which: Array) -> Array:
    """Return whether a product, by row, what is summed over and column, is the one taken.

    ``which`` counts the named numbers in order; it is one too many where there is none.
    """
    rows, columns = (np.append(at, -1)[np.minimum(which, len(at))] for at in np.nonzero(named(A)))
    here = np.equal(columns[:, None, :], np.arange(A.shape[1], like=A)[:, None])
    return here & np.equal(rows, np.arange(A.shape[0], like=A)[:, None])[:, None, :]


@rule(
    "aten._sparse_mm_reduce_impl",
    "y = reduced_product(A, B, reduce)",
    meaning="sends g B^T, where it names a number, to the sparse matrix and A^T g to the other, of "
    "the products that were taken or averaged",
    given={"which": 1},
)
def sparse_mm_reduce(
    A: Array, B: Array, *, reduce: str, which: Array
) -> tuple[Array, Array | None]:
    if reduce == "sum":
        return A @ B, None
    if reduce == "mean":
        return (A @ B) / _counts(A), None
    sign = 1 if reduce == "amax" else -1
    terms = np.where(named(A)[:, :, None], A[:, :, None] * (sign * B), -np.inf)
    some = np.any(named(A), axis=1)[:, None]
    best = np.where(some, np.max(terms, axis=1), 0)
    if which.shape != best.shape:
        # No gradient is wanted.
        return sign * best, None
    taken = np.max(np.where(_taken(A, which), terms, -np.inf), axis=1)
    apart = np.absolute(best - np.where(some, taken, 0))
    if np.any(np.greater(apart, 0) & np.less(apart, np.absolute(best) / 64)):
        raise NotImplementedError("which product is taken depends on rounding")
    return sign * best, np.where(np.equal(apart, 0), which, -1)


@sparse_mm_reduce.vjp("A", "where(named(A), shared(g[0], A, reduce, y[1]) @ B.T, 0)")
def _(g: Any, y1: Array, A: Array, B: Array, *, reduce: str) -> Array:
    if reduce in ("amax", "amin"):
        return _where_named(A, np.sum(np.where(_taken(A, y1), g[0][:, None] * B, 0), axis=2))
    g = g[0] / _counts(A) if reduce == "mean" else g[0]
    return _where_named(A, g @ np.swapaxes(B, -1, -2))


@sparse_mm_reduce.vjp("B", "A.T @ shared(g[0], A, reduce, y[1])")
def _(g: Any, y1: Array, A: Array, *, reduce: str) -> Array:
    if reduce in ("amax", "amin"):
        terms = np.where(_taken(A, y1), g[0][:, None] * A[:, :, None], 0)
        return np.sum(terms, axis=0)
    g = g[0] / _counts(A) if reduce == "mean" else g[0]
    return np.swapaxes(A, -1, -2) @ g
