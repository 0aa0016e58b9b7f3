"""Words of the formulas of special functions, by mpmath, number by number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import mpmath
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Plain: TypeAlias = Any


def _each(function: Callable[[Any], Any], x: Plain) -> Plain:
    """Apply a function of mpmath's at each place, with 40 digits."""
    with mpmath.workdps(40):
        made = [float(mpmath.re(function(mpmath.mpf(number)))) for number in np.ravel(x).tolist()]
    return np.array(made).reshape(np.shape(x))


def lgamma(x: Plain) -> Plain:
    return _each(lambda p: mpmath.log(abs(mpmath.gamma(p))), x)


def digamma(x: Plain) -> Plain:
    return _each(mpmath.digamma, x)


def polygamma(n: int, x: Plain) -> Plain:
    return _each(lambda p: mpmath.polygamma(n, p), x)


def lowered(x: Plain, p: int) -> Plain:
    """By halves, p numbers in all, along a last axis; the smallest first."""
    return np.stack([np.asarray(x) - k / 2 for k in reversed(range(p))], axis=-1)


def bessel(order: int, x: Plain) -> Plain:
    return _each(lambda p: mpmath.besseli(order, p), x)


def erfinv(x: Plain) -> Plain:
    return _each(mpmath.erfinv, x)


def log_running_sum(x: Plain, dim: int) -> Plain:
    """Of e^x: the logarithm of each sum of those up to a place."""
    rows = np.moveaxis(np.asarray(x), dim, 0)
    out = np.empty_like(rows)
    number: Any = complex if np.iscomplexobj(rows) else float
    with mpmath.workdps(40):
        for at in np.ndindex(rows.shape):
            terms = [mpmath.exp(number(rows[(k, *at[1:])])) for k in range(at[0] + 1)]
            out[at] = number(mpmath.log(mpmath.fsum(terms)))
    return np.moveaxis(out, 0, dim)


SPECIAL: dict[str, Any] = {
    word.__name__: word
    for word in (lgamma, digamma, polygamma, lowered, bessel, erfinv, log_running_sum)
}
