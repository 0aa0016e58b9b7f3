"""Backward kernels that compute in float32 and round once are held to that, and no others are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import gradwitness as gw
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.judging.comparing.comparison import IN_TURN
from gradwitness.judging.finding import Step
from gradwitness.rules.kernel_ops import added_in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.judging.finding import Finding

pytestmark = pytest.mark.low_precision
U = 2.0**-8  # bfloat16's unit roundoff


def normalised(x: Any, layout: str = "") -> Any:
    """Return a batch norm of an image, in a memory order or with a gradient that repeats."""
    x = x.reshape(4, 3, 4, 4)
    if layout:
        x = x.contiguous(memory_format=torch.channels_last)
    return F.batch_norm(x, None, None, training=True)


KERNELS: dict[str, Callable[[Any], Any]] = {
    "silu": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "elu": F.elu,
    "celu": lambda x: F.celu(x, 1.5),
    "hardswish": F.hardswish,
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(0),
    "layer norm": lambda x: F.layer_norm(x, (16,)),
    "group norm": lambda x: F.group_norm(x.reshape(4, 6, 8), 2),
    "batch norm": normalised,
}
# What torch runs as a chain while the backward makes a graph, or in another order of memory.
CHAINS: dict[str, Callable[[Any], Any]] = {
    "silu": F.silu,
    "mish": F.mish,
    "group norm": lambda x: F.group_norm(x.reshape(4, 6, 8), 2),
    "batch norm by channels": lambda x: normalised(x, "channels last"),
}


def backward(
    function: Callable[[Any], Any], seed: int, *, graph: bool
) -> tuple[gw.Witness, Finding]:
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(12, 16, generator=draws).to(torch.bfloat16).requires_grad_()
    with gw.watch(names={"x": x}) as witness:
        y = function(x)
        g = torch.randn(y.shape, generator=draws).to(torch.bfloat16)
        torch.autograd.grad(y, x, g, create_graph=graph)
    steps = [f for f in witness.report.findings if f.step is Step.BACKWARD and f.comparison.ratio]
    return witness, max(steps, key=lambda f: f.comparison.detects_relative)


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_held_to_one_rounding_of_its_format(name: str) -> None:
    for seed in range(5):
        witness, step = backward(KERNELS[name], seed, graph=False)
        assert witness.verdict is gw.Verdict.AGREES
        # Twice the bound; what float32 adds in the middle is far below a rounding of bfloat16.
        assert step.comparison.detects_relative < 2 * U * 1.05


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_kernels_is_not(name: str) -> None:
    witnesses = [backward(CHAINS[name], seed, graph=True)[0] for seed in range(5)]
    assert not any(witness.report.wrong for witness in witnesses)


def test_a_chain_stores_what_it_makes_of_its_coarsest_operand() -> None:
    # The logarithm of the sigmoid of x is stored in bfloat16, the loss in the target's float32.
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, generator=draws).to(torch.bfloat16).requires_grad_()
    target = torch.randint(0, 2, (3, 4), generator=draws).float()
    with gw.watch(names={"x": x}) as witness:
        torch.autograd.backward(F.binary_cross_entropy_with_logits(x, target))
    assert witness.verdict is gw.Verdict.AGREES


@pytest.mark.parametrize("stretches", [1, 2, 3, 40])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_sums_in_turn_stay_within_their_bound(stretches: int, shift: float) -> None:
    worst = []
    for seed in range(20):
        terms = np.random.default_rng(seed).standard_normal((40, 7)) + shift
        terms = terms.astype(ml_dtypes.bfloat16).astype(float)
        total = np.zeros(7)
        for stretch in np.array_split(terms, stretches):
            stored = np.zeros(7, ml_dtypes.bfloat16)
            for row in stretch.astype(np.float32):
                stored = (stored.astype(np.float32) + row).astype(ml_dtypes.bfloat16)
            total += stored.astype(float)
        bounded: Any = added_in_turn(Bounded(terms, Arithmetic.stepwise("bfloat16").in_kernel))
        np.testing.assert_allclose(bounded.value, terms.sum(0), atol=1e-12)
        error = np.abs(total - terms.sum(0))
        assert (error <= bounded.rigorous).all()
        assert (bounded.probable <= bounded.rigorous).all()
        worst.append(np.max(error / bounded.rigorous))
    if stretches == 1:
        # Roundings of both signs use up a good part of the bound, and not nearly all of it.
        assert max(worst) > 0.1


def rows(count: int) -> gw.Witness:
    """Normalise rows in bfloat16: the gradients of weight and bias are summed row by row in it."""
    draws = torch.Generator().manual_seed(0)
    x, g = (torch.randn(count, 8, generator=draws).to(torch.bfloat16) for _ in range(2))
    layer = torch.nn.LayerNorm(8, dtype=torch.bfloat16)
    with gw.watch(layer) as witness:
        torch.autograd.backward(layer(x), g)
    return witness


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_long_sum_agrees_that_is_rounded_as_its_kernel_does(threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        witness = rows(200)
    finally:
        torch.set_num_threads(1)
    assert witness.verdict is gw.Verdict.AGREES
    turned = [f for f in witness.report.findings if f.comparison.reason == IN_TURN]
    assert {f.title[-1] for f in turned} == {"w", "b"}
    # A few roundings of bfloat16, where the bound of any order would hide all of it.
    assert all(f.comparison.detects_relative < 0.05 for f in turned)


@pytest.mark.parametrize("spoil", [1.02, 0.9])
def test_a_long_sum_that_is_not_stays_in_doubt(spoil: float) -> None:
    # So much lies within what adding 200 rows in bfloat16 may lose, in some order.
    tape = rows(200).tape
    (run,) = [run for run in tape.sweeps[0].node_runs if len(run.outgoing) == 3]
    sent = tape.values[run.outgoing[2] or 0]
    array: Any = np.asarray(sent.array)
    spoilt = replace(sent, array=(array.astype(float) * spoil).astype(array.dtype))
    values = tuple(spoilt if value.id == sent.id else value for value in tape.values)
    report = gw.judge(replace(tape, values=values))
    (step,) = [f for f in report.findings if f.title.endswith("gradient of b")]
    assert step.verdict is gw.Verdict.INCONCLUSIVE
