"""Special functions at poles and edges, over their whole range, and in a model's loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness.engine.floats import Arithmetic
from rules.harness import Case
from rules.samples_special import POLYNOMIALS
from rules.sampling import aten
from rules.test_conventions import INF, NAN, Given, given


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (given(aten.lgamma.default, Given(-1, 0, 1, 2, INF)), [INF, INF, 0, 0, INF]),
        (given(aten.digamma.default, Given(-1, -0.0, 0)), [NAN, INF, -INF]),
        (given(aten.polygamma.default, 1, Given(0, INF)), [INF, 0]),
        (given(aten.polygamma.default, 2, Given(0)), [-INF]),
        (given(aten.erfinv.default, Given(-1, 0, 1, 2)), [-INF, 0, INF, NAN]),
        (given(aten.special_ndtri.default, Given(0, 0.5, 1, 2)), [-INF, 0, INF, NAN]),
        (given(aten.special_entr.default, Given(-1, 0, 1, NAN)), [-INF, 0, 0, NAN]),
        (
            given(aten.special_xlog1py.default, Given(0, 0, 0), Given(-1, NAN, -2)),
            [0, NAN, 0],
        ),
        (given(aten.i0.default, Given(0)), [1]),
        (given(aten.special_i1e.default, Given(0)), [0]),
    ],
    ids=lambda item: item.call.op if isinstance(item, Case) else str(item),
)
def test_value_at_an_edge_of_special_functions(case: Case, expected: Any) -> None:
    found = case.value()
    np.testing.assert_array_equal(found.value, expected)
    np.testing.assert_array_equal(case.result, np.reshape(expected, case.result.shape))


@pytest.mark.parametrize(
    ("case", "operand", "expected"),
    [
        (given(aten.lgamma.default, Given(0, INF)), "x", [-INF, INF]),
        (given(aten.special_i1.default, Given(0)), "x", [1.5]),
        (given(aten.special_i1e.default, Given(-0.0)), "x", [1.5]),
        (given(aten.special_i0e.default, Given(0)), "x", [0]),
        (given(aten.special_entr.default, Given(-1, 0, 1)), "x", [NAN, INF, -3]),
        (given(aten.special_xlog1py.default, Given(0, 0), Given(-1, 0)), "a", [0, 0]),
        (given(aten.erfinv.default, Given(1)), "x", [INF]),
    ],
    ids=lambda item: item.call.op if isinstance(item, Case) else str(item),
)
@pytest.mark.parametrize(
    "arithmetic", [None, Arithmetic.stepwise("float64")], ids=["plain", "bounded"]
)
def test_gradient_at_an_edge_of_special_functions(
    case: Case, operand: str, expected: list[float], arithmetic: Arithmetic | None
) -> None:
    ours = case.gradient(operand, arithmetic)
    plain: Any = ours if arithmetic is None else ours.value
    np.testing.assert_allclose(plain, expected, rtol=1e-15)
    np.testing.assert_allclose(case.torch_gradient(operand), expected, rtol=1e-15)


EVERYWHERE = np.concatenate([np.linspace(-9, 9, 1801) + 1e-3, np.geomspace(1e-6, 1e4, 200)])
PROBABLE = np.concatenate([np.linspace(0, 1, 998)[1:-1], 0.5 ** np.arange(2.0, 24.0)])
RANGES: list[tuple[Any, np.ndarray[Any, Any]]] = [
    (torch.lgamma, EVERYWHERE),
    (torch.digamma, EVERYWHERE),
    (lambda x: torch.polygamma(1, x), EVERYWHERE),
    (lambda x: torch.polygamma(2, x), EVERYWHERE),
    (lambda x: torch.polygamma(3, x), EVERYWHERE),
    (torch.special.i0, np.linspace(-80, 80, 1601)),
    (torch.special.i0e, np.linspace(-200, 200, 1601)),
    (torch.special.i1, np.linspace(-80, 80, 1601)),
    (torch.special.i1e, np.linspace(-200, 200, 1601)),
    (torch.erfinv, 1 - 2 * PROBABLE),
    (torch.special.ndtri, PROBABLE),
    (torch.special.log_ndtr, np.linspace(-60, 12, 1601)),
    (torch.special.erfcx, np.linspace(-9, 120, 1601)),
    *(
        (lambda x, f=f, a=a: f(torch.tensor(a, dtype=x.dtype), x), np.linspace(0.01, 20, 400))
        for f, a in [(torch.igamma, 3.5), (torch.igammac, 3.5), (torch.igammac, 0.3)]
    ),
    (lambda q: torch.special.zeta(torch.tensor(2.3, dtype=q.dtype), q), np.geomspace(0.1, 50, 300)),
]
FALLING = np.concatenate([np.geomspace(1e-6, 80, 500), np.linspace(0.01, 60, 500)])
BOTH_SIDES = np.concatenate([FALLING, -FALLING])
# Of functions without a gradient; those in float32 alone lack digits in float64.
VALUES: list[tuple[str, np.ndarray[Any, Any], tuple[torch.dtype, ...]]] = [
    ("modified_bessel_k0", FALLING, (torch.float32, torch.float64)),
    ("modified_bessel_k1", FALLING, (torch.float32, torch.float64)),
    ("scaled_modified_bessel_k0", FALLING, (torch.float32, torch.float64)),
    ("scaled_modified_bessel_k1", FALLING, (torch.float32, torch.float64)),
    ("spherical_bessel_j0", BOTH_SIDES, (torch.float32, torch.float64)),
    ("bessel_j0", BOTH_SIDES, (torch.float32,)),
    ("bessel_j1", BOTH_SIDES, (torch.float32,)),
    ("bessel_y0", FALLING, (torch.float32,)),
    ("bessel_y1", FALLING, (torch.float32,)),
    ("airy_ai", np.linspace(-2, 13, 1601), (torch.float32, torch.float64)),
    ("airy_ai", np.linspace(-60, -3, 1601), (torch.float32,)),
]


@pytest.mark.parametrize(
    ("name", "numbers", "dtype"),
    [(name, numbers, dtype) for name, numbers, dtypes in VALUES for dtype in dtypes],
)
def test_the_whole_range_of_values_agrees(
    name: str, numbers: np.ndarray[Any, Any], dtype: torch.dtype
) -> None:
    with gw.watch() as witness:
        getattr(torch.special, name)(torch.tensor(numbers, dtype=dtype))
    (found,) = [f for f in witness.report.findings if name in f.title]
    assert found.verdict is gw.Verdict.AGREES, str(witness)
    assert found.comparison.ratio < 0.8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials_agree_up_to_degree_13(name: str, dtype: torch.dtype) -> None:
    x, degrees = torch.arange(-3, 3, 0.0237, dtype=dtype), torch.arange(-2.0, 14.0, dtype=dtype)
    function = getattr(torch.special, name)
    with gw.watch() as witness:
        function(x, degrees[:, None])
        function(x, 5)
        function(0.3, degrees)
    found = [f for f in witness.report.findings if name in f.title]
    assert [f.verdict for f in found] == [gw.Verdict.AGREES] * 3, str(witness)


def test_the_gradient_with_respect_to_the_shape_of_the_gamma_distribution_is_left_open() -> None:
    class Lower(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return torch.igamma(a, x)

        @staticmethod
        def backward(_: Any, g: Any) -> Any:
            return torch.ones_like(g), None

    a = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    with gw.watch(names={"a": a}, rerun=False) as witness:
        lower: Any = Lower.apply
        lower(a, torch.tensor([1.0], dtype=torch.float64)).sum().backward()
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    assert "no gradient of aten.igamma with respect to 'a' is known" in str(witness)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("place", range(len(RANGES)))
def test_the_whole_range_agrees(place: int, dtype: torch.dtype) -> None:
    function, numbers = RANGES[place]
    x = torch.tensor(numbers, dtype=dtype, requires_grad=True)
    weights = torch.rand(len(numbers), generator=torch.manual_seed(0), dtype=dtype) + 0.5
    with gw.watch(names={"x": x}) as witness:
        (function(x) * weights).sum().backward()
    assert not witness.report.wrong, str(witness)
    assert witness.report.count(gw.Verdict.INCONCLUSIVE) == 0, str(witness)


def test_likelihoods_are_judged() -> None:
    torch.manual_seed(0)
    concentration = torch.rand(4, 3).add(0.5).requires_grad_()
    rate = torch.rand(4, 3).add(0.5).requires_grad_()
    counts = torch.tensor([[0.0, 1.0, 5.0]] * 4)
    shares = torch.distributions.Dirichlet(torch.ones(3)).sample((4,))
    made: Any = torch.distributions
    with gw.watch(names={"concentration": concentration, "rate": rate}) as witness:
        loss = -made.Dirichlet(concentration).log_prob(shares).sum()
        loss = loss - made.Gamma(concentration, rate).log_prob(shares + 0.1).sum()
        loss = loss - made.NegativeBinomial(rate, logits=concentration).log_prob(counts).sum()
        loss = loss - made.Poisson(rate).log_prob(counts).sum()
        loss = loss - made.StudentT(concentration).log_prob(shares).sum()
        loss = loss - made.VonMises(shares, concentration).log_prob(shares).sum()
        loss = loss + made.kl_divergence(made.Beta(concentration, rate), made.Beta(1, 2)).sum()
        loss.backward()
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
    assert math.isfinite(loss.item())
