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


def bessel_j(order: int, x: Plain) -> Plain:
    return _each(lambda p: mpmath.besselj(order, p), x)


def bessel_y(order: int, x: Plain) -> Plain:
    return _each(lambda p: mpmath.bessely(order, p), x)


def bessel_k(order: int, x: Plain) -> Plain:
    return _each(lambda p: mpmath.besselk(order, p), x)


def airy(x: Plain) -> Plain:
    return _each(mpmath.airyai, x)


def _each_pair(function: Callable[[Any, Any], Any], a: Plain, b: Plain) -> Plain:
    rows = np.broadcast_arrays(a, b)
    with mpmath.workdps(40):
        pairs = zip(*(map(mpmath.mpf, np.ravel(row).tolist()) for row in rows), strict=True)
        made = [float(function(*pair)) for pair in pairs]
    return np.array(made).reshape(rows[0].shape)


def zeta(x: Plain, q: Plain) -> Plain:
    return _each_pair(mpmath.zeta, x, q)


def lower_gamma(a: Plain, x: Plain) -> Plain:
    """The share of the gamma distribution of shape a that lies below x."""
    return _each_pair(lambda a, x: mpmath.gammainc(a, 0, x, regularized=True), a, x)


def upper_gamma(a: Plain, x: Plain) -> Plain:
    """The share of the gamma distribution of shape a that lies above x."""
    return _each_pair(lambda a, x: mpmath.gammainc(a, x, regularized=True), a, x)


def _of_degree(function: Callable[[Any, Any], Any]) -> Callable[[Plain, Plain], Plain]:
    """A polynomial of each degree, cut off to a whole number; 0 below degree 0."""
    return lambda n, x: _each_pair(lambda k, p: function(int(k), p) if k > -1 else 0, n, x)


hermite = _of_degree(mpmath.hermite)
probabilists_hermite = _of_degree(
    lambda n, x: mpmath.hermite(n, x / mpmath.sqrt(2)) / mpmath.sqrt(2) ** n
)
laguerre = _of_degree(lambda n, x: mpmath.laguerre(n, 0, x))
legendre = _of_degree(mpmath.legendre)


def chebyshev(kind: str, n: Plain, x: Plain) -> Plain:
    """The four kinds; the last two by the second: V = U - U before, W = U + U before."""
    before = {"T": None, "U": 0, "V": -1, "W": 1}[kind]

    def one(k: int, p: Any) -> Any:
        if before is None:
            return mpmath.chebyt(k, p)
        return mpmath.chebyu(k, p) + before * (mpmath.chebyu(k - 1, p) if k else 0)

    return _of_degree(one)(n, x)


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
} | {
    "airy": airy,
    "bessel_j": bessel_j,
    "bessel_k": bessel_k,
    "bessel_y": bessel_y,
    "chebyshev": chebyshev,
    "hermite": hermite,
    "laguerre": laguerre,
    "legendre": legendre,
    "lower_gamma": lower_gamma,
    "probabilists_hermite": probabilists_hermite,
    "upper_gamma": upper_gamma,
    "zeta": zeta,
}
