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
    np.testing.assert_allclose(case.gradient("x"), [0, 0, 0.5, 0, 0], rtol=1e-7)
    np.testing.assert_allclose(case.torch_gradient("x"), [0, 0, 0.5, 0, 0], rtol=1e-7)


@pytest.mark.parametrize("name", ["hardsigmoid", "celu 1.3"])
def test_a_quotient_is_held_in_float32_for_float64_too(name: str) -> None:
    """Torch's 1 / 6 and 1 / alpha are float32 numbers, and so are the rule's."""
    case = make(next(sample for sample in SAMPLES if sample.name == name))
    ours, theirs = case.gradient("x"), case.torch_gradient("x")
    np.testing.assert_allclose(ours, theirs, rtol=1e-15)
    x, g = case.operand("x"), case.cotangents[0]
    slope = np.where(np.abs(x) < 3, 1 / 6, 0) if name == "hardsigmoid" else np.exp(x / 1.3)
    lower = np.asarray(x < (4 if name == "hardsigmoid" else 0))
    off = np.abs(ours - g * slope)[lower] / np.max(np.abs(ours))
    assert 1e-9 < np.max(off) < 1e-7


@pytest.mark.parametrize("op", [aten.elu_.default, aten.celu_.default])
def test_in_place_the_slope_comes_from_the_rounded_result(op: Any) -> None:
    """Far below zero the result is -alpha in float32, and torch's gradient 0."""
    drawn = make(Sample(op, (Given(-60.0, -1.0, 2.0), 1.3)), "float32")
    theirs = drawn.torch_gradient("x")
    assert theirs[0] == 0
    found = drawn.gradient("x", Arithmetic.stepwise("float32"))
    assert np.all(np.abs(found.value - theirs) <= found.rigorous)
    assert found.value[0] == pytest.approx(0, abs=1e-6)


def test_log_sigmoid_keeps_its_digits_far_out() -> None:
    case = given(aten.log_sigmoid_forward.default, Given(-1000, 0, 1000))
    case = replace(case, gs=(case.gs[0], None))
    for found in (case.values()[0].value, case.results[0]):
        np.testing.assert_allclose(found, [-1000, -math.log(2), 0], rtol=1e-15)
    np.testing.assert_allclose(case.gradient("x"), [3, 1.5, 0], rtol=1e-15)
    np.testing.assert_allclose(case.torch_gradient("x"), [3, 1.5, 0], rtol=1e-15)


@pytest.mark.low_precision
def test_torch_adds_the_bias_of_a_layer_up_in_bfloat16() -> None:
    """Numbers of 1/256 of the sum so far are rounded away, one after the other."""
    rows = Sample(aten.native_layer_norm.default, (normal(600, 4), [4], normal(4), normal(4), 1e-5))
    case = make(rows, "bfloat16")
    case = replace(case, gs=(torch.ones_like(case.outputs[0]), None, None))
    np.testing.assert_array_equal(case.gradient("b"), [600, 600, 600, 600])
    assert np.all(case.torch_gradient("b").astype(float) < 600)


zeros = Given(0, 0, 0, 2, 2)
LEAST = float(np.float32(1e-12))


@pytest.mark.parametrize(
    ("case", "operand", "expected"),
    [
        (given(aten.huber_loss.default, Given(-2, -1, 0, 1, 2), zeros, 0), "x", [-3, -3, 0, -3, 0]),
        (given(aten.smooth_l1_loss.default, Given(-2, 0, 2), Given(-1, 0, 1), 0), "x", [-3, 0, 3]),
        (given(aten.smooth_l1_loss.default, Given(-1, 0), Given(0, 0), 0, 0.0), "x", [-3, -3]),
        # A probability of 0 or 1: its logarithm is -100, its variance 10^-12.
        (
            given(aten.binary_cross_entropy.default, Given(0, 1), Given(1, 0)),
            "x",
            [-1.5 / LEAST, 1.5 / LEAST],
        ),
        (given(aten.binary_cross_entropy.default, Given(0, 1), Given(1, 0)), "t", [INF, -INF]),
        (given(aten.hardshrink.default, one, 1), "x", [3, 0, 0, 0, 0, 3, 3]),
        (given(aten.fmax.default, Given(0, NAN, 1, NAN), Given(0, 1, NAN, NAN)), "a", [3, 0, 3, 3]),
        (given(aten.fmax.default, Given(0, NAN, 1, NAN), Given(0, 1, NAN, NAN)), "b", [0, 3, 0, 0]),
        (given(aten.fmin.default, Given(0, NAN, 1, NAN), Given(0, 1, NAN, NAN)), "a", [3, 0, 3, 3]),
        (given(aten.fmin.default, Given(0, NAN, 1, NAN), Given(0, 1, NAN, NAN)), "b", [0, 3, 0, 0]),
        (given(aten.copysign.Tensor, Given(-0.0, 2, -2), Given(-1, -0.0, -1)), "a", [0, -3, 3]),
        (given(aten.nan_to_num.default, Given(NAN, 1)), "x", [0, 3]),
        (given(aten.sinc.default, Given(0, 1)), "x", [0, -3]),
        (given(aten.logit.default, Given(-1, 0, 1, 2)), "x", [NAN, INF, INF, NAN]),
        (given(aten.logit.default, Given(0.1, 0.2, 0.5), 0.2), "x", [0, 3 / 0.16, 12]),
        (given(aten.xlogy.Tensor, Given(0, 0, 1), Given(0, -1, 0)), "a", [0, 0, -INF]),
        (given(aten.xlogy.Tensor, Given(0, 2), Given(0, 4)), "b", [NAN, 1.5]),
        (given(aten.asin.default, Given(1, 2)), "x", [INF, NAN]),
        (given(aten.floor.default, Given(0, 1)), "x", [0, 0]),
    ],
    ids=lambda item: item.call.op if isinstance(item, Case) else str(item),
)
@pytest.mark.parametrize(
    "arithmetic", [None, Arithmetic.stepwise("float64")], ids=["plain", "bounded"]
)
def test_gradient_at_an_edge_of_losses_and_scalars(
    case: Case, operand: str, expected: list[float], arithmetic: Arithmetic | None
) -> None:
    ours = case.gradient(operand, arithmetic)
    plain: Any = ours if arithmetic is None else ours.value
    np.testing.assert_allclose(plain, expected, rtol=1e-15)
    np.testing.assert_allclose(case.torch_gradient(operand), expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (given(aten.binary_cross_entropy.default, Given(0, 1), Given(1, 0)), 100),
        (given(aten.sign.default, Given(-2, -0.0, NAN, INF)), [-1, 0, 0, 1]),
        (given(aten.round.default, Given(-2.5, -0.5, 0.5, 1.5)), [-2, 0, 0, 2]),
        (given(aten.trunc.default, Given(-2.5, 2.5, INF)), [-2, 2, INF]),
        (given(aten.frac.default, Given(-2.25, 2.25)), [-0.25, 0.25]),
        (given(aten.remainder.Tensor, Given(-7, 7, -7, 7), Given(3, -3, -3, 0)), [2, -2, -1, NAN]),
        (given(aten.remainder.Tensor, Given(-1e-300, 6), Given(3, 3)), [3, 0]),
        (given(aten.fmod.Tensor, Given(-7, 7, 6), Given(3, -3, 0)), [-1, 1, NAN]),
        (
            given(aten.logaddexp.default, Given(INF, -INF, 0), Given(INF, -INF, -INF)),
            [INF, -INF, 0],
        ),
        (given(aten.xlogy.Tensor, Given(0, 0, NAN), Given(0, NAN, 1)), [0, NAN, NAN]),
        (given(aten.sinc.default, Given(0)), 1),
        (given(aten.signbit.default, Given(-0.0, 0)), [True, False]),
        (given(aten.atan2.default, Given(0, 0, -0.0), Given(-1, 1, -1)), [math.pi, 0, -math.pi]),
        (given(aten.eq.Tensor, Given(NAN, 0), Given(NAN, -0.0)), [False, True]),
        (given(aten.fmax.default, Given(NAN, 1), Given(1, NAN)), [1, 1]),
    ],
    ids=lambda item: item.call.op if isinstance(item, Case) else str(item),
)
def test_value_at_an_edge_of_losses_and_scalars(case: Case, expected: Any) -> None:
    found = case.value()
    np.testing.assert_array_equal(getattr(found, "value", found), expected)
    np.testing.assert_array_equal(case.result, np.reshape(expected, case.result.shape))
