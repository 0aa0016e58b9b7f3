"""Ties, edges and places named twice: what torch does, in numbers, and what is not judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gradwitness._errors import Unjudgeable
from gradwitness.engine.floats import Arithmetic
from rules.harness import Case, make, numbers
from rules.samples import SAMPLES, Sample, aten
from rules.sampling import Draw, sample
from rules.test_conventions import NAN, Given, given
from rules.test_torch import NO_WITNESS


class Whole(Given):
    """Given indices."""

    def make(self, rng: np.random.Generator, length: int) -> Any:
        return super().make(rng, length).astype(np.int64)


tied = Given(1, 2, 2, 0)
x5, low5, high5 = Given(0, 1, 3, 1, 5), Given(1, 1, 1, 3, 3), Given(3, 3, 3, 2, 2)


@pytest.mark.parametrize(
    ("case", "operand", "expected"),
    [
        (given(aten.max.default, tied), "x", [0, 1.5, 1.5, 0]),
        (given(aten.max.default, Given(1, NAN, 2)), "x", [0, 3, 0]),
        (given(aten.max.dim, tied, 0), "x", [0, 3, 0, 0]),
        (given(aten.min.dim, Given(1, 0, 0), 0), "x", [0, 3, 0]),
        (given(aten.amax.default, tied), "x", [0, 1.5, 1.5, 0]),
        (given(aten.amin.default, Given(0, 0, 0)), "x", [1, 1, 1]),
        (given(aten.maximum.default, Given(1, 2, 3), Given(2, 2, 2)), "a", [0, 1.5, 3]),
        (given(aten.minimum.default, Given(1, 2, NAN), Given(2, 2, 2)), "b", [0, 1.5, 3]),
        (given(aten.clamp.default, Given(0, 1, 2, 3, NAN), 1, 2), "x", [0, 3, 3, 0, 0]),
        (given(aten.clamp.Tensor, x5, low5, high5), "x", [0, 3, 3, 0, 0]),
        (given(aten.clamp.Tensor, x5, low5, high5), "low", [3, 0, 0, 0, 0]),
        (given(aten.clamp.Tensor, x5, low5, high5), "high", [0, 0, 0, 3, 3]),
        (given(aten.clamp_min.default, Given(0, 1, 2), 1), "x", [0, 3, 3]),
        (given(aten.clamp_max.default, Given(0, 1, 2), 1), "x", [3, 3, 0]),
        (given(aten.index.Tensor, Given(0, 0, 0), [Whole(2, 0, 2)]), "x", [3, 0, 6]),
        (given(aten.gather.default, Given(0, 0, 0), 0, Whole(2, 0, 2)), "x", [3, 0, 6]),
        (given(aten.cat.default, [Draw((0,)), Given(1, 2)]), "tensors[1]", [3, 3]),
        (given(aten.cat.default, [Draw((0,)), Given(1, 2)]), "tensors[0]", []),
    ],
    ids=lambda item: item.call.op if isinstance(item, Case) else str(item),
)
@pytest.mark.parametrize("arithmetic", [None, Arithmetic.stepwise("float64")], ids=["", "bounded"])
def test_gradient_at_a_tie_or_edge(
    case: Case, operand: str, expected: list[float], arithmetic: Arithmetic | None
) -> None:
    ours = case.gradient(operand, arithmetic)
    np.testing.assert_array_equal(ours if arithmetic is None else ours.value, expected)
    np.testing.assert_array_equal(case.torch_gradient(operand), expected)


def test_padding_row_of_a_table_gets_no_gradient() -> None:
    case = given(aten.embedding.default, Draw((4, 1)), Whole(1, 1, 2, 0, 2), 1)
    for gradient in (case.gradient("weight"), case.torch_gradient("weight")):
        np.testing.assert_array_equal(gradient, [[3], [0], [6], [0]])


def test_gradient_of_a_table_by_frequency_is_shared_among_the_lookups_of_a_row() -> None:
    # No derivative, but what is asked for: 3 for each lookup, over 2 lookups of rows 1 and 2.
    case = given(aten.embedding.default, Draw((5, 1)), Whole(1, 1, 2, 0, 2, 4), 4, True)
    for gradient in (case.gradient("weight"), case.torch_gradient("weight")):
        np.testing.assert_array_equal(gradient, [[3], [3], [3], [0], [0]])


@pytest.mark.parametrize(
    ("unjudged", "reason"),
    [
        (sample(aten.scatter.src, tied, 0, Whole(1, 1), Given(5, 6)), "which of them stays"),
        (sample(aten.index_put.default, tied, [Whole(1, 1)], Given(5, 6)), "which of them stays"),
    ],
    ids=lambda item: item.name if isinstance(item, Sample) else str(item),
)
def test_what_torch_leaves_open_is_not_judged(unjudged: Sample, reason: str) -> None:
    with pytest.raises(Unjudgeable, match=reason):
        make(unjudged).values()


@pytest.mark.parametrize("op", [aten.sort.default, aten.topk.default])
def test_order_of_equal_elements_is_taken_as_recorded_if_it_is_one(op: Any) -> None:
    numbers = Given(2, 1, 2, NAN, 2)
    case = given(op, numbers, *([4] if op is aten.topk.default else []))
    rule = case.bound().rule.function
    parameters = case.bound().parameters
    values, order = case.values()
    np.testing.assert_array_equal(values.value, case.results[0])
    np.testing.assert_array_equal(order, case.results[1])
    other = np.array([3, 4, 2, 0]) if op is aten.topk.default else np.array([1, 4, 0, 2, 3])
    x = case.operand("x")
    np.testing.assert_array_equal(rule(x, **{**parameters, "order": other})[1], other)
    # Twice the same element, another element, no element: not an order of these.
    for wrong in (other * 0 + other[1], np.roll(other, 1), other + 9):
        assert not np.array_equal(rule(x, **{**parameters, "order": wrong})[1], wrong)


# Torch drops what comes in by one statistic of a group norm if nothing comes in by the other.
DROPPED = "native_group_norm by statistics"
SEVERAL = [
    s
    for s in SAMPLES
    if sum(g is not None for g in make(s).gs) > 1 and s.name not in (*NO_WITNESS, DROPPED)
]


@pytest.mark.parametrize("several", SEVERAL, ids=lambda s: s.name)
def test_a_missing_cotangent_counts_as_zero(several: Sample) -> None:
    case = make(several)
    for kept in range(len(case.gs)):
        alone = replace(case, gs=tuple(g if k == kept else None for k, g in enumerate(case.gs)))
        if case.gs[kept] is None:
            continue
        for operand in case.differentiable:
            np.testing.assert_allclose(
                alone.gradient(operand), alone.torch_gradient(operand), rtol=1e-12, atol=1e-14
            )


def test_torch_drops_what_comes_in_by_one_statistic_of_a_group_norm() -> None:
    case = make(next(s for s in SAMPLES if s.name == DROPPED))
    _, of_mean, _ = case.gs
    assert of_mean is not None
    alone = replace(case, gs=(None, of_mean, None))
    # A mean of 2 channels with 3 positions each: every number of its group gets a sixth.
    by_hand = np.repeat(numbers(of_mean) / 6, 2, axis=1)[..., None] * np.ones(3)
    np.testing.assert_allclose(alone.gradient("x"), by_hand, rtol=1e-12)
    np.testing.assert_array_equal(alone.torch_gradient("x"), np.zeros((2, 4, 3)))
    # With zeros for the other, it does not.
    beside = replace(case, gs=(None, of_mean, torch.zeros_like(case.outputs[2])))
    np.testing.assert_allclose(beside.torch_gradient("x"), by_hand, rtol=1e-12)


def test_a_limit_that_is_not_given_has_an_edge_only_among_tensors() -> None:
    numbers = make(sample(aten.clamp.default, tied, None, 1.5))
    tensors = make(sample(aten.clamp.Tensor, tied, None, tied))
    assert (numbers.inputs(), tensors.inputs()) == (["x"], ["x", "low", "high"])
    for case in (numbers, tensors):
        node = case.outputs[0].grad_fn
        assert node is not None
        assert len(node.next_functions) == len(case.inputs())
