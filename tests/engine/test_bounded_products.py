"""Products against exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.emulation import FORMATS, REPRODUCIBLE, bounded, to, unit


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
        [2.0**60, 2.0**-120, 2.0**-120, 2.0**60],
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
