"""Samples of special functions: of the gamma family, of Bessel's, of the normal distribution."""

from __future__ import annotations

from rules.samples_functions import between
from rules.sampling import N, aten, away, normal, positive, sample

# Both sides of what a kernel does differently.
_GAMMA = ((0.6, 2.0), (12.0, 30.0))
_BELOW = ((-1.7, -1.3), (-0.7, -0.3), (3.0, 4.0))
_BESSEL = ((-12.0, -9.0), (-3.0, 3.0), (9.0, 12.0))
_UNIT = ((-0.85, -0.3), (-0.3, 0.3), (0.3, 0.85))

SPECIAL = (
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
