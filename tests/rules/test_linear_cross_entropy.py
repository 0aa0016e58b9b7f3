"""Cross entropy behind a linear map, in chunks: by sums over single numbers, and by torch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import gradwitness as gw
from gradwitness.rules import find

IGNORED = -100
TARGET = np.array([2, 0, IGNORED, 3, 3])
RNG = np.random.default_rng(0)
X, W, BIAS = (RNG.standard_normal(shape) for shape in ((5, 3), (4, 3), (4,)))
WEIGHT = np.array([0.5, 1.0, 2.0, 0.25])
ENTROPY, ENTROPIES = (
    f"torch_nn._linear_cross_entropy_batch_chunked{end}" for end in ("", "_no_reduction")
)


def losses(x: Any, w: Any, bias: Any, weight: Any) -> tuple[list[float], float]:
    """The loss of each row, and the sum of their weights."""
    found, total = [], 0.0
    for row, target in zip(x, TARGET, strict=True):
        if target == IGNORED:
            found.append(0.0)
            continue
        scores = [math.fsum(row * w[c]) + (0 if bias is None else bias[c]) for c in range(4)]
        share = 1.0 if weight is None else weight[target]
        found.append(share * (math.log(math.fsum(map(math.exp, scores))) - scores[target]))
        total += share
    return found, total


def expected(reduction: str, *operands: Any) -> Any:
    rows, total = losses(*operands)
    if reduction == "none":
        return np.array(rows)
    return np.array(math.fsum(rows) / (total if reduction == "mean" else 1))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("bias", [None, BIAS], ids=["plain", "shifted"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["alike", "weighted"])
def test_value_and_gradients_are_those_of_sums(reduction: str, bias: Any, weight: Any) -> None:
    rule = find(ENTROPIES if reduction == "none" else ENTROPY)
    assert rule
    how = {"ignore_index": IGNORED} | ({} if reduction == "none" else {"reduction": reduction})
    right = expected(reduction, X, W, bias, weight)
    made = rule.function(X, W, TARGET, bias, weight, **how)
    np.testing.assert_allclose(made[0] if reduction != "none" else made, right, rtol=1e-12)
    g = RNG.standard_normal(right.shape)
    given = g if reduction == "none" else (g, None, None, None)
    operands = {"x": X, "W": W} | ({} if bias is None else {"bias": bias})
    for name, operand in operands.items():
        back = rule.gradients[name](given, made, (X, W, TARGET, bias, weight), how)

        def weighed(moved: Any, name: str = name) -> Any:
            others = {"x": X, "W": W, "bias": bias} | {name: moved}
            y = expected(reduction, others["x"], others["W"], others["bias"], weight)
            return np.sum(g * y)

        slopes = np.zeros(operand.shape)
        for at in np.ndindex(operand.shape):
            for step, share in ((1e-3, 4 / 3), (2e-3, -1 / 3)):
                ahead, behind = operand.copy(), operand.copy()
                ahead[at] += step
                behind[at] -= step
                slopes[at] += share * (weighed(ahead) - weighed(behind)) / (2 * step)
        np.testing.assert_allclose(back, slopes, atol=1e-9 * np.max(np.abs(slopes)))


def watched(reduction: str, dtype: torch.dtype, chunk: int, **more: Any) -> Any:
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=chunk, **more)
    x, w, bias = (torch.tensor(a, dtype=dtype, requires_grad=True) for a in (X, W, BIAS))
    with gw.watch(names={"x": x, "w": w, "bias": bias}, keep=None) as witness:
        loss = F.linear_cross_entropy(
            x, w, torch.tensor(TARGET), linear_bias=bias, weight=torch.tensor(WEIGHT, dtype=dtype),
            reduction=reduction, ignore_index=IGNORED, options=options,
        )  # fmt: skip
        seeds = torch.linspace(1, 2, loss.numel(), dtype=dtype).reshape(loss.shape)
        torch.autograd.backward(loss, seeds)
    return witness


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_torch_agrees_and_a_fault_that_shows_is_refuted(
    dtype: torch.dtype, reduction: str, chunk: int
) -> None:
    witness = watched(reduction, dtype, chunk)
    tape = witness.tape
    assert any("_chunked" in call.op for call in tape.calls)
    assert witness.verdict is gw.Verdict.AGREES, str(witness)
    for finding in witness.report.findings:
        node = tape.nodes[finding.node] if finding.node is not None else None
        if node is None or "chunked" not in node.name or "gradient of" not in finding.title:
            continue
        (run,) = (r for r in tape.sweeps[0].node_runs if r.node == node.id)
        number = run.outgoing[finding.tensor_nr]
        assert number is not None
        array = np.array(tape.values[number].array)
        array[finding.comparison.index] += 2 * finding.comparison.detects
        values = [replace(v, array=array) if v.id == number else v for v in tape.values]
        again = gw.judge(replace(tape, values=tuple(values)))
        where = finding.node, finding.tensor_nr
        assert where in {(wrong.node, wrong.tensor_nr) for wrong in again.wrong}


@pytest.mark.parametrize(("reduction", "expected"), [("mean", np.nan), ("sum", 0.0)])
def test_of_no_rows_the_sum_is_0_and_the_mean_nan(reduction: str, expected: float) -> None:
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=2)
    x, w = (torch.ones(n, 3, requires_grad=True) for n in (0, 4))
    nothing = torch.zeros(0, dtype=torch.long)
    with gw.watch(names={"x": x, "w": w}) as witness:
        loss = F.linear_cross_entropy(x, w, nothing, reduction=reduction, options=options)
        torch.autograd.backward(loss)
    assert any("_chunked" in call.op for call in witness.tape.calls)
    np.testing.assert_array_equal(loss.detach(), expected)
    assert not witness.report.wrong, str(witness)
