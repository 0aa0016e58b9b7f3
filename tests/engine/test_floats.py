from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.emulation import REPRODUCIBLE
from gradwitness.engine.floats import (
    Arithmetic,
    gamma,
    is_float,
    numpy_dtype,
    round_to,
    ulps,
    unit_roundoff,
)


@pytest.mark.parametrize(
    ("name", "digits"), [("float64", 53), ("float32", 24), ("float16", 11), ("bfloat16", 8)]
)
def test_unit_roundoff_is_half_the_gap_above_one(name: str, digits: int) -> None:
    u = unit_roundoff(name)
    assert u == 2.0**-digits
    one = np.ones((), numpy_dtype(name))
    following = np.nextafter(one, np.asarray(2, one.dtype))
    assert float(following) == 1 + 2 * u
    # A tie goes to the even neighbour, 1; anything more goes up.
    if name != "float64":
        assert round_to(np.array([1 + u, 1 + 1.01 * u]), name).tolist() == [1, 1 + 2 * u]


def test_which_formats_are_judged() -> None:
    judged = ["float64", "float32", "float16", "bfloat16"]
    assert [name for name in (*judged, "int64", "bool", "complex64") if is_float(name)] == judged
    assert [numpy_dtype(name).itemsize for name in judged] == [8, 4, 2, 2]
    assert numpy_dtype("int64") == np.int64


@pytest.mark.parametrize(
    ("name", "number", "rounded"),
    [
        # bfloat16 has 8 digits: between 256 and 512 the even numbers.
        ("bfloat16", 257.0, 256.0),
        ("bfloat16", 259.0, 260.0),
        ("bfloat16", 257.001, 258.0),
        ("bfloat16", 3.4e38, math.inf),
        ("bfloat16", 2.0**-133, 2.0**-133),
        ("bfloat16", 2.0**-134, 0.0),
        ("bfloat16", 3 * 2.0**-134, 2.0**-132),
        # float16 has 11: between 2048 and 4096 the even numbers.
        ("float16", 2049.0, 2048.0),
        ("float16", 2051.0, 2052.0),
        ("float16", 65519.9, 65504.0),
        ("float16", 65520.0, math.inf),
        ("float16", 2.0**-25, 0.0),
        ("float16", 3 * 2.0**-25, 2.0**-23),
        # float32 has 24: from 2^24 on the even numbers.
        ("float32", 16777217.0, 16777216.0),
        ("float32", 16777219.0, 16777220.0),
        ("float32", 3.5e38, math.inf),
        ("float32", 0.1, 13421773 / 2**27),
        ("float64", 0.1, 0.1),
    ],
)
def test_rounding_is_to_nearest_ties_to_even(name: str, number: float, rounded: float) -> None:
    assert round_to(np.array([number, -number]), name).tolist() == [rounded, -rounded]
    assert math.isnan(round_to(np.array(math.nan), name))


@pytest.mark.parametrize(
    ("error", "at", "name", "expected"),
    [
        (2.0**-23, 1.0, "float32", 1.0),
        (2.0**-23, 1.9999, "float32", 1.0),
        (2.0**-23, 2.0, "float32", 0.5),
        (2.0**-23, -0.5, "float32", 2.0),
        (1.0, 256.0, "bfloat16", 0.5),
        (3.0, 511.0, "bfloat16", 1.5),
        (2.0**-24, 0.0, "float16", 1.0),
        (2.0**-24, 2.0**-20, "float16", 1.0),
        # log2 takes these for the power of two above them.
        (1.0, math.nextafter(2.0**60, 0), "float64", 2.0**-7),
        (2.0**-52, math.nextafter(2.0, 0), "float64", 1.0),
    ],
)
def test_ulps_by_hand(error: float, at: float, name: str, expected: float) -> None:
    assert ulps(error, at, name) == expected


def test_ulps_where_there_is_no_number() -> None:
    assert ulps(math.inf, 1.0, "float32") == math.inf
    assert math.isfinite(ulps(1.0, math.inf, "float32"))


def test_gamma_by_hand() -> None:
    assert gamma(1, 0.25) == 1 / 3
    assert gamma(3, 0.25) == 3.0
    assert gamma(0, 0.25) == 0
    assert gamma(4, 0.25) == math.inf
    assert gamma(5, 0.25) == math.inf


@REPRODUCIBLE
@given(st.lists(st.tuples(st.booleans(), st.integers(-64, 64)), min_size=1, max_size=40))
def test_gamma_bounds_every_product_of_roundings(factors: list[tuple[bool, int]]) -> None:
    # Higham 2002, lemma 3.1, in exact arithmetic with u = 1/64.
    u = Fraction(1, 64)
    product = Fraction(1)
    for inverse, step in factors:
        factor = 1 + u * Fraction(step, 64)
        product = product / factor if inverse else product * factor
    n = len(factors)
    assert abs(product - 1) <= n * u / (1 - n * u)
    assert gamma(n, float(u)) == pytest.approx(float(n * u / (1 - n * u)), rel=1e-15)


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16"])
def test_what_each_arithmetic_assumes(name: str) -> None:
    u = unit_roundoff(name)
    low = name in ("float16", "bfloat16")
    own, inner = u + 2.0**-53, (2.0**-24 if low else u) + 2.0**-53
    step = Arithmetic.stepwise(name)
    assert (step.unit, step.accumulate, step.final) == (own, inner, 0)
    assert step.store == (u if low else 0)
    fused = Arithmetic.fused(name)
    assert (fused.unit, fused.accumulate, fused.store) == (inner, inner, 0)
    assert fused.final == (u if low else 0)
    sequential = Arithmetic.sequential(name)
    assert (sequential.unit, sequential.accumulate, sequential.store) == (own, own, 0)
    tiny = {"float64": -1022, "float32": -126, "float16": -14, "bfloat16": -126}
    assert {a.tiny for a in (step, fused, sequential)} == {2.0 ** tiny[name]}


@REPRODUCIBLE
@given(
    n=st.integers(0, 10**9),
    more=st.integers(1, 10**6),
    name=st.sampled_from(["float64", "float32", "float16", "bfloat16"]),
    make=st.sampled_from([Arithmetic.stepwise, Arithmetic.fused, Arithmetic.sequential]),
)
def test_growth_is_likely_below_worst_and_never_falls(
    n: int, more: int, name: str, make: type[Arithmetic]
) -> None:
    arithmetic = make(name)  # type: ignore[call-arg, arg-type]
    assert 0 <= arithmetic.probable_growth(n) <= arithmetic.worst_growth(n)
    assert arithmetic.worst_growth(n) <= arithmetic.worst_growth(n + more)
    assert arithmetic.probable_growth(n) <= arithmetic.probable_growth(n + more)


def test_likely_growth_by_hand() -> None:
    # lambda sqrt(n) u for 10^6 terms, against n u: 6 10^3 to 10^6.
    single = Arithmetic.stepwise("float32")
    assert single.probable_growth(10**6) == pytest.approx(6e3 * 2.0**-24, rel=1e-3)
    assert single.worst_growth(10**6) == pytest.approx(1e6 * 2.0**-24 / (1 - 1e6 * 2.0**-24))
    # Below 36 terms lambda sqrt(n), lambda being 6, is more than n.
    assert single.probable_growth(35) == single.worst_growth(35)
    assert single.probable_growth(49) == pytest.approx(single.worst_growth(42), rel=1e-4)
    assert Arithmetic.sequential("bfloat16").worst_growth(256) == math.inf
