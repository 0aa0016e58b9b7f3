"""Further functions against mpmath, and products against exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.emulation import FORMATS, REPRODUCIBLE, bounded, to, unit
from gradwitness._errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Callable

FUNCTIONS: dict[str, tuple[Any, Callable[[Any], Any], tuple[float, float]]] = {
    "exp2": (np.exp2, lambda x: mpmath.mpf(2) ** x, (-120.0, 120.0)),
    "log2": (np.log2, lambda x: mpmath.log(x, 2), (1e-30, 1e30)),
    "log10": (np.log10, lambda x: mpmath.log(x, 10), (1e-30, 1e30)),
}


@st.composite
def arguments(draw: st.DrawFn, name: str) -> tuple[float, float, float]:
    """Draw the witness's x, an error e, and another number within e of x."""
    low, high = FUNCTIONS[name][2]
    x = draw(st.one_of(st.floats(0.5, 2), st.floats(low, high)))
    e = draw(st.sampled_from([0.0, 1e-7, 1e-3, 0.3, 2.0, 40.0])) * draw(st.floats(0.5, 1))
    other = x + draw(st.sampled_from([-1.0, 1.0, 0.37])) * e * (1 - 2.0**-50)
    return x, e, x if name != "exp2" and other <= 0 else other


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", FORMATS)
@REPRODUCIBLE
@given(data=st.data())
def test_the_bound_holds_for_the_worst_library_that_is_granted(
    name: str, dtype: str, data: st.DataObject
) -> None:
    ufunc, true, _ = FUNCTIONS[name]
    x, e, other = data.draw(arguments(name))
    result = ufunc(bounded(dtype, [x], [e]))
    assert result.value.tolist() == ufunc(np.array([x])).tolist()
    with mpmath.workdps(60):
        wanted = true(mpmath.mpf(x))
        for sign in (-1, 0, 1):
            got = true(mpmath.mpf(other)) * (1 + sign * 4 * mpmath.mpf(unit(dtype)))
            bound = float(result.rigorous[0])
            assert bound == math.inf or abs(got - wanted) <= mpmath.mpf(bound)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_spread_is_not_slack(name: str) -> None:
    ufunc, true, _ = FUNCTIONS[name]
    x, e = 0.7, 1e-3
    with mpmath.workdps(30):
        reach = max(abs(true(mpmath.mpf(x + s * e)) - true(mpmath.mpf(x))) for s in (-1, 1))
    assert float(reach) <= ufunc(bounded("float32", [x], [e])).rigorous[0] <= 1.01 * float(reach)


@pytest.mark.parametrize("ufunc", [np.log2, np.log10])
def test_a_logarithm_that_may_not_exist_has_no_bound(ufunc: Any) -> None:
    assert ufunc(bounded("float32", [1.0], [1.0])).rigorous[0] == math.inf


def test_the_largest_is_as_wrong_as_the_worst_candidate() -> None:
    x = bounded("float32", [[1.0, 2.0], [4.0, 3.0]], [[0.5, 0.1], [0.0, 2.0]])
    assert np.max(x, axis=1).value.tolist() == [2, 4]
    assert np.max(x, axis=1).rigorous.tolist() == [0.5, 2]
    assert np.min(x, axis=0, keepdims=True).value.tolist() == [[1, 2]]
    assert np.min(x, axis=0, keepdims=True).rigorous.tolist() == [[0.5, 2]]
    assert np.max(bounded("float32", [1.0, 2.0])).is_exact


def test_the_shape_is_that_of_the_value() -> None:
    assert np.shape(bounded("float32", [[1.0, 2.0]])) == (1, 2)


def partial_products(dtype: str, factors: list[float]) -> list[float]:
    """Multiply up in a format, each partial product rounded."""
    inner = "float32" if dtype in ("float16", "bfloat16") else dtype
    made = [factors[0]]
    for factor in factors[1:]:
        made.append(float(to(inner, made[-1] * factor)))
    return [float(to(dtype, product)) for product in made]


@pytest.mark.parametrize("dtype", FORMATS)
@REPRODUCIBLE
@given(data=st.data())
def test_products_stay_within(dtype: str, data: st.DataObject) -> None:
    digits = st.floats(-2, 2, width=16).map(lambda x: float(to(dtype, x)))
    low = data.draw(st.lists(digits, min_size=1, max_size=9))
    shift = data.draw(st.lists(st.floats(-1e-3, 1e-3), min_size=len(low), max_size=len(low)))
    x = [p + s for p, s in zip(low, shift, strict=True)]
    error = [1.001 * abs(p - q) for p, q in zip(low, x, strict=True)]
    running: Any = np.cumprod(bounded(dtype, x, error), axis=0)
    whole: Any = np.prod(bounded(dtype, x, error))
    exact, got = Fraction(1), partial_products(dtype, low)
    for place, factor in enumerate(x):
        exact *= Fraction(factor)
        bound = 0.0 if running.rigorous is None else float(running.rigorous[place])
        # The witness's own product is off by some 2^-53 of itself too, and underflows.
        slack = Fraction(2.0**-49) * abs(exact) + Fraction(2.0**-1022)
        assert bound == math.inf or abs(Fraction(got[place]) - exact) <= Fraction(bound) + slack
    assert whole.rigorous is None or whole.rigorous >= running.rigorous[-1] * (1 - 1e-12)


def test_a_product_has_one_rounding_fewer_than_factors() -> None:
    x = bounded("float32", [1.5, 3.0, 5.0])
    u = unit("float32")
    whole: Any = np.prod(x)
    running: Any = np.cumprod(x, axis=0)
    assert whole.rigorous == pytest.approx(22.5 * 2 * u, rel=1e-6)
    assert running.rigorous == pytest.approx([0, 4.5 * u, 22.5 * 2 * u], rel=1e-6)
    assert np.prod(bounded("float32", [1.5])).rigorous == 0


def test_zeros_make_an_exact_zero() -> None:
    assert np.prod(bounded("float32", [1e-30, 0.0, 1e-30])).rigorous == 0


@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize(
    "factors",
    [
        [2.0**-100, 2.0**-60, 2.0**30],
        [2.0**-70, 2.0**-60, 2.0**-60, 2.0**100],
        [2.0**-130, 1.5, 2.0**20],
        [2.0**100, 2.0**-120, 2.0**-120, 2.0**60],
    ],
)
def test_what_underflows_may_be_multiplied_up_again(factors: list[float], flushes: bool) -> None:
    def kept(x: float) -> float:
        return 0.0 if flushes and abs(x) < 2.0**-126 else x

    made = kept(factors[0])
    for factor in factors[1:]:
        made = kept(float(to("float32", made * factor)))
    lost = abs(made - math.prod(factors))
    (bound,) = {float(np.prod(bounded("float32", factors[::step])).rigorous) for step in (1, -1)}
    assert lost <= bound < math.inf
    # One smallest number for each multiplication, twice, times what may come after it.
    above = math.prod(max(factor, 1.0) for factor in factors)
    assert bound == pytest.approx(2 * (len(factors) - 1) * 2.0**-126 * above, rel=1e-3)


def test_a_factor_that_may_be_zero_may_underflow() -> None:
    bound = float(np.prod(bounded("float32", [0.0, 2.0**30], [2.0**-130, 0.0])).rigorous)
    assert bound >= 2.0**-126 * 2.0**30


@pytest.mark.parametrize("function", [np.max, np.min, np.prod, np.cumprod])
def test_other_arguments_are_refused(function: Any) -> None:
    with pytest.raises(RuleError, match=rf"calls np.{function.__name__} otherwise than with \(a, "):
        function(bounded("float32", [1.0]), 0, None, np.zeros(1))
