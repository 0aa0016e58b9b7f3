"""Backward kernels of losses, as operations.

Each is ``dy l'(x)``, by the rule of the loss l itself; differentiated once more, it sends
``g l'(x)`` to dy and ``g dy l''(x)`` to x. ``reduction``: 0 none, 1 mean, 2 sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.loss.losses import huber_loss, mse_loss, share, smooth_l1_loss
from gradwitness.rules.loss.losses_binary import binary_cross_entropy, shared, soft_margin_loss
from gradwitness.rules.loss.losses_classes import nll_loss, nll_loss2d
from gradwitness.rules.registry import Array, Rule, rule
from gradwitness.rules.second_order.transposed_parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Callable


def _likelihood(forward: Rule, name: str, word: str) -> None:
    """Enter the backward of a negative log-likelihood, which is linear as the loss is."""

    def to_scores(dy: Array, x: Array, target: Array, w: Any, total: Array, **how: Any) -> Array:
        return forward.gradients["x"]((dy, None), (None, total), (x, target, w), how)

    backward = rule(
        name,
        f"y = {word}_input(dy, x, target, weight, reduction, ignore_index)",
        meaning="takes minus the gradient at the place of each target, times the class's weight, "
        "over the sum of the weights for a mean",
        composite=True,
    )(Parameters(forward, {}).given_to(to_scores, "dy", "x", "target", "weight", "total_weight"))

    @backward.vjp("dy", f"{word}(g, target, weight, reduction, ignore_index)[0]")
    def _(g: Array, target: Array, weight: Array | None, **how: Any) -> Array:
        return forward.function(g, target, weight, **how)[0]

    backward.constant_in("x")


_likelihood(nll_loss, "aten.nll_loss_backward", "nll")
_likelihood(nll_loss2d, "aten.nll_loss2d_backward", "nll2d")


def _enter(
    name: str,
    forward: Rule,
    text: str,
    bend: Callable[..., Array],
    to_target: str = "",
    *,
    meaning: str,
) -> None:
    """Enter the backward of a loss of x and t.

    ``text`` and ``bend`` are the gradient of x. ``to_target`` is the formula of its negative, that
    of t, where the loss is one of x - t; else t has none.
    """
    slope, parameters = forward.gradients["x"], Parameters(forward, {})

    def backward(dy: Array, x: Array, t: Array, **how: Any) -> Array:
        return slope(dy, None, (x, t), how)

    value = f"y = {parameters.worded(slope.text, g='dy')}"
    entered = rule(name, value, meaning=meaning, composite=True)(
        parameters.given_to(backward, "dy", "x", "t", required=True)
    )
    entered.vjp("dy", slope.text)(lambda g, x, t, **how: slope(g, None, (x, t), how))
    entered.vjp("x", text)(bend)
    if to_target:
        entered.vjp("t", to_target)(lambda g, dy, x, t, **how: -bend(g, dy, x, t, **how))


def _mse_bend(g: Array, dy: Array, x: Array, t: Array, *, reduction: int) -> Array:
    return 2 * share((x - t).size, reduction) * dy * g


def _smooth_bend(g: Array, dy: Array, x: Array, t: Array, *, reduction: int, beta: Any) -> Array:
    gap = x - t
    return np.where(np.abs(gap) < beta, share(gap.size, reduction) * (g * dy) / beta, 0)


def _huber_bend(g: Array, dy: Array, x: Array, t: Array, *, reduction: int, delta: Any) -> Array:
    gap = x - t
    return np.where(np.abs(gap) < delta, share(gap.size, reduction) * (g * dy), 0)


def _soft_margin_bend(g: Array, dy: Array, x: Array, t: Array, *, reduction: int) -> Array:
    z = np.exp(-t * x)
    return g * dy * (t * t * z / ((z + 1) * (z + 1))) * share(x.size, reduction)


_enter(
    "aten.mse_loss_backward",
    mse_loss,
    "2 / share(x - t, reduction) * dy * g",
    _mse_bend,
    "-2 / share(x - t, reduction) * dy * g",
    meaning="sends 2 (x - t) g to the gradient of a squared error, and 2 dy g and its negative to "
    "what is compared, divided by the number of terms for a mean",
)
_enter(
    "aten.smooth_l1_loss_backward",
    smooth_l1_loss,
    "where(abs(x - t) < beta, g * dy / share(x - t, reduction) / beta, 0)",
    _smooth_bend,
    "where(abs(x - t) < beta, -g * dy / share(x - t, reduction) / beta, 0)",
    meaning="multiplies the gradient by (x - t) / beta where that is between -1 and 1, else by its "
    "sign, and for what is compared by 1 / beta and its negative there, by 0 elsewhere",
)
_enter(
    "aten.huber_loss_backward",
    huber_loss,
    "where(abs(x - t) < delta, g * dy / share(x - t, reduction), 0)",
    _huber_bend,
    "where(abs(x - t) < delta, -g * dy / share(x - t, reduction), 0)",
    meaning="multiplies the gradient by x - t, limited to -delta and delta, and for what is "
    "compared by 1 and -1 within the limits, by 0 elsewhere",
)
_enter(
    "aten.soft_margin_loss_backward",
    soft_margin_loss,
    "g * dy * t * t * exp(-t * x) / (1 + exp(-t * x)) ** 2 / share(x, reduction)",
    _soft_margin_bend,
    meaning="multiplies the gradient by -t z / (1 + z), z being exp(-t x), and for the input by "
    "t^2 z / (1 + z)^2 times the gradient that was sent through",
)


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


@binary_cross_entropy_backward.vjp(
    "dy", "weighed(g * (x - t) / ((x + 1e-12) * (1 - x + 1e-12)), weight) / share(x, reduction)"
)
def _(g: Array, x: Array, t: Array, weight: Array | None, *, reduction: int) -> Array:
    slope = (x - t) / ((x + _LEAST) * (1 - x + _LEAST))
    return shared(g * slope, x, weight, reduction)


@binary_cross_entropy_backward.vjp(
    "x",
    "weighed(g * dy * (x * x - 2 * x * t + t) / ((x + 1e-12) * (1 - x + 1e-12)) ** 2, weight)"
    " / share(x, reduction)",
)
def _(g: Array, dy: Array, x: Array, t: Array, weight: Array | None, *, reduction: int) -> Array:
    spread = (x + _LEAST) * (1 - x + _LEAST)
    bend = (x * x - 2 * x * t + t) / (spread * spread)
    return shared(g * dy * bend, x, weight, reduction)


@binary_cross_entropy_backward.vjp(
    "t", "weighed(-g * dy / (x * (1 - x)), weight) / share(x, reduction)"
)
def _(g: Array, dy: Array, x: Array, weight: Array | None, *, reduction: int) -> Array:
    return shared(-(g * dy) / np.maximum(x * (1 - x), _LEAST), x, weight, reduction)
