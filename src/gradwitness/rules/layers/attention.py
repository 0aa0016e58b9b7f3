"""Attention as one kernel: weights exp(q k / sqrt(E)) over keys, normalised, times the values.

The kernel goes over blocks of keys. It keeps the largest score so far, and rescales what it has
when that grows: the weights are normalised at the end, and not before they meet the values. In 16
bits the weights lie in a 16-bit buffer on the way to each matrix product; all else is float32.
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
    from collections.abc import Mapping


def _heads(x: Array, q: Array) -> Array:
    """Give each head of q its keys or values: several heads in a row may share them."""
    return x if x.shape[1] == q.shape[1] else np.repeat(x, q.shape[1] // x.shape[1], axis=1)


def _swap(x: Array) -> Array:
    return np.swapaxes(x, 2, 3)


def _factor(q: Array, scale: Any) -> Any:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else round_as_kernel(enter_kernel(scale))


def _scores(q: Array, k: Array, mask: Array | None, is_causal: bool, scale: Any) -> Any:
    """Return the scores, and the places that a mask hides: -inf, or keys after the query."""
    scores = _factor(q, scale) * (q @ _swap(_heads(k, q)))
    hidden = np.zeros(scores.shape, dtype=bool)
    if is_causal:
        queries, keys = map(np.arange, scores.shape[-2:])
        hidden = hidden | (keys > queries[:, None])
    if mask is not None:
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
    scores, hidden = _scores(q, k, mask, is_causal, scale)
    # Any number near the largest would do: it is found by its place, and has its own error alone.
    seen = np.where(hidden, -np.inf, scores)
    top = np.take_along_axis(seen, np.argmax(seen, axis=-1, keepdims=True), -1)
    top = np.where(np.isfinite(top), top, 0)
    e = np.where(hidden, 0, short_exp(scores - top))
    total = np.sum(e, axis=-1, keepdims=True)
    # A query from which all keys are hidden gets zeros, and 0 for the logarithm.
    total = np.where(np.equal(total, 0), 1, total)
    y = (round_to_format(e) @ _heads(v, q)) * (1 / total)
    return y, np.reshape(top + np.log(total), total.shape[:-1])


def _weights(y: Any, q: Array, k: Array, mask: Array | None, is_causal: bool, scale: Any) -> Array:
    """Return the weights as backward makes them again, from the recorded logarithm."""
    scores, hidden = _scores(q, k, mask, is_causal, scale)
    log = np.reshape(enter_kernel(y[1]), (*y[1].shape, 1))
    return np.where(hidden, 0, np.exp(scores - log))


def _of_scores(g: Any, y: Any, v: Array, p: Array) -> Array:
    """Return the scores' gradient: P times what g v^T has above its mean under P, which is g y."""
    g0, y0 = enter_kernel(g[0]), enter_kernel(y[0])
    mean = np.sum(g0 * y0, axis=-1, keepdims=True)
    return p * (g0 @ _swap(_heads(v, p)) - mean)


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
) -> tuple[Array, Array, Array]:
    """Return queries, keys, and the gradient of their product, in the kernel's arithmetic."""
    q, k, v = enter_kernel(q), enter_kernel(k), enter_kernel(v)
    p = _weights(y, q, k, mask, is_causal, scale)
    return q, k, round_to_format(_factor(q, scale) * _of_scores(g, y, v, p))


@attention.vjp("q", f"{_SCORES} @ heads(k, q)")
def _(
    g: Any, y: Any, q: Array, k: Array, v: Array, mask: Array | None, *, is_causal: bool, scale: Any
) -> Array:
    q, k, ds = _score_gradients(g, y, q, k, v, mask, is_causal, scale)
    return leave_kernel(_added(ds, _heads(k, q), q.shape[1], _KEYS))


@attention.vjp("k", f"of_heads(swap({_SCORES}, 2, 3) @ q, k)")
def _(
    g: Any, y: Any, q: Array, k: Array, v: Array, mask: Array | None, *, is_causal: bool, scale: Any
) -> Array:
    q, k, ds = _score_gradients(g, y, q, k, v, mask, is_causal, scale)
    return leave_kernel(_added(_swap(ds), q, k.shape[1], _queries(q)))


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
    p = _weights(y, enter_kernel(q), enter_kernel(k), mask, is_causal, scale)
    return leave_kernel(
        _added(_swap(round_to_format(p)), enter_kernel(g[0]), v.shape[1], _queries(q))
    )
