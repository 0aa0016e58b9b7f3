"""Softmax and its kin. The largest number is subtracted first, so that no exponential overflows."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.reduce.sum_mean import Dim, axes, spread
from gradwitness.rules.registry import ALWAYS, Array, rule

if TYPE_CHECKING:
    from collections.abc import Mapping


def _top(x: Array, over: Any) -> Array:
    """Return the largest numbers along axes; of none, 0."""
    return (np.max if x.size else np.sum)(x, axis=over, keepdims=True)


def _is_alone(x: Array, dim: int) -> bool:
    """Whether each number is all of its sum: it is taken off itself, exactly."""
    return bool(x.ndim == 0 or x.shape[dim] == 1)


def shifted(x: Array, dim: int) -> tuple[Array, Array]:
    """Return x less its largest number along an axis, and the sum of the exponentials of that."""
    if _is_alone(x, dim):
        return x - x, np.ones_like(x)
    down = x - _top(x, dim)
    return down, np.sum(np.exp(down), axis=dim, keepdims=True)


def _along(x: Array, dim: int) -> Array:
    return x if x.ndim == 0 else np.sum(x, axis=dim, keepdims=True)


def _apart(shapes: Mapping[str, tuple[int, ...]], parameters: Mapping[str, Any]) -> str:
    """Return the axes to compute along, see `Rule`: all but the one that is summed over."""
    count = len(shapes["x"])
    letters = list(string.ascii_letters[:count])
    letters[parameters["dim"] : parameters["dim"] + 1 or None] = "_" * bool(count)
    return "".join(letters) + "->" + "".join(letters)


@rule(
    "aten._softmax",
    "y = exp(x) / repeat(sum(exp(x), dim, True), x, dim, True)",
    meaning="subtracts from the gradient its mean under the result's weights, and multiplies by "
    "the result",
    ignores=("half_to_float",),
    composite=True,
    apart=_apart,
)
def softmax(x: Array, *, dim: int) -> Array:
    down, total = shifted(x, dim)
    return np.exp(down) / total


@softmax.vjp("x", "y * (g - repeat(sum(g * y, dim, True), x, dim, True))", kernel=ALWAYS)
def _softmax_vjp(g: Array, y: Array, *, dim: int) -> Array:
    if _is_alone(y, dim) and np.all(np.equal(y, 1)):
        return g - g
    return y * (g - _along(g * y, dim))


@rule(
    "aten._safe_softmax",
    "y = exp(x) / repeat(sum(exp(x), dim, True), x, dim, True)",
    meaning="subtracts from the gradient its mean under the result's weights, and multiplies by "
    "the result; a row that is masked out whole, with -inf, gives 0",
    composite=True,
    apart=_apart,
)
def safe_softmax(x: Array, *, dim: int) -> Array:
    top = _top(x, dim)
    e = np.exp(x - np.where(np.isfinite(top), top, 0))
    total = np.sum(e, axis=dim, keepdims=True)
    return e / np.where(np.equal(total, 0), 1, total)


safe_softmax.vjp("x", softmax.gradients["x"].text, kernel=ALWAYS)(_softmax_vjp)


@rule(
    "aten._log_softmax",
    "y = x - log(repeat(sum(exp(x), dim, True), x, dim, True))",
    meaning="subtracts from the gradient the softmax exp(y) times the gradient's sum",
    ignores=("half_to_float",),
    composite=True,
    apart=_apart,
)
def log_softmax(x: Array, *, dim: int) -> Array:
    down, total = shifted(x, dim)
    return down - np.log(total)


@log_softmax.vjp("x", "g - exp(y) * repeat(sum(g, dim, True), x, dim, True)", kernel=ALWAYS)
def _(g: Array, y: Array, *, dim: int) -> Array:
    if _is_alone(y, dim) and not np.any(y):
        return g - g
    return g - np.exp(y) * _along(g, dim)


@rule(
    "aten.logsumexp",
    "y = log(sum(exp(x), dim, keepdim))",
    meaning="multiplies the gradient by the softmax of the input, exp(x - y)",
    composite=True,
)
def logsumexp(x: Array, *, dim: Dim, keepdim: bool = False) -> Array:
    over = axes(dim, x.ndim)
    top = _top(np.real(x), over)
    top = np.where(np.isfinite(top), top, 0)
    total = np.log(np.sum(np.exp(x - top), axis=over, keepdims=keepdim))
    return total + (top if keepdim else np.squeeze(top, over))


@logsumexp.vjp("x", "repeat(g, x, dim, keepdim) * exp(x - repeat(y, x, dim, keepdim))")
def _(g: Array, y: Array, x: Array, *, dim: Dim, keepdim: bool) -> Array:
    return spread(g, x, dim, keepdim) * np.exp(x - spread(y, x, dim, keepdim))


@rule(
    "aten.log_sigmoid_forward",
    "y = -log1p(exp(-x)), exp(-abs(x))",
    meaning="multiplies the gradient by the sigmoid of -x",
    node="LogSigmoidBackward",
)
def log_sigmoid(x: Array) -> tuple[Array, Array]:
    e = np.exp(-np.abs(x))
    return np.minimum(x, 0) - np.log1p(e), e


@log_sigmoid.vjp("x", "g[0] / (1 + exp(x))")
def _(g: Any, x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return g[0] * (np.where(x < 0, 1, e) / (1 + e))
