"""Circular and hyperbolic functions and their inverses, the complementary error function, lengths.

Vectorized libraries guarantee 1 ulp for these (SLEEF's u10 versions; erfc 1.5), CUDA's
single-precision ones up to 4 (tanf, acoshf; erfcf below 6): 8 units of roundoff are granted, and 12
to erfc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from gradwitness.engine.bounded.array import (
    UFUNCS,
    Bounded,
    Error,
    Plain,
    assemble,
    rounding,
    total,
    value_of,
)
from gradwitness.engine.bounded.transcendental import function

if TYPE_CHECKING:
    from gradwitness.engine.floats import Arithmetic

_FOUR_ULPS = 8.0
_SIX_ULPS = 12.0


def _where_moved(e: Plain, spread: Plain) -> Plain:
    """Return 0 where there is no error, even at an infinite slope, and infinity for NaN."""
    return np.where(e == 0, 0.0, np.where(np.isnan(spread), np.inf, spread))


def _tan_spread(x: Plain, e: Plain) -> Plain:
    # tan(x + e) - tan(x) = sin(e) / (cos(x) cos(x + e)), as long as no pole lies between.
    turns = x / np.pi - 0.5
    to_pole = np.abs(turns - np.rint(turns)) * np.pi
    least = np.minimum(np.abs(np.cos(x + e)), np.abs(np.cos(x - e)))
    apart = e < to_pole * (1 - 2.0**-20)
    return _where_moved(e, np.where(apart, np.sin(e) / (np.abs(np.cos(x)) * least), np.inf))


def _arc_spread(x: Plain, e: Plain) -> Plain:
    # Steepest at the end that lies farthest out; beyond 1 there is no angle.
    far = np.abs(x) + e
    return _where_moved(e, np.where(far < 1, e / np.sqrt((1 - far) * (1 + far)), np.inf))


def _near(x: Plain, e: Plain) -> Plain:
    return np.asarray(np.maximum(np.abs(x) - e, 0))


def _arccosh_spread(x: Plain, e: Plain) -> Plain:
    low = x - e
    return _where_moved(e, np.where(low > 1, e / np.sqrt((low - 1) * (low + 1)), np.inf))


def _arctanh_spread(x: Plain, e: Plain) -> Plain:
    far = np.abs(x) + e
    return _where_moved(e, np.where(far < 1, e / ((1 - far) * (1 + far)), np.inf))


def _erfc_spread(x: Plain, e: Plain) -> Plain:
    return _where_moved(e, 2 / np.sqrt(np.pi) * np.exp(-(_near(x, e) ** 2)) * e)


def erfc(x: Plain) -> Plain:
    """Return the complementary error function, good to 8 units: SciPy's loses 500 at x = 23.

    By its scaled form, times exp(-x^2) in two factors, of which the first's square is exact.
    """
    far = np.clip(x, 0.5, 27.0)
    start = np.asarray(far, dtype=np.float32).astype(np.float64)
    bell = np.exp(-start * start) * np.exp((start - far) * (start + far))
    near: Plain = scipy.special.erfc(x)
    return np.where((x > 0.5) & (x < 27), bell * scipy.special.erfcx(far), near)


function(np.tan, _tan_spread, _FOUR_ULPS)
function(np.arcsin, _arc_spread, _FOUR_ULPS)
function(np.arccos, _arc_spread, _FOUR_ULPS)
function(np.arctan, lambda x, e: e / (1 + _near(x, e) ** 2), _FOUR_ULPS)
function(np.sinh, lambda x, e: _where_moved(e, e * np.cosh(np.abs(x) + e)), _FOUR_ULPS)
function(np.cosh, lambda x, e: _where_moved(e, e * np.sinh(np.abs(x) + e)), _FOUR_ULPS)
function(np.arcsinh, lambda x, e: e / np.hypot(1, _near(x, e)), _FOUR_ULPS)
function(np.arccosh, _arccosh_spread, _FOUR_ULPS)
function(np.arctanh, _arctanh_spread, _FOUR_ULPS)
function(erfc, _erfc_spread, _SIX_ULPS)


def _arctan2(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    rise, run = np.asarray(value_of(a)), np.asarray(value_of(b))
    value = np.arctan2(rise, run)
    length = np.hypot(rise, run)

    def carry(of_a: Error, of_b: Error) -> Error:
        if of_a is None and of_b is None:
            return None
        up = np.zeros(rise.shape) if of_a is None else of_a
        along = np.zeros(run.shape) if of_b is None else of_b
        # The point moves within a circle, seen from 0 under the angle asin(distance / length).
        moved = np.hypot(up, along)
        angle = np.arcsin(np.minimum(moved / length, 1))
        # Across the negative half of the axis the angle jumps by 2 pi.
        jumps = (up > 0) & (np.abs(rise) <= up) & (run - along < 0)
        return np.where(moved == 0, 0.0, np.where(jumps | (moved >= length), np.inf, angle))

    return assemble(arithmetic, value, (a, b), carry, rounding(arithmetic, value, _FOUR_ULPS))


def _hypot(arithmetic: Arithmetic, a: Any, b: Any) -> Bounded:
    value = np.hypot(value_of(a), value_of(b))
    # No side is longer than the hypotenuse, so the slopes are at most 1.
    return assemble(arithmetic, value, (a, b), total, rounding(arithmetic, value, _FOUR_ULPS))


UFUNCS |= {"arctan2": _arctan2, "hypot": _hypot}
