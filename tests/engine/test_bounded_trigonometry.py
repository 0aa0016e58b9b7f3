"""Circular, hyperbolic and inverse functions against mpmath."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from engine.emulation import FORMATS, REPRODUCIBLE, bounded, unit

if TYPE_CHECKING:
    from collections.abc import Callable

# Function, truth, where x is drawn, where it is defined, and how many roundoffs the library gets.
FUNCTIONS: dict[str, tuple[Any, Callable[[Any], Any], tuple[float, float], float, float]] = {
    "tan": (np.tan, mpmath.tan, (-20.0, 20.0), math.inf, 8),
    "arcsin": (np.arcsin, mpmath.asin, (-0.999, 0.999), 1, 8),
    "arccos": (np.arccos, mpmath.acos, (-0.999, 0.999), 1, 8),
    "arctan": (np.arctan, mpmath.atan, (-50.0, 50.0), math.inf, 8),
    "sinh": (np.sinh, mpmath.sinh, (-80.0, 80.0), math.inf, 8),
    "cosh": (np.cosh, mpmath.cosh, (-80.0, 80.0), math.inf, 8),
    "arcsinh": (np.arcsinh, mpmath.asinh, (-1e6, 1e6), math.inf, 8),
    "arccosh": (np.arccosh, mpmath.acosh, (1.001, 1e6), math.inf, 8),
    "arctanh": (np.arctanh, mpmath.atanh, (-0.999, 0.999), 1, 8),
    "erfc": (special.erfc, mpmath.erfc, (-5.0, 5.0), math.inf, 12),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", FORMATS)
@REPRODUCIBLE
@given(data=st.data())
def test_the_bound_holds_for_the_worst_library_that_is_granted(
    name: str, dtype: str, data: st.DataObject
) -> None:
    ufunc, true, (low, high), limit, granted = FUNCTIONS[name]
    x = data.draw(st.floats(low, high))
    e = data.draw(st.sampled_from([0.0, 1e-7, 1e-3, 0.3, 2.0])) * data.draw(st.floats(0.5, 1))
    other = x + data.draw(st.sampled_from([-1.0, 1.0, 0.37])) * e * (1 - 2.0**-50)
    result = ufunc(bounded(dtype, [x], [e]))
    with mpmath.workdps(60):
        # The witness's own number is good to what the library is granted in float64.
        off = abs(mpmath.mpf(float(result.value[0])) - true(mpmath.mpf(x)))
        assert off <= granted * unit("float64") * abs(true(mpmath.mpf(x)))
    bound = float(result.rigorous[0])
    if abs(other) > limit or (name == "arccosh" and other < 1):
        assert bound == math.inf
    with mpmath.workdps(60):
        wanted = true(mpmath.mpf(x))
        for sign in (-1, 0, 1):
            if bound != math.inf:
                got = true(mpmath.mpf(other)) * (1 + sign * granted * mpmath.mpf(unit(dtype)))
                assert abs(got - wanted) <= mpmath.mpf(bound)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_spread_is_not_slack(name: str) -> None:
    ufunc, true, *_ = FUNCTIONS[name]
    x, e = (1.7, 1e-4) if name == "arccosh" else (0.7, 1e-4)
    with mpmath.workdps(30):
        reach = max(abs(true(mpmath.mpf(x + s * e)) - true(mpmath.mpf(x))) for s in (-1, 1))
    bound = ufunc(bounded("float64", [x], [e])).rigorous[0]
    assert float(reach) <= bound <= 1.01 * float(reach)


def test_a_pole_or_an_end_within_the_error_leaves_no_bound() -> None:
    assert np.tan(bounded("float32", [1.57], [0.01])).rigorous[0] == math.inf
    for ufunc in (np.arcsin, np.arccos, np.arctanh):
        assert ufunc(bounded("float32", [0.9], [0.2])).rigorous[0] == math.inf
    assert np.arccosh(bounded("float32", [1.1], [0.2])).rigorous[0] == math.inf
    # Exactly at the end there is nothing to move.
    assert np.arcsin(bounded("float32", [1.0])).rigorous[0] < 1e-5


@pytest.mark.parametrize("dtype", FORMATS)
@REPRODUCIBLE
@given(data=st.data())
def test_angles_and_lengths_stay_within(dtype: str, data: st.DataObject) -> None:
    draw = data.draw
    a, b = draw(st.floats(-9, 9)), draw(st.floats(-9, 9))
    e, f = (draw(st.sampled_from([0.0, 1e-6, 0.1, 1.0])) for _ in range(2))
    p, q = a + draw(st.floats(-1, 1)) * e, b + draw(st.floats(-1, 1)) * f
    for ufunc, true in ((np.arctan2, mpmath.atan2), (np.hypot, mpmath.hypot)):
        result = ufunc(bounded(dtype, [a], [e]), bounded(dtype, [b], [f]))
        with mpmath.workdps(60):
            wanted, got = (true(mpmath.mpf(s), mpmath.mpf(t)) for s, t in ((a, b), (p, q)))
            got *= 1 + 8 * mpmath.mpf(unit(dtype))
            # Twice the smallest normal numbers: p and q round too.
            bound = float(result.rigorous[0]) * (1 + 2.0**-40) + 2.0**-1000
            assert bound == math.inf or abs(got - wanted) <= mpmath.mpf(bound) + 1e-14


def test_an_angle_jumps_across_the_negative_axis() -> None:
    a = bounded("float32", [0.01], [0.02])
    assert np.arctan2(a, bounded("float32", [-1.0])).rigorous[0] == math.inf
    assert np.arctan2(a, bounded("float32", [1.0])).rigorous[0] == pytest.approx(0.02, rel=1e-2)
