"""The error function by Taylor's series, held against one of any number of digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from gradwitness.rules.elementwise import error_function
from gradwitness.rules.elementwise.error_function import erf

NUMBERS = np.linspace(-7, 7, 2 * error_function._AT_ONCE + 1)
# Midway between places, where the series is longest; at both ends; and next to 0.
MIDWAY = (np.arange(-6100, 6100) + 0.5) / error_function._IN_EACH
SMALL = np.geomspace(1e-300, 1e-2, 2 * error_function._FEW)


@pytest.mark.parametrize("x", [NUMBERS, MIDWAY, SMALL, -SMALL], ids=str)
def test_it_is_the_error_function(x: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    chosen = slice(0, None, 17)
    exact = np.array([float(mpmath.erf(number)) for number in x[chosen]])
    # Two roundings of 1 at most, which is what GELU adds it to; near 0, where it is small, it is
    # right to as many digits.
    np.testing.assert_allclose(erf(x)[chosen], exact, rtol=1e-14, atol=0)
    np.testing.assert_allclose(erf(x)[chosen], exact, rtol=0, atol=4.5e-16)


def test_it_has_limits() -> None:
    ends = np.array([np.inf, -np.inf, 30.0, -1e300, 6.0, -6.0, 0.0])
    x = np.resize(ends, error_function._FEW)
    assert np.array_equal(erf(x), np.sign(x))
    with np.errstate(invalid="ignore"):
        assert np.isnan(erf(np.full(error_function._FEW, np.nan))).all()


def test_it_keeps_the_shape_and_the_numbers_of_what_comes_in() -> None:
    x = NUMBERS[:-1].reshape(128, -1).T
    before = x.copy()
    assert np.array_equal(erf(x), erf(x.copy()))
    assert np.array_equal(x, before)
    assert erf(x).shape == x.shape
