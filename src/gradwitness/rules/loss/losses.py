"""Losses over distances that torch runs as one operation. ``reduction``: 0 none, 1 mean, 2 sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.kernel_ops import where
from gradwitness.rules.registry import Array, Rule, rule

if TYPE_CHECKING:
    from collections.abc import Callable

MEAN = 1


def reduced(terms: Array, reduction: int) -> Array:
    """Apply a torch reduction to the terms of a loss."""
    if reduction == 0:
        return terms
    total = np.sum(terms)
    return total / terms.size if reduction == MEAN else total


def share(count: int, reduction: int) -> float:
    """Return the part of a loss's gradient that each of its terms gets."""
    return 1 / count if reduction == MEAN else 1


def _enter_vjps(loss: Rule, text: str, slope: Callable[..., Array]) -> None:
    """Enter the vjps of a loss of x - t: the target gets the negative of the input's."""
    loss.vjp("x", text)(slope)

    @loss.vjp("t", f"-{text}")
    def _(g: Array, x: Array, t: Array, **how: Any) -> Array:
        return -slope(g, x, t, **how)


@rule(
    "aten.mse_loss",
    "y = reduce((x - t) ** 2, reduction)",
    meaning="multiplies the gradient by 2 (x - t), divided by the number of terms for a mean",
    composite=True,
)
def mse_loss(x: Array, t: Array, *, reduction: int = MEAN) -> Array:
    return reduced((x - t) * (x - t), reduction)


def _slope(g: Array, x: Array, t: Array, *, reduction: int) -> Array:
    gap = x - t
    count = gap.size if reduction == MEAN else 1
    return (2 / count) * gap * g


_enter_vjps(mse_loss, "2 / share(x - t, reduction) * (x - t) * g", _slope)


@rule(
    "aten.smooth_l1_loss",
    "y = reduce(where(abs(x - t) < beta, (x - t) ** 2 / (2 * beta), abs(x - t) - beta / 2), "
    "reduction)",
    meaning="multiplies the gradient by (x - t) / beta where that is between -1 and 1, else by its "
    "sign, divided by the number of terms for a mean",
    composite=True,
)
def smooth_l1_loss(x: Array, t: Array, *, reduction: int = MEAN, beta: Any = 1.0) -> Array:
    gap = np.abs(x - t)
    return reduced(where(gap < beta, 0.5 * gap * gap / beta, gap - 0.5 * beta), reduction)


def _smooth_slope(g: Array, x: Array, t: Array, *, reduction: int, beta: Any) -> Array:
    gap = x - t
    part = share(gap.size, reduction) * g
    # In this order: with a beta of 0 the slope at 0 is -1, and NaN goes through.
    return where(gap <= -beta, -part, where(gap >= beta, part, part * gap / beta))


_enter_vjps(
    smooth_l1_loss,
    "g / share(x - t, reduction) * where(abs(x - t) < beta, (x - t) / beta, sign(x - t))",
    _smooth_slope,
)


@rule(
    "aten.huber_loss",
    "y = reduce(where(abs(x - t) < delta, (x - t) ** 2 / 2, delta * (abs(x - t) - delta / 2)), "
    "reduction)",
    meaning="multiplies the gradient by x - t, limited to -delta and delta, divided by the number "
    "of terms for a mean",
    composite=True,
)
def huber_loss(x: Array, t: Array, *, reduction: int = MEAN, delta: Any = 1.0) -> Array:
    gap = np.abs(x - t)
    return reduced(where(gap < delta, 0.5 * gap * gap, delta * (gap - 0.5 * delta)), reduction)


def _huber_slope(g: Array, x: Array, t: Array, *, reduction: int, delta: Any) -> Array:
    gap = x - t
    part = share(gap.size, reduction) * g
    far = part * delta
    return where(gap <= -delta, -far, where(gap >= delta, far, part * gap))


_enter_vjps(
    huber_loss,
    "g / share(x - t, reduction) * where(abs(x - t) < delta, x - t, delta * sign(x - t))",
    _huber_slope,
)
