"""Functions with steps: what an error can make of a whole number, by trying."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.emulation import FORMATS, REPRODUCIBLE, bounded, unit

STEPS: dict[Any, Any] = {
    np.floor: math.floor,
    np.ceil: math.ceil,
    np.trunc: math.trunc,
    np.rint: round,
}


@pytest.mark.parametrize("ufunc", STEPS, ids=lambda ufunc: ufunc.__name__)
@REPRODUCIBLE
@given(x=st.floats(-9, 9), e=st.sampled_from([0.0, 0.01, 0.7, 3.0]), t=st.floats(-1, 1))
def test_whole_numbers_move_by_the_steps_within_reach(
    ufunc: Any, x: float, e: float, t: float
) -> None:
    result = ufunc(bounded("float32", [x], [e]))
    assert result.value[0] == STEPS[ufunc](x)
    bound = 0.0 if result.rigorous is None else result.rigorous[0]
    assert abs(STEPS[ufunc](x + t * e) - STEPS[ufunc](x)) <= bound <= math.floor(e) + 1


@pytest.mark.parametrize(
    ("ufunc", "true"),
    [
        (np.floor_divide, lambda p, q: float(p // q)),
        (np.remainder, lambda p, q: p % q),
        (np.fmod, math.fmod),
    ],
    ids=lambda item: getattr(item, "__name__", ""),
)
@pytest.mark.parametrize("dtype", FORMATS)
@REPRODUCIBLE
@given(data=st.data())
def test_quotients_and_remainders_stay_within(
    dtype: str, ufunc: Any, true: Any, data: st.DataObject
) -> None:
    draw = data.draw
    x = draw(st.floats(-40, 40))
    d = draw(st.floats(0.5, 9)) * draw(st.sampled_from([-1, 1]))
    e, f = (draw(st.sampled_from([0.0, 1e-3, 0.3])) for _ in range(2))
    p, q = x + draw(st.floats(-1, 1)) * e, d + draw(st.floats(-1, 1)) * f * 0.99
    result = ufunc(bounded(dtype, [x], [e]), bounded(dtype, [d], [f]))
    assert result.value[0] == true(x, d)
    bound = 0.0 if result.rigorous is None else result.rigorous[0]
    assert abs(true(p, q) - true(x, d)) <= bound * (1 + 1e-12) + 1e-12


def test_only_what_is_added_to_the_remainder_is_rounded() -> None:
    x = bounded("float32", [-1e-9, 1.25, -3.5])
    result = np.remainder(x, 1.5)
    assert result.value.tolist() == [1.5 - 1e-9, 1.25, 1.0]
    assert result.rigorous[0] == pytest.approx(1.5 * unit("float32"), rel=1e-6)
    assert result.rigorous[1] == 0
    fine = np.fmod(x, 1.5)
    assert fine.is_exact


def test_large_whole_quotients_are_rounded() -> None:
    result = np.floor_divide(bounded("float32", [7.0, 3e9]), bounded("float32", [2.0, 1.0]))
    assert result.rigorous[0] == 0
    assert 3e9 * unit("float32") <= result.rigorous[1] <= 4 * 3e9 * unit("float32")


def test_a_sign_that_is_not_certain_may_turn_the_number_round() -> None:
    x, sign = bounded("float32", [2.0, 2.0], [0.1, 0.1]), bounded("float32", [1.0, 0.1], [0.2, 0.2])
    assert np.copysign(x, sign).rigorous.tolist() == [0.1, 4.1]


def test_a_step_moves_where_its_sign_is_not_certain() -> None:
    x = bounded("float32", [2.0, -0.1, 0.0], [0.1, 0.2, 0.0])
    result = np.heaviside(x, 0.5)
    assert result.value.tolist() == [1.0, 0.0, 0.5]
    assert result.rigorous.tolist() == [0.0, 1.0, 0.0]
    assert np.heaviside(bounded("float32", [0.1], [0.2]), 3.0).rigorous.tolist() == [3.0]


def test_truth_is_decided_by_the_values() -> None:
    x = bounded("float32", [0.0, -2.0], [0.1, 0.1])
    assert np.logical_not(x).tolist() == [True, False]
    assert np.signbit(x).tolist() == [False, True]
    assert np.isinf(x).tolist() == [False, False]
