"""Bounds of large matrix products are made in float32, and are none the smaller for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.bounded.arithmetic import product_of_sizes
from gradwitness.engine.floats import Arithmetic

if TYPE_CHECKING:
    from collections.abc import Iterator

N = 96
TERMS = 4096


@pytest.fixture(autouse=True)
def as_the_array_calls_it() -> Iterator[None]:
    """Overflow is a result there, and no warning."""
    with np.errstate(all="ignore"):
        yield


def matrices(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Two matrices with numbers of both signs and all sizes between two powers of ten."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (N, TERMS)), rng.uniform(-1, 1, (TERMS, N))
    a[0] = 0
    a *= 10.0 ** rng.uniform(low, high, a.shape)
    return a, b


@pytest.mark.parametrize(
    ("low", "high"),
    [(-3, 3), (-30, -20), (20, 30), (-44, -38), (-60, -50), (30, 40), (100, 200), (-320, -300)],
)
def test_no_size_is_too_small(low: float, high: float) -> None:
    a, b = matrices(low, high)
    exact = np.abs(a) @ np.abs(b)
    found = product_of_sizes(a, b)
    assert (found >= exact * (1 - 2.0**-40)).all()
    # Twice gamma_4098 of float32: what it gives away, and what it would have lost.
    assert (found <= exact * (1 + 2.0**-10)).all()
    assert (found[0] == 0).all()
    assert (found[1:] > 0).all()


def test_float32_is_used_where_it_holds_the_numbers_and_nowhere_else() -> None:
    for low, high, single in ((-3, 3, True), (-44, -38, False), (30, 40, False)):
        a, b = matrices(low, high)
        exact = np.abs(a) @ np.abs(b)
        assert np.allclose(product_of_sizes(a, b), exact, rtol=1e-12, atol=0) != single


def test_one_number_out_of_range_is_enough() -> None:
    for odd in (1e-46, 1e-40, 1e39, np.inf, np.nan):
        a, b = matrices(-3, 3)
        a[5, 7] = odd
        b[7] = 0
        found, exact = product_of_sizes(a, b), np.abs(a) @ np.abs(b)
        np.testing.assert_allclose(found, exact, rtol=1e-3)


def test_the_bound_holds_what_float32_loses() -> None:
    rng = np.random.default_rng(1)
    for n in (64, 500, 20000):
        a = rng.uniform(0.5, 1, (64, n)).astype(np.float32)
        b = rng.uniform(0.5, 1, (n, 64)).astype(np.float32)
        made = Bounded(a.astype(float), Arithmetic.stepwise("float32")) @ b.astype(float)
        # Added up one by one, as slowly as can be.
        total = np.cumsum(a[0] * b[:, 0], dtype=np.float32)[-1]
        assert abs(total - made.value[0, 0]) <= made.rigorous[0, 0]
        # By hand: gamma_n times the sum of sizes, which is the sum here, and no more than 1/63 on.
        unit = 2.0**-24
        least = n * unit / (1 - n * unit) * made.value
        assert (made.rigorous >= least).all()
        assert (made.rigorous <= least * (1 + 1 / 63)).all()
