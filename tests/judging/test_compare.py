from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.emulation import REPRODUCIBLE
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.judging.comparing.compare import (
    EMPTY,
    TOO_LITTLE,
    Comparison,
    compare,
    mismatch,
    unjudged,
)
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

A, D, I = Verdict.AGREES, Verdict.DISAGREES, Verdict.INCONCLUSIVE  # noqa: E741
NAN, INF = math.nan, math.inf
NUMPY: dict[str, Any] = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}


def witness(
    value: Any, rigorous: Any = None, probable: Any = None, dtype: str = "float32"
) -> Bounded:
    arrays = [None if e is None else np.asarray(e, np.float64) for e in (rigorous, probable)]
    return Bounded(
        np.asarray(value, np.float64),
        Arithmetic.stepwise(dtype),
        arrays[0],
        arrays[0] if probable is None else arrays[1],
    )


def judged(
    recorded: Any, expected: Any, dtype: str = "float32", allowance: float = 0
) -> Comparison:
    return compare(np.asarray(recorded, NUMPY[dtype]), expected, dtype, allowance=allowance)


@pytest.mark.parametrize(
    ("recorded", "verdict"),
    [
        ([1.0, 2.0], A),
        ([1.0, 2.25], A),  # at the edge
        ([1.0, 1.75], A),
        ([1.0, 2.2500002384185791015625], D),  # the next float32
        ([1.0, 1.74999988079071044921875], D),
        ([1.0, -2.0], D),
        ([0.0, 0.0], D),
    ],
)
def test_the_edge_of_the_bound(recorded: list[float], verdict: Verdict) -> None:
    comparison = judged(recorded, witness([1.0, 2.0], [0.5, 0.25]))
    assert comparison.verdict is verdict
    assert comparison.refuted == {A: 0, D: 2 if recorded[0] == 0 else 1}[verdict]
    assert comparison.suspicious is False


def test_the_figures_are_those_of_the_worst_element() -> None:
    recorded = [[1.0, 2.0], [3.5, 40.0]]
    comparison = judged(recorded, witness([[1.0, 2.5], [3.0, 41.0]], [[1.0, 1.0], [0.25, 4.0]]))
    assert (comparison.verdict, comparison.refuted, comparison.size) == (D, 1, 4)
    assert comparison.index == (1, 0)
    assert (comparison.recorded, comparison.expected) == (3.5, 3.0)
    assert (comparison.error, comparison.bound, comparison.ratio) == (0.5, 0.25, 2.0)
    # An ulp of 3 in float32 is 2^-22.
    assert comparison.ulps == 0.5 * 2**22
    # Twice the largest bound, over the largest number.
    assert (comparison.detects, comparison.detects_relative) == (8.0, 8 / 41)
    assert comparison.norm == pytest.approx(math.sqrt(1 + 4 + 12.25 + 1600))


def test_the_probable_bound_makes_suspicious_only() -> None:
    comparison = judged([3.0], witness([2.0], [1.5], [0.5]))
    assert (comparison.verdict, comparison.ratio, comparison.probable_ratio) == (A, 1 / 1.5, 2.0)
    assert comparison.suspicious
    assert not judged([2.5], witness([2.0], [1.5], [0.5])).suspicious
    refuted = judged([5.0], witness([2.0], [1.5], [0.5]))
    assert (refuted.verdict, refuted.suspicious) == (D, False)


def test_an_allowance_is_added_to_every_bound() -> None:
    expected = witness([1.0, 5.0], [0.25, 0.0])
    assert judged([1.75, 5.0], expected, allowance=0.5).verdict is A
    assert judged([1.0, 5.5], expected, allowance=0.5).verdict is A
    assert judged([1.0, 5.625], expected, allowance=0.5).verdict is D
    assert judged([1.0, 5.5], expected, allowance=0.5).detects == 1.5
    assert judged([1.5, 2.0], witness([1.0, 2.0]), allowance=0.5).verdict is A


@pytest.mark.parametrize(
    ("recorded", "expected", "bound", "verdict"),
    [
        ([NAN, 1.0], [NAN, 1.0], [0.1, 0.1], I),
        ([NAN, 1.0], [2.0, 1.0], [0.1, 0.1], D),
        ([INF, 1.0], [2.0, 1.0], [0.1, 0.1], D),
        ([INF, 1.0], [INF, 1.0], [INF, 0.1], I),
        ([INF, 1.0], [INF, 1.0], [0.0, 0.1], A),
        ([INF, 1.0], [INF, 1.0], None, A),
        ([INF, -INF], [INF, -INF], None, A),
        ([-INF, 1.0], [INF, 1.0], None, D),
        ([-INF, 1.0], [INF, 1.0], [0.0, 0.1], D),
        ([5.0, 1.0], [INF, 1.0], [0.0, 0.1], D),
        ([INF, 9.0], [INF, 1.0], [0.0, 0.1], D),
        ([1.0, 1.0], [NAN, 1.0], None, D),
        ([1.0, 1.0], [NAN, 1.0], [NAN, 0.1], I),
        ([1.0, 1.0], [INF, 1.0], None, D),
        ([NAN, 1.0], [INF, 1.0], None, D),
        # Of several reasons, the first in order of precedence is given.
        ([NAN, INF], [NAN, INF], [0.1, INF], I),
        ([INF, 2.0], [INF, 1.0], [INF, INF], I),
        ([3.0, 1.0], [2.0, 1.0], [INF, 0.1], I),
        ([3.0, 1.0], [2.0, 1.0], [NAN, 0.1], I),
        ([NAN, 1.0], [2.0, 1.0], [INF, 0.1], I),
        ([NAN, 9.0], [NAN, 1.0], [NAN, 0.1], D),
    ],
)
def test_numbers_that_are_none(
    recorded: list[float],
    expected: list[float],
    bound: list[float] | None,
    verdict: Verdict,
    snapshot: SnapshotAssertion,
) -> None:
    comparison = judged(recorded, witness(expected, bound))
    assert comparison.verdict is verdict
    assert comparison.reason == snapshot


def test_the_worst_element_is_one_that_has_a_bound() -> None:
    for nothing in (NAN, INF):
        comparison = judged([3.0, 1.0625], witness([2.0, 1.0], [nothing, 0.125]))
        assert (comparison.verdict, comparison.index, comparison.ratio) == (I, (1,), 0.5)


def test_one_strange_number_hides_no_other_fault() -> None:
    comparison = judged([NAN, 1.0, 7.0], witness([NAN, 1.0, 2.0], [0.1, 0.1, 0.1]))
    assert (comparison.verdict, comparison.refuted, comparison.index) == (D, 1, (2,))


@pytest.mark.parametrize(
    ("dtype", "number", "off"),
    # The largest numbers are 3.4028e38, 65504 and 3.3895e38; the bound reaches beyond.
    [
        ("float32", 3.5e38, 0.0),
        ("float32", 3.50e38, 5e36),
        ("float32", 3.40e38, 1e37),
        ("float16", 7e4, 0.0),
        ("float16", 7e4, 600.0),
        ("float16", 65000.0, 600.0),
        ("bfloat16", 3.4e38, 0.0),
    ],
)
def test_a_format_that_overflows_is_not_refuted(dtype: str, number: float, off: float) -> None:
    # Half a unit in the last place above the largest number, as IEEE 754 rounds.
    limit = {"float32": 2.0**128 - 2.0**103, "float16": 65520.0, "bfloat16": 2.0**128 - 2.0**119}
    for sign in (1.0, -1.0):
        expected = witness([sign * number, 1.0], [off, 0.0] if off else None, dtype=dtype)
        comparison = judged([sign * INF, 1.0], expected, dtype)
        certain = number - off > limit[dtype]
        assert (comparison.verdict, comparison.reason == "") == (
            (A, True) if certain else (I, False)
        )
        exact = witness([sign * number, 1.0], dtype=dtype)
        assert judged([-sign * INF, 1.0], exact, dtype).verdict is D
    # An infinity out of reach is a fault.
    assert judged([INF, 1.0], witness([number / 2, 1.0], dtype=dtype), dtype).verdict is D


def test_float64_at_its_end() -> None:
    big = 1.7e308
    assert judged([-big], witness([big], [1e300], dtype="float64"), "float64").verdict is D
    assert judged([big], witness([big], [1e300], dtype="float64"), "float64").verdict is A
    assert judged([1e200], witness([1e200], dtype="float64"), "float64").norm in (1e200, INF)


def test_too_little_signal_is_no_agreement() -> None:
    comparison = judged([1.0, 0.5], witness([1.0, -1.0], [1.0, 2.0]))
    assert (comparison.verdict, comparison.reason) == (I, TOO_LITTLE)
    # One number that exceeds its bound is enough; exact zeros count too.
    assert judged([1.0, 0.5], witness([1.0, -1.0], [0.99, 2.0])).verdict is A
    assert judged([0.0, 0.0], witness([0.0, 0.0])).verdict is A
    # A disagreement counts, however little signal the rest has.
    assert judged([9.0, 0.5], witness([1.0, -1.0], [1.0, 2.0])).verdict is D


def test_nothing_compared_is_no_agreement() -> None:
    for shape in ((0,), (3, 0)):
        comparison = judged(np.zeros(shape), witness(np.zeros(shape)))
        assert (comparison.verdict, comparison.size, comparison.index) == (I, 0, None)
        assert comparison.reason == EMPTY


@pytest.mark.parametrize(
    ("recorded", "expected"), [((2, 3), (3, 2)), ((2,), (1, 2)), ((), (1,)), ((0,), (0, 3))]
)
def test_shapes_that_differ(
    recorded: tuple[int, ...], expected: tuple[int, ...], snapshot: SnapshotAssertion
) -> None:
    comparison = judged(np.ones(recorded), witness(np.ones(expected)))
    assert comparison.verdict is D
    assert comparison.reason == snapshot
    assert comparison.refuted == comparison.size == math.prod(recorded)


@pytest.mark.parametrize(
    ("recorded", "expected", "dtype", "refuted"),
    [
        ([1, 2, 3], [1, 2, 3], np.int64, 0),
        ([1, 2, 3], [1, 2, 4], np.int64, 1),
        ([True, False], [True, False], np.bool_, 0),
        ([True, False], [False, True], np.bool_, 2),
        ([2**53 + 1], [2**53], np.int64, 1),
        ([2**63 - 1], [2**63 - 2], np.int64, 1),
        ([255, 0], [255, 0], np.uint8, 0),
    ],
)
def test_whole_numbers_and_booleans_are_equal_or_not(
    recorded: list[Any], expected: list[Any], dtype: Any, refuted: int
) -> None:
    array = np.array(recorded, dtype)
    comparison = compare(array, np.array(expected, dtype), array.dtype.name)
    assert (comparison.verdict, comparison.refuted) == (D if refuted else A, refuted)
    assert comparison.detects == 0


def test_a_whole_number_is_not_nan() -> None:
    comparison = compare(np.array([3]), np.array([NAN]), "int64")
    assert (comparison.verdict, comparison.error) == (D, INF)
    assert compare(np.array([3]), np.array([3.0]), "int64").verdict is A


def test_complex_numbers_are_not_judged_by_their_real_part() -> None:
    recorded = np.array([1 + 2j], np.complex64)
    comparison = compare(recorded, np.array([1.0]), "complex64")
    assert (comparison.verdict, comparison.recorded, comparison.error) == (D, 1 + 2j, 2.0)
    assert comparison.norm == pytest.approx(math.sqrt(5))
    assert mismatch("x", recorded).norm == pytest.approx(math.sqrt(5))
    assert compare(np.ones(1, np.float32), np.array([1j]), "float32").verdict is I


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_an_exact_result_allows_the_store_and_no_more(dtype: str) -> None:
    third = 1 / 3
    stored = np.asarray(third, NUMPY[dtype])
    beyond = [np.nextafter(stored, np.asarray(end, stored.dtype)) for end in (-1, 1)]
    for expected in (witness([third]), np.array([third]), witness([third], [0.0])):
        comparison = compare(stored[None], expected, dtype)
        assert (comparison.verdict, comparison.ratio) == (A, 1.0)
        assert [compare(b[None], expected, dtype).verdict for b in beyond] == [D, D]
    representable = witness([0.25, -3.0])
    assert judged([0.25, -3.0], representable, dtype).detects == 0


def test_float64_numbers_become_16_bit_ones_by_way_of_float32() -> None:
    # Just above the middle of 1 and its successor: float32 takes it for the middle, and the
    # middle goes to 1. That is how torch's `.half()` works, and no fault.
    x = 1 + 2.0**-11 + 2.0**-30
    assert np.float16(np.float32(x)) == 1
    assert np.float16(x) > 1
    for recorded in (1.0, 1 + 2.0**-10):
        assert judged([recorded], witness([x], dtype="float16"), "float16").verdict is A
    assert judged([1 + 2.0**-9], witness([x], dtype="float16"), "float16").verdict is D


@pytest.mark.parametrize(
    ("number", "error", "allowed"),
    [
        (1.0, 2.0**-20, 2.0**-20 + 2.0**-11 * (1 + 2.0**-20)),
        # Below 2^-14 the store may lose the whole number.
        (2.0**-15, 2.0**-30, 2.0**-30 + 2.0**-15 + 2.0**-30),
        (1.0, 0.0, 0.0),
    ],
)
def test_a_fused_kernel_rounds_once_more_at_its_end(
    number: float, error: float, allowed: float
) -> None:
    expected = Bounded(
        np.array([number]), Arithmetic.fused("float16"), np.array([error]), np.array([error])
    )
    assert judged([number], expected, "float16").bound == allowed


@REPRODUCIBLE
@given(
    drawn=st.lists(
        st.tuples(st.floats(-1e3, 1e3, width=32), st.floats(1e-9, 1.0), st.floats(-1, 1)),
        min_size=1,
        max_size=6,
    ),
    element=st.integers(0, 5),
    size=st.floats(1.001, 1e6),
    sign=st.sampled_from([-1.0, 1.0]),
)
def test_any_change_by_more_than_detects_is_refuted(
    drawn: list[tuple[float, float, float]], element: int, size: float, sign: float
) -> None:
    value, bound, within = np.array(drawn).T
    recorded = value + within * bound * 0.999
    expected = witness(value, bound, dtype="float64")
    comparison = judged(recorded, expected, "float64")
    assert comparison.verdict in (A, I)
    if comparison.verdict is I:
        assert comparison.reason == TOO_LITTLE
    changed = recorded.copy()
    changed[element % len(changed)] += sign * comparison.detects * size
    assert judged(changed, expected, "float64").verdict is D
    # The figure is tight: a slightly smaller change may pass.
    assert comparison.detects == 2 * bound.max()


@REPRODUCIBLE
@given(st.lists(st.floats(width=32), min_size=1, max_size=5), st.sampled_from(sorted(NUMPY)))
def test_a_record_never_disagrees_with_itself(drawn: list[float], dtype: str) -> None:
    with np.errstate(over="ignore"):
        recorded = np.array(drawn).astype(NUMPY[dtype])
    comparison = compare(recorded, recorded.astype(np.float64), dtype)
    nan = bool(np.isnan(recorded.astype(np.float64)).any())
    assert (comparison.verdict, comparison.refuted) == (I if nan else A, 0)


def test_what_may_overflow_on_the_way_may_be_anything(snapshot: SnapshotAssertion) -> None:
    # Without overflow it would be 0 to within 2^-20.
    overflown = witness([0.0, 1.0], [INF, 0.0], [2.0**-20, 0.0])
    for recorded in (INF, -INF, NAN, 2.0**-19):
        comparison = judged([recorded, 1.0], overflown)
        assert (comparison.verdict, comparison.refuted) == (I, 0)
        assert comparison.reason == snapshot
        # A finite bound says that nothing overflows.
        assert judged([recorded, 1.0], witness([0.0, 1.0], [2.0**-20, 0.0])).verdict is D
    agreed = judged([2.0**-21, 1.0], overflown)
    assert (agreed.verdict, agreed.basis) == (A, "by the probable bound")
    # So nothing larger passes.
    assert agreed.detects == 2.0**-19


def test_the_infinity_that_a_number_beyond_the_format_becomes_is_right() -> None:
    beyond = witness([2.0**130, 1.0], [INF, 0.0], [2.0**110, 0.0])
    assert judged([INF, 1.0], beyond).verdict is A
    assert judged([-INF, 1.0], beyond).verdict is I
    refuted = judged([NAN, 1.0], witness([-(2.0**130), 1.0], [2.0**110, 0.0]))
    assert (refuted.verdict, refuted.reason) == (D, "nan where -inf is expected")


def test_infinities_stay_out_of_the_figures() -> None:
    comparison = judged([-INF, 2.0, 0.5], witness([-INF, 2.0, 0.25], [0.0, 0.5, 0.5]))
    assert (comparison.verdict, comparison.detects, comparison.detects_relative) == (A, 1.0, 0.5)
    assert (comparison.index, comparison.error) == ((2,), 0.25)
    alone = judged([-INF, -INF], witness([-INF, -INF]))
    assert (alone.verdict, alone.detects, alone.norm) == (A, 0.0, INF)


def test_an_allowance_hides_no_infinity() -> None:
    assert judged([INF, 1.0], witness([INF, 1.0]), allowance=0.5).verdict is A
    assert judged([-INF, 1.0], witness([INF, 1.0]), allowance=0.5).verdict is D


def test_what_could_not_be_made() -> None:
    comparison = unjudged("why", np.array([3.0, 4.0]))
    assert (comparison.verdict, comparison.reason, comparison.size, comparison.norm) == (
        I,
        "why",
        2,
        5.0,
    )
    assert (comparison.refuted, comparison.index, comparison.suspicious) == (0, None, False)
    assert unjudged("why").size == 0
    comparison = mismatch("why", np.array([3.0, 4.0]))
    assert (comparison.verdict, comparison.refuted, comparison.ratio) == (D, 2, INF)
    assert mismatch("why", None).size == 0
