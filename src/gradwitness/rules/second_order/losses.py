"""Backward kernels of losses, as operations.

Each is ``dy l'(x)``, by the rule of the loss l itself; differentiated once more, it sends
``g l'(x)`` to dy and ``g dy l''(x)`` to x. ``reduction``: 0 none, 1 mean, 2 sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwitness.rules.loss.losses import huber_loss, share, smooth_l1_loss
from gradwitness.rules.loss.losses_binary import binary_cross_entropy, soft_margin_loss
from gradwitness.rules.loss.losses_classes import nll_loss, nll_loss2d
from gradwitness.rules.registry import Array, Rule, rule


def _likelihood(forward: Rule, name: str, word: str) -> None:
    """Enter the backward of a negative log-likelihood, which is linear as the loss is."""

    @rule(
        name,
        f"y = {word}_input(dy, x, target, weight, reduction, ignore_index)",
        meaning="takes minus the gradient at the place of each target, times the class's weight, "
        "over the sum of the weights for a mean",
        composite=True,
    )
    def backward(
        dy: Array,
        x: Array,
        target: Array,
        weight: Array | None,
        total_weight: Array,
        *,
        reduction: int,
        ignore_index: int,
    ) -> Array:
        how = {"reduction": reduction, "ignore_index": ignore_index}
        return forward.gradients["x"]((dy, None), (None, total_weight), (x, target, weight), how)

    @backward.vjp("dy", f"{word}(g, target, weight, reduction, ignore_index)[0]")
    def _(g: Array, target: Array, weight: Array | None, **how: Any) -> Array:
        return forward.function(g, target, weight, **how)[0]

    backward.constant_in("x")


_likelihood(nll_loss, "aten.nll_loss_backward", "nll")
_likelihood(nll_loss2d, "aten.nll_loss2d_backward", "nll2d")


@rule(
    "aten.smooth_l1_loss_backward",
    "y = dy / share(x - t, reduction) * where(abs(x - t) < beta, (x - t) / beta, sign(x - t))",
    meaning="multiplies the gradient by (x - t) / beta where that is between -1 and 1, else by its "
    "sign, and for what is compared by 1 / beta and its negative there, by 0 elsewhere",
    composite=True,
)
def smooth_l1_backward(dy: Array, x: Array, t: Array, *, reduction: int, beta: Any) -> Array:
    how = {"reduction": reduction, "beta": beta}
    return smooth_l1_loss.gradients["x"](dy, None, (x, t), how)


@smooth_l1_backward.vjp(
    "dy", "g / share(x - t, reduction) * where(abs(x - t) < beta, (x - t) / beta, sign(x - t))"
)
def _(g: Array, x: Array, t: Array, **how: Any) -> Array:
    return smooth_l1_loss.gradients["x"](g, None, (x, t), how)


def _smooth_bend(g: Array, dy: Array, x: Array, t: Array, reduction: int, beta: Any) -> Array:
    gap = x - t
    return np.where(np.abs(gap) < beta, share(gap.size, reduction) * (g * dy) / beta, 0)


smooth_l1_backward.vjp("x", "where(abs(x - t) < beta, g * dy / share(x - t, reduction) / beta, 0)")(
    lambda g, dy, x, t, *, reduction, beta: _smooth_bend(g, dy, x, t, reduction, beta)
)


@smooth_l1_backward.vjp(
    "t", "where(abs(x - t) < beta, -g * dy / share(x - t, reduction) / beta, 0)"
)
def _(g: Array, dy: Array, x: Array, t: Array, *, reduction: int, beta: Any) -> Array:
    return -_smooth_bend(g, dy, x, t, reduction, beta)


@rule(
    "aten.huber_loss_backward",
    "y = dy / share(x - t, reduction) * where(abs(x - t) < delta, x - t, delta * sign(x - t))",
    meaning="multiplies the gradient by x - t, limited to -delta and delta, and for what is "
    "compared by 1 and -1 within the limits, by 0 elsewhere",
    composite=True,
)
def huber_backward(dy: Array, x: Array, t: Array, *, reduction: int, delta: Any) -> Array:
    how = {"reduction": reduction, "delta": delta}
    return huber_loss.gradients["x"](dy, None, (x, t), how)


@huber_backward.vjp(
    "dy", "g / share(x - t, reduction) * where(abs(x - t) < delta, x - t, delta * sign(x - t))"
)
def _(g: Array, x: Array, t: Array, **how: Any) -> Array:
    return huber_loss.gradients["x"](g, None, (x, t), how)


def _huber_bend(g: Array, dy: Array, x: Array, t: Array, reduction: int, delta: Any) -> Array:
    gap = x - t
    return np.where(np.abs(gap) < delta, share(gap.size, reduction) * (g * dy), 0)


huber_backward.vjp("x", "where(abs(x - t) < delta, g * dy / share(x - t, reduction), 0)")(
    lambda g, dy, x, t, *, reduction, delta: _huber_bend(g, dy, x, t, reduction, delta)
)
huber_backward.vjp("t", "where(abs(x - t) < delta, -g * dy / share(x - t, reduction), 0)")(
    lambda g, dy, x, t, *, reduction, delta: -_huber_bend(g, dy, x, t, reduction, delta)
)


@rule(
    "aten.soft_margin_loss_backward",
    "y = -dy * t * exp(-t * x) / (1 + exp(-t * x)) / share(x, reduction)",
    meaning="multiplies the gradient by -t z / (1 + z), z being exp(-t x), and for the input by "
    "t^2 z / (1 + z)^2 times the gradient that was sent through",
    composite=True,
)
def soft_margin_backward(dy: Array, x: Array, t: Array, *, reduction: int) -> Array:
    return soft_margin_loss.gradients["x"](dy, None, (x, t), {"reduction": reduction})


@soft_margin_backward.vjp("dy", "-g * t * exp(-t * x) / (1 + exp(-t * x)) / share(x, reduction)")
def _(g: Array, x: Array, t: Array, *, reduction: int) -> Array:
    return soft_margin_loss.gradients["x"](g, None, (x, t), {"reduction": reduction})


@soft_margin_backward.vjp(
    "x", "g * dy * t * t * exp(-t * x) / (1 + exp(-t * x)) ** 2 / share(x, reduction)"
)
def _(g: Array, dy: Array, x: Array, t: Array, *, reduction: int) -> Array:
    z = np.exp(-t * x)
    return g * dy * (t * t * z / ((z + 1) * (z + 1))) * share(x.size, reduction)


@rule(
    "aten.binary_cross_entropy_backward",
    "y = weighed(dy * (x - t) / at_least(x * (1 - x), 1e-12), weight) / share(x, reduction)",
    meaning="multiplies the gradient by (x - t) / (x (1 - x)) and the weight, and for input and "
    "target by the derivatives of that, times the gradient that was sent through",
    composite=True,
)
def binary_cross_entropy_backward(
    dy: Array, x: Array, t: Array, weight: Array | None, *, reduction: int = 1
) -> Array:
    how = {"reduction": reduction}
    return binary_cross_entropy.gradients["x"](dy, None, (x, t, weight), how)


# What torch adds to both factors of the variance, in the second derivatives only.
_LEAST = 1e-12


def _shared(terms: Array, x: Array, weight: Array | None, reduction: int) -> Array:
    return (terms if weight is None else terms * weight) * share(x.size, reduction)


@binary_cross_entropy_backward.vjp(
    "dy", "weighed(g * (x - t) / ((x + 1e-12) * (1 - x + 1e-12)), weight) / share(x, reduction)"
)
def _(g: Array, x: Array, t: Array, weight: Array | None, *, reduction: int) -> Array:
    slope = (x - t) / ((x + _LEAST) * (1 - x + _LEAST))
    return _shared(g * slope, x, weight, reduction)


@binary_cross_entropy_backward.vjp(
    "x",
    "weighed(g * dy * (x * x - 2 * x * t + t) / ((x + 1e-12) * (1 - x + 1e-12)) ** 2, weight)"
    " / share(x, reduction)",
)
def _(g: Array, dy: Array, x: Array, t: Array, weight: Array | None, *, reduction: int) -> Array:
    spread = (x + _LEAST) * (1 - x + _LEAST)
    bend = (x * x - 2 * x * t + t) / (spread * spread)
    return _shared(g * dy * bend, x, weight, reduction)


@binary_cross_entropy_backward.vjp(
    "t", "weighed(-g * dy / (x * (1 - x)), weight) / share(x, reduction)"
)
def _(g: Array, dy: Array, x: Array, weight: Array | None, *, reduction: int) -> Array:
    return _shared(-(g * dy) / np.maximum(x * (1 - x), _LEAST), x, weight, reduction)
