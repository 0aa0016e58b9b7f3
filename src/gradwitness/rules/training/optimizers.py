"""Steps of optimizers that torch runs as one operation, and what scales gradients for 16 bits.

They take lists, one entry for each parameter, and write to several: the results are all of those,
list after list. Nothing is differentiated.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from gradwitness.rules.kernel_ops import ignore_error
from gradwitness.rules.registry import Array, rule

_STATES = ("weight_decay", "eps", "beta1", "beta2")


def _double(number: Any) -> float:
    """Return a number that torch computes with in double precision."""
    return float(ignore_error(number))


def _unscaled(grads: Any, grad_scale: Any, found_inf: Any) -> list[Array]:
    """Undo the scale, where the step does that too."""
    if grad_scale is None or _skipped(found_inf):
        return list(grads)
    return [g / grad_scale for g in grads]


def _descent(p: Array, g: Array, weight_decay: Any, maximize: bool) -> Array:
    """Return the gradient of what is minimised, with that of the decay."""
    g = -g if maximize else g
    return g + p * weight_decay if _double(weight_decay) else g


def _skipped(found_inf: Any) -> bool:
    return found_inf is not None and bool(np.equal(found_inf, 1))


class _Adam(NamedTuple):
    """What a step of Adam is told, for all parameters alike."""

    lr: Any
    beta1: float
    beta2: float
    weight_decay: Any
    eps: Any
    maximize: bool
    decoupled: bool


def _adam(
    p: Array, g: Array, m: Array, v: Array, top: Array | None, count: float, at: _Adam
) -> tuple[Array, Array, Array, Array | None]:
    """Return the parameter, both moments and the largest second one, after the step."""
    g = _descent(p, g, 0 if at.decoupled else at.weight_decay, at.maximize)
    if at.decoupled and _double(at.weight_decay):
        p = p * (1 - at.lr * at.weight_decay)
    m = m + (1 - at.beta1) * (g - m) if at.beta1 > 0.5 else g + (-at.beta1) * (g - m)
    v = v * at.beta2 + (1 - at.beta2) * g * g
    top = None if top is None else np.maximum(top, v)
    size = np.sqrt(v if top is None else top) / math.sqrt(1 - at.beta2**count) + at.eps
    return p - at.lr / (1 - at.beta1**count) * m / size, m, v, top


def _enter_adam(name: str, *, decoupled: bool) -> None:
    @rule(
        name,
        "y = adam(params, grads, ms, vs, tops, steps, lr, beta1, beta2, weight_decay, eps, "
        f"amsgrad, maximize, grad_scale, found_inf, {decoupled})",
        doubles=_STATES,
    )
    def _(
        params: Any,
        grads: Any,
        ms: Any,
        vs: Any,
        tops: Any,
        steps: Any,
        *,
        lr: Any,
        beta1: Any,
        beta2: Any,
        weight_decay: Any,
        eps: Any,
        amsgrad: bool,
        maximize: bool,
        grad_scale: Any = None,
        found_inf: Any = None,
    ) -> tuple[Array, ...]:
        unscaled = _unscaled(grads, grad_scale, found_inf)
        if _skipped(found_inf):
            return (*params, *unscaled, *ms, *vs, *tops)
        form = _Adam(lr, _double(beta1), _double(beta2), weight_decay, eps, maximize, decoupled)
        steps_taken = [
            _adam(p, g, m, v, tops[k] if amsgrad else None, _double(steps[k]), form)
            for k, (p, g, m, v) in enumerate(zip(params, unscaled, ms, vs, strict=True))
        ]
        p, m, v, top = zip(*steps_taken, strict=True)
        return (*p, *unscaled, *m, *v, *(top if amsgrad else tops))


_enter_adam("aten._fused_adam", decoupled=False)
_enter_adam("aten._fused_adamw", decoupled=True)


@rule(
    "aten._fused_sgd",
    "y = sgd(params, grads, buffers, lr, weight_decay, momentum, dampening, nesterov, maximize, "
    "is_first_step, grad_scale, found_inf)",
    doubles=("weight_decay", "momentum", "dampening"),
)
def fused_sgd(
    params: Any,
    grads: Any,
    buffers: Any,
    *,
    weight_decay: Any,
    momentum: Any,
    lr: Any,
    dampening: Any,
    nesterov: bool,
    maximize: bool,
    is_first_step: bool,
    grad_scale: Any = None,
    found_inf: Any = None,
) -> tuple[Array, ...]:
    unscaled = _unscaled(grads, grad_scale, found_inf)
    if _skipped(found_inf):
        return (*params, *unscaled, *buffers)
    stepped, kept = [], []
    for k, (p, g) in enumerate(zip(params, unscaled, strict=True)):
        g = _descent(p, g, weight_decay, maximize)
        if _double(momentum):
            b = g if is_first_step else buffers[k] * momentum + g * (1 - dampening)
            kept.append(b)
            g = g + b * momentum if nesterov else b
        stepped.append(p - lr * g)
    return (*stepped, *unscaled, *(kept or buffers))


@rule(
    "aten._fused_adagrad",
    "y = adagrad(params, grads, sums, steps, lr, lr_decay, weight_decay, eps, maximize, "
    "grad_scale, found_inf)",
    doubles=("lr_decay", "weight_decay", "eps"),
)
def fused_adagrad(
    params: Any,
    grads: Any,
    sums: Any,
    steps: Any,
    *,
    lr: Any,
    lr_decay: Any,
    weight_decay: Any,
    eps: Any,
    maximize: bool,
    grad_scale: Any = None,
    found_inf: Any = None,
) -> tuple[Array, ...]:
    unscaled = _unscaled(grads, grad_scale, found_inf)
    if _skipped(found_inf):
        return (*params, *unscaled, *sums, *steps)
    stepped, kept = [], []
    for p, g, total, step in zip(params, unscaled, sums, steps, strict=True):
        g = _descent(p, g, weight_decay, maximize)
        total = total + g * g
        rate = lr / (1 + (_double(step) - 1) * _double(lr_decay))
        stepped.append(p - rate * (g / (np.sqrt(total) + eps)))
        kept.append(total)
    return (*stepped, *unscaled, *kept, *steps)


@rule(
    "aten._amp_foreach_non_finite_check_and_unscale",
    "y = unscaled(grads, found_inf, inv_scale)",
)
def unscale(grads: Any, found_inf: Array, inv_scale: Array) -> tuple[Array, ...]:
    overflow = any(not np.all(np.isfinite(g)) for g in grads)
    return (*(g * inv_scale for g in grads), np.ones_like(found_inf) if overflow else found_inf)


@rule(
    "aten._amp_update_scale",
    "y = next_scale(scale, growth_tracker, found_inf, scale_growth_factor, scale_backoff_factor, "
    "growth_interval)",
)
def update_scale(
    scale: Array,
    growth_tracker: Array,
    found_inf: Array,
    *,
    scale_growth_factor: Any,
    scale_backoff_factor: Any,
    growth_interval: int,
) -> Array:
    if np.any(np.not_equal(found_inf, 0)):
        return scale * scale_backoff_factor
    if growth_tracker + 1 != growth_interval:
        return scale
    grown = scale * scale_growth_factor
    # One that float32 cannot hold is not taken.
    return np.where(np.less(grown, 2.0**128), grown, scale)
