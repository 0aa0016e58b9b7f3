"""Elementary functions: against mpmath's 50 digits, near their singularities and far out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from engine.emulation import FORMATS, REPRODUCIBLE, SLACK, above, bounded, exact, holds, to, unit
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic

if TYPE_CHECKING:
    from collections.abc import Callable

FUNCTIONS: dict[str, tuple[Any, Callable[[Any], Any], tuple[float, float], float]] = {
    # NumPy's, mpmath's, where, and the library's error that is granted, in units of roundoff.
    "exp": (np.exp, mpmath.exp, (-120.0, 80.0), 4),
    "expm1": (np.expm1, mpmath.expm1, (-120.0, 80.0), 4),
    "exp2": (np.exp2, lambda x: mpmath.mpf(2) ** x, (-120.0, 120.0), 4),
    "log": (np.log, mpmath.log, (1e-30, 1e30), 4),
    "log1p": (np.log1p, lambda x: mpmath.log(1 + x), (-0.999999, 1e30), 4),
    "log2": (np.log2, lambda x: mpmath.log(x, 2), (1e-30, 1e30), 4),
    "log10": (np.log10, lambda x: mpmath.log(x, 10), (1e-30, 1e30), 4),
    "tanh": (np.tanh, mpmath.tanh, (-400.0, 400.0), 4),
    "sin": (np.sin, mpmath.sin, (-1e4, 1e4), 7),
    "cos": (np.cos, mpmath.cos, (-1e4, 1e4), 7),
    "sqrt": (np.sqrt, mpmath.sqrt, (0.0, 1e30), 2),
    "square": (np.square, lambda x: x * x, (-1e15, 1e15), 1),
}
PLACES = {"log": 1.0, "log2": 1.0, "log10": 1.0, "sin": math.pi, "cos": math.pi / 2}
LOWEST = {"log": 0.0, "log2": 0.0, "log10": 0.0, "log1p": -1.0, "sqrt": 0.0}


@st.composite
def arguments(draw: st.DrawFn, name: str) -> tuple[float, float, float]:
    """Draw the witness's x, an error e, and another number within e of x."""
    low, high = FUNCTIONS[name][2]
    # In float32's range, or float64 itself underflows.
    near = st.floats(-1, 1, width=32).map(lambda d: PLACES.get(name, 0.0) + d)
    x = draw(st.one_of(near, st.floats(low, high)).filter(lambda x: low <= x <= high))
    e = draw(st.sampled_from([0.0, 1e-7, 1e-3, 0.3, 2.0, 40.0])) * draw(st.floats(0.5, 1))
    x = x if abs(x) >= 2.0**-149 else 0.0
    other = x + draw(st.sampled_from([-1.0, 1.0, 0.37])) * e
    if other <= LOWEST.get(name, -math.inf):
        return x, e, x
    # The sum was rounded.
    return x, max(e, above(abs(exact(other) - exact(x)))), other


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", FORMATS)
@REPRODUCIBLE
@given(data=st.data())
def test_the_bound_holds_for_the_worst_library_that_is_granted(
    name: str, dtype: str, data: st.DataObject
) -> None:
    ufunc, true, _, count = FUNCTIONS[name]
    x, e, other = data.draw(arguments(name))
    result = ufunc(bounded(dtype, [x], [e]))
    assert result.value.tolist() == ufunc(np.array([x])).tolist()
    with mpmath.workdps(60):
        wanted = true(mpmath.mpf(x))
        for sign in (-1, 0, 1):
            # As far off as the library may be, after an argument as far off as it may be.
            got = true(mpmath.mpf(other)) * (1 + sign * count * mpmath.mpf(unit(dtype)))
            assert result.rigorous is not None
            bound = float(result.rigorous[0]) * float(SLACK)
            assert bound == math.inf or abs(got - wanted) <= mpmath.mpf(bound), (got, wanted, bound)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numpys_own_float32_stays_within(name: str) -> None:
    ufunc, _, (low, high), _ = FUNCTIONS[name]
    rng = np.random.default_rng(2)
    x = rng.uniform(max(low, -20), min(high, 20), 5000).astype(np.float32)
    result = ufunc(bounded("float32", x))
    used = np.abs(ufunc(x).astype(float) - result.value) / result.rigorous
    assert 0.07 < used.max() <= 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_spread_is_not_slack(name: str) -> None:
    ufunc, true, _, _ = FUNCTIONS[name]
    x, e = 0.7, 1e-3
    result = ufunc(bounded("float32", [x], [e]))
    with mpmath.workdps(30):
        reach = max(abs(true(mpmath.mpf(x + s * e)) - true(mpmath.mpf(x))) for s in (-1, 1))
    factor = 2.0 if name in ("sin", "cos") else 1.01
    assert float(reach) <= result.rigorous[0] <= factor * float(reach)


@pytest.mark.parametrize("name", ["log", "log2", "log10", "log1p"])
def test_a_logarithm_that_may_not_exist_has_no_bound(name: str) -> None:
    ufunc = FUNCTIONS[name][0]
    shift = LOWEST[name]
    result = ufunc(bounded("float32", [shift + 1.0, shift + 1.0], [1.0, 0.999]))
    assert result.rigorous[0] == math.inf
    assert math.isfinite(result.rigorous[1])


def test_results_that_underflow_in_the_witness_too() -> None:
    result = np.exp(bounded("float32", [-2000.0, -2000.0], [0.0, 1950.0]))
    assert result.value.tolist() == [0, 0]
    assert 2.0**-126 <= result.rigorous[0] < 1e-37
    assert result.rigorous[1] >= math.exp(-50)
    assert np.expm1(bounded("float32", [-60.0], [59.0])).rigorous[0] >= math.exp(-1) - math.exp(-60)


def test_zero_stays_exactly_zero() -> None:
    for ufunc in (np.sin, np.tanh, np.expm1, np.log1p, np.sqrt, np.square):
        result = ufunc(bounded("float32", [0.0]))
        assert (result.value.tolist(), result.rigorous.tolist()) == ([0], [0])


@REPRODUCIBLE
@given(
    x=st.floats(-8, 8),
    e=st.sampled_from([0.0, 1e-6, 0.01, 1.0, 9.0]),
    side=st.sampled_from([-1.0, 1.0]),
    dtype=st.sampled_from(FORMATS),
)
def test_erf_in_the_way_that_vector_code_takes_it(
    x: float, e: float, side: float, dtype: str
) -> None:
    other = x + side * e
    e = max(e, above(abs(exact(other) - exact(x))))
    result: Any = special.erf(bounded(dtype, [x], [e]))
    assert result.value.tolist() == [special.erf(x)]
    # Abramowitz and Stegun 7.1.26 in float32, step by step.
    f = np.float32
    a = [f(c) for c in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)]
    size = np.abs(f(other))
    t = f(1) / (f(1) + f(0.3275911) * size)
    series = t * (a[0] + t * (a[1] + t * (a[2] + t * (a[3] + t * a[4]))))
    with np.errstate(under="ignore"):
        # An exponential that is off by 20 ulp, one way or the other.
        bell = np.exp(-size * size) * f(1 + side * 40 * 2.0**-24)
        got = np.copysign(f(1) - series * bell, f(other))
    # float32's rounding of the argument is no part of erf.
    rounded = abs(float(f(other)) - other)
    with mpmath.workdps(40):
        gap = abs(mpmath.mpf(float(to(dtype, got))) - mpmath.erf(mpmath.mpf(x)))
        assert gap <= mpmath.mpf(float(result.rigorous[0])) + 1.2 * rounded


def test_erf_in_float64_has_the_bound_of_a_library() -> None:
    result: Any = special.erf(bounded("float64", [0.5]))
    assert result.rigorous[0] < 12 * 2.0**-53


@st.composite
def powers(draw: st.DrawFn) -> tuple[float, float, float, float, float]:
    p = draw(st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.7, 2.0, 3.0, -3.3, 7.0]))
    whole = p == int(p)
    x = draw(st.floats(1e-3, 30)) * (draw(st.sampled_from([-1.0, 1.0])) if whole else 1.0)
    e = abs(x) * draw(st.sampled_from([0.0, 1e-6, 1e-2, 0.5, 1.5]))
    of_p = draw(st.sampled_from([0.0, 1e-7, 1e-2])) if x > 0 else 0.0
    return x, e, p, of_p, draw(st.sampled_from([-1.0, 1.0, 0.5]))


@REPRODUCIBLE
@given(drawn=powers(), side=st.sampled_from([-1.0, 1.0]), dtype=st.sampled_from(FORMATS))
def test_powers(drawn: tuple[float, float, float, float, float], side: float, dtype: str) -> None:
    x, e, p, of_p, where = drawn
    other, moved = x + where * e, p + side * of_p
    e = max(e, above(abs(exact(other) - exact(x))))
    of_p = max(of_p, above(abs(exact(moved) - exact(p))))
    exponent = bounded(dtype, p, of_p) if of_p else p
    result: Any = np.power(bounded(dtype, [x], [e]), exponent)
    assert result.value == pytest.approx(np.power(np.array([x]), p), rel=1e-15)
    if result.rigorous is None:
        # x ** 0 and x ** 1.
        assert p in (0, 1)
        return
    if other == 0 or (other < 0 and moved != int(moved)):
        return
    count = {0.0: 0, 1.0: 0, -1.0: 1, 2.0: 1, 0.5: 1, -2.0: 2, 3.0: 2}.get(p, 8) * (not of_p)
    bound = float(result.rigorous[0]) * float(SLACK)
    with mpmath.workdps(50):
        got = mpmath.power(mpmath.mpf(other), mpmath.mpf(moved))
        got *= (1 + mpmath.mpf(unit(dtype))) ** count
        gap = abs(got - mpmath.power(mpmath.mpf(x), mpmath.mpf(p)))
        assert bound == math.inf or gap <= mpmath.mpf(bound)


def test_powers_that_are_no_roundings() -> None:
    x = bounded("float32", [3.0, 0.0], [0.5, 0.5])
    assert (x**1).rigorous.tolist() == [0.5, 0.5]
    assert (x**0).value.tolist() == [1, 1]
    assert (x**0).rigorous.tolist() == [0, 0]
    assert (bounded("float32", [3.0]) ** 1.0).is_exact
    assert (bounded("float32", [2.0]) ** 2).rigorous[0] == pytest.approx(4 * 2.0**-24)


def test_base_and_exponent_may_both_be_off() -> None:
    result = np.power(bounded("float32", [100.0], [50.0]), bounded("float32", 1.0, 0.01))
    assert result.rigorous[0] >= 150**1.01 - 100
    assert result.rigorous[0] < 1.01 * (150**1.01 - 100)


def test_positive_powers_of_zero_are_zero_whatever_the_exponent_may_have_been() -> None:
    zero = bounded("bfloat16", [0.0, 0.0, 0.0], [0.0, 0.0, 1e-3])
    result: Any = np.power(zero, bounded("bfloat16", [0.75, 0.01, 0.75], [0.02, 0.02, 0.02]))
    # The second may have been a power of -0.01, the third one of another number.
    assert result.rigorous[0] == 0
    assert not np.isfinite(result.rigorous[1:]).any()


def test_roots_and_negative_powers_of_what_may_be_zero() -> None:
    x = bounded("float32", [1e-3], [1e-3])
    assert np.power(x, -1).rigorous[0] == math.inf
    assert np.power(x, 0.5).rigorous[0] == math.inf
    # The square root knows better: sqrt(2e-3) - sqrt(1e-3) is the most, sqrt(1e-3) to 0.
    assert math.sqrt(1e-3) <= np.sqrt(x).rigorous[0] < 1.01 * math.sqrt(1e-3)
    assert np.sqrt(bounded("float32", [0.0], [1e-4])).rigorous[0] == pytest.approx(1e-2)


def test_the_square_inside_an_inverse_square_may_lose_its_digits() -> None:
    # 1 / (x x), where x x is not normal in float32: torch's way of x ** -2.
    x = np.float32(5.6843806e-20)
    low = np.float32(1) / (x * x)
    result = np.power(bounded("float32", [float(x)]), -2)
    assert np.isfinite(low)
    assert abs(float(low) - result.value[0]) > 3 * 2.0**-24 * result.value[0]
    assert result.rigorous[0] == math.inf
    assert math.isfinite(np.power(bounded("float32", [2e-19]), -2).rigorous[0])


def test_both_tiers_pass_through_a_function() -> None:
    tiers = Bounded(
        np.array([0.5]), Arithmetic.stepwise("float32"), np.array([0.2]), np.array([0.1])
    )
    ufuncs: list[Any] = [np.exp, np.log, np.tanh, np.sin, np.sqrt, np.square, special.erf]
    for ufunc in ufuncs:
        result = ufunc(tiers)
        assert 0 < result.probable[0] < 0.6 * result.rigorous[0]


@REPRODUCIBLE
@given(st.lists(st.floats(-30, 30, width=16), min_size=2, max_size=5), st.sampled_from(FORMATS))
def test_a_softmax_is_sound(drawn: list[float], dtype: str) -> None:
    x = np.array(to(dtype, drawn))
    e = np.exp(bounded(dtype, x) - x.max())
    result = e / np.sum(e)
    low_e = to(dtype, np.exp(to(dtype, x - x.max())))
    total = 0.0
    for term in low_e:
        total = float(to("float32", total + term))
    low = to(dtype, low_e / to(dtype, total))
    with mpmath.workdps(50):
        exps = [mpmath.exp(mpmath.mpf(float(exact(t)))) for t in x]
        holds(result, low, [t / sum(exps) for t in exps])
