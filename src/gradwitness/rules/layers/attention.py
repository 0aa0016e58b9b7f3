"""Attention as one kernel: weights exp(q k / sqrt(E)) over keys, normalised, times the values.

The kernel goes over blocks of keys. It keeps the largest score so far, and rescales what it has
when that grows: the weights are normalised at the end, and not before they meet the values. In 16
bits the weights lie in a 16-bit buffer on the way to each matrix product; all else is float32.

A query's result needs no other query, and a key's gradient no other key: the rules go over blocks
of them, so that their scores stay in the cache.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.kernel_ops import (
    enter_kernel,
    leave_kernel,
    round_as_kernel,
    round_to_format,
    short_exp,
)
from gradwitness.rules.registry import Array, Shaped, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_ALL = slice(0, None)
# Scores that are computed at once.
_AT_ONCE = 2**16


def _blocks(x: Array, scores: int) -> Iterator[slice]:
    """Yield ranges of x's queries or keys, of which each has so many scores in every head."""
    step = max(1, _AT_ONCE // max(1, scores * x.shape[0] * x.shape[1]))
    return (slice(start, start + step) for start in range(0, max(1, x.shape[2]), step))


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def _heads(x: Array, q: Array) -> Array:
    """Give each head of q its keys or values: several heads in a row may share them."""
    return x if x.shape[1] == q.shape[1] else np.repeat(x, q.shape[1] // x.shape[1], axis=1)


def _swap(x: Array) -> Array:
    return np.swapaxes(x, 2, 3)


def _factor(q: Array, scale: Any) -> Any:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else round_as_kernel(enter_kernel(scale))


def _scores(
    q: Array,
    k: Array,
    mask: Array | None,
    is_causal: bool,
    scale: Any,
    queries: slice = _ALL,
    keys: slice = _ALL,
) -> Any:
    """Return scores, and the places that a mask hides: -inf, or keys after the query.

    They are those of a range of queries and of keys; q and k hold these alone, the mask all.
    """
    scores = _factor(q, scale) * (q @ _swap(_heads(k, q)))
    hidden = np.zeros(scores.shape, dtype=bool, like=scores)
    if is_causal:
        rows, columns = (np.arange(n, like=scores) for n in scores.shape[-2:])
        hidden = hidden | (columns + keys.start > (rows + queries.start)[:, None])
    if mask is not None:
        # What is broadcast along an axis has no range of it.
        ends = zip((queries, keys), mask.shape[-2:], strict=True)
        mask = mask[(..., *(_ALL if n == 1 else of for of, n in ends))]
        masked = np.equal(mask, -np.inf)
        hidden = hidden | masked
        scores = scores + np.where(masked, 0, mask)
    return scores, hidden


def _apart(shapes: Mapping[str, tuple[int, ...]], _parameters: Mapping[str, Any]) -> str:
    """Return the axes to compute along, see `Rule`: the batch, and heads with keys of their own."""
    own = shapes["q"][1:2] == shapes["k"][1:2] == shapes["v"][1:2]
    return "nh,nh,nh,nh__->nh,nh" if own else "n,n,n,n___->n,n"


@rule(
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "y = attend(q, k, mask, is_causal, scale) @ heads(v, q), "
    "log_total(q, k, mask, is_causal, scale)",
    meaning="sends g, weighed by the attention weights P, to the values; and P times what g v^T "
    "has above its mean under P, scaled, through the product of queries and keys",
    apart=_apart,
    doubles=("scale",),
)
def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    *,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
) -> tuple[Array, Array]:
    if dropout_p:
        raise NotImplementedError("dropout inside of the kernel")
    k, v = _heads(k, q), _heads(v, q)
    parts = [
        _attended(v, *_scores(q[:, :, block], k, mask, is_causal, scale, block))
        for block in _blocks(q, k.shape[2])
    ]
    y, log = zip(*parts, strict=True)
    return _joined([*y]), _joined([*log])


def _attended(v: Array, scores: Array, hidden: Any) -> tuple[Array, Array]:
    """Return some queries' weighed values, and the logarithms of what their weights add up to."""
    # Any number near the largest would do: it is found by its place, and has its own error alone.
    seen = np.where(hidden, -np.inf, scores)
    top = np.take_along_axis(seen, np.argmax(seen, axis=-1, keepdims=True), -1)
    top = np.where(np.isfinite(top), top, 0)
    e = np.where(hidden, 0, short_exp(scores - top))
    total = np.sum(e, axis=-1, keepdims=True)
    # A query from which all keys are hidden gets zeros, and 0 for the logarithm.
    total = np.where(np.equal(total, 0), 1, total)
    y = (round_to_format(e) @ v) * (1 / total)
    return y, np.reshape(top + np.log(total), total.shape[:-1])


def _weights(
    log: Array,
    q: Array,
    k: Array,
    mask: Array | None,
    is_causal: bool,
    scale: Any,
    queries: slice = _ALL,
    keys: slice = _ALL,
) -> Array:
    """Return the weights as backward makes them again, from the recorded logarithm."""
    of = q[:, :, queries], k[:, :, keys], mask
    scores, hidden = _scores(*of, is_causal, scale, queries, keys)
    return np.where(hidden, 0, np.exp(scores - log[:, :, queries]))


def _logarithm(y: Any) -> Array:
    return enter_kernel(np.reshape(y[1], (*y[1].shape, 1)))


# How many queries, and keys, backward takes at once; of the queries more where there are more.
_QUERIES = ((768, 256), (192, 64), (0, 32))
_KEYS = 512


def _added(left: Array, right: Array, shared: int, block: int) -> Array:
    """Multiply matrices block by block along their common axis, for heads that share a result.

    Each block is added to what stands there already, in the tensor's format.
    """
    many = left.shape[1] // shared
    parts = [
        left[:, head::many, :, start : start + block] @ right[:, head::many, start : start + block]
        for head in range(many)
        for start in range(0, left.shape[-1], block)
    ]
    return parts[0] if len(parts) == 1 else np.cumsum(np.stack(parts), axis=0)[-1]


def _queries(q: Array) -> int:
    return next(size for least, size in _QUERIES if q.shape[2] >= least)


_SCORES = (
    "(back(attend(q, k, mask, is_causal, scale), g[0] @ swap(heads(v, q), 2, 3)) "
    "* factor(q, scale))"
)


def _score_gradients(
    g: Any, y: Any, q: Array, k: Array, v: Array, mask: Array | None, is_causal: bool, scale: Any
) -> Callable[[slice, slice], Array]:
    """Return the gradient of the product of queries and keys, for ranges of both.

    It is P times what g v^T has above its mean under P, which is g y.
    """
    q, k, v = enter_kernel(q), enter_kernel(_heads(k, q)), enter_kernel(_heads(v, q))
    log, g0, y0 = _logarithm(y), enter_kernel(g[0]), enter_kernel(y[0])
    mean = np.sum(g0 * y0, axis=-1, keepdims=True)

    def of(queries: slice, keys: slice) -> Array:
        p = _weights(log, q, k, mask, is_causal, scale, queries, keys)
        above = g0[:, :, queries] @ _swap(v[:, :, keys]) - mean[:, :, queries]
        return round_to_format(_factor(q, scale) * (p * above))

    return of


@attention.vjp("q", f"{_SCORES} @ heads(k, q)")
def _(
    g: Any, y: Any, q: Array, k: Array, v: Array, mask: Array | None, *, is_causal: bool, scale: Any
) -> Array:
    scores, keys = _score_gradients(g, y, q, k, v, mask, is_causal, scale), _heads(k, q)
    parts = [
        _added(scores(block, _ALL), enter_kernel(keys), q.shape[1], _KEYS)
        for block in _blocks(q, k.shape[2])
    ]
    return leave_kernel(_joined(parts))


@attention.vjp("k", f"of_heads(swap({_SCORES}, 2, 3) @ q, k)")
def _(
    g: Any, y: Any, q: Array, k: Array, v: Array, mask: Array | None, *, is_causal: bool, scale: Any
) -> Array:
    scores = _score_gradients(g, y, q, k, v, mask, is_causal, scale)
    parts = [
        _added(_swap(scores(_ALL, block)), enter_kernel(q), k.shape[1], _queries(q))
        for block in _blocks(_heads(k, q), q.shape[2])
    ]
    return leave_kernel(_joined(parts))


@attention.vjp("v", "of_heads(swap(attend(q, k, mask, is_causal, scale), 2, 3) @ g[0], v)")
def _(
    g: Any,
    y: Any,
    q: Array,
    k: Array,
    v: Shaped,
    mask: Array | None,
    *,
    is_causal: bool,
    scale: Any,
) -> Array:
    queries, keys, g0 = enter_kernel(q), enter_kernel(_heads(k, q)), enter_kernel(g[0])
    of = _logarithm(y), queries, keys, mask, is_causal, scale, _ALL
    parts = [
        _added(_swap(round_to_format(_weights(*of, block))), g0, v.shape[1], _queries(q))
        for block in _blocks(keys, q.shape[2])
    ]
    return leave_kernel(_joined(parts))
