"""Conventions of elementary functions and activations at kinks and edges: torch's choice."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gradwitness.engine.floats import Arithmetic
from rules.harness import Case, make
from rules.samples import SAMPLES, Sample, aten
from rules.sampling import normal
from rules.test_conventions import INF, NAN, Given, given

one = Given(-2, -1, -0.0, 0, 1, 2, NAN)
three = Given(-4, -3, 0, 3, 4)


@pytest.mark.parametrize(
    ("case", "operand", "expected"),
    [
        (given(aten.leaky_relu.default, one, 0.5), "x", [1.5, 1.5, 1.5, 1.5, 3, 3, 1.5]),
        (given(aten._prelu_kernel.default, Given(-1, 0, 1), Given(2, 2, 2)), "x", [6, 6, 3]),
        (given(aten._prelu_kernel.default, Given(-1, 0, 1), Given(2, 2, 2)), "w", [-3, 0, 0]),
        (given(aten.elu.default, Given(-1000, -0.0, 0, 1000), 2.0), "x", [0, 6, 6, 3]),
        (given(aten.celu.default, Given(-10000, -0.0, 0, 1000), 2.0), "x", [0, 3, 3, 3]),
        (given(aten.hardtanh.default, one), "x", [0, 0, 3, 3, 0, 0, 3]),
        (given(aten.hardswish.default, three), "x", [0, 0, 1.5, 3, 3]),
        (given(aten.softplus.default, Given(-1000, 0, 1000)), "x", [0, 1.5, 3]),
        # Above the threshold, not at it, the gradient is passed on.
        (given(aten.softplus.default, Given(0, 1), 1, 0.0), "x", [1.5, 3]),
        (given(aten.threshold.default, one, 1, 7), "x", [0, 0, 0, 0, 0, 3, 3]),
        (given(aten.softshrink.default, one, 1), "x", [3, 0, 0, 0, 0, 3, 3]),
        (given(aten.mish.default, Given(-1000, 0, 1000)), "x", [0, 3 * 0.6, 3]),
        (given(aten.glu.default, Given(2, 0)), "x", [1.5, 1.5]),
        (given(aten.glu.default, Given(2, -1000, 1000, 1000)), "x", [3, 3, 0, 0]),
        (given(aten.rsqrt.default, Given(0, -1)), "x", [-INF, NAN]),
        (given(aten.reciprocal.default, Given(0, INF)), "x", [-INF, 0]),
        (given(aten.log1p.default, Given(-1, 0)), "x", [INF, 3]),
        (given(aten.expm1.default, Given(-1000, 0)), "x", [0, 3]),
        (given(aten.erf.default, Given(-INF, 40)), "x", [0, 0]),
        # The largest number is subtracted: nothing overflows, and -inf has weight 0.
        (given(aten._softmax.default, Given(1000, 1000, -INF), 0, False), "x", [0, 0, 0]),
        # A row that is masked out whole is 0, and so is its gradient.
        (given(aten._safe_softmax.default, Given(-INF, -INF), 0), "x", [0, 0]),
        (given(aten._safe_softmax.default, Given(0, -INF), 0), "x", [0, 0]),
        (given(aten._log_softmax.default, Given(1000, 1000), 0, False), "x", [0, 0]),
        (given(aten.logsumexp.default, Given(1000, -INF), [0]), "x", [3, 0]),
    ],
    ids=lambda item: item.call.op if isinstance(item, Case) else str(item),
)
@pytest.mark.parametrize(
    "arithmetic", [None, Arithmetic.stepwise("float64")], ids=["plain", "bounded"]
)
def test_gradient_at_an_edge(
    case: Case, operand: str, expected: list[float], arithmetic: Arithmetic | None
) -> None:
    ours = case.gradient(operand, arithmetic)
    plain: Any = ours if arithmetic is None else ours.value
    np.testing.assert_allclose(plain, expected, rtol=1e-15)
    np.testing.assert_allclose(case.torch_gradient(operand), expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (given(aten.leaky_relu.default, one, 0.5), [-1, -0.5, 0, 0, 1, 2, NAN]),
        (given(aten.hardtanh.default, one), [-1, -1, 0, 0, 1, 1, NAN]),
        (given(aten.hardsigmoid.default, Given(-4, -3, 0, 3, 4)), [0, 0, 0.5, 1, 1]),
        (given(aten.hardswish.default, three), [0, 0, 0, 3, 4]),
        (given(aten.softplus.default, Given(-1000, 1000)), [0, 1000]),
        (given(aten.mish.default, Given(-1000, 0, 1000)), [0, 0, 1000]),
        (given(aten.threshold.default, one, 1, 7), [7, 7, 7, 7, 7, 2, NAN]),
        (given(aten.elu.default, Given(-1000, 0, 1000), 2.0), [-2, 0, 1000]),
        (given(aten.rsqrt.default, Given(0, INF)), [INF, 0]),
        (given(aten.log1p.default, Given(-1, -2)), [-INF, NAN]),
        (given(aten._softmax.default, Given(1000, 1000, -INF), 0, False), [0.5, 0.5, 0]),
        (given(aten.logsumexp.default, Given(-INF, -INF), [0]), -INF),
    ],
    ids=lambda item: item.call.op if isinstance(item, Case) else str(item),
)
def test_value_at_an_edge(case: Case, expected: list[float]) -> None:
    np.testing.assert_array_equal(case.value().value, expected)
    np.testing.assert_array_equal(case.result, expected)


def test_hardsigmoid_lets_nothing_through_at_its_edges() -> None:
    case = given(aten.hardsigmoid.default, three)
    np.testing.assert_array_equal(case.gradient("x"), [0, 0, 0.5, 0, 0])
    np.testing.assert_allclose(case.torch_gradient("x"), [0, 0, 0.5, 0, 0], rtol=1e-7)


@pytest.mark.parametrize("name", ["hardsigmoid", "celu 1.3"])
def test_torch_holds_a_quotient_in_float32_for_float64(name: str) -> None:
    """Its gradients in float64 are off by what float32 makes of 1 / 6, or of 1 / alpha."""
    case = make(next(sample for sample in SAMPLES if sample.name == name))
    ours, theirs = case.gradient("x"), case.torch_gradient("x")
    off = np.abs(theirs - ours) / np.where(ours == 0, math.inf, np.abs(ours))
    assert 1e-9 < np.max(off) < 1e-7


def test_log_sigmoid_keeps_its_digits_far_out() -> None:
    case = given(aten.log_sigmoid_forward.default, Given(-1000, 0, 1000))
    case = replace(case, gs=(case.gs[0], None))
    for found in (case.values()[0].value, case.results[0]):
        np.testing.assert_allclose(found, [-1000, -math.log(2), 0], rtol=1e-15)
    np.testing.assert_allclose(case.gradient("x"), [3, 1.5, 0], rtol=1e-15)
    np.testing.assert_allclose(case.torch_gradient("x"), [3, 1.5, 0], rtol=1e-15)


def test_torch_adds_the_bias_of_a_layer_up_in_bfloat16() -> None:
    """Numbers of 1/256 of the sum so far are rounded away, one after the other."""
    rows = Sample(aten.native_layer_norm.default, (normal(600, 4), [4], normal(4), normal(4), 1e-5))
    case = make(rows, "bfloat16")
    case = replace(case, gs=(torch.ones_like(case.outputs[0]), None, None))
    np.testing.assert_array_equal(case.gradient("b"), [600, 600, 600, 600])
    assert np.all(case.torch_gradient("b").astype(float) < 600)
