"""Conventions of norms, products, ranks and normalisation at their edges: torch's choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness._errors import Unjudgeable
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.judging.comparing.compare import compare
from gradwitness.rules import find
from gradwitness.verdict import Verdict
from rules.harness import Case, make
from rules.samples import Sample, aten
from rules.sampling import normal
from rules.test_conventions import INF, NAN, Given, given

length, norm, dist = aten.linalg_vector_norm.default, aten.norm.Scalar, aten.dist.default
zeros = Given(0, 0)


@pytest.mark.parametrize(
    ("case", "operand", "expected"),
    [
        *((given(length, zeros, p), "x", [0, 0]) for p in (0, 1, 2, 3, 1.5, 0.5, -1, INF, -INF)),
        (given(length, Given(0, -2), 1), "x", [0, -3]),
        (given(length, Given(0, -2), 0.5), "x", [0, -3]),
        (given(length, Given(0, -2), 3), "x", [0, -3]),
        # The largest share; the smallest is 0 here, whose sign is 0.
        (given(length, Given(2, -2, 1), INF), "x", [1.5, -1.5, 0]),
        (given(length, Given(0, -2, 1), -INF), "x", [0, 0, 0]),
        (given(length, Given(1, -1, 2), -INF), "x", [1.5, -1.5, 0]),
        (given(norm, Given(3, -4)), "x", [1.8, -2.4]),
        (given(dist, Given(1, 2), Given(1, 2)), "a", [0, 0]),
        (given(dist, Given(1, 2), Given(1, 2)), "b", [0, 0]),
        (given(dist, Given(1, 2), Given(4, 6)), "b", [1.8, 2.4]),
        (given(aten.prod.default, Given(2, 0, 5)), "x", [0, 30, 0]),
        (given(aten.prod.default, Given(0, 0, 5)), "x", [0, 0, 0]),
        (given(aten.prod.dim_int, Given(2, 0, 5), 0), "x", [0, 30, 0]),
        (given(aten.prod.dim_int, Given(0, 0, 5), 0), "x", [0, 0, 0]),
        (given(aten.nansum.default, Given(NAN, 1)), "x", [0, 3]),
        (given(aten.median.default, Given(3, 1, 1, 2)), "x", [0, 1.5, 1.5, 0]),
        (given(aten.median.default, Given(3, NAN, 1)), "x", [0, 3, 0]),
        (given(aten.nanmedian.default, Given(3, NAN, 1)), "x", [0, 0, 3]),
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
        (given(aten.cummax.default, Given(1, 1, 3, 2), 0), [3, 3, 6, 0]),
        (given(aten.cummin.default, Given(2, 2, 3, 1), 0), [3, 6, 0, 3]),
        (given(aten.kthvalue.default, Given(2, 3, 1), 2), [3, 0, 0]),
        (given(aten.median.dim, Given(2, 3, 1, 0), 0), [0, 0, 3, 0]),
        # The lower one of 1 and 2; of NaN alone there is none, and NaN's place gets the gradient.
        (given(aten.nanmedian.dim, Given(2, NAN, 1), 0), [0, 0, 3]),
        (given(aten.nanmedian.dim, Given(NAN), 0), [3]),
        # Torch names the last of those that are alike.
        (given(aten.mode.default, Given(2, 1, 2, 5)), [0, 0, 3, 0]),
        # Each end shares among those that tie.
        (given(aten.aminmax.default, Given(1, 1, 2)), [1.5, 1.5, 3]),
        # No part along a deviation of 0; the mean's is 1 / 2 each.
        (given(aten.std_mean.correction, Given(1, 1)), [1.5, 1.5]),
    ],
    ids=lambda item: item.call.op if isinstance(item, Case) else str(item),
)
def test_gradient_of_several_results(case: Case, expected: list[float]) -> None:
    np.testing.assert_allclose(case.gradient("x"), expected, rtol=1e-15)
    np.testing.assert_allclose(case.torch_gradient("x"), expected, rtol=1e-15)


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, 3.0, 1.5, INF])
def test_rows_that_are_equal_have_no_gradient(p: float) -> None:
    class Rows(Given):
        def make(self, rng: Any, length: int) -> Any:
            return super().make(rng, length)[None]

    case = given(aten._cdist_forward.default, Rows(1, -2), Rows(1, -2), p, None)
    for operand in ("a", "b"):
        np.testing.assert_array_equal(case.gradient(operand), [[0, 0]])
        np.testing.assert_array_equal(case.torch_gradient(operand), [[0, 0]])


def test_largest_differences_that_tie_get_the_whole_gradient() -> None:
    class Rows(Given):
        def make(self, rng: Any, length: int) -> Any:
            return super().make(rng, length)[None]

    case = given(aten._cdist_forward.default, Rows(1, -2, 0), Rows(0, -1, 0), INF, None)
    np.testing.assert_array_equal(case.gradient("a"), [[3, -3, 0]])
    np.testing.assert_array_equal(case.torch_gradient("a"), [[3, -3, 0]])


def test_which_difference_is_the_largest_is_not_judged_where_rounding_decides() -> None:
    case = given(dist, Given(1, 1.001), zeros, INF)
    with pytest.raises(Unjudgeable, match="which difference is the largest"):
        case.gradient(case.inputs()[0])


@pytest.mark.parametrize(("index", "expected"), [(0, 0), (1, 1), (2, 0)])
def test_of_ties_the_recorded_one_is_taken_if_it_is_one(index: int, expected: int) -> None:
    case = given(aten.median.dim, Given(2, 2, 1, 3), 0)
    recorded = case.tape.values[case.call.outputs[1] or 0]
    recorded.array[...] = index  # type: ignore[index]
    assert [int(np.asarray(getattr(y, "value", y))) for y in case.values()] == [2, expected]


@pytest.mark.parametrize("rows", [2, 64, 300, 1024, 4096])
@pytest.mark.parametrize("alike", [True, False], ids=["alike", "random"])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.low_precision
def test_layer_norm_adds_rows_up_in_bfloat16(rows: int, alike: bool, seed: int) -> None:
    """Sums of which every partial one is stored in 16 bits lie within their bound."""
    sample = Sample(
        aten.native_layer_norm.default, (normal(rows, 6), [6], normal(6), normal(6), 1e-5)
    )
    case = make(sample, "bfloat16", seed)
    random = case.gs[0]
    case = replace(case, gs=(torch.ones_like(case.outputs[0]) if alike else random, None, None))
    for operand in ("w", "b"):
        ours = case.gradient(operand, Arithmetic.stepwise("bfloat16"))
        found = compare(case.torch_gradient(operand), ours, "bfloat16")
        assert found.verdict is not Verdict.DISAGREES
        # Long sums in 16 bits may be anything.
        assert found.verdict is Verdict.AGREES or rows > 64


@pytest.mark.low_precision
def test_sum_of_64_rows_in_bfloat16_is_judged() -> None:
    sample = Sample(
        aten.native_layer_norm.default, (normal(64, 6), [6], normal(6), normal(6), 1e-5)
    )
    case = make(sample, "bfloat16")
    case = replace(case, gs=(case.gs[0], None, None))
    ours = case.gradient("b", Arithmetic.stepwise("bfloat16"))
    found = compare(-case.torch_gradient("b"), ours, "bfloat16")
    assert found.verdict is Verdict.DISAGREES


def test_running_statistics_that_a_batch_norm_changes_are_kept_as_they_were() -> None:
    torch.manual_seed(0)
    layer = torch.nn.InstanceNorm1d(3, affine=True, track_running_stats=True)
    x = torch.randn(2, 3, 5, requires_grad=True)
    with gw.watch(layer) as witness:
        (layer(x) * torch.rand(2, 3, 5)).sum().backward()
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
    assert not witness.report.wrong


def test_parts_of_a_spectral_norm_are_judged() -> None:
    torch.manual_seed(0)
    layer = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(4, 3))
    with gw.watch(layer) as witness:
        (layer(torch.rand(2, 4)) * torch.rand(2, 3)).sum().backward()
    assert witness.verdict is gw.Verdict.AGREES, str(witness)


@pytest.mark.parametrize(
    ("case", "value"),
    [
        (given(aten.nanmedian.dim, Given(2, NAN, 1), 0), 1),
        (given(aten.nanmedian.default, Given(4, NAN, 3, NAN, 1, 2)), 2),
        (given(aten.nanmedian.dim, Given(NAN), 0), NAN),
        (given(aten.median.dim, Given(2, NAN, 1), 0), NAN),
        (given(aten.mode.default, Given(2, 1, 2, 5)), 2),
    ],
    ids=lambda item: item.call.op if isinstance(item, Case) else str(item),
)
def test_value_of_a_rank_beside_nan(case: Case, value: float) -> None:
    np.testing.assert_array_equal(getattr(case.values()[0], "value", case.values()[0]), value)
    np.testing.assert_array_equal(case.results[0], value)


@pytest.mark.parametrize("op", [aten._softmax.default, aten._log_softmax.default])
def test_a_number_alone_in_its_sum_is_taken_off_itself_exactly(op: Any) -> None:
    found: Any = given(op, Given(0.3), 0, False).gradient("x", Arithmetic.stepwise("float32"))
    assert not np.any(found.value)
    assert not np.any(found.rigorous)


def test_each_running_extreme_rounds_only_what_is_added_to_it() -> None:
    # Not the length of the axis: its gradients are added up at their places, in one pass.
    g = Bounded(np.array([0.1, 0.2, 0.3, 0.4, 0.5]), Arithmetic.stepwise("float32"))
    rule = find("aten.cummax")
    assert rule
    sent = rule.gradients["x"](
        (g, None), (None, np.array([0, 1, 1, 1, 4])), (np.zeros(5),), {"dim": 0}
    )
    unit = 2.0**-24 + 2.0**-53
    assert sent.value == pytest.approx([0.1, 0.9, 0, 0, 0.5])
    # Two additions of three terms, of 0.9 in all.
    assert sent.rigorous == pytest.approx([0, 2 * unit * 0.9, 0, 0, 0], rel=1e-6)
