"""Mistakes at the loss and in the softmax before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.factor_names import MEAN_SUM, MISSING_TWO
from gradwitness.diagnose.replayed_faults import Fault, explained
from gradwitness.rules.loss.losses import MEAN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Explanation, Scene
    from gradwitness.diagnose.replayed_faults import Site, Turn

_LOSSES = frozenset(
    f"aten.{name}"
    for name in [
        "mse_loss",
        "smooth_l1_loss",
        "huber_loss",
        "binary_cross_entropy",
        "soft_margin_loss",
        "binary_cross_entropy_with_logits",
        "multi_margin_loss",
    ]
)
_TARGETED = frozenset(
    f"aten.{name}"
    for name in ["mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits"]
)
LIKELIHOODS = frozenset({"aten.nll_loss_forward", "aten.nll_loss2d_forward"})
_LOG_SOFTMAX = frozenset({"aten._log_softmax"})
_SOFTMAX = frozenset({"aten._softmax", "aten._safe_softmax"})
SQUARES = frozenset({"aten.mse_loss", "aten.pow", "aten.mul", "aten.square"})


def _times(turn: Turn, factor: float) -> list[Any]:
    return [None if s is None else factor * s for s in turn.sent]


def _terms(site: Site) -> int:
    """Count what a loss is the mean of."""
    shapes = [np.shape(a) for a in site.operands.values() if a is not None]
    return int(np.prod(np.broadcast_shapes(*shapes[:2])))


def _summed(turn: Turn) -> list[Any] | None:
    if turn.site.parameters.get("reduction", MEAN) != MEAN:
        return None
    return _times(turn, _terms(turn.site))


def _averaged(turn: Turn) -> list[Any] | None:
    if turn.site.parameters.get("reduction", MEAN) != 2:
        return None
    return _times(turn, 1 / _terms(turn.site))


def _over_batch(turn: Turn) -> list[Any] | None:
    x = next(iter(turn.site.operands.values()))
    if (
        turn.site.parameters.get("reduction", MEAN) != MEAN
        or np.ndim(x) < 2
        or x.shape[0] == x.size
    ):
        return None
    return _times(turn, x.size / x.shape[0])


def _over_features(turn: Turn) -> list[Any] | None:
    x = next(iter(turn.site.operands.values()))
    if turn.site.parameters.get("reduction", MEAN) != MEAN or np.ndim(x) < 2 or x.shape[0] == 1:
        return None
    return _times(turn, x.shape[0])


def _mean_as_sum(turn: Turn) -> list[Any]:
    x = turn.site.operands["x"]
    return _times(turn, np.size(x) / np.size(turn.site.y))


def _sum_as_mean(turn: Turn) -> list[Any]:
    x = turn.site.operands["x"]
    return _times(turn, np.size(turn.site.y) / np.size(x))


def _likely_summed(turn: Turn) -> list[Any] | None:
    if turn.site.parameters.get("reduction", MEAN) != MEAN:
        return None
    return _times(turn, float(turn.site.results[1]))


def _halved(turn: Turn) -> list[Any] | None:
    if turn.site.op == "aten.pow" and turn.site.operands.get("exponent", 2) != 2:
        return None
    if turn.site.op == "aten.mul" and len(set(turn.site.numbers.values())) != 1:
        return None
    return _times(turn, 0.5)


def _without_target(turn: Turn) -> list[Any]:
    """Log-softmax sends g - p sum(g), where g is -y/B: the term -y/B is left out."""
    return [turn.sent[0] - turn.g]


def _no_target(turn: Turn) -> list[Any] | None:
    """Differentiate the loss as if the target were zero: 2 x for 2 (x - y), p for p - y."""
    name, target = list(turn.site.operands)[:2]
    zeros = np.zeros_like(turn.site.operands[target])
    made = turn.site.vjp(name, turn.g, **{target: zeros})
    return [made if n == name else s for n, s in zip(turn.site.names, turn.sent, strict=True)]


def _target_only(turn: Turn) -> list[Any]:
    return [turn.g]


def _elementwise_log(turn: Turn) -> list[Any]:
    return [turn.g * (1 - np.exp(turn.site.y))]


def _elementwise(turn: Turn) -> list[Any]:
    return [turn.g * turn.site.y * (1 - turn.site.y)]


def _without_mean(turn: Turn) -> list[Any]:
    return [turn.g * turn.site.y]


def _delta_times_softmax(turn: Turn) -> list[Any]:
    """Multiply by the softmax's derivative once more: (p - y) p (1 - p)."""
    p = np.exp(turn.site.y)
    return [turn.sent[0] * p * (1 - p)]


_MSE = frozenset({"aten.mse_loss"})
_MEANS = frozenset({"aten.mean"})
_SUMS = frozenset({"aten.sum"})

FAULTS = (
    Fault(
        MISSING_TWO,
        "the factor 2 is missing in the derivative of the square at {place}",
        SQUARES,
        _halved,
    ),
    Fault(
        MEAN_SUM,
        "the loss at {place} is a mean; its gradient is that of the sum: not divided by the number "
        "of terms",
        _LOSSES,
        _summed,
    ),
    Fault(
        MEAN_SUM,
        "the loss at {place} is a sum; its gradient is that of the mean",
        _LOSSES,
        _averaged,
    ),
    Fault(
        MEAN_SUM,
        "the loss at {place} is a mean over batch and outputs; its gradient is divided by the "
        "batch's size only",
        _LOSSES,
        _over_batch,
    ),
    Fault(
        MEAN_SUM,
        "the loss at {place} is a mean over batch and outputs; its gradient is divided by the "
        "number of outputs only",
        _LOSSES,
        _over_features,
    ),
    Fault(
        MEAN_SUM,
        "the mean at {place} is differentiated as if it were a sum: not divided by the number of "
        "terms",
        _MEANS,
        _mean_as_sum,
    ),
    Fault(
        MEAN_SUM,
        "the sum at {place} is differentiated as if it were a mean",
        _SUMS,
        _sum_as_mean,
    ),
    Fault(
        "softmax-cross-entropy without 1/B",
        "the cross-entropy at {place} is a mean over the batch; its gradient p - y is not divided "
        "by the batch's size",
        LIKELIHOODS,
        _likely_summed,
    ),
    Fault(
        "softmax-cross-entropy without -y",
        "the gradient of the cross-entropy at {place} is p where it should be p - y: the target is "
        "not subtracted",
        _LOG_SOFTMAX,
        _without_target,
    ),
    Fault(
        "loss without its target",
        "the gradient of the loss at {place} is what it would be if the target were zero: the "
        "target is not subtracted",
        _TARGETED,
        _no_target,
    ),
    Fault(
        "softmax left out",
        "the gradient passes the log-softmax at {place} unchanged: -y where p - y belongs",
        _LOG_SOFTMAX,
        _target_only,
    ),
    Fault(
        "softmax derivative applied twice",
        "the gradient p - y at {place} is multiplied by p (1 - p); the softmax's derivative is in "
        "p - y already",
        _LOG_SOFTMAX,
        _delta_times_softmax,
    ),
    Fault(
        "softmax treated elementwise",
        "the softmax at {place} is differentiated as if each output depended on its own input "
        "only: p (1 - p), the diagonal, without -p_i p_j",
        _LOG_SOFTMAX,
        _elementwise_log,
    ),
    Fault(
        "softmax treated elementwise",
        "the softmax at {place} is differentiated as if each output depended on its own input "
        "only: p (1 - p), the diagonal, without -p_i p_j",
        _SOFTMAX,
        _elementwise,
    ),
    Fault(
        "softmax without its mean",
        "the softmax at {place} sends p g where p (g - sum(p g)) belongs: the sum is not "
        "subtracted",
        _SOFTMAX,
        _without_mean,
    ),
)


def loss_faults(scene: Scene) -> Iterator[Explanation]:
    """Explain by a loss, a square, a mean or a softmax differentiated wrongly."""
    return explained(scene, FAULTS)
