"""Elementwise rules at NaN, infinities, signed zeros, and the ends of a format, against torch."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

import gradwitness as gw
from gradwitness.rules import find
from gradwitness.rules.registry import ELEMENTWISE
from rules.samples import SAMPLES, Draw, Sample
from rules.sampling import Index, Made, Mask, Planar

NAN, INF = float("nan"), float("inf")
# Where torch's own formula is not right for finite numbers: docs/limits.md.
WRONG = {
    # Its sign is lost for a magnitude below 0.
    "polar": ("float32", "float64"),
    # It takes 1 / sqrt(x) for x ** -0.5.
    "pow.Tensor_Scalar 0.5": ("float32", "float64"),
    "special_zeta": ("float32",),
    "igamma": ("float32",),
    "igammac": ("float32",),
    # It leaves coefficients out, and loses half of the digits: see the faults of torch.
    **{f"special_bessel_{kind}": ("float64",) for kind in ("j0", "j1", "y0", "y1")},
    "special_airy_ai": ("float64",),
    # Here it is the witness in float64: x + 2 y, where 2 y alone overflows.
    "add.Tensor 0-d": ("float64",),
}


def _real_and_elementwise(sample: Sample) -> bool:
    name, _, _ = str(sample.op).rpartition(".")
    rule = find(name)
    drawn = [argument for argument in sample.args if isinstance(argument, Draw)]
    plain = not any(isinstance(draw, Index | Made | Mask | Planar) for draw in drawn)
    return rule is not None and rule.apart == ELEMENTWISE and plain and 0 < len(drawn) <= 3


ELEMENTS = [sample for sample in SAMPLES if _real_and_elementwise(sample)]


def special(dtype: torch.dtype, operands: int) -> list[float]:
    """NaN, infinities, zeros, subnormal and huge numbers, and some between; fewer for several."""
    ends = torch.finfo(dtype)
    tiny, huge = [ends.tiny / 8, -ends.tiny / 8, ends.tiny], [ends.max, -ends.max]
    numbers = [NAN, INF, -INF, 0.0, -0.0, 1.0, -0.5, 3.0]
    if operands < 3:
        numbers += [*tiny[: 3 - 2 * (operands > 1)], *huge, -1.0, 0.5, -2.5]
    return numbers + [40.0, -40.0, 1e5, -1e5, 0.1] * (operands == 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sample", ELEMENTS, ids=lambda sample: sample.name)
def test_torch_and_the_rule_agree_on_special_values(sample: Sample, dtype: str) -> None:
    drawn = [argument for argument in sample.args if isinstance(argument, Draw)]
    kind: torch.dtype = getattr(torch, dtype)
    grid = itertools.product(special(kind, len(drawn)), repeat=len(drawn))
    columns = torch.tensor(list(grid), dtype=kind).T
    leaves = {
        f"x{n}": column.clone().requires_grad_(not draw.constant)
        for n, (draw, column) in enumerate(zip(drawn, columns, strict=True))
    }
    operands = iter(leaves.values())
    args = [next(operands) if isinstance(a, Draw) else a for a in sample.args]
    with gw.watch(names=leaves) as witness:
        result: Any = sample.op(*args, **sample.kwargs)
        if result.requires_grad:
            generator = torch.manual_seed(1)
            seed = torch.rand(result.shape, generator=generator, dtype=result.dtype) + 0.5
            torch.autograd.backward(result, seed)
    assert witness.report.findings
    assert bool(witness.report.wrong) is (dtype in WRONG.get(sample.name, ())), str(witness)


def test_elementwise_rules_are_many() -> None:
    # Were they not found, the sweep would be empty.
    assert len(ELEMENTS) > 80
    assert set(WRONG) <= {sample.name for sample in ELEMENTS}


@pytest.mark.parametrize(
    ("function", "number", "result"),
    [
        (torch.angle, INF, 0.0),  # C99: the argument of what lies on the right half of the axis
        (torch.angle, -INF, 3.141592653589793),
        (torch.lgamma, -INF, INF),  # C99: lgamma of an infinity is +inf
        (torch.lgamma, INF, INF),
    ],
)
def test_torch_follows_c99_and_so_does_the_rule(
    function: Any, number: float, result: float
) -> None:
    x = torch.tensor([number, 3.0], dtype=torch.float64, requires_grad=True)
    with gw.watch(names={"x": x}) as witness:
        y = function(x)
    assert y[0].item() == result
    assert [f.verdict for f in witness.report.findings] == [gw.Verdict.AGREES]
