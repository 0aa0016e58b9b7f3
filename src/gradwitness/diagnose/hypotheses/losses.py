"""Mistake: the loss, or the softmax before it, is differentiated wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.diagnose.factor_names import MEAN_SUM, MISSING_TWO
from gradwitness.diagnose.replayed_faults import Mistake, aten, explained
from gradwitness.rules.loss.losses import MEAN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradwitness.diagnose.case import Case, Explanation
    from gradwitness.diagnose.replayed_faults import Site, Visit, Wrong

_TARGETED = aten("mse_loss smooth_l1_loss huber_loss binary_cross_entropy_with_logits")
_LOSSES = _TARGETED | aten("binary_cross_entropy soft_margin_loss multi_margin_loss")
LIKELIHOODS = aten("nll_loss_forward nll_loss2d_forward")
_LOG_SOFTMAX = aten("_log_softmax")
_SOFTMAX = aten("_softmax _safe_softmax")
SQUARES = aten("mse_loss pow mul square")
_SUM = 2  # torch's number for a loss that is a sum, as MEAN is for a mean


def _times(factor: Callable[[Site], float | None], reduction: int | None = None) -> Wrong:
    """Return the mistake of a factor, at losses with this reduction if one is given."""

    def wrong(visit: Visit) -> list[Any] | None:
        if reduction not in (None, visit.site.parameters.get("reduction", MEAN)):
            return None
        times = factor(visit.site)
        return None if times is None else visit.times(times)

    return wrong


def _terms(site: Site) -> int:
    """Count the terms that a loss is the mean of."""
    shapes = [np.shape(a) for a in site.operands.values() if a is not None]
    return int(np.prod(np.broadcast_shapes(*shapes[:2])))


def _outputs(site: Site) -> float | None:
    """Count the terms of one sample, if there are several."""
    x = next(iter(site.operands.values()))
    return None if np.ndim(x) < 2 or x.shape[0] == x.size else x.size / x.shape[0]


def _samples(site: Site) -> float | None:
    """Count the samples, if there are several."""
    x = next(iter(site.operands.values()))
    return None if np.ndim(x) < 2 or x.shape[0] == 1 else x.shape[0]


def _reduced(site: Site) -> float:
    """Count the numbers that go into one of a result."""
    return np.size(site.operands["x"]) / np.size(site.y)


def _half(site: Site) -> float | None:
    if site.op == "aten.pow" and site.operands.get("exponent", 2) != 2:
        return None
    return None if site.op == "aten.mul" and len(set(site.numbers.values())) != 1 else 0.5


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


MISTAKES = (
    Mistake(
        MISSING_TWO,
        "the factor 2 is missing in the derivative of the square at {place}",
        SQUARES,
        _times(_half),
    ),
    Mistake(
        MEAN_SUM,
        "the loss at {place} is a mean, but its gradient is that of the sum: not divided by the "
        "number of terms",
        _LOSSES,
        _times(_terms, MEAN),
    ),
    Mistake(
        MEAN_SUM,
        "the loss at {place} is a sum, but its gradient is that of the mean",
        _LOSSES,
        _times(lambda loss: 1 / _terms(loss), _SUM),
    ),
    Mistake(
        MEAN_SUM,
        "the loss at {place} is a mean over batch and outputs, but its gradient is divided only by "
        "the batch size",
        _LOSSES,
        _times(_outputs, MEAN),
    ),
    Mistake(
        MEAN_SUM,
        "the loss at {place} is a mean over batch and outputs, but its gradient is divided only by "
        "the number of outputs",
        _LOSSES,
        _times(_samples, MEAN),
    ),
    Mistake(
        MEAN_SUM,
        "the mean at {place} is differentiated as if it were a sum: not divided by the number of "
        "terms",
        aten("mean"),
        _times(_reduced),
    ),
    Mistake(
        MEAN_SUM,
        "the sum at {place} is differentiated as if it were a mean",
        aten("sum"),
        _times(lambda total: 1 / _reduced(total)),
    ),
    Mistake(
        "softmax-cross-entropy without 1/B",
        "the cross-entropy at {place} is a mean over the batch, but its gradient p - y is not "
        "divided by the batch size",
        LIKELIHOODS,
        _times(lambda loss: float(loss.results[1]), MEAN),
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
