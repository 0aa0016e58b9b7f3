"""Comparing complex numbers: by the modulus of their difference."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.judging.comparing.compare import TOO_LITTLE, Comparing, compare
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

D, A, OPEN = Verdict.DISAGREES, Verdict.AGREES, Verdict.INCONCLUSIVE
INF, NAN = math.inf, math.nan
ARITHMETIC = Arithmetic.stepwise("complex64")


def against(recorded: Any, expected: Any, bound: float = 0.25) -> Any:
    value = np.asarray(expected, complex)
    error = np.full(value.shape, bound)
    with np.errstate(all="ignore"):
        return compare(
            np.asarray(recorded, np.complex64),
            Bounded(value, ARITHMETIC, error, error),
            "complex64",
        )


def test_the_worst_number_is_shown_with_both_parts() -> None:
    comparison = against([[3, 4j], [1 - 2j, 5]], [[3, 4j], [1 - 2.2j, 5]])
    assert comparison.verdict is A
    assert comparison.index == (1, 0)
    assert (comparison.recorded, comparison.expected) == (1 - 2j, 1 - 2.2j)
    assert comparison.error == pytest.approx(0.2)
    assert comparison.ratio == pytest.approx(0.8)
    assert comparison.norm == pytest.approx(math.sqrt(9 + 16 + 5 + 25))
    assert comparison.detects_relative == 0.5 / 5
    assert comparison.size == 4


def test_two_parts_that_are_off_by_the_bound_are_too_far_together() -> None:
    assert against([3 + 0.2j], [3]).verdict is A
    comparison = against([3.2 + 0.2j, 7], [3, 7])
    assert (comparison.verdict, comparison.refuted) == (D, 1)


def test_numbers_that_are_only_turned_disagree() -> None:
    assert against([3j], [3]).verdict is D
    assert against([1 - 2j], [1 + 2j]).verdict is D


def test_what_all_zeros_would_pass_is_no_signal() -> None:
    comparison = against([0.1j], [0.1j])
    assert (comparison.verdict, comparison.reason) == (OPEN, TOO_LITTLE)


def test_both_parts_of_an_exact_number_are_rounded_and_no_more() -> None:
    exact = np.array([1 / 3 + 1j / 7])
    stored = exact.astype(np.complex64)
    assert compare(stored, exact, "complex64").verdict is A
    above = np.nextafter(stored.imag, np.float32(1))
    assert compare(stored.real + 1j * above, exact, "complex64").verdict is D
    assert compare(exact, exact, "complex128").error == 0
    assert compare(exact + 1e-16j, exact, "complex128").verdict is D


@pytest.mark.parametrize(
    ("recorded", "expected", "verdict"),
    [
        (complex(NAN, 1), 1 + 1j, D),
        (complex(1, INF), 1 + 1j, D),
        (complex(NAN, NAN), complex(NAN, 1), OPEN),
        (complex(INF, NAN), complex(INF, 0), OPEN),
        (complex(INF, 0), complex(INF, 0), OPEN),
        # A part that is not finite says nothing about the other part.
        (2 + 1j, complex(INF, 0), OPEN),
        (complex(INF, 1), 3.4028236e38 + 1j, OPEN),
    ],
)
def test_what_is_not_finite_is_never_passed(
    recorded: complex, expected: complex, verdict: Verdict
) -> None:
    comparison = against([recorded, 5], [expected, 5])
    assert comparison.verdict is verdict
    assert comparison.size == 2


def test_an_unknown_bound_is_not_passed(snapshot: SnapshotAssertion) -> None:
    assert against([1j], [1j], NAN).reason == snapshot
    assert against([1j], [1j], INF).verdict is OPEN


def test_real_numbers_are_compared_with_complex_ones_as_they_are(
    snapshot: SnapshotAssertion,
) -> None:
    assert compare(np.zeros(2, np.complex64), np.zeros(2), "complex64").verdict is A
    comparison = compare(np.ones(2, np.float32), np.ones(2, complex), "float32")
    assert comparison.verdict is OPEN
    assert comparison.reason == snapshot


def test_pieces_make_the_same_comparison() -> None:
    rng = np.random.default_rng(0)
    expected = rng.standard_normal((6, 5)) + 1j * rng.standard_normal((6, 5))
    recorded = (expected * (1 + 1e-7j)).astype(np.complex64)
    at_once = compare(
        recorded, Bounded(expected, ARITHMETIC, *[np.full((6, 5), 1e-6)] * 2), "complex64"
    )
    comparing = Comparing(recorded, "complex64")
    for rows in (slice(0, 4), slice(4, 6)):
        part = expected[rows]
        error = np.full(part.shape, 1e-6)
        comparing.take(Bounded(part, ARITHMETIC, error, error), (rows,))
    assert comparing.result().ratio == at_once.ratio
    assert comparing.result().index == at_once.index
    assert comparing.result().norm == pytest.approx(at_once.norm)
