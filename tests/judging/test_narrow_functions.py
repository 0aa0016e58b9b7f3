"""Custom functions in 16 bits: held to float32 where they compute in it, and to float64 slopes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.judging.comparing.compare import compare
from gradwitness.judging.comparing.comparison import PROBABLE, settled_by

A, D, I = gw.Verdict.AGREES, gw.Verdict.DISAGREES, gw.Verdict.INCONCLUSIVE  # noqa: E741


class Wide(torch.autograd.Function):
    """A layer norm in float32 between casts, whose backward takes the mean off ``means`` times."""

    @staticmethod
    def forward(ctx: Any, x: Any, means: int) -> Any:
        wide = x.float()
        mean = wide.mean(-1, keepdim=True)
        rate = torch.rsqrt(wide.var(-1, unbiased=False, keepdim=True) + 1e-6)
        ctx.save_for_backward(x, mean, rate)
        ctx.means = means
        return ((wide - mean) * rate).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, mean, rate = ctx.saved_tensors
        g, normal = grads[0].float(), (x.float() - mean) * rate
        off = ctx.means * g.mean(-1, keepdim=True)
        return (rate * (g - off - normal * (g * normal).mean(-1, keepdim=True))).to(x.dtype), None


class Narrow(torch.autograd.Function):
    """The same, rounded to bfloat16 at every step: coarse, and honest."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        mean = x.mean(-1, keepdim=True)
        rate = torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-6)
        normal = (x - mean) * rate
        ctx.save_for_backward(normal, rate)
        return normal

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,), (normal, rate) = grads, ctx.saved_tensors
        return rate * (g - g.mean(-1, keepdim=True) - normal * (g * normal).mean(-1, keepdim=True))


def judged(function: Any, *arguments: Any, seed: int = 0) -> gw.Witness:
    draws = torch.Generator().manual_seed(seed)
    x, g = (torch.randn(16, 48, generator=draws).to(torch.bfloat16) for _ in range(2))
    x.requires_grad_()
    with gw.watch(names={"x": x}) as witness:
        torch.autograd.backward(function.apply(x, *arguments), g)
    return witness


@pytest.mark.parametrize(("means", "verdict"), [(1, A), (2, D)])
def test_what_computes_in_float32_is_held_to_it(means: int, verdict: gw.Verdict) -> None:
    for seed in range(3):
        witness = judged(Wide, means, seed=seed)
        assert witness.verdict is verdict
        (row,) = witness.report.rows
        if verdict is A:
            # One rounding of bfloat16, there and back.
            assert row.comparison.detects_relative < 2.0**-7 * 1.1


def test_what_rounds_at_every_step_is_never_refuted() -> None:
    for seed in range(5):
        assert judged(Narrow, seed=seed).verdict is not D


class Cast(torch.autograd.Function):
    """A product in 16 bits by a weight in float32, to which the engine converts its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, spoil: Any) -> Any:
        ctx.save_for_backward(x, w)
        ctx.spoil = spoil
        return x @ w.to(x.dtype).t()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,), (x, w) = grads, ctx.saved_tensors
        return g @ w.to(x.dtype), ctx.spoil(g.t() @ x), None


def one_off(gradient: Any, factor: float) -> Any:
    """Return a gradient in which the largest number is wrong."""
    largest = gradient.abs().flatten().argmax()
    gradient.view(-1)[largest] *= factor
    return gradient


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [5, 64])
def test_a_gradient_in_16_bits_of_a_weight_in_float32_is_held_to_one_rounding(
    rows: int, dtype: torch.dtype
) -> None:
    """The engine converts it without changing a number: its error is half a step in 16 bits."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 8, generator=draws).to(dtype)
    w = torch.randn(3, 8, generator=draws, requires_grad=True)
    g = torch.randn(rows, 3, generator=draws).to(dtype)

    def witnessed(spoil: Any) -> gw.Witness:
        w.grad = None
        with gw.watch(names={"w": w}) as witness:
            function: Any = Cast.apply
            torch.autograd.backward(function(x, w, spoil), g)
        return witness

    right = witnessed(lambda gradient: gradient)
    assert right.verdict is A, right.report.reasons()
    assert w.grad is not None
    assert w.grad.dtype == torch.float32
    true = g.double().t() @ x.double()
    unit = torch.finfo(dtype).eps / 2
    assert float(((w.grad - true).abs() / true.abs()).max()) < 1.01 * unit
    (row,) = right.report.rows
    assert row.comparison.detects_relative < (4.4 * unit if dtype is torch.bfloat16 else 0.1)
    wrong = [lambda s: s / 2, lambda s: 0.9 * s, lambda s: 1.1 * s, lambda s: -s, lambda s: 0 * s]
    wrong += [lambda s: one_off(s, 0.5), lambda s: one_off(s, 0.9), lambda s: one_off(s, 1.05)]
    # A second rounding may be meant.
    for spoil in wrong:
        assert witnessed(spoil).verdict is D
    assert witnessed(lambda s: s.to(torch.bfloat16)).verdict is not D


class Table(torch.autograd.Function):
    """An embedding whose backward adds up in a format of its own."""

    @staticmethod
    def forward(ctx: Any, table: Any, words: Any, dtype: torch.dtype) -> Any:
        ctx.save_for_backward(words)
        ctx.form = table.shape, dtype
        return torch.nn.functional.embedding(words, table)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (words,), (shape, dtype) = ctx.saved_tensors, ctx.form
        total = torch.zeros(shape, dtype=dtype)
        for word, g in zip(words, grads[0].to(dtype), strict=True):
            total[word] += g
        return total.to(grads[0].dtype), None, None


@pytest.mark.parametrize(("dtype", "verdict"), [(torch.float32, A), (torch.bfloat16, D)])
def test_hundreds_of_places_of_a_word_add_up_in_float32(
    dtype: torch.dtype, verdict: gw.Verdict
) -> None:
    # In bfloat16 a sum of numbers below 1 stops at 256, where half of a step is 1.
    draws = torch.Generator().manual_seed(0)
    table = torch.randn(4, 8, generator=draws).to(torch.bfloat16).requires_grad_()
    words = torch.zeros(600, dtype=torch.int64)
    g = (0.5 + 0.4 * torch.rand(600, 8, generator=draws)).to(torch.bfloat16)
    with gw.watch(names={"table": table}) as witness:
        function: Any = Table.apply
        torch.autograd.backward(function(table, words, dtype), g)
    assert witness.verdict is verdict


@pytest.mark.low_precision
@pytest.mark.parametrize("likely", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_words_as_frequent_as_in_a_language_must_add_up_in_float32(
    dtype: torch.dtype, likely: bool
) -> None:
    """By Zipf's law the first of 200 words stands at a sixth of all places: some 1,400 of 8,192.

    Where all are as likely, some 41 terms add up well enough in bfloat16.
    """
    draws = torch.Generator().manual_seed(0)
    shares = 1 / torch.arange(1, 201) if likely else torch.ones(200)
    words = torch.multinomial(shares / shares.sum(), 8192, replacement=True, generator=draws)
    table = torch.randn(200, 4, generator=draws).to(torch.bfloat16).requires_grad_()
    g = (0.1 * torch.randn(8192, 4, generator=draws) + 0.05).to(torch.bfloat16)
    with gw.watch(names={"table": table}) as witness:
        function: Any = Table.apply
        torch.autograd.backward(function(table, words, dtype), g)
    wrong = likely and dtype is torch.bfloat16
    assert witness.verdict is (D if wrong else A)
    exact = torch.zeros(200, 4, dtype=torch.float64).index_add_(0, words, g.double())
    assert table.grad is not None
    off = (table.grad.double() - exact).norm() / exact.norm()
    assert bool(off > 0.04) is wrong


def test_no_bound_of_a_sum_is_infinite() -> None:
    # 2^25 roundings of 2^-24: beyond Higham's gamma, and within n u.
    ones = np.broadcast_to(np.ones(1), 2**25 + 1)
    arithmetic = Arithmetic.stepwise("float32")
    exact: Any = Bounded(ones, arithmetic)
    total = np.sum(exact)
    assert float(total.rigorous) == pytest.approx(2**25 * arithmetic.accumulate * (2**25 + 1))
    recorded = np.array(2.0**25, np.float32)
    found = settled_by(compare(recorded, total, "float32"), lambda: 2.0**25)
    assert (found.verdict, found.reason) == (A, PROBABLE)
    assert 1e-4 < found.detects_relative < 0.01
