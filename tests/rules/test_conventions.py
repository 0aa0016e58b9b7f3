"""What the rules say where mathematics leaves a choice, and at the edges: torch's choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness.engine.floats import Arithmetic
from rules.harness import Case, make
from rules.samples import SAMPLES, Draw, Sample, aten

INF, NAN = float("inf"), float("nan")


class Given(Draw):
    """An operand with numbers that are given, not drawn."""

    def __init__(self, *numbers: float) -> None:
        super().__init__((len(numbers),))
        object.__setattr__(self, "numbers", numbers)

    def make(self, rng: np.random.Generator, length: int) -> Any:
        del rng, length
        return np.array(self.__dict__["numbers"], dtype=np.float64)


def given(op: Any, *args: Any) -> Case:
    """A case with given numbers, and 3 as the cotangent of each result."""
    case = make(Sample(op, args))
    return replace(case, gs=tuple(None if g is None else torch.full_like(g, 3.0) for g in case.gs))


pow_, power = aten.pow.Tensor_Scalar, aten.pow.Tensor_Tensor
x0 = Given(0.0, -0.0)


@pytest.mark.parametrize(
    ("case", "operand", "expected"),
    [
        (given(aten.relu.default, Given(-2, -0.0, 0, 2, NAN)), "x", [0, 0, 0, 3, 3]),
        (given(aten.abs.default, Given(-2, -0.0, 0, 2, NAN)), "x", [-3, 0, 0, 3, 0]),
        (given(pow_, x0, 0), "x", [0, 0]),
        (given(pow_, x0, 1), "x", [3, 3]),
        (given(pow_, x0, 2), "x", [0, 0]),
        # At -0.0 torch has -inf here, from its short cut by a square root; IEEE 754 has inf.
        (given(pow_, Given(0), 0.5), "x", [INF]),
        (given(pow_, x0, -1), "x", [-INF, -INF]),
        (given(pow_, Given(-2, -3), 3), "x", [36, 81]),
        (given(pow_, Given(-2, -3), 0), "x", [0, 0]),
        (given(power, Given(0, 0, 0, 0), Given(0, 1, 2, 0.5)), "x", [0, 3, 0, INF]),
        (given(power, Given(0, 0, 0, 0), Given(0, 1, 2, 0.5)), "exponent", [0, 0, 0, 0]),
        (given(power, Given(0), Given(-1)), "exponent", [-INF]),
        (given(power, Given(-2, -2), Given(0, 2)), "exponent", [NAN, NAN]),
        (given(aten.pow.Scalar, 0.0, Given(0, 2, -1)), "exponent", [0, 0, -INF]),
        (given(aten.sqrt.default, Given(0, -0.0, -1)), "x", [INF, -INF, NAN]),
        (given(aten.log.default, Given(0, INF)), "x", [INF, 0]),
        (given(aten.div.Tensor, Given(2, 0), Given(0, 0)), "a", [INF, INF]),
        (given(aten.div.Tensor, Given(2, 0), Given(0, 0)), "b", [-INF, NAN]),
        (given(aten.sigmoid.default, Given(-INF, -1000, 0, 1000, NAN)), "x", [0, 0, 0.75, 0, NAN]),
        (given(aten.tanh.default, Given(-INF, -1000, 0, 1000, NAN)), "x", [0, 0, 3, 0, NAN]),
        (given(aten.silu.default, Given(-1000, 0, 1000)), "x", [0, 1.5, 3]),
        (given(aten.gelu.default, Given(-1000, 0, 1000)), "x", [0, 1.5, 3]),
        (given(aten.gelu.default, Given(-0.0)), "x", [1.5]),
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
    np.testing.assert_array_equal(ours if arithmetic is None else ours.value, expected)
    np.testing.assert_array_equal(case.torch_gradient(operand), expected)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (given(aten.relu.default, Given(-INF, -0.0, 0, INF, NAN)), [0, 0, 0, INF, NAN]),
        (given(aten.abs.default, Given(-INF, -0.0, NAN)), [INF, 0, NAN]),
        (given(pow_, x0, 0), [1, 1]),
        (given(pow_, x0, -1), [INF, -INF]),
        (given(pow_, Given(-8), 0.5), [NAN]),
        (given(power, Given(0, NAN, 1), Given(0, 0, NAN)), [1, 1, 1]),
        (given(aten.log.default, Given(0, -1)), [-INF, NAN]),
        (given(aten.sigmoid.default, Given(-1000, 0, 1000)), [0, 0.5, 1]),
        (given(aten.silu.default, Given(-1000, 0, 1000)), [0, 0, 1000]),
        (given(aten.exp.default, Given(-1000, 1000)), [0, INF]),
    ],
    ids=lambda item: item.call.op if isinstance(item, Case) else str(item),
)
def test_value_at_an_edge(case: Case, expected: list[float]) -> None:
    np.testing.assert_array_equal(case.value().value, expected)
    np.testing.assert_array_equal(case.result, expected)


def test_sums_over_nothing_are_0() -> None:
    for sample in (
        Sample(aten.mm.default, (Draw((2, 0)), Draw((0, 3)))),
        Sample(aten.sum.dim_IntList, (Draw((2, 0)), [1])),
    ):
        case = make(sample)
        assert case.result.size == case.value().size > 0
        assert not case.result.any()
        assert not case.value().value.any()
        assert case.gradient("A" if case.call.base_op == "aten.mm" else "x").size == 0


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized:UserWarning")
def test_torch_divides_the_gradient_of_a_broadcast_mean_by_too_few() -> None:
    """The rule has the true gradient: that of the same loss written as single operations."""
    case = make(next(sample for sample in SAMPLES if sample.name == "mse_loss broadcast"))
    x, t = case.leaves["x"], case.leaves["t"]
    (true,) = torch.autograd.grad(((x - t) ** 2).mean(), x, case.gs)
    np.testing.assert_allclose(case.gradient("x"), true.numpy(), rtol=1e-13)
    # 60 terms, but 4 elements in x.
    np.testing.assert_allclose(case.torch_gradient("x"), 15 * true.numpy(), rtol=1e-13)


def strided(base: torch.Tensor, *window: Any) -> gw.Report:
    """A program that looks through a window at a base of any memory."""
    weight = torch.nn.Parameter(base)
    with gw.watch(torch.nn.ParameterList([weight])) as witness:
        shown = (weight * 1).as_strided(*window)
        torch.autograd.backward(shown, torch.rand(shown.shape))
    return witness.report


@pytest.mark.parametrize(
    ("base", "window"),
    [
        (torch.rand(3, 4).T, ((2, 3), (1, 4), 1)),
        (torch.rand(3, 4).T, ((5, 3), (2, 1))),
    ],
    ids=["other order", "overlapping"],
)
def test_window_on_memory_in_another_order_is_judged(base: torch.Tensor, window: Any) -> None:
    report = strided(base, *window)
    assert dict(report.reasons()) == {}
    assert report.verdict is gw.Verdict.AGREES
