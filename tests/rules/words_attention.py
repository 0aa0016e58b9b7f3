"""Words of the formulas of attention: one query of one head at a time.

Nothing here may come from the rules.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, TypeAlias

import numpy as np

Plain: TypeAlias = Any


def factor(q: Plain, scale: float | None) -> float:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else scale


def heads(x: Plain, q: Plain) -> Plain:
    """The keys or values of each head of q, in whose stead neighbours stand where they share."""
    each = q.shape[1] // x.shape[1]
    return np.stack([x[:, h // each] for h in range(q.shape[1])], axis=1)


def of_heads(dx: Plain, x: Plain) -> Plain:
    """What heads takes apart, added up."""
    out = np.zeros(x.shape)
    for h in range(dx.shape[1]):
        out[:, h * x.shape[1] // dx.shape[1]] += dx[:, h]
    return out


def _exponentials(
    q: Plain, k: Plain, mask: Plain | None, is_causal: bool, scale: float | None
) -> Plain:
    keys = heads(k, q)
    sizes = (*q.shape[:3], k.shape[2])
    added = np.zeros(sizes) if mask is None else np.broadcast_to(mask, sizes)
    out = np.zeros(sizes)
    for b, h, i, j in itertools.product(*map(range, sizes)):
        if added[b, h, i, j] != -math.inf and not (is_causal and j > i):
            score = math.fsum(q[b, h, i] * keys[b, h, j]) * factor(q, scale)
            out[b, h, i, j] = math.exp(score + added[b, h, i, j])
    return out


def attend(q: Plain, k: Plain, *rest: Any) -> Plain:
    """The weights: each row adds up to 1, or is hidden whole."""
    e = _exponentials(q, k, *rest)
    for row in e.reshape(-1, e.shape[-1]):
        row /= math.fsum(row) or 1
    return e


def log_total(q: Plain, k: Plain, *rest: Any) -> Plain:
    e = _exponentials(q, k, *rest)
    rows = e.reshape(-1, e.shape[-1])
    return np.array([math.log(math.fsum(row) or 1) for row in rows]).reshape(e.shape[:-1])


def back(p: Plain, g: Plain) -> Plain:
    """Softmax's Jacobian, diag(p) - p p^T, times g, row by row."""
    rows = zip(p.reshape(-1, p.shape[-1]), g.reshape(-1, p.shape[-1]), strict=True)
    return np.array([(np.diag(w) - np.outer(w, w)) @ of_g for w, of_g in rows]).reshape(p.shape)


ATTENTION: dict[str, Any] = {
    word.__name__: word for word in (factor, heads, of_heads, attend, log_total, back)
}
