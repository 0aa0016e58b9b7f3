"""Bounds of weighted sums in windows, and of numbers that can be rounded in one way only."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, unit_roundoff
from gradwitness.rules.kernel_ops import (
    added_in_windows,
    has_format,
    require_certain,
    rounded_once,
    weighed,
)

KINDS: dict[str, Any] = {"float16": np.float16, "float32": np.float32, "float64": np.float64}
ROWS = np.array([[0.5, 0.5, 0], [0, 0.25, 0.75]])
COLUMNS = np.array([[1.0, 0], [0.25, 0.75]])


def exact(x: np.ndarray[Any, Any], name: str) -> Bounded:
    return Bounded(np.asarray(x, np.float64), Arithmetic.stepwise(name))


@pytest.mark.parametrize("name", KINDS)
def test_one_operation_on_exact_numbers_is_known(name: str) -> None:
    kind, rng = KINDS[name], np.random.default_rng(0)
    a, b = (rng.standard_normal(500).astype(kind) for _ in range(2))
    x, y = exact(a, name), exact(b, name)
    for made, expected in ((x + y, a + b), (x * y, a * b), (x / y, a / b)):
        known = rounded_once(made, x)
        np.testing.assert_array_equal(require_certain(known), expected.astype(np.float64))
        # What is computed from it is not.
        assert not rounded_once(known * y * x, known * y).is_exact
    assert has_format(x)
    plain = a.astype(np.float64)
    assert rounded_once(plain, plain) is plain
    assert not has_format(plain)


def test_what_may_be_flushed_to_zero_is_not_known() -> None:
    x = exact(np.array([1.0, 2.0**-100]), "float32")
    assert not rounded_once(x * x, x).is_exact
    assert rounded_once(x * 0.5, x).is_exact


def test_plain_numbers_are_weighed_and_added() -> None:
    x = np.arange(6.0).reshape(3, 2)
    # (0 + 2) / 2, (1 + 3) / 2; 2/4 + 4 * 3/4, 3/4 + 5 * 3/4; then by the columns.
    np.testing.assert_array_equal(weighed(x, ROWS, COLUMNS, 1), [[1, 1.75], [3.5, 4.25]])
    parts = [((slice(0, 2),), np.ones(2)), ((slice(1, 3),), np.ones(2))]
    np.testing.assert_array_equal(added_in_windows(x, parts=parts, shape=(3,)), [1, 2, 1])


def test_bound_is_of_the_roundings_that_are_told_and_of_the_weights() -> None:
    u, x = unit_roundoff("float32"), np.array([[1.0, -2], [-3, 4], [5, -6]])
    sizes = ROWS @ np.abs(x) @ COLUMNS.T
    once = weighed(exact(x, "float32"), ROWS, COLUMNS, np.array([[0, 1], [2, 3]]))
    assert once.rigorous == pytest.approx(u * sizes * [[0, 1], [2, 3]], rel=1e-6)
    # Errors of 2^-10 in each weight, of either sign: all of them add up where nothing cancels.
    x = np.abs(x)
    arithmetic, off = Arithmetic.stepwise("float32"), np.full((2, 3), 2.0**-10)
    rows = Bounded(ROWS, arithmetic, off, off)
    columns = Bounded(COLUMNS, arithmetic, off[:, :2], off[:, :2])
    carried = weighed(x, rows, columns, 0)
    worst = np.zeros((2, 2))
    for signs in itertools.product([-(2.0**-10), 2.0**-10], repeat=5):
        moved = (ROWS + signs[:3]) @ x @ (COLUMNS + signs[3:]).T
        worst = np.maximum(worst, np.abs(moved - carried.value))
    assert np.all(worst <= carried.rigorous)
    assert np.all(worst > 0.99 * carried.rigorous)


def test_terms_that_drift_stay_within_the_bound() -> None:
    # A tenth, ten thousand times: a product of two sums of a hundred has far fewer roundings.
    tenth, total = np.float32(0.1), np.float32(0)
    for _ in range(10_000):
        total += tenth * np.float32(1)
    ones = np.ones((1, 100))
    x = exact(np.full((100, 100), tenth), "float32")
    told, few = (weighed(x, ones, ones, roundings) for roundings in (10_000, 200))
    truth = float(10_000 * Fraction(float(tenth)))
    assert told.value == pytest.approx(truth, rel=1e-14)
    off = abs(float(total) - truth)
    assert few.rigorous < off < told.rigorous


def test_what_is_added_in_windows_brings_its_bounds() -> None:
    arithmetic = Arithmetic.stepwise("float32")
    one = Bounded(np.ones(2), arithmetic, np.array([1.0, 2]), np.array([0.5, 1]))
    parts = [((slice(0, 2),), one), ((slice(1, 3),), one)]
    total = added_in_windows(one, parts=parts, shape=(3,))
    np.testing.assert_array_equal(total.value, [1, 2, 1])
    np.testing.assert_array_equal(total.rigorous, [1, 3, 2])
    np.testing.assert_array_equal(total.probable, [0.5, 1.5, 1])
