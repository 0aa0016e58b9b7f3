"""Samples of special functions: of the gamma family, of Bessel's, of the normal distribution."""

from __future__ import annotations

from typing import Any

import numpy as np

from rules.samples_functions import Between, between
from rules.sampling import Draw, N, aten, away, normal, positive, sample

# Both sides of what a kernel does differently.
_GAMMA = ((0.6, 2.0), (12.0, 30.0))
_BELOW = ((-1.7, -1.3), (-0.7, -0.3), (3.0, 4.0))
_BESSEL = ((-12.0, -9.0), (-3.0, 3.0), (9.0, 12.0))
_UNIT = ((-0.85, -0.3), (-0.3, 0.3), (0.3, 0.85))


class Degrees(Draw):
    """Degrees of polynomials, cut off: below and beyond where a kernel takes an angle."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        del rng, length
        return np.array([[-1.5], [0.5], [1.5], [5.5], [11.5]])


def _fixed(*shape: int, ends: tuple[tuple[float, float], ...]) -> Draw:
    return Between(shape, constant=True, ends=ends)


POLYNOMIALS = (
    *(f"{shifted}chebyshev_polynomial_{kind}" for shifted in ("", "shifted_") for kind in "tuvw"),
    *("hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l"),
    "legendre_polynomial_p",
)
_DECAYING = ((0.2, 1.8), (2.2, 9.0))
_BESSELS = {
    # Torch leaves a coefficient out, which does not show yet: see the faults of torch.
    "bessel_j0": ((-1.2, -0.2), (0.2, 1.2)),
    "bessel_j1": ((-1.2, -0.2), (0.2, 1.2)),
    "bessel_y0": ((0.2, 1.2),),
    "bessel_y1": ((0.2, 1.2),),
    "modified_bessel_i0": _BESSEL,
    "modified_bessel_i1": _BESSEL,
    "modified_bessel_k0": _DECAYING,
    "modified_bessel_k1": _DECAYING,
    "scaled_modified_bessel_k0": _DECAYING,
    "scaled_modified_bessel_k1": _DECAYING,
    "spherical_bessel_j0": ((-9.0, -0.6), (-0.4, 0.4), (0.6, 9.0)),
    "airy_ai": ((-2.0, 2.0), (2.2, 9.0)),
}

SPECIAL = (
    *(
        sample(
            getattr(aten, f"special_{name}").default,
            _fixed(N, ends=((0.1, 0.9), (1.1, 1.9))),
            Degrees((), constant=True),
        )
        for name in POLYNOMIALS
    ),
    *(
        sample(getattr(aten, f"special_{name}").default, _fixed(4, N, ends=ends))
        for name, ends in _BESSELS.items()
    ),
    sample(
        aten.special_zeta.default,
        _fixed(4, N, ends=((1.2, 6.0),)),
        between(4, N, ends=((0.2, 20.0),)),
    ),
    sample(
        aten.igamma.default, _fixed(4, N, ends=((0.3, 9.0),)), between(4, N, ends=((0.5, 9.0),))
    ),
    sample(
        aten.igammac.default, _fixed(4, N, ends=((0.3, 9.0),)), between(4, N, ends=((0.5, 9.0),))
    ),
    sample(aten.lgamma.default, between(4, N, ends=_GAMMA)),
    sample(aten.lgamma.default, between(4, N, ends=_BELOW), note="below 0"),
    # Torch ends trigamma's series early: 1 / 30 z^9 is left out in float64 too.
    sample(aten.digamma.default, between(4, N, ends=((1.5, 4.0), (12.0, 30.0)))),
    sample(aten.polygamma.default, 1, between(2, 2, ends=((40.0, 60.0),)), note="trigamma"),
    sample(aten.polygamma.default, 2, between(4, N, ends=_GAMMA), note="tetragamma"),
    sample(aten.polygamma.default, 3, between(4, N, ends=((0.6, 2.0),)), note="pentagamma"),
    sample(aten.mvlgamma.default, between(4, N, ends=((2.0, 9.0),)), 3),
    sample(aten.i0.default, between(4, N, ends=_BESSEL)),
    sample(aten.special_i0e.default, between(4, N, ends=((-12.0, -9.0), (0.5, 3.0)))),
    sample(aten.special_i1.default, between(4, N, ends=_BESSEL)),
    sample(aten.special_i1e.default, between(4, N, ends=((-12.0, -9.0), (0.5, 3.0)))),
    sample(aten.erfinv.default, between(4, N, ends=_UNIT)),
    sample(aten.special_erfcx.default, between(4, N, ends=((-2.0, -0.5), (0.5, 3.0)))),
    sample(aten.special_ndtri.default, between(4, N, ends=((0.3, 0.7),))),
    sample(aten.special_log_ndtr.default, between(4, N, ends=((-5.0, -1.2), (-0.8, 2.0)))),
    sample(aten.special_entr.default, positive(4, N)),
    sample(aten.special_xlog1py.default, away(4, N), positive(4, N)),
    sample(aten.special_xlog1py.other_scalar, normal(4, N), 0.7, note="scalar"),
    sample(aten.special_xlog1py.self_scalar, -1.7, positive(4, N), note="scalar"),
    sample(aten.logcumsumexp.default, normal(3, N), 1),
    sample(aten.logcumsumexp.default, normal(4, 2), -2, note="first axis"),
)
