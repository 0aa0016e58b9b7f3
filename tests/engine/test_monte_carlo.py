"""Allowances by stochastic arithmetic: by hand, and that right claims keep to them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy import stats

import gradwitness as gw
from architectures.zoo import build
from gradwitness import experiment
from gradwitness.engine import monte_carlo as stochastic
from gradwitness.engine.monte_carlo import RISK, RUNS, SAFETY, Spread, spread
from gradwitness.engine.replay import replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradwitness.experiment.outcome import Outcome

U = 2.0**-24


def watched(step: Callable[[], torch.Tensor], **leaves: torch.Tensor) -> gw.Witness:
    with gw.watch(names=leaves, keep=None) as witness:
        torch.autograd.backward(step())
    return witness


def spread_of(witness: gw.Witness, name: str, dtype: str = "float32") -> tuple[Any, Spread]:
    row = next(row for row in witness.report.rows if row.name == name)
    input_nrs = ((row.sweep, row.node, row.input_nr),)
    return input_nrs, spread(witness.tape, replay(witness.tape), [input_nrs], dtype)


def leaf(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, requires_grad=True)


def test_one_multiplication_by_hand() -> None:
    # The gradient of a is 1 * b, rounded once: moved by up to 4 u |b|, variance 16 u^2 b^2 / 3.
    torch.manual_seed(0)
    a, b = torch.randn(4000, requires_grad=True), torch.randn(4000)
    input_nrs, found = spread_of(watched(lambda: (a * b).sum(), a=a), "a")
    size = np.abs(b.double().numpy())
    ratio = found.squares[input_nrs] / (16 * U**2 * size**2 / 3)
    # 64,000 squares of uniform numbers, whose standard deviation is 0.9 of their mean.
    assert np.mean(ratio) == pytest.approx(1, abs=4 * 0.9 / math.sqrt(64_000))
    assert np.all(found.farthest[input_nrs] <= 4 * U * size * (1 + 1e-6))
    quantile = stats.t.isf(RISK / 8000, 2 * RUNS)
    sigma = U * np.sqrt(size**2 + np.mean(size**2)) / math.sqrt(6)
    assert found.allowance(input_nrs) == pytest.approx(
        SAFETY * quantile * sigma + U * size, rel=0.4
    )


def test_what_rounds_nothing_does_not_move() -> None:
    a = leaf(1.5, -2.25, 3.0)
    input_nrs, found = spread_of(watched(lambda: (2 * a.relu().reshape(3, 1)).sum(), a=a), "a")
    assert not found.farthest[input_nrs].any()
    # Only the store is left, and a zero is known exactly.
    assert found.allowance(input_nrs) == pytest.approx([2 * U, 0, 2 * U])


def test_the_number_of_samples_is_exact() -> None:
    # The mean over 6 samples divides by a tensor without axes; some ten operations round.
    torch.manual_seed(0)
    x, classes = torch.randn(6, 3, requires_grad=True), torch.tensor([0, 1, 2, 2, 1, 0])
    loss = torch.nn.functional.cross_entropy
    input_nrs, found = spread_of(watched(lambda: loss(x, classes), x=x), "x")
    assert x.grad is not None
    largest = float(x.grad.abs().max())
    assert np.all(found.allowance(input_nrs) <= 200 * U * largest)


def test_the_same_seed_gives_the_same_allowance() -> None:
    a = leaf(0.3, 0.7)
    input_nrs, one = spread_of(watched(lambda: (a.sin() * a).sum(), a=a), "a")
    _, other = spread_of(watched(lambda: (a.sin() * a).sum(), a=a), "a")
    assert np.array_equal(one.allowance(input_nrs), other.allowance(input_nrs))
    assert one.farthest[input_nrs].all()


@pytest.mark.parametrize(("distance", "covered"), [(1.0, True), (1000.0, False)])
def test_a_kink_within_rounding_is_seen(distance: float, covered: bool) -> None:
    # The operand of the ReLU is 0.1 * 3 - (0.3 - so many roundings): another program may round it
    # to the other side, and then the gradient of a is 0 instead of 3 * 7.
    a = leaf(0.1)
    c = torch.tensor([0.1], dtype=torch.float32).double() * 3 - distance * U * 0.3
    c32 = c.to(torch.float32)
    input_nrs, found = spread_of(watched(lambda: ((a * 3 - c32).relu() * 7).sum(), a=a), "a")
    reference = found.references[input_nrs]
    other = 21.0 if reference[0] == 0 else 0.0
    assert bool(found.allowance(input_nrs)[0] >= abs(other - reference[0])) is covered


def test_a_coarser_format_rounds_the_leaves_too() -> None:
    torch.manual_seed(1)
    w, x = torch.randn(5, 7, requires_grad=True), torch.randn(7)
    witness = watched(lambda: (w @ x).tanh().sum(), w=w)
    input_nrs, found = spread_of(witness, "w", "bfloat16")
    again = w.detach().bfloat16().requires_grad_()
    (again @ x.bfloat16()).tanh().sum().backward()  # type: ignore[no-untyped-call]
    assert again.grad is not None
    gap = np.abs(again.grad.double().numpy() - found.references[input_nrs])
    assert np.all(gap <= found.allowance(input_nrs))
    _, fine = spread_of(witness, "w")
    assert np.max(gap) > np.max(fine.allowance(input_nrs))


def by_hand(outcome: Outcome, dtype: Any) -> dict[str, NDArray[Any]]:
    """Return the default experiment's gradients by a textbook backward, summed term by term."""

    def product(matrix: NDArray[Any], vector: NDArray[Any]) -> NDArray[Any]:
        # From the last term to the first, each partial sum rounded.
        return np.cumsum((matrix * vector)[:, ::-1], axis=1, dtype=dtype)[:, -1]

    names = list(dict.fromkeys(name.rpartition(".")[0] for name in outcome.weights))
    weights = [outcome.weights[f"{name}.weight"].astype(dtype) for name in names]
    biases = [outcome.weights[f"{name}.bias"].astype(dtype) for name in names]
    x = outcome.data["x"].astype(dtype)
    entering, h = [], x
    for k, (w, b) in enumerate(zip(weights, biases, strict=True)):
        entering.append(h)
        h = b + product(w, h)
        if 0 < k < len(weights) - 1:
            h = np.maximum(h, dtype(0))
    target = np.cumsum(x[::-1] ** 2, dtype=dtype)[-1:] / dtype(x.size)
    delta = dtype(2) * (h - target)
    found: dict[str, NDArray[Any]] = {}
    for k in reversed(range(len(weights))):
        found[f"{names[k]}.weight"] = np.outer(delta, entering[k])
        found[f"{names[k]}.bias"] = delta
        delta = product(weights[k].T, delta)
        if k > 1:
            delta = delta * (entering[k] > 0)
    return found


def ratios(outcome: Outcome, claims: dict[str, Any], dtype: str) -> NDArray[np.float64]:
    """Return each claimed number's error over its allowance."""
    input_nrs = {r.name: ((r.sweep, r.node, r.input_nr),) for r in outcome.report.rows}
    found = spread(outcome.tape, replay(outcome.tape), list(input_nrs.values()), dtype)
    parts = []
    for name, where in input_nrs.items():
        error = np.abs(claims[name].astype(np.float64) - found.references[where])
        allowance = found.allowance(where)
        with np.errstate(invalid="ignore", divide="ignore"):
            parts.append(np.where(error == 0, 0, error / allowance).ravel())
    return np.concatenate(parts)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_textbook_backward_keeps_to_the_allowance(seed: int, dtype: str) -> None:
    outcome = experiment.run(experiment.preset("default", seed=seed))
    claims = by_hand(outcome, getattr(np, dtype))
    found = ratios(outcome, claims, dtype)
    assert np.max(found) <= 1
    # And the allowance is of the size of the errors: no number has a thousand times its own.
    assert np.max(found) > 0.001
    wrong = claims | {"hidden3.weight": claims["hidden3.weight"] * (1 + 1e-4)}
    assert np.max(ratios(outcome, wrong, dtype)) > 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("preset", ["default", "sigmoid", "conv"])
def test_torch_keeps_to_the_allowance(preset: str, dtype: str) -> None:
    for seed in range(2):
        outcome = experiment.run(experiment.preset(preset, seed=seed, dtype=dtype))
        assert np.max(ratios(outcome, outcome.torch_side, dtype)) <= 1


def test_without_movement_right_claims_would_be_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = experiment.run(experiment.preset("default", seed=0))
    monkeypatch.setattr(stochastic, "AMPLIFICATION", 1e-9)
    monkeypatch.setattr(stochastic, "SAFETY", 1e-9)
    assert np.max(ratios(outcome, outcome.torch_side, "float32")) > 1


@pytest.mark.parametrize("seed", [1, 2])
def test_one_sided_kinks_in_bfloat16(seed: int) -> None:
    # Sums in bfloat16 that cancel are often exactly 0, which a ReLU counts as negative: units that
    # change sides all go the same way, and their jumps add up.
    workload = build("lenet", 5)
    with gw.watch(workload.model, keep=None) as witness:
        workload.step(low=True)
    tape, rows = witness.tape, witness.report.rows
    input_nrs = [((row.sweep, row.node, row.input_nr),) for row in rows]
    found = spread(tape, replay(tape), input_nrs, "float32", seed=seed)
    for row, where in zip(rows, input_nrs, strict=True):
        claimed = tape.values[row.value or 0].array
        assert claimed is not None
        gap = np.abs(claimed.astype(np.float64) - found.references[where])
        assert np.all(gap <= found.allowance(where)), row.name
