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
from gradwitness.judging.claimed.confirming import Confirming
from gradwitness.judging.claimed.distances import extent
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from gradwitness.judging.claimed.judge import ClaimRow

SHAPE = (70, 2000)  # more than a piece
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
    assert c.detects_relative == pytest.approx(16 * unit, rel=1e-15)
    assert of.digits == pytest.approx(-math.log10(0.25 / np.abs(a).max()), rel=1e-15)
    confirms = (np.abs(a) > allowed) | (a == 0)
    assert of.coverage.judged == np.count_nonzero(confirms)


def test_equal_numbers_agree_in_all_digits() -> None:
    of = row(right(), right())
    assert of.verdict is Verdict.AGREES
    assert (of.comparison.error, of.comparison.index, of.digits) == (0, (0, 0), math.inf)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zeros_confirm_that_they_are(dtype: Any) -> None:
    zeros = np.zeros(SHAPE, dtype)
    of = row(zeros, -zeros)
    c = of.comparison
    assert (of.verdict, of.digits, of.coverage.judged) == (Verdict.AGREES, math.inf, zeros.size)
    assert (c.error, c.ratio, c.refuted, c.index) == (0, 0, 0, (0, 0))
    other = zeros.copy()
    other[69, 1999] = np.finfo(dtype).smallest_subnormal
    for of in (row(zeros, other), row(other, zeros)):
        assert of.verdict is Verdict.DISAGREES
        assert (of.comparison.refuted, of.comparison.index) == (1, (69, 1999))


def test_the_largest_numbers_are_compared_without_a_warning() -> None:
    a = np.array([1.5e308, -1e306, 3.3, 3.7e305])
    assert row(a, a).verdict is Verdict.AGREES


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("near", [1.0, 1 + 2.0**-20, 0.0])
def test_numbers_that_confirm_nothing_are_named(dtype: Any, near: float) -> None:
    # 8 roundings of the largest number, which is 1, are allowed. In one piece most numbers are
    # smaller, in the other a few; zeros are right as they are, and the bound itself says nothing.
    allowed = 8 * unit_roundoff(np.dtype(dtype).name)
    a = np.ones(SHAPE, dtype)
    a[1:60] = allowed * near
    a[2, 3:] = 0
    a[69, 1990:] = allowed * near / 2
    few = row(a, a)
    silent = (a != 0) & (a <= allowed)
    assert few.coverage.judged == a.size - np.count_nonzero(silent)
    first = ", ".join(f"[{i},{j}]" for i, j in np.argwhere(silent)[:3])
    assert few.reason == (
        f"{np.mean(silent):.0%} of the entries are smaller than their rounding: they confirm "
        f"nothing ({first} and {np.count_nonzero(silent) - 3} more)"
        if near == 1
        else ""
    )


@pytest.mark.parametrize("allowance", [0.1, 1 / 3, 0.7, 2.0**-149, 2.0])
@pytest.mark.parametrize("largest", [0.0, 1.0, 20.0])
def test_what_exact_numbers_confirm_is_decided_in_float64(allowance: float, largest: float) -> None:
    near = np.float32(allowance)
    numbers = [0.0, near, np.nextafter(near, near * 0), np.nextafter(near, near * 2), 0.5, 0.0]
    value = np.array(numbers if largest else [0.0, 0.0], np.float32)
    confirming = Confirming(value.shape, largest, math.inf)
    confirming.take_exact(7, value, allowance)
    loud = [float(x) > allowance for x in value]
    zeros = [x == 0 and largest > 0 for x in value]
    right = sum(loud) + sum(zeros) * (allowance <= largest / 16)
    assert confirming.count == right
    assert confirming._counted == value.size - sum(zeros)
    silent = [not (a or b) for a, b in zip(loud, zeros, strict=True)]
    assert confirming._silent.count == sum(silent)
    assert confirming._silent.first == [7 + n for n, is_silent in enumerate(silent) if is_silent]


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


ODD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("number", ODD)
def test_one_number_that_is_not_finite_is_judged_alone(number: float) -> None:
    a, b = right(), right()
    b[69, 1999] = number
    for first, second in ((a, b), (b, a)):
        of = row(first, second)
        assert of.verdict is Verdict.DISAGREES
        assert (of.comparison.index, of.comparison.refuted) == ((69, 1999), 1)
    assert row(a, b).reason == f"{number} where a finite number is expected"
    assert row(b, a).reason == f"{a[69, 1999]} where {number} is expected"
    assert row(b, b).verdict is Verdict.INCONCLUSIVE
    assert "in 1 of 140000 elements" in row(b, b).reason
    assert (row(b, b).comparison.index, row(b, b).comparison.refuted) == ((69, 1999), 0)
    # What else is wrong is not hidden by it.
    c = b.copy()
    c[3, 4] += 1
    assert (row(b, c).verdict, row(b, c).comparison.index) == (Verdict.DISAGREES, (3, 4))
    assert row(b, c).comparison.error == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("begin", [3, 135_000])
@pytest.mark.parametrize("beside", [None, math.inf, 1.0])
def test_nan_in_both_is_counted(dtype: Any, begin: int, beside: float | None) -> None:
    a = right().astype(dtype)
    a.flat[begin::7] = math.nan
    b = a.copy()
    if beside is not None:
        a.flat[-1], b.flat[-1] = beside, math.nan if beside == 1 else beside
    c = row(a, b).comparison
    one_sided = beside == 1
    nans = np.count_nonzero(np.isnan(a) | np.isnan(b))
    if one_sided:
        assert (c.verdict, c.refuted) == (Verdict.DISAGREES, 1)
    else:
        assert (c.verdict, c.refuted) == (Verdict.INCONCLUSIVE, 0)
        assert c.reason == f"NaN in {nans} of {a.size} elements"
        assert c.index == tuple(map(int, np.unravel_index(begin, SHAPE)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_nan_confirms_nothing(dtype: Any, odd: float) -> None:
    # In lines that are read again for a number too small to confirm something, and in the others.
    a = np.ones(SHAPE, dtype)
    a[3:60, ::7] = a[40, :] = math.nan
    a[5, 5], a[69, 5] = 1e-9 if dtype is np.float32 else 1e-18, odd
    assert row(a, a).coverage.judged == np.count_nonzero(~np.isnan(a)) - 1
    a[5, 5] = 1
    assert row(a, a).coverage.judged == np.count_nonzero(~np.isnan(a))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [1e-5, 0.01, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_figures_beside_numbers_that_are_not_finite(
    dtype: str, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = right(seed), right(seed)
    for numbers in (a, b):
        numbers[rng.random(SHAPE) < share / 2] = rng.choice(ODD)
    both = rng.random(SHAPE) < share
    a[both] = b[both] = rng.choice(ODD)
    b[rng.random(SHAPE) < 1e-4] += 0.5 * (seed % 2)
    of = row(a.astype(DTYPES[dtype]), b.astype(DTYPES[dtype]), dtype)
    c = of.comparison
    finite = np.isfinite(a) & np.isfinite(b)
    largest = np.abs(a[np.isfinite(a)]).max(initial=0)
    allowed = 8 * unit_roundoff(dtype) * largest
    with np.errstate(invalid="ignore"):
        error = np.where(finite, np.abs(a - b), np.inf)
        error[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
        confirms = (np.abs(a) > allowed) | ((a == 0) & (allowed <= largest / 16) & (largest > 0))
    assert c.refuted == np.count_nonzero(error > allowed)
    assert of.verdict is (Verdict.DISAGREES if c.refuted else Verdict.INCONCLUSIVE)
    assert c.size == a.size
    assert math.isnan(of.digits)
    assert of.coverage.judged == np.count_nonzero(confirms)
    if c.refuted:
        assert c.index == tuple(map(int, np.unravel_index(np.argmax(error), SHAPE)))
        assert c.error == error.max()


@pytest.mark.parametrize("number", ODD)
@pytest.mark.parametrize("others", [0.0, 1e-300, 1.0])
def test_what_is_not_finite_in_both_is_no_agreement(number: float, others: float) -> None:
    for a in (np.array([number, others]), np.array([number]), np.full(70_000, number)):
        assert row(a, a).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_distance_beyond_its_format_is_one(dtype: Any) -> None:
    a = np.full(4, np.finfo(dtype).max)
    assert row(a, a).verdict is Verdict.AGREES
    assert (row(a, -a).verdict, row(a, -a).comparison.refuted) == (Verdict.DISAGREES, 4)


def test_a_doubt_about_some_numbers_is_not_settled_by_nan_in_both(tmp_path: Path) -> None:
    a = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    a[0, 0] = np.nan
    b = a * np.float32(1 + 1e-5)
    paths = tmp_path / "a.txt", tmp_path / "b.txt"
    for path, numbers in zip(paths, (a, b), strict=True):
        np.savetxt(path, numbers[:5], "%.9e")
    for of in (row(a, b), diff(*paths).runs[0].rows[0]):
        assert of.verdict is Verdict.INCONCLUSIVE
        assert of.reason.startswith("too far for a few roundings")


def test_nothing_is_no_agreement() -> None:
    of = row(np.zeros((0, 3)), np.zeros((0, 3)))
    assert of.verdict is Verdict.INCONCLUSIVE
    assert of.reason == "no elements: nothing was compared"


def test_the_extent_of_numbers() -> None:
    assert extent(np.array([0.0, -3.0, 0.5])) == (3.0, 0.5)
    assert extent(np.zeros(2)) == (0.0, math.inf)
    assert extent(np.array([1.0, np.nan, -np.inf])) == (1.0, 1.0)
    assert extent(np.array([np.inf, np.nan])) == (0.0, math.inf)


def test_the_largest_tensors_get_no_cause(monkeypatch: Any) -> None:
    monkeypatch.setattr(explaining, "_MOST_NUMBERS", 100)
    rng = np.random.default_rng(0)
    a = {"w": rng.normal(size=(20, 10)), "b": rng.normal(size=20)}
    b = {name: -array for name, array in a.items()}
    (run,) = diff(a, b).runs
    assert [row.verdict for row in run.rows] == [Verdict.DISAGREES] * 2
    assert [(cause.cause, cause.explains) for cause in run.causes] == [("wrong sign", ("b",))]
    assert any(note.startswith("no cause was looked for in w: with it ") for note in run.notes)
