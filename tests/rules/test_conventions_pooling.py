"""Ties, edges and padding in pooling, and the nearest element: what torch does, in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradwitness._errors import Unjudgeable
from gradwitness.engine.floats import Arithmetic
from gradwitness.judging.comparing.compare import compare
from gradwitness.rules.layers.windows import Walk
from gradwitness.verdict import Verdict
from rules.harness import Case, make
from rules.samples import aten
from rules.sampling import Sample, normal, sample
from rules.test_conventions import INF, NAN, Given, given

pool, mean = aten.max_pool2d_with_indices.default, aten.avg_pool2d.default
parts, nearest = aten._adaptive_avg_pool2d.default, aten.upsample_nearest2d.default


class Row(Given):
    """Given numbers as one row of pixels, of one channel."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        return super().make(rng, length).reshape(1, 1, -1)


class Places(Row):
    """Given places of a row."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        return super().make(rng, length).astype(np.int64)


def pooled(row: Row, k: int, s: int, p: int = 0, d: int = 1, ceil: bool = False) -> Case:
    return given(pool, row, [1, k], [1, s], [0, p], [1, d], ceil)


def averaged(row: Row, *rest: Any) -> Case:
    return given(mean, row, [1, 3], [1, 2], [0, 1], *rest)


# The case; then values, indices if there are any, and the gradient of 3 for each result.
CASES: list[tuple[Any, ...]] = [
    # Of those that tie, the first.
    (pooled(Row(1, 2, 2, 2), 2, 2), [2, 2], [1, 2], [0, 3, 3, 0]),
    (pooled(Row(2, 2, 2), 2, 1), [2, 2], [0, 1], [3, 3, 0]),
    (pooled(Row(0, -0.0), 2, 2), [0], [0], [3, 0]),
    # NaN wins; of several NaN, the last.
    (pooled(Row(5, NAN, INF, 1), 4, 4), [NAN], [1], [0, 3, 0, 0]),
    (pooled(Row(NAN, 5, NAN, 1), 4, 4), [NAN], [2], [0, 0, 3, 0]),
    # Padding is -inf, and is never chosen: not even where all that is there is -inf too.
    (pooled(Row(-5, -7), 2, 2, 1), [-5, -7], [0, 1], [3, 3]),
    (pooled(Row(-INF, -INF), 2, 2, 1), [-INF, -INF], [0, 1], [3, 3]),
    # A window that begins in the padding, with gaps of 2: elements -1 and 1, 0 and 2, 1 and 3.
    (pooled(Row(4, 3, 2), 2, 1, 1, 2), [3, 4, 3], [1, 0, 1], [3, 6, 0]),
    # What is left over makes a window of its own, if it begins inside.
    (pooled(Row(1, 2, 3), 2, 2, ceil=True), [2, 3], [1, 2], [0, 3, 3]),
    (pooled(Row(1, 2, 3), 2, 3, 1, ceil=True), [1, 3], [0, 2], [3, 0, 3]),
    (pooled(Row(1, 2), 2, 3, 1, ceil=True), [1], [0], [3, 0]),
    # Windows (pad 6 12), (12 18 24), (24 30 pad): of 3, or of what lies in the input.
    (averaged(Row(6, 12, 18, 24, 30), False, True), [6, 18, 18], [1, 2, 1, 2, 1]),
    (averaged(Row(6, 12, 18, 24, 30), False, False), [9, 18, 27], [1.5, 2.5, 1, 2.5, 1.5]),
    # With ceil_mode the last window, (24 pad beyond), counts the padding, but not what is beyond.
    (averaged(Row(6, 12, 18, 24), True, True), [6, 18, 12], [1, 2, 1, 2.5]),
    (averaged(Row(6, 12, 18, 24), True, False), [9, 18, 24], [1.5, 2.5, 1, 4]),
    (averaged(Row(6, 12, 18, 24), False, True, 6), [3, 9], [0.5, 1, 0.5, 0.5]),
    # A kernel larger than the input: one window, of all of it, divided by their number.
    (given(mean, Row(2, 4, 9), [1, 99], [1, 99], [0, 0], True, False), [5], [1, 1, 1]),
    # 5 into 3: elements 0 and 1, 1 to 3, 3 and 4.
    (given(parts, Row(2, 4, 6, 8, 10), [1, 3]), [3, 6, 9], [1.5, 2.5, 1, 2.5, 1.5]),
    (
        given(aten.adaptive_max_pool2d.default, Row(1, 4, 4, NAN, 2), [1, 3]),
        [4, NAN, NAN],
        [1, 3, 3],
        [0, 3, 0, 6, 0],
    ),
]


def row(array: Any) -> Any:
    return np.ravel(getattr(array, "value", array))


@pytest.mark.parametrize("at", range(len(CASES)))
@pytest.mark.parametrize("arithmetic", [None, Arithmetic.stepwise("float64")], ids=["", "bounded"])
def test_ties_and_edges(at: int, arithmetic: Arithmetic | None) -> None:
    case, *expected = CASES[at]
    *results, gradient = expected
    for ours, torchs, numbers in zip(case.values(), case.results, results, strict=True):
        np.testing.assert_array_equal(row(ours), numbers)
        np.testing.assert_array_equal(row(torchs), numbers)
    np.testing.assert_array_equal(row(case.gradient("x", arithmetic)), gradient)
    np.testing.assert_array_equal(row(case.torch_gradient("x")), gradient)


def test_window_that_meets_only_padding_is_not_judged() -> None:
    # Elements -1 and 1 of one.
    with pytest.raises(Unjudgeable, match="nothing but padding"):
        pooled(Row(1), 2, 1, 1, 2).values()


@pytest.mark.parametrize(("width", "padding"), [(259, 0), (517, 1)])
@pytest.mark.low_precision
def test_divisor_that_bfloat16_does_not_hold(width: int, padding: int) -> None:
    # 259 lies between 258 and 260: torch's backward divides by 260. With padding the first window
    # has 258 elements.
    how = ([1, 259], [1, 259], [0, padding], False, False)
    case = make(sample(mean, normal(1, 64, 1, width), *how), "bfloat16")
    ours = case.gradient("x", Arithmetic.stepwise("bfloat16"))
    assert compare(case.torch_gradient("x"), ours, "bfloat16").verdict is Verdict.AGREES


@pytest.mark.parametrize(
    ("numbers", "size", "scale", "expected", "gradient"),
    [
        ((1, 2, 3), 5, None, [1, 1, 2, 2, 3], [6, 6, 3]),
        ((1, 2, 3, 4, 5), 3, None, [1, 2, 4], [3, 3, 0, 3, 0]),
        # By the scale that was asked for, 1.5, and not by 4 / 3.
        ((1, 2, 3), 4, 1.5, [1, 1, 2, 3], [6, 3, 3]),
        # Twice as many: always pairs, whatever the scale.
        ((1, 2, 3), 6, 2.1, [1, 1, 2, 2, 3, 3], [6, 6, 6]),
        # The scale leads beyond the end.
        ((1, 2, 3), 5, 1.25, [1, 1, 2, 3, 3], [6, 3, 6]),
    ],
)
def test_nearest_element(
    numbers: tuple[float, ...],
    size: int,
    scale: float | None,
    expected: list[float],
    gradient: list[float],
) -> None:
    case = given(nearest, Image(*numbers), [1, size], None, scale)
    for result in (case.value(), case.result):
        np.testing.assert_array_equal(row(result), expected)
    for found in (case.gradient("x"), case.torch_gradient("x")):
        np.testing.assert_array_equal(row(found), gradient)


class Image(Given):
    """Given numbers as a batch of one image, with one row of pixels."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        return super().make(rng, length).reshape(1, 1, 1, -1)


def test_nearest_element_that_rounding_decides_is_not_judged() -> None:
    # 112 * 62 / 224 is 31; in float32 it is less. In float64 torch copies element 31 to result
    # 112, but gives its gradient to element 30: 109 to 112 are 4, and 113 to 115 only 3.
    case = given(nearest, Image(*range(62)), [1, 224], None, None)
    assert row(case.result)[112] == 31
    np.testing.assert_array_equal(row(case.result)[[108, 109, 111, 115, 116]], [29, 30, 30, 31, 32])
    np.testing.assert_array_equal(row(case.torch_gradient("x"))[30:32], [12, 9])
    with pytest.raises(Unjudgeable, match="torch's kernel"):
        case.values()


def test_scale_is_used_in_double_precision_whatever_the_format() -> None:
    # In bfloat16 1.4 would be 1.3984375, which it is not.
    case = make(Sample(nearest, (normal(1, 1, 1, 9), [1, 12], None, 1.4)), "bfloat16")
    np.testing.assert_array_equal(row(case.value()), row(case.result).astype(np.float64))


def test_a_kernel_larger_than_the_input_takes_no_more_memory_than_the_input() -> None:
    # As wide as a network may have it that pools all that is left: 2560 squared, of which 6 exist.
    assert Walk(2560, ceil_mode=True).windows(np.ones((1, 2, 3))).seen.shape == (6, 1, 1)


def test_a_number_that_another_is_written_over_has_no_gradient() -> None:
    # The 2 is written over the 1: torch gives both the gradient of the place.
    arguments = (Row(7, 1, 2), Places(0, 1, 1), [1, 3])
    case = given(aten.max_unpool2d.default, *arguments)
    np.testing.assert_array_equal(case.results[0].ravel(), [7, 2, 0])
    np.testing.assert_array_equal(case.value().value, case.results[0])
    np.testing.assert_array_equal(case.gradient("x").ravel(), [3, 0, 3])
    np.testing.assert_array_equal(case.torch_gradient("x").ravel(), [3, 3, 3])
    # Torch's own result does not move with the 1.
    (moved,) = given(aten.max_unpool2d.default, Row(7, 1.5, 2), *arguments[1:]).results
    np.testing.assert_array_equal(moved, case.results[0])
