"""Mistakes planted in backward passes written by others are named, and placed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness as gw
from diagnose.cases import CASES, RELU, Planted
from diagnose.handmade import Network
from diagnose.trials import staged, without_figures
from gradwitness.diagnose import suspects as candidates
from gradwitness.diagnose.fitting import fitted
from gradwitness.diagnose.rank import diagnose
from gradwitness.diagnose.registry import STRUCTURES
from gradwitness.diagnose.replayed_faults import Trial
from gradwitness.engine.replay import backward_pass

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

    from gradwitness.diagnose.case import Case


@pytest.mark.parametrize("planted", CASES, ids=lambda planted: planted.name)
def test_mistake_is_named_and_placed(planted: Planted, snapshot: SnapshotAssertion) -> None:
    case = planted.build(0)
    refuted = {name for name, exhibit in case.exhibits.items() if exhibit.refuted}
    assert refuted
    first, *_ = diagnose(case)
    assert first.cause in (planted.cause, *planted.like)
    if first.cause == planted.cause:
        assert without_figures(first.text) == snapshot
    assert first.place.startswith(planted.place)
    assert set(first.explains) == refuted


def small(mistakes: dict[str, object] | None = None, seed: int = 0) -> Case:
    network = Network(
        [3, 4, 4, 2], ["tanh", "relu", ""], "mse", batch=5, seed=seed, mistakes=mistakes or {}
    )
    return staged(network.model(), network.torch_loss, network.claims())


def test_right_claims_are_explained_by_nothing() -> None:
    case = small()
    assert not any(exhibit.refuted for exhibit in case.exhibits.values())
    assert diagnose(case) == ()


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_explained_by_no_structure(seed: int) -> None:
    case = small(seed=seed)
    generator = np.random.default_rng(seed)
    exhibits = {
        name: dataclasses.replace(
            e,
            claim=e.witness * (1 + 0.3 * generator.standard_normal(e.witness.shape)),
            refuted=True,
        )
        for name, e in case.exhibits.items()
    }
    assert diagnose(dataclasses.replace(case, exhibits=exhibits), STRUCTURES) == ()


def test_change_is_carried_to_the_leaves() -> None:
    """y = w (v x), dy/dv = w x: what the outer product sends twice over arrives so."""
    w, v, x = torch.tensor([3.0]), torch.tensor([5.0]), torch.tensor([7.0])

    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.v = nn.Parameter(w), nn.Parameter(v)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.w * (self.v * x)

    case = staged(Product(), lambda m: m(x).sum(), {"w": [35.0], "v": [21.0]})
    trial = Trial.of(case)
    assert trial is not None
    outer = next(trial.sites({"aten.mul"}))
    assert trial.with_mistakes([(outer, lambda visit: [visit.sent[0], 2 * visit.sent[1]])]) == {
        "v": [42.0]
    }
    assert trial.with_mistakes([(outer, lambda visit: [None, visit.sent[1]])]) == {"w": [0.0]}
    assert trial.with_mistakes([(outer, lambda visit: visit.sent)]) == {}
    assert trial.with_mistakes([(outer, lambda _: None)]) == {}


def test_no_change_is_carried_without_a_mistake() -> None:
    case = small()
    assert case.tape is not None
    assert case.replay is not None
    arriving, trusted = backward_pass(case.tape, 0, case.replay.values, {})
    assert (arriving, trusted) == ({}, [])


def test_suspects_lie_between_what_is_right_and_what_is_refuted() -> None:
    case = small({"no derivative": 1})
    trial = Trial.of(case)
    assert trial is not None
    modules = [site.call.source.module for site in trial.sites() if site.node.id in trial.suspects]
    assert "4" in modules  # its input's gradient may be at fault, if not its weight's
    assert "3" in modules
    assert "" not in modules  # the loss: 4.weight is right


def test_large_tape_says_that_not_all_was_tried(
    monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion
) -> None:
    case = small({"no derivative": 1})
    assert candidates.untried(case) == ""
    monkeypatch.setattr(candidates, "FEW", 3)
    assert without_figures(candidates.untried(case)) == snapshot
    assert diagnose(case)[0].cause == "relu mask missing"


def test_nothing_is_said_without_a_tape() -> None:
    case = dataclasses.replace(small({"no derivative": 1}), tape=None, replay=None)
    assert [e for hypothesis in STRUCTURES for e in hypothesis(case)] == []
    assert candidates.untried(case) == ""


def test_number_is_fitted_that_enters_otherwise_than_linearly() -> None:
    case = small()
    g = case.exhibits["0.weight"].witness
    claim = g * np.exp(-0.25 * np.sign(g))
    exhibits = {"0.weight": dataclasses.replace(case.exhibits["0.weight"], claim=claim)}
    case = dataclasses.replace(case, exhibits=exhibits)
    fit = fitted(case, lambda r: {"0.weight": g * np.exp(-r * np.sign(g))}, (0.01, 0.1))
    assert fit is not None
    assert fit[0] == pytest.approx(0.25, rel=1e-6)
    assert fitted(case, lambda r: {"0.weight": g + r}, (0.01, 0.1)) is None


def test_learning_rate_of_the_update_is_told() -> None:
    first, *_ = diagnose(small({"updated": 0.05}))
    assert first.cause == "weights already updated"
    assert first.coefficient == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("way", ["loaded", "drawn", "in a function"])
def test_weights_that_the_program_itself_makes_can_have_been_updated(way: str) -> None:
    """The step makes its model, and loads its weights: nothing of it came in from outside."""
    network = Network(**RELU, seed=0)
    named: dict[str, torch.Tensor] = {}

    def step() -> None:
        model = network.model()
        torch.manual_seed(3)
        for p in model.parameters():
            if way == "drawn":
                nn.init.normal_(p, std=0.5)
            elif way == "loaded":
                with torch.no_grad():
                    p.copy_(p.flip(0))
        named.update(model.named_parameters())
        torch.autograd.backward(network.torch_loss(model))

    with gw.watch(names=named, keep=None) as witness:
        step()
    # By hand, at the same weights after a step of gradient descent.
    W, b = ([named[f"{2 * k}.{w}"].detach().numpy() for k in range(4)] for w in ("weight", "bias"))
    g = network.gradients(W, b)
    W = [w - np.float32(0.05) * g[f"{2 * k}.weight"] for k, w in enumerate(W)]
    b = [c - np.float32(0.05) * g[f"{2 * k}.bias"] for k, c in enumerate(b)]
    (run,) = witness.check_claims(network.gradients(W, b)).runs
    assert [cause.cause for cause in run.causes] == ["weights already updated"]
    assert run.causes[0].coefficient == pytest.approx(0.05, rel=1e-3)
