"""Attention as one kernel: weights exp(q k / sqrt(E)) over keys, normalised, times the values.

The kernel goes over blocks of keys. It keeps the largest score so far, and rescales what it has
when that grows: the weights are normalised at the end, and not before they meet the values. In 16
bits the weights lie in a 16-bit buffer on the way to each matrix product; all else is float32.

A sample needs no other, nor does a head with keys of its own, a query's result no other query, and
a key's gradient no other key: the rules go over blocks of them, so that scores stay in the cache.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.kernel_ops import (
    added_on_the_way,
    enter_kernel,
    leave_kernel,
    round_as_kernel,
    round_to_format,
    short_exp,
    where,
)
from gradwitness.rules.registry import Array, rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ALL = slice(0, None)
# Scores that are computed at once.
_AT_ONCE = 2**16


def _units(q: Array, k: Array, v: Array) -> Iterator[tuple[slice, slice]]:
    """Yield ranges of samples, and of heads where they share no keys, of so many scores or one."""
    samples, heads, queries = q.shape[:3]
    most = max(1, _AT_ONCE // max(1, queries * k.shape[2]))
    own = q.shape[1] == k.shape[1] == v.shape[1]
    steps = (max(1, most // max(1, heads)), most if own else max(1, heads))
    ranges = (
        [slice(start, start + step) for start in range(0, max(1, n), step)]
        for n, step in zip((samples, heads), steps, strict=True)
    )
    # Of heads that share keys all are taken.
    return ((n, h if own else _ALL) for n, h in itertools.product(*ranges))


def _in(unit: tuple[slice, slice], mask: Array | None) -> Array | None:
    """Return the part of a mask, which may be broadcast, that belongs to samples and heads."""
    if mask is None or mask.ndim < 3:
        return mask
    axes = unit[4 - mask.ndim :]
    return mask[tuple(_ALL if n == 1 else at for at, n in zip(axes, mask.shape, strict=False))]


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
    """Return scores, and the places that a mask hides, if any: -inf, or keys after the query.

    They are those of a range of queries and of keys; q and k hold these alone, the mask all.
    """
    scores = _factor(q, scale) * (q @ _swap(_heads(k, q)))
    hidden: Any = None
    if is_causal:
        rows, columns = (np.arange(n, like=scores) for n in scores.shape[-2:])
        hidden = columns + keys.start > (rows + queries.start)[:, None]
    if mask is not None:
        # What is broadcast along an axis has no range of it.
        ends = zip((queries, keys), mask.shape[-2:], strict=True)
        mask = mask[(..., *(_ALL if n == 1 else of for of, n in ends))]
        masked = np.equal(mask, -np.inf)
        hidden = masked if hidden is None else hidden | masked
        scores = scores + where(masked, 0, mask)
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
    y = np.zeros_like(v, shape=(*q.shape[:3], v.shape[3]))
    log = np.zeros_like(v, shape=q.shape[:3])
    for unit in _units(q, k, v):
        queries, keys, values, of_mask = q[unit], k[unit], v[unit], _in(unit, mask)
        keys, values = _heads(keys, queries), _heads(values, queries)
        for block in _blocks(queries, keys.shape[2]):
            scores = _scores(queries[:, :, block], keys, of_mask, is_causal, scale, block)
            y[(*unit, block)], log[(*unit, block)] = _attended(values, *scores)
    return y, log


def _shown(scores: Array, hidden: Any, instead: float) -> Array:
    return scores if hidden is None else where(hidden, instead, scores)


def _attended(v: Array, scores: Array, hidden: Any) -> tuple[Array, Array]:
    """Return some queries' weighed values, and the logarithms of what their weights add up to."""
    # Any number near the largest would do: it is found by its place, and has its own error alone.
    seen = _shown(scores, hidden, -np.inf)
    top = np.take_along_axis(seen, np.argmax(seen, axis=-1, keepdims=True), -1)
    top = where(np.isfinite(top), top, 0)
    e = _shown(short_exp(scores - top), hidden, 0)
    total = np.sum(e, axis=-1, keepdims=True)
    # A query from which all keys are hidden gets zeros, and 0 for the logarithm.
    total = where(np.equal(total, 0), 1, total)
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
    return _shown(np.exp(scores - log[:, :, queries]), hidden, 0)


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
    return parts[0] if len(parts) == 1 else added_on_the_way(np.stack(parts))


def _queries(q: Array) -> int:
    return next(size for least, size in _QUERIES if q.shape[2] >= least)


_SCORES = (
    "(back(attend(q, k, mask, is_causal, scale), g[0] @ swap(heads(v, q), 2, 3)) "
    "* factor(q, scale))"
)


# All at once, as they share the weights.
@attention.vjps_together(
    q=f"{_SCORES} @ heads(k, q)",
    k=f"of_heads(swap({_SCORES}, 2, 3) @ q, k)",
    v="of_heads(swap(attend(q, k, mask, is_causal, scale), 2, 3) @ g[0], v)",
)
def _(
    g: Any, y: Any, q: Array, k: Array, v: Array, mask: Array | None, *, is_causal: bool, scale: Any
) -> tuple[Array, Array, Array]:
    sent = tuple(np.zeros_like(g[0], shape=x.shape) for x in (q, k, v))
    for unit in _units(q, k, v):
        made = g[0][unit], y[0][unit], y[1][unit]
        given = q[unit], k[unit], v[unit], _in(unit, mask)
        parts = _back(*made, *given, is_causal, scale)
        for whole, part in zip(sent, parts, strict=True):
            whole[unit] = part
    return sent


def _back(
    g: Array,
    y: Array,
    log: Array,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    is_causal: bool,
    scale: Any,
) -> Iterator[Array]:
    """Yield the gradients of queries, keys and values, of some samples and heads."""
    g, log, queries, keys, values = map(enter_kernel, (g, log, q, _heads(k, q), _heads(v, q)))
    mean = np.sum(g * enter_kernel(y), axis=-1, keepdims=True)

    def made(at: slice, met: slice) -> tuple[Array, Array]:
        """Return weights P, and P times what g v^T has above its mean under P, which is g y."""
        p = _weights(log[..., None], queries, keys, mask, is_causal, scale, at, met)
        above = g[:, :, at] @ _swap(values[:, :, met]) - mean[:, :, at]
        return round_to_format(p), round_to_format(_factor(q, scale) * (p * above))

    of_k, of_v = [], []
    for block in _blocks(keys, q.shape[2]):
        p, scores = made(_ALL, block)
        of_k.append(_added(_swap(scores), queries, k.shape[1], _queries(q)))
        of_v.append(_added(_swap(p), g, v.shape[1], _queries(q)))
    # One block of keys has all scores already.
    of_q = [
        _added(scores if len(of_k) == 1 else made(block, _ALL)[1], keys, q.shape[1], _KEYS)
        for block in _blocks(q, k.shape[2])
    ]
    return (leave_kernel(_joined(parts)) for parts in (of_q, of_k, of_v))
