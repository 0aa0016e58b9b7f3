"""Words of the formulas of losses, one term after the other.

Nothing here may come from the rules.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from rules.words_statistics import nll, nll_input

Plain: TypeAlias = Any


def limited_log(p: Plain) -> Plain:
    """The logarithm, at least -100."""
    numbers = [max(math.log(q), -100.0) if q > 0 else -100.0 for q in np.ravel(p)]
    return np.array(numbers).reshape(np.shape(p))


def at_least(x: Plain, least: float) -> Plain:
    return np.array([max(q, least) for q in np.ravel(x)]).reshape(np.shape(x))


def weighed(terms: Plain, weight: Plain | None) -> Plain:
    return terms if weight is None else np.multiply(weight, terms)


def raised(pos_weight: Plain | None, t: Plain) -> Plain:
    """The weight of what is t positive and 1 - t negative, besides its share 1 - t."""
    return 1.0 if pos_weight is None else np.multiply(pos_weight, t) + (1 - t)


def _last(x: Plain) -> Plain:
    """Classes last."""
    return np.stack([x[:, c] for c in range(x.shape[1])], axis=-1)


def nll2d(x: Plain, target: Plain, *rest: Any) -> tuple[Plain, Plain]:
    return nll(_last(x), target, *rest)


def nll2d_input(g: Plain, x: Plain, target: Plain, *rest: Any) -> Plain:
    rows = nll_input(g, _last(x), target, *rest)
    return np.stack([rows[..., c] for c in range(x.shape[1])], axis=1)


def _over(terms: list[float], reduction: int) -> Plain:
    if reduction == 0:
        return np.array(terms)
    return np.array(math.fsum(terms) / (len(terms) if reduction == 1 else 1))


def multi_margin(
    x: Plain, target: Plain, p: int, margin: float, weight: Plain | None, reduction: int
) -> Plain:
    terms = []
    for row, t in zip(x, target, strict=True):
        gaps = [max(0.0, margin - row[t] + row[c]) ** p for c in range(len(row)) if c != t]
        terms.append((1 if weight is None else weight[t]) * math.fsum(gaps) / len(row))
    return _over(terms, reduction)


def multi_margin_input(
    g: Plain,
    x: Plain,
    target: Plain,
    p: int,
    margin: float,
    weight: Plain | None,
    reduction: int,
) -> Plain:
    dx = np.zeros(x.shape)
    incoming = np.broadcast_to(g, len(target)) / (len(target) if reduction == 1 else 1)
    for n, (row, t) in enumerate(zip(x, target, strict=True)):
        for c in range(len(row)):
            gap = margin - row[t] + row[c]
            if c != t and gap > 0:
                slope = (1 if weight is None else weight[t]) * (1 if p == 1 else 2 * gap) / len(row)
                dx[n, c] += incoming[n] * slope
                dx[n, t] -= incoming[n] * slope
    return dx


def _labels(row: Plain) -> list[int]:
    named: list[int] = []
    for label in row.tolist():
        if label < 0:
            break
        named.append(label)
    return named


def multilabel_margin(x: Plain, target: Plain, reduction: int) -> tuple[Plain, Plain]:
    terms, is_label = [], np.zeros(x.shape)
    for n, row in enumerate(x):
        named = _labels(target[n])
        is_label[n, named] = 1
        others = [c for c in range(len(row)) if c not in named]
        gaps = [max(0.0, 1 - (row[t] - row[c])) for t in named for c in others]
        terms.append(math.fsum(gaps) / len(row))
    return _over(terms, reduction), is_label


def multilabel_margin_input(g: Plain, x: Plain, target: Plain, reduction: int) -> Plain:
    dx = np.zeros(x.shape)
    incoming = np.broadcast_to(g, len(x)) / (len(x) if reduction == 1 else 1)
    for n, row in enumerate(x):
        named = _labels(target[n])
        for t in named:
            for c in set(range(len(row))) - set(named):
                if 1 - (row[t] - row[c]) > 0:
                    dx[n, c] += incoming[n] / len(row)
                    dx[n, t] -= incoming[n] / len(row)
    return dx


LOSSES: dict[str, Any] = {
    word.__name__: word
    for word in (
        limited_log, at_least, weighed, raised, nll2d, nll2d_input, multi_margin,
        multi_margin_input, multilabel_margin, multilabel_margin_input,
    )
}  # fmt: skip
