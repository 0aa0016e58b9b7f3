"""How many decimals numbers have, whatever they are stored in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradwitness.claims.claim import Claim, Run
from gradwitness.claims.decimals import with_decimals

RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=(6, 5)) / 100


def run_of(**arrays: Any) -> Run:
    return {name: Claim(name, np.asarray(array)) for name, array in arrays.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [3, 5, 7])
def test_rounded_numbers_are_as_precise_as_their_decimals(dtype: Any, k: int) -> None:
    rounded = np.round(NUMBERS.astype(dtype), k)
    for stored in (rounded, rounded.astype(np.float64)):
        run, decimals = with_decimals(run_of(w=stored))
        assert decimals == {"w": k}
        assert np.all(run["w"].rounding == 0.5 * 10.0**-k)


def test_a_whole_run_tells_for_its_small_tensors() -> None:
    small = run_of(w=np.round(NUMBERS, 4), b=[0.0, 0.0], c=[0.01])
    assert with_decimals(small)[1] == {"w": 4, "b": 4, "c": 4}
    # Beside full precision, they may be exact.
    assert with_decimals(small | run_of(v=NUMBERS))[1] == {"w": 4}


@pytest.mark.parametrize(
    "array",
    [
        NUMBERS,
        NUMBERS.astype(np.float32),
        np.round(NUMBERS, 5).astype(np.float16),
        RNG.integers(-9, 9, (6, 5)).astype(float),  # whole numbers
        RNG.integers(-9, 9, (6, 5)) / 8,  # an example's
        np.zeros((6, 5)),
        np.full((6, 5), 0.01),  # one value: no rounding makes all the same
        np.array([0.1, 0.2, 0.3]),  # too few
        np.array([]),
        np.full(4, np.nan),
    ],
)
def test_other_numbers_are_taken_as_they_are(array: Any) -> None:
    run = run_of(w=array)
    changed, decimals = with_decimals(run)
    assert decimals == {}
    assert changed == run


def test_what_was_printed_coarser_stays_so() -> None:
    rounded = np.round(NUMBERS, 5)
    run, decimals = with_decimals({"w": Claim("w", rounded, 5e-4)})
    assert decimals == {}
    assert run["w"].rounding == 5e-4
    mixed = np.where(rounded > 0, 5e-4, 5e-9)
    run, decimals = with_decimals({"w": Claim("w", rounded, mixed)})
    assert decimals == {"w": 5}
    assert np.array_equal(run["w"].rounding, np.where(rounded > 0, 5e-4, 5e-6))
