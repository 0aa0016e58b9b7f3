"""Ties, NaN and edges in choosing, reducing into places, padding, bags and interpolation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gradwitness._errors import Unjudgeable
from rules.harness import Case, make
from rules.samples import Draw, Sample, aten
from rules.test_conventions import INF, NAN, Given, given
from rules.test_conventions_moving import Whole

into, rows_into = aten.scatter_reduce.two, aten.index_reduce.default
pool3 = aten.max_pool3d_with_indices.default
bag, linear = aten._embedding_bag.default, aten.upsample_linear1d.default


def numbers(item: Any) -> Any:
    return np.ravel(getattr(item, "value", item)).tolist()


class Cube(Given):
    """Given numbers as one row of voxels, of one channel."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        return super().make(rng, length).reshape(1, 1, 1, -1)


class Line(Given):
    """Given numbers as a batch of one line, of one channel."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        return super().make(rng, length).reshape(1, 1, -1)


class Table(Given):
    """Given numbers as a table of one column."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        return super().make(rng, length).reshape(-1, 1)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (given(aten.argmax.default, Given(1, 3, 3, 0)), [1]),
        (given(aten.argmax.default, Given(1, NAN, INF, NAN)), [1]),
        (given(aten.argmin.default, Given(0, -0.0, 1)), [0]),
        (given(aten.argmin.default, Given(0, NAN, -INF), 0), [1]),
        (given(aten.any.default, Given(0, -0.0)), [False]),
        (given(aten.all.default, Given(1, NAN)), [True]),
        (given(aten.nonzero.default, Given(0, NAN, -0.0, 2)), [1, 3]),
        (given(aten.bucketize.Tensor, Given(1, 2, NAN), Given(1, 2, 3)), [0, 1, 3]),
        (make(Sample(aten.searchsorted.Tensor, (Given(1, 2, 2), Given(2)), {"right": True})), [3]),
        # Of those that tie the first; of several NaN the last.
        (given(pool3, Cube(2, 2, 1), [1, 1, 2], [1, 1, 1]), [2, 2]),
        (given(aten.reflection_pad1d.default, Line(1, 2, 3), [2, 1]), [3, 2, 1, 2, 3, 2]),
        (given(aten.replication_pad1d.default, Line(1, 2, 3), [2, 1]), [1, 1, 1, 2, 3, 3]),
        # In the middle between two; before the first and behind the last, these.
        (given(linear, Line(0, 4), [4], False), [0, 1, 3, 4]),
        (given(linear, Line(0, 4, 8), [5], True), [0, 2, 4, 6, 8]),
        (given(linear, Line(0, 4, 8), [1], True), [0]),
        (given(linear, Line(0, 4, 8), [1], False), [4]),
        # An empty bag, and one whose only row is the padding.
        (given(bag, Table(5, 7), Whole(0, 1, 1), Whole(0, 0, 2), False, 1, False, None, False, 1),
         [0, 5, 0]),
    ],
    ids=lambda item: item.call.op if isinstance(item, Case) else "",
)  # fmt: skip
def test_value_at_a_tie_or_edge(case: Case, expected: list[Any]) -> None:
    ours, torchs = numbers(case.values()[0]), numbers(case.results[0])
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(torchs, expected)


tied, both = Given(2, 0), Given(2, 2, 5)


@pytest.mark.parametrize(
    ("case", "operand", "expected"),
    [
        # Element 0 ties with two numbers that are sent to it.
        (given(into, tied, 0, Whole(0, 0, 1), both, "amax"), "x", [1, 0]),
        (given(into, tied, 0, Whole(0, 0, 1), both, "amax"), "src", [1, 1, 3]),
        (
            make(Sample(into, (tied, 0, Whole(0, 0, 1), both, "mean"), {"include_self": False})),
            "x",
            [0, 0],
        ),
        (given(aten.native_dropout.default, Given(1, 2), 1.0, True), "x", [0, 0]),
        (given(aten.index_fill.int_Scalar, Given(1, 2, 3), 0, Whole(1, 1), 0.5), "x", [3, 0, 3]),
        (given(aten.reflection_pad1d.default, Line(1, 2, 3), [2, 1]), "x", [3, 9, 6]),
        (given(bag, Table(5, 7), Whole(0, 1, 1), Whole(0), False, 1), "weight", [1, 2]),
    ],
    ids=lambda item: item.call.op if isinstance(item, Case) else str(item),
)
def test_gradient_at_a_tie_or_edge(case: Case, operand: str, expected: list[float]) -> None:
    np.testing.assert_array_equal(numbers(case.gradient(operand)), expected)
    np.testing.assert_array_equal(numbers(case.torch_gradient(operand)), expected)


@pytest.mark.parametrize(
    ("op", "arguments", "reason"),
    [
        (into, (tied, 0, Whole(0, 1), Given(1, NAN), "amax"), "NaN among"),
        (aten.index_copy.default, (tied, 0, Whole(1, 1), Given(1, 2)), "which of them stays"),
        (aten.put.default, (tied, Whole(1, -1), Given(1, 2)), "which of them stays"),
    ],
)
def test_what_is_left_open_is_not_judged(op: Any, arguments: Any, reason: str) -> None:
    with pytest.raises(Unjudgeable, match=reason):
        make(Sample(op, arguments)).values()


class Number(Given):
    """A given number without axes."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        return super().make(rng, length).reshape(())


class Place(Whole):
    """A given place without axes."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        return super().make(rng, length).reshape(())


five = Number(5)


@pytest.mark.parametrize(
    ("case", "value", "gradient"),
    [
        *((given(op, five), 5, 3) for op in (aten.sort.default, aten.mode.default)),
        *((given(op, five, 0), 5, 3) for op in (aten.max.dim, aten.min.dim, aten.median.dim)),
        *((given(op, five, 1), 5, 3) for op in (aten.topk.default, aten.kthvalue.default)),
        (given(aten.nanmedian.dim, Number(NAN), 0, True), NAN, 3),
        (given(aten.gather.default, five, 0, Whole(0, 0)), [5, 5], 6),
        (given(aten.gather.default, Given(7, 8), 0, Place(1)), 8, [0, 3]),
        (given(aten.scatter.src, Given(7, 8), 0, Place(1), Number(9)), [7, 9], [3, 0]),
        (given(aten.scatter.src, five, 0, Whole(0), Given(9)), 9, 0),
        (given(rows_into, five, 0, Whole(0), Number(9), "prod"), 45, 27),
        (given(into, Given(7, 8), 0, Place(1), Number(9), "mean"), [7, 8.5], [3, 1.5]),
    ],
    ids=lambda item: item.call.op if isinstance(item, Case) else "",
)
def test_a_tensor_without_axes_has_one_of_one_element(
    case: Case, value: Any, gradient: Any
) -> None:
    for ours, torchs in zip(case.values(), case.results, strict=True):
        np.testing.assert_array_equal(getattr(ours, "value", ours), torchs)
    np.testing.assert_array_equal(case.results[0], value)
    np.testing.assert_array_equal(case.gradient("x"), gradient)
    np.testing.assert_array_equal(case.torch_gradient("x"), gradient)


def test_a_source_gets_0_where_it_was_not_read() -> None:
    # Torch refuses this gradient, of a source that is larger than its index.
    for op, more in ((aten.scatter.src, ()), (aten.scatter_add.default, ()), (into, ("sum",))):
        case = given(op, Given(7, 8), 0, Whole(1), Given(9, 4), *more)
        np.testing.assert_array_equal(case.gradient("src"), [3, 0])


@pytest.mark.parametrize("kind", ["amax", "amin"])
def test_torch_loses_half_where_an_element_left_out_ties(kind: str) -> None:
    # Element 0 is replaced by the 2 that is sent to it: that gets the whole gradient. Torch shares
    # it with the element, which is the same number by chance, and then drops that share.
    how = {"include_self": False}
    arguments = (Given(2, 1), 0, Whole(0), Given(2), kind)
    case = make(Sample(into, arguments, how))
    gs = (torch.full_like(case.outputs[0], 3.0),)
    case = replace(case, gs=gs)
    np.testing.assert_array_equal(case.gradient("src"), [3])
    np.testing.assert_array_equal(case.gradient("x"), [0, 3])
    np.testing.assert_array_equal(case.torch_gradient("src"), [1.5])
    # The slope, where the sum of values times the cotangent moves by h times 3.
    moved = [case.values_of("src", np.array([2 + h]))[0] * 3 for h in (-(2.0**-8), 2.0**-8)]
    assert (moved[1] - moved[0]) / 2.0**-7 == 3


def test_interpolation_where_rounding_decides_between_two_elements_is_bounded() -> None:
    # With corners aligned, result 7 k of 22 lies on element k of 4, up to rounding.
    case = make(Sample(linear, (Draw((2, 3, 4)), [22], True)), "float32")
    found = case.value()
    assert np.all(np.abs(case.result - found.value) <= found.rigorous + 2.0**-24)
    assert np.max(found.rigorous) < 1e-5
