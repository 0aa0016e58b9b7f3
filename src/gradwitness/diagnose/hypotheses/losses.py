"""Mistake: the loss, or the softmax before it, is differentiated wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.factor_names import MEAN_SUM, MISSING_TWO
from gradwitness.diagnose.replayed_faults import Mistake, explained
from gradwitness.rules.loss.losses import MEAN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.diagnose.case import Case, Explanation
    from gradwitness.diagnose.replayed_faults import Site, Visit

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


def _times(visit: Visit, factor: float) -> list[Any]:
    return [None if s is None else factor * s for s in visit.sent]


def _terms(site: Site) -> int:
    """Count the terms that a loss is the mean of."""
    shapes = [np.shape(a) for a in site.operands.values() if a is not None]
    return int(np.prod(np.broadcast_shapes(*shapes[:2])))


def _summed(visit: Visit) -> list[Any] | None:
    if visit.site.parameters.get("reduction", MEAN) != MEAN:
        return None
    return _times(visit, _terms(visit.site))


def _averaged(visit: Visit) -> list[Any] | None:
    if visit.site.parameters.get("reduction", MEAN) != 2:
        return None
    return _times(visit, 1 / _terms(visit.site))


def _over_batch(visit: Visit) -> list[Any] | None:
    x = next(iter(visit.site.operands.values()))
    if (
        visit.site.parameters.get("reduction", MEAN) != MEAN
        or np.ndim(x) < 2
        or x.shape[0] == x.size
    ):
        return None
    return _times(visit, x.size / x.shape[0])


def _over_features(visit: Visit) -> list[Any] | None:
    x = next(iter(visit.site.operands.values()))
    if visit.site.parameters.get("reduction", MEAN) != MEAN or np.ndim(x) < 2 or x.shape[0] == 1:
        return None
    return _times(visit, x.shape[0])


def _mean_as_sum(visit: Visit) -> list[Any]:
    x = visit.site.operands["x"]
    return _times(visit, np.size(x) / np.size(visit.site.y))


def _sum_as_mean(visit: Visit) -> list[Any]:
    x = visit.site.operands["x"]
    return _times(visit, np.size(visit.site.y) / np.size(x))


def _likely_summed(visit: Visit) -> list[Any] | None:
    if visit.site.parameters.get("reduction", MEAN) != MEAN:
        return None
    return _times(visit, float(visit.site.results[1]))


def _halved(visit: Visit) -> list[Any] | None:
    if visit.site.op == "aten.pow" and visit.site.operands.get("exponent", 2) != 2:
        return None
    if visit.site.op == "aten.mul" and len(set(visit.site.numbers.values())) != 1:
        return None
    return _times(visit, 0.5)


def _without_target(visit: Visit) -> list[Any]:
    """Log-softmax sends g - p sum(g), where g is -y/B: drop the term -y/B."""
    return [visit.sent[0] - visit.g]


def _no_target(visit: Visit) -> list[Any] | None:
    """Differentiate the loss as if the target were zero: 2 x for 2 (x - y), p for p - y."""
    name, target = list(visit.site.operands)[:2]
    zeros = np.zeros_like(visit.site.operands[target])
    gradient = visit.site.vjp(name, visit.g, **{target: zeros})
    return [gradient if n == name else s for n, s in zip(visit.site.names, visit.sent, strict=True)]


def _target_only(visit: Visit) -> list[Any]:
    return [visit.g]


def _elementwise_log(visit: Visit) -> list[Any]:
    return [visit.g * (1 - np.exp(visit.site.y))]


def _elementwise(visit: Visit) -> list[Any]:
    return [visit.g * visit.site.y * (1 - visit.site.y)]


def _without_mean(visit: Visit) -> list[Any]:
    return [visit.g * visit.site.y]


def _delta_times_softmax(visit: Visit) -> list[Any]:
    """Multiply by the softmax's derivative once more: (p - y) p (1 - p)."""
    p = np.exp(visit.site.y)
    return [visit.sent[0] * p * (1 - p)]


_MEANS = frozenset({"aten.mean"})
_SUMS = frozenset({"aten.sum"})

MISTAKES = (
    Mistake(
        MISSING_TWO,
        "the factor 2 is missing in the derivative of the square at {place}",
        SQUARES,
        _halved,
    ),
    Mistake(
        MEAN_SUM,
        "the loss at {place} is a mean, but its gradient is that of the sum: not divided by the "
        "number of terms",
        _LOSSES,
        _summed,
    ),
    Mistake(
        MEAN_SUM,
        "the loss at {place} is a sum, but its gradient is that of the mean",
        _LOSSES,
        _averaged,
    ),
    Mistake(
        MEAN_SUM,
        "the loss at {place} is a mean over batch and outputs, but its gradient is divided only by "
        "the batch size",
        _LOSSES,
        _over_batch,
    ),
    Mistake(
        MEAN_SUM,
        "the loss at {place} is a mean over batch and outputs, but its gradient is divided only by "
        "the number of outputs",
        _LOSSES,
        _over_features,
    ),
    Mistake(
        MEAN_SUM,
        "the mean at {place} is differentiated as if it were a sum: not divided by the number of "
        "terms",
        _MEANS,
        _mean_as_sum,
    ),
    Mistake(
        MEAN_SUM,
        "the sum at {place} is differentiated as if it were a mean",
        _SUMS,
        _sum_as_mean,
    ),
    Mistake(
        "softmax-cross-entropy without 1/B",
        "the cross-entropy at {place} is a mean over the batch, but its gradient p - y is not "
        "divided by the batch size",
        LIKELIHOODS,
        _likely_summed,
    ),
    Mistake(
        "softmax-cross-entropy without -y",
        "the gradient of the cross-entropy at {place} is p instead of p - y: the target is not "
        "subtracted",
        _LOG_SOFTMAX,
        _without_target,
    ),
    Mistake(
        "loss without its target",
        "the gradient of the loss at {place} is as if the target were zero: the target is not "
        "subtracted",
        _TARGETED,
        _no_target,
    ),
    Mistake(
        "softmax left out",
        "the gradient passes the log-softmax at {place} unchanged: -y instead of p - y",
        _LOG_SOFTMAX,
        _target_only,
    ),
    Mistake(
        "softmax derivative applied twice",
        "the gradient p - y at {place} is multiplied by p (1 - p), but p - y already includes the "
        "softmax's derivative",
        _LOG_SOFTMAX,
        _delta_times_softmax,
    ),
    Mistake(
        "softmax treated elementwise",
        "the softmax at {place} is differentiated as if each output depended only on its own "
        "input: p (1 - p), the diagonal, without -p_i p_j",
        _LOG_SOFTMAX,
        _elementwise_log,
    ),
    Mistake(
        "softmax treated elementwise",
        "the softmax at {place} is differentiated as if each output depended only on its own "
        "input: p (1 - p), the diagonal, without -p_i p_j",
        _SOFTMAX,
        _elementwise,
    ),
    Mistake(
        "softmax without its mean",
        "the softmax at {place} sends p g instead of p (g - sum(p g)): the sum is not subtracted",
        _SOFTMAX,
        _without_mean,
    ),
)


def loss_mistakes(case: Case) -> Iterator[Explanation]:
    """Explain by a wrong derivative of a loss, square, mean or softmax."""
    return explained(case, MISTAKES)
