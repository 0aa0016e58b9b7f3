"""Words of the formulas of variances and of losses over classes.

Nothing here may come from the rules.
"""

from __future__ import annotations

import math
import statistics
from typing import Any, TypeAlias

import numpy as np

Plain: TypeAlias = Any
Dim: TypeAlias = "int | tuple[int, ...] | None"


def _over(x: Plain, dim: Dim) -> set[int]:
    if dim is None or dim == ():
        return set(range(x.ndim))
    return {d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim)}


def _groups(x: Plain, dim: Dim) -> dict[tuple[int, ...], list[float]]:
    """The numbers that are taken together, by their place once the axes have length 1."""
    found: dict[tuple[int, ...], list[float]] = {}
    for at in np.ndindex(x.shape):
        key = tuple(0 if d in _over(x, dim) else i for d, i in enumerate(at))
        found.setdefault(key, []).append(float(x[at]))
    return found


def freedom(x: Plain, dim: Dim, correction: float | None) -> float:
    count = math.prod(x.shape[d] for d in _over(x, dim))
    return float(count - (1 if correction is None else correction))


def variance(x: Plain, dim: Dim, correction: float | None, keepdim: bool) -> Plain:
    over = _over(x, dim)
    out = np.empty([1 if d in over else n for d, n in enumerate(x.shape)])
    for key, numbers in _groups(x, dim).items():
        out[key] = statistics.pvariance(numbers) * len(numbers) / freedom(x, dim, correction)
    return out if keepdim else out.reshape([n for d, n in enumerate(x.shape) if d not in over])


def off_mean(x: Plain, dim: Dim) -> Plain:
    out = np.empty(x.shape)
    groups = _groups(x, dim)
    for at in np.ndindex(x.shape):
        key = tuple(0 if d in _over(x, dim) else i for d, i in enumerate(at))
        out[at] = x[at] - statistics.fmean(groups[key])
    return out


def _weights(target: Plain, weight: Plain | None, ignore: int) -> list[float]:
    named = np.ravel(target).tolist()
    return [0.0 if t == ignore else 1.0 if weight is None else float(weight[t]) for t in named]


def nll(
    x: Plain, target: Plain, weight: Plain | None, reduction: int, ignore: int
) -> tuple[Plain, Plain]:
    weights = _weights(target, weight, ignore)
    rows = zip(x.reshape(-1, x.shape[-1]), np.ravel(target), weights, strict=True)
    terms = [-w * row[t] if w else 0.0 for row, t, w in rows]
    total = math.fsum(weights)
    if reduction == 0:
        # Of one row torch gives the weight all the same.
        given = 0.0 if np.ndim(target) else total
        return np.array(terms).reshape(np.shape(target)), np.array(given)
    return np.array(math.fsum(terms) / (total if reduction == 1 else 1)), np.array(total)


def nll_input(
    g: Plain, x: Plain, target: Plain, weight: Plain | None, reduction: int, ignore: int
) -> Plain:
    weights = _weights(target, weight, ignore)
    over = math.fsum(weights) if reduction == 1 else 1
    out = np.zeros((len(weights), x.shape[-1]))
    incoming = np.broadcast_to(g, np.shape(target)).ravel()
    for row, t, w, of_g in zip(out, np.ravel(target), weights, incoming, strict=True):
        if w:
            row[t] = -w * of_g / over
    return out.reshape(x.shape)


STATISTICS: dict[str, Any] = {
    word.__name__: word for word in (freedom, variance, off_mean, nll, nll_input)
}
