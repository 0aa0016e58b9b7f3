"""Sums by place and running sums against exact arithmetic, every partial sum rounded."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine.emulation import FORMATS, bounded, to
from gradwitness._errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from syrupy.assertion import SnapshotAssertion

    from gradwitness.engine.bounded import Bounded

SEEDS = range(20)
PLACES = [0, 2, 0, 0, 2, 4, 0, 2, 0]


def stored(terms: Iterable[float], dtype: str) -> list[Fraction]:
    """Add one by one in a format, each partial sum stored in it."""
    return [
        Fraction(float(total))
        for total in accumulate(terms, lambda a, b: float(to(dtype, float(a) + float(b))))
    ]


def assert_holds(result: Bounded, got: list[Fraction]) -> None:
    assert result.rigorous is not None
    for value, error, one in zip(result.value.flat, result.rigorous.flat, got, strict=True):
        assert abs(Fraction(float(value)) - one) <= Fraction(float(error))


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("seed", SEEDS)
def test_sums_by_place_hold_in_any_order(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    terms = [float(to(dtype, n)) for n in rng.standard_normal(len(PLACES))]
    result: Any = np.bincount(np.array(PLACES), weights=bounded(dtype, terms), minlength=6)
    got = []
    for place in range(6):
        mine = [t for t, p in zip(terms, PLACES, strict=True) if p == place]
        got.append(stored(rng.permutation(mine), dtype)[-1] if mine else Fraction(0))
    assert_holds(result, got)
    # Places of one term, or of none, are exact.
    assert [error == 0 for error in result.rigorous] == [p not in (0, 2) for p in range(6)]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("seed", SEEDS)
def test_running_sums_hold(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    terms = [float(to(dtype, n)) for n in rng.standard_normal(9)]
    result: Any = np.cumsum(bounded(dtype, terms), axis=0)
    assert_holds(result, stored(terms, dtype))
    assert result.rigorous[0] == 0


def test_errors_of_the_terms_are_added_up() -> None:
    weights: Any = bounded("float64", [1.0, 2.0, 4.0], [0.25, 0.5, 1.0])
    result: Any = np.bincount(np.array([1, 1, 0]), weights=weights, minlength=2)
    np.testing.assert_allclose(result.rigorous, [1.0, 0.75], rtol=1e-14)
    running: Any = np.cumsum(weights, axis=0)
    np.testing.assert_allclose(running.rigorous, [0.25, 0.75, 1.75], rtol=1e-14)


def test_sorted_numbers_are_as_wrong_as_the_worst_of_their_line() -> None:
    x: Any = bounded("float64", [[3.0, 1.0], [2.0, 4.0]], [[0.5, 0.25], [0.0, 0.125]])
    result: Any = np.sort(x, axis=1)
    assert result.value.tolist() == [[1, 3], [2, 4]]
    assert result.rigorous.tolist() == [[0.5, 0.5], [0.125, 0.125]]
    assert np.argsort(x, axis=1).tolist() == [[1, 0], [0, 1]]
    assert (np.argmax(x, axis=1).tolist(), np.argmin(x, axis=0).tolist()) == ([0, 1], [1, 0])


def test_other_forms_are_refused(snapshot: SnapshotAssertion) -> None:
    x: Any = bounded("float64", [1.0])
    with pytest.raises(RuleError) as error:
        np.cumsum(x, dtype=np.float32)
    assert str(error.value) == snapshot
    with pytest.raises(RuleError) as error:
        np.sort(x, kind="stable")
    assert str(error.value) == snapshot


@pytest.mark.parametrize("function", [np.max, np.min, np.prod, np.cumprod])
def test_other_arguments_are_refused(function: Any, snapshot: SnapshotAssertion) -> None:
    with pytest.raises(RuleError) as error:
        function(bounded("float32", [1.0]), 0, None, np.zeros(1))
    assert str(error.value) == snapshot


def test_the_largest_is_as_wrong_as_the_worst_candidate() -> None:
    x = bounded("float32", [[1.0, 2.0], [4.0, 3.0]], [[0.5, 0.1], [0.0, 2.0]])
    assert np.max(x, axis=1).value.tolist() == [2, 4]
    assert np.max(x, axis=1).rigorous.tolist() == [0.5, 2]
    assert np.min(x, axis=0, keepdims=True).value.tolist() == [[1, 2]]
    assert np.min(x, axis=0, keepdims=True).rigorous.tolist() == [[0.5, 2]]
    assert np.max(bounded("float32", [1.0, 2.0])).is_exact
