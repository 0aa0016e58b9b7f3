"""Functions of Bessel and Airy, zeta, and the incomplete gamma functions; few have a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy

from gradwitness.rules.kernel_ops import airy_ai
from gradwitness.rules.registry import Array, elementwise

if TYPE_CHECKING:
    from collections.abc import Callable


def _enter(name: str, text: str, function: Callable[[Array], Array]) -> None:
    @elementwise(f"aten.special_{name}", f"y = {text}")
    def value(x: Array) -> Array:
        return function(x)


# SciPy's are asked for when they are called: importing them takes longer than NumPy's whole import.
_enter("bessel_j0", "bessel_j(0, x)", lambda x: scipy.special.j0(x))
_enter("bessel_j1", "bessel_j(1, x)", lambda x: scipy.special.j1(x))
_enter("bessel_y0", "bessel_y(0, x)", lambda x: scipy.special.y0(x))
_enter("bessel_y1", "bessel_y(1, x)", lambda x: scipy.special.y1(x))
_enter("modified_bessel_i0", "bessel(0, x)", lambda x: scipy.special.i0(x))
_enter("modified_bessel_i1", "bessel(1, x)", lambda x: scipy.special.i1(x))
_enter("modified_bessel_k0", "bessel_k(0, x)", lambda x: scipy.special.k0(x))
_enter("modified_bessel_k1", "bessel_k(1, x)", lambda x: scipy.special.k1(x))
_enter("scaled_modified_bessel_k0", "exp(x) * bessel_k(0, x)", lambda x: scipy.special.k0e(x))
_enter("scaled_modified_bessel_k1", "exp(x) * bessel_k(1, x)", lambda x: scipy.special.k1e(x))
_enter("airy_ai", "airy(x)", airy_ai)


@elementwise("aten.special_spherical_bessel_j0", "y = where(x == 0, 1, sin(x) / x)")
def spherical_bessel_j0(x: Array) -> Array:
    near = np.less(np.absolute(x), 0.5)
    z = np.square(np.where(near, x, 0.0))
    series = np.ones_like(z)
    for k in (12, 10, 8, 6, 4, 2):
        series = 1 - z / (k * (k + 1)) * series
    return np.where(near, series, np.sin(x) / np.where(near, 1.0, x))


@elementwise(
    "aten.special_zeta",
    "y = zeta(x, q)",
    meaning="multiplies the gradient by -x zeta(x + 1, q)",
)
def zeta(x: Array, q: Array) -> Array:
    return scipy.special.zeta(x, q)


zeta.refused.add("x")
zeta.vjp("q", "g * -x * zeta(x + 1, q)")(lambda g, x, q: g * -x * scipy.special.zeta(x + 1, q))


@elementwise(
    "aten.igamma",
    "y = lower_gamma(a, x)",
    meaning="multiplies the gradient by the density of the gamma distribution, x^(a - 1) e^-x / "
    "gamma(a)",
)
def igamma(a: Array, x: Array) -> Array:
    return scipy.special.gammainc(a, x)


igamma.refused.add("a")
igamma.vjps(x="g * exp((a - 1) * log(x) - x - lgamma(a))")


@elementwise(
    "aten.igammac",
    "y = upper_gamma(a, x)",
    meaning="multiplies the gradient by the density of the gamma distribution, and by -1",
)
def igammac(a: Array, x: Array) -> Array:
    return scipy.special.gammaincc(a, x)


igammac.refused.add("a")
igammac.vjps(x="-g * exp((a - 1) * log(x) - x - lgamma(a))")
