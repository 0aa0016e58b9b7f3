"""One pass over two arrays: its figures are those of all their numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from gradwitness.api.claims import diff
from gradwitness.engine.floats import unit_roundoff
from gradwitness.judging.claimed import explaining
from gradwitness.judging.claimed.distances import distances, extent
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.claimed.judge import ClaimRow

SHAPE = (70, 2000)  # more than two pieces
DTYPES = {"float64": np.float64, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16}


def right(seed: int = 0) -> Any:
    """Return numbers that bfloat16 holds, of which some are zero and some tiny."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(1, 128, SHAPE) / 64 * rng.choice([-1.0, 1.0], SHAPE)
    numbers[rng.random(SHAPE) < 0.1] = 0
    numbers[rng.random(SHAPE) < 0.1] = 2.0**-60
    return numbers


def row(a: Any, b: Any, dtype: str | None = None) -> ClaimRow:
    (only,) = diff({"w": a}, {"w": b}, dtype=dtype).runs[0].rows
    return only


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["C", "F"])
def test_the_figures_are_those_of_every_number(dtype: str, layout: Any) -> None:
    a = right()
    b = a.copy()
    unit = unit_roundoff(dtype)
    allowed = 8 * unit * np.abs(a).max()
    rng = np.random.default_rng(1)
    for index in rng.integers(0, a.size, 50):
        b.flat[index] += rng.integers(-2, 3) * 2.0**-6
    b.flat[100_000] = b.flat[139_999] = a.flat[100_000] + 0.25
    b.flat[139_999] = a.flat[139_999] - 0.25  # as far off, but not the first
    first, second = (x.astype(DTYPES[dtype], order=layout) for x in (a, b))
    of = row(first, second, dtype)
    c = of.comparison
    error = np.abs(a - b)
    assert c.size == a.size
    assert c.index == (50, 0)
    assert (c.expected, c.recorded) == (a[50, 0], b[50, 0])
    assert c.error == 0.25
    assert c.ratio == pytest.approx(0.25 / allowed, rel=1e-15)
    assert c.refuted == np.count_nonzero(error > allowed)
    assert c.norm == pytest.approx(np.linalg.norm(b), rel=1e-14)
    assert c.detects_relative == pytest.approx(16 * unit, rel=1e-15)
    assert of.digits == pytest.approx(-math.log10(0.25 / np.abs(a).max()), rel=1e-15)
    confirms = (np.abs(a) > allowed) | (a == 0)
    assert of.coverage.judged == np.count_nonzero(confirms)


def test_equal_numbers_agree_in_all_digits() -> None:
    of = row(right(), right())
    assert of.verdict is Verdict.AGREES
    assert (of.comparison.error, of.comparison.index, of.digits) == (0, (0, 0), math.inf)


def test_numbers_larger_than_their_rounding_all_confirm() -> None:
    a = np.ones(SHAPE, np.float32)
    a[3, 5] = 1e-9
    assert row(a, a).coverage.judged == a.size - 1


def test_a_distance_that_float32_rounds_into_its_bound_is_beyond_it() -> None:
    others = {f"b{n}": np.ones(1, np.float32) for n in range(4)}
    largest = 1 + 2.0**-23
    # Of five tensors, 10 roundings of the largest number: 10 * 2^-24 and 1.25 units of float32
    # there, of 2^-44 each. The distance is 1.3 units beyond 10 * 2^-24, and rounds to 1.
    a = np.zeros(70_000, np.float32)
    b = a.copy()
    a[:2] = b[0] = largest
    b[1] = 0.5
    a[-1], b[-1] = -0.3 * 2.0**-44, 10 * 2.0**-24 + 2.0**-44
    assert float(b[-1] - a[-1]) < 10 * 2.0**-24 * largest
    run = diff({"w": a, **others}, {"w": b, **others}).runs[0]
    assert run.rows[0].comparison.refuted == 2


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_judged_number_by_number(number: float) -> None:
    a, b = right(), right()
    b[69, 1999] = number
    assert distances(b, a) is None
    assert row(a, b).comparison.index == (69, 1999)
    assert row(a, b).verdict is Verdict.DISAGREES
    assert row(b, b).verdict is Verdict.INCONCLUSIVE
    assert "in 1 of 140000 elements" in row(b, b).reason


def test_nothing_is_no_agreement() -> None:
    of = row(np.zeros((0, 3)), np.zeros((0, 3)))
    assert of.verdict is Verdict.INCONCLUSIVE
    assert of.reason == "no elements: nothing was compared"


def test_the_extent_of_numbers() -> None:
    assert extent(np.array([0.0, -3.0, 0.5])) == (3.0, 0.5)
    assert extent(np.zeros(2)) == (0.0, math.inf)
    assert math.isnan(extent(np.array([1.0, np.nan]))[0])


def test_the_largest_tensors_get_no_cause(monkeypatch: Any) -> None:
    monkeypatch.setattr(explaining, "_MOST_NUMBERS", 100)
    rng = np.random.default_rng(0)
    a = {"w": rng.normal(size=(20, 10)), "b": rng.normal(size=20)}
    b = {name: -array for name, array in a.items()}
    (run,) = diff(a, b).runs
    assert [row.verdict for row in run.rows] == [Verdict.DISAGREES] * 2
    assert [(cause.cause, cause.explains) for cause in run.causes] == [("wrong sign", ("b",))]
    assert any(note.startswith("no cause was looked for in w: with it ") for note in run.notes)
