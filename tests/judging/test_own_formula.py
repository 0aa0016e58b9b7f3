"""Custom functions of few numbers in bfloat16, held against their own formula in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gradwitness as gw
from gradwitness.judging.comparing.comparison import OWN

A, D, I = gw.Verdict.AGREES, gw.Verdict.DISAGREES, gw.Verdict.INCONCLUSIVE  # noqa: E741
RAN: list[int] = []
COUNT = torch.zeros(())


class Gauss(torch.autograd.Function):
    """x e^(-x^2/20), whose second term is at most about a tenth of the first."""

    # Of the main term and of the second one.
    factors = 1.0, 1.0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * torch.exp(-0.05 * x * x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,), (main, second) = ctx.saved_tensors, Gauss.factors
        bell = torch.exp(-0.05 * x * x)
        return main * grads[0] * bell - second * 0.1 * grads[0] * x * x * bell


class Softmax(torch.autograd.Function):
    """Without the sum that a softmax's backward takes off, or with it."""

    factors = 1.0, 1.0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        powers = torch.exp(x - x.amax(-1, keepdim=True))
        y = powers / powers.sum(-1, keepdim=True)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (y,), (main, second) = ctx.saved_tensors, Softmax.factors
        off = (y * grads[0]).sum(-1, keepdim=True)
        return y * (main * grads[0] - second * off)


class Noted(torch.autograd.Function):
    """x e^(-x^2/20) again, but its backward leaves a trace."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * torch.exp(-0.05 * x * x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        RAN.append(1)
        (x,) = ctx.saved_tensors
        return grads[0] * torch.exp(-0.05 * x * x) * (1 - 0.1 * x * x)


class Counted(Noted):
    """The same, with a tensor."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        COUNT.add_(1)
        (x,) = ctx.saved_tensors
        return grads[0] * torch.exp(-0.05 * x * x) * (1 - 0.1 * x * x)


def judged(function: Any, seed: int, size: float = 1.0) -> gw.Witness:
    draws = torch.Generator().manual_seed(seed)
    x = (size * torch.randn(4, 8, generator=draws)).bfloat16().requires_grad_()
    with gw.watch(names={"x": x}) as witness:
        y = function.apply(x)
        torch.autograd.backward(y, torch.randn(4, 8, generator=draws).bfloat16())
    return witness


@pytest.mark.parametrize("function", [Gauss, Softmax])
@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ((1.0, 1.0), A),
        # A constant of three digits is as good as bfloat16 has it.
        ((1.001, 1.0), A),
        ((1.0, 0.0), D),
        ((1.02, 1.02), D),
        ((0.98, 0.98), D),
    ],
)
def test_a_missing_term_or_two_percent_are_found(
    monkeypatch: pytest.MonkeyPatch,
    function: Any,
    factors: tuple[float, float],
    verdict: gw.Verdict,
) -> None:
    monkeypatch.setattr(function, "factors", factors)
    for seed in range(3):
        witness = judged(function, seed)
        assert witness.verdict is verdict
        (step,) = (
            f for f in witness.report.findings if "gradient of" in f.title and "input 0" in f.title
        )
        assert step.verdict is verdict
        assert (step.comparison.reason == OWN) is (verdict is A)
        if verdict is A:
            # A twentieth, and what bfloat16 has lost.
            assert 0.05 < step.comparison.detects_relative < 0.1


def test_a_backward_that_leaves_a_trace_does_not_run_again() -> None:
    RAN.clear()
    COUNT.zero_()
    assert judged(Noted, 0).verdict is I
    assert RAN == [1]
    assert judged(Counted, 0).verdict is I
    assert COUNT == 1


def test_what_is_far_from_its_own_formula_stays_in_doubt() -> None:
    class Shifted(Gauss):
        """Loses 7 % of the largest number in bfloat16, and nothing else."""

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            g = Gauss.backward(ctx, *grads)
            return g + 0.07 * g.abs().max() if g.dtype is torch.bfloat16 else g

    assert judged(Shifted, 0).verdict is not A


def test_the_row_says_what_its_function_agrees_by() -> None:
    witness = judged(Gauss, 0)
    (row,) = witness.report.rows
    assert row.comparison.reason == row.grounds == OWN
    assert 0.05 < row.comparison.detects_relative < 0.1
    assert "AGREES by its own formula" in str(witness)
