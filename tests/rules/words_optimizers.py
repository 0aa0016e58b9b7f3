"""Words of the formulas of optimizers' steps, number by number.

Nothing here may come from the rules.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Plain: TypeAlias = Any


def _stepped(lists: list[Plain], step: Callable[..., tuple[float, ...]]) -> list[Plain]:
    """Apply a step to the numbers at each place of each parameter; a list for each result."""
    made: list[list[Plain]] = []
    for place, arrays in enumerate(zip(*lists, strict=True)):
        rows = [
            step(place, *map(float, numbers))
            for numbers in zip(*map(np.ravel, arrays), strict=True)
        ]
        shape = np.shape(arrays[0])
        made.append([np.array(column).reshape(shape) for column in zip(*rows, strict=True)])
    return [array for column in zip(*made, strict=True) for array in column]


def _direction(g: float, scale: Plain, maximize: bool) -> tuple[float, float]:
    """The gradient without its scale, and the way to go down."""
    g = g if scale is None else g / float(scale)
    return g, -g if maximize else g


def _off(found_inf: Plain) -> bool:
    return found_inf is not None and float(found_inf) == 1


def adam(
    params: Plain,
    grads: Plain,
    ms: Plain,
    vs: Plain,
    tops: Plain,
    steps: Plain,
    lr: Plain,
    beta1: float,
    beta2: float,
    decay: float,
    eps: float,
    amsgrad: bool,
    maximize: bool,
    scale: Plain,
    found_inf: Plain,
    decoupled: bool,
) -> list[Plain]:
    """Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019 where the decay is decoupled."""
    if _off(found_inf):
        return [*params, *grads, *ms, *vs, *tops]

    def step(
        place: int, p: float, g: float, m: float, v: float, top: float = 0.0
    ) -> tuple[float, ...]:
        count = float(steps[place])
        given, down = _direction(g, scale, maximize)
        down += 0 if decoupled else decay * p
        p -= lr * decay * p if decoupled else 0
        m = beta1 * m + (1 - beta1) * down
        v = beta2 * v + (1 - beta2) * down**2
        top = max(top, v)
        size = math.sqrt((top if amsgrad else v) / (1 - beta2**count)) + eps
        p -= lr * (m / (1 - beta1**count)) / size
        return (p, given, m, v, top) if amsgrad else (p, given, m, v)

    return _stepped([params, grads, ms, vs, *([tops] if amsgrad else [])], step)


def sgd(
    params: Plain,
    grads: Plain,
    buffers: Plain,
    lr: Plain,
    decay: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
    maximize: bool,
    first: bool,
    scale: Plain,
    found_inf: Plain,
) -> list[Plain]:
    if _off(found_inf):
        return [*params, *grads, *buffers]

    def step(_: int, p: float, g: float, b: float = 0.0) -> tuple[float, ...]:
        given, down = _direction(g, scale, maximize)
        down += decay * p
        b = down if first else momentum * b + (1 - dampening) * down
        way = down + momentum * b if nesterov else b if momentum else down
        return (p - lr * way, given, b) if momentum else (p - lr * way, given)

    return _stepped([params, grads, *([buffers] if momentum else [])], step)


def adagrad(
    params: Plain,
    grads: Plain,
    sums: Plain,
    steps: Plain,
    lr: Plain,
    lr_decay: float,
    decay: float,
    eps: float,
    maximize: bool,
    scale: Plain,
    found_inf: Plain,
) -> list[Plain]:
    if _off(found_inf):
        return [*params, *grads, *sums, *steps]

    def step(place: int, p: float, g: float, total: float) -> tuple[float, ...]:
        given, down = _direction(g, scale, maximize)
        down += decay * p
        total += down**2
        rate = lr / (1 + (float(steps[place]) - 1) * lr_decay)
        return p - rate * down / (math.sqrt(total) + eps), given, total

    return [*_stepped([params, grads, sums], step), *steps]


def unscaled(grads: Plain, found_inf: Plain, inverse: Plain) -> list[Plain]:
    finite = all(math.isfinite(number) for g in grads for number in np.ravel(g))
    return [*(np.array(g) * float(inverse) for g in grads), found_inf if finite else np.array(1.0)]


def next_scale(
    scale: Plain, tracker: Plain, found_inf: Plain, growth: float, backoff: float, interval: int
) -> Plain:
    if float(found_inf):
        return np.array(float(scale) * backoff)
    return np.array(float(scale) * (growth if int(tracker) + 1 == interval else 1))


OPTIMIZERS: dict[str, Any] = {
    word.__name__: word for word in (adam, sgd, adagrad, unscaled, next_scale)
}
