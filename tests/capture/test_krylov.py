"""Solves by conjugate gradients that stop early, with the gradient of the solution.

x = M^-1 b with M = L L^T + I has, for a cotangent g and w = M^-1 g, the gradients w for b and
-(w x^T + x w^T) L for L.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from capture.functions import apply
from gradwitness import Verdict
from gradwitness.judging.custom.slopes import Claim, measure
from gradwitness.tape import Value

N = 20


def solved(multiplied: Any, b: Any, tolerance: float, most: int) -> Any:
    """Return the solution by conjugate gradients, from zero on."""
    x, r = torch.zeros_like(b), b
    p, size = r, r @ r
    for _ in range(most):
        if float(size.sqrt()) <= tolerance:
            break
        image = multiplied(p)
        step = size / (p @ image)
        x, r = x + step * p, r - step * image
        before, size = size, r @ r
        p = r + size / before * p
    return x


class Solve(torch.autograd.Function):
    """By a factor of its matrix."""

    tolerance, most = 1e-5, 100
    fault = "none"

    @classmethod
    def solution(cls, factor: Any, b: Any) -> Any:
        return solved(lambda p: factor @ (factor.T @ p) + p, b, cls.tolerance, cls.most)

    @classmethod
    def forward(cls, ctx: Any, factor: Any, b: Any) -> Any:
        x = cls.solution(factor, b)
        ctx.save_for_backward(factor, x)
        ctx.cls = cls
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        factor, x = ctx.saved_tensors
        w = ctx.cls.solution(factor, grads[0])
        outer = torch.outer(w, x)
        half = ctx.cls.fault == "one side"
        sent = -(outer if half else outer + outer.T) @ factor
        largest = int(sent.abs().argmax())
        if ctx.cls.fault in FACTORS:
            sent = sent * FACTORS[ctx.cls.fault]
        elif ctx.cls.fault in ELEMENTS:
            sent.view(-1)[largest] *= ELEMENTS[ctx.cls.fault]
        elif ctx.cls.fault == "transposed":
            sent = sent.T
        return sent, w


FACTORS = {"zero": 0.0, "half": 0.5, "nine tenths": 0.9, "double": 2.0, "sign": -1.0}
ELEMENTS = {"one element by a half": 0.5, "one element by a tenth": 0.9, "one more": 1.1}
FAULTS = [*FACTORS, *ELEMENTS, "one side", "transposed"]
# Tolerance, most steps, size, format. The last one stops after as many as it has numbers.
RUNS = [
    (1e-5, 100, N, torch.float32),
    (1e-4, 100, N, torch.float32),
    (1e-10, 100, N, torch.float64),
    (0.0, 6, 6, torch.float32),
]


def verdict(fault: str, run: tuple[float, int, int, torch.dtype]) -> Any:
    tolerance, most, size, dtype = run
    torch.manual_seed(0)
    factor: Any = (0.15 * torch.randn(size, size)).to(dtype).requires_grad_()
    b = torch.randn(size).to(dtype).requires_grad_()
    members = {"fault": fault, "tolerance": tolerance, "most": most}
    function = type("Solve", (Solve,), members)
    with gw.watch(names={"factor": factor, "b": b}) as witness:
        apply(function, factor, b).square().sum().backward()
    if fault == "none":
        wide = [v.detach().double().requires_grad_() for v in (factor, b)]
        matrix = wide[0] @ wide[0].T + torch.eye(size).double()
        torch.linalg.solve(matrix, wide[1]).square().sum().backward()
        right: Any = wide[0].grad
        off = float((factor.grad - right).abs().max() / right.abs().max())
        assert off < 1e-4
    return witness.report


@pytest.mark.parametrize("run", RUNS)
def test_a_right_gradient_agrees(run: Any) -> None:
    report = verdict("none", run)
    assert report.verdict is Verdict.AGREES, report.reasons()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("run", RUNS)
def test_a_wrong_one_never_does(run: Any, fault: str) -> None:
    report = verdict(fault, run)
    if fault in ELEMENTS:
        assert report.verdict is not Verdict.AGREES
    else:
        assert report.verdict is Verdict.DISAGREES


class Staircase:
    """y = 2 x, but for the steps of a grid: where a solver stops makes such a staircase."""

    def __init__(self, grid: float) -> None:
        self.grid = grid

    def run(self, moved: Any) -> Any:
        return [2 * (np.round(moved[0] / self.grid + 0.3) - 0.3) * self.grid]


@pytest.mark.parametrize("grid", [10.0**-k for k in range(1, 9)])
def test_where_it_stops_neither_refutes_nor_confirms(grid: float) -> None:
    """The right gradient of 2 x is 2 g. Steps shorter than the grid find slopes of zero."""
    at = np.random.default_rng(0).normal(size=40)
    g = np.random.default_rng(1).normal(size=40)
    function = Staircase(grid)
    y = function.run({0: at})[0]
    size = float(np.linalg.norm(y))

    def judged(sent: Any) -> Verdict:
        claim = Claim(
            node=0,
            value=0,
            at=at,
            sent=sent,
            dtype="float32",
            incoming=[g],
            outputs=[Value(1, y.shape, "float64", y)],
            tremor=grid * len(at) ** 0.5 / size,
            unsettled=10 * grid * len(at) ** 0.5 / size,
        )
        return measure(function, claim).verdict

    assert judged(2 * g) is not Verdict.DISAGREES
    largest = np.arange(40) == np.argmax(np.abs(g))
    for wrong in (0 * g, g, 1.8 * g, -2 * g, np.where(largest, g, 2 * g)):
        assert judged(wrong) is not Verdict.AGREES
    assert judged(np.where(largest, 1.8 * g, 2 * g)) is not Verdict.AGREES
