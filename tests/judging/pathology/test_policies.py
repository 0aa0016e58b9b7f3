"""Advantages that weigh a policy with a gradient, and weights that are meant to have one."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import distributions

import gradwitness as gw
from judging.pathology.watching import at, data, kinds, network

if TYPE_CHECKING:
    from collections.abc import Callable

KIND = "target requires grad"
# Without types of its own.
Torch: Any = distributions
X = data(16)
RETURNS = torch.randn(16, generator=torch.Generator().manual_seed(2))
OLD = torch.rand(16, generator=torch.Generator().manual_seed(3)) - 1.5
ACTIONS = torch.arange(16) % 4


def log_softmax(z: Any) -> Any:
    return F.log_softmax(z, -1).gather(1, ACTIONS[:, None])[:, 0]


def by_ones_and_zeros(z: Any) -> Any:
    return (F.log_softmax(z, -1) * F.one_hot(ACTIONS, 4)).sum(-1)


def categorical(z: Any) -> Any:
    return Torch.Categorical(logits=z).log_prob(ACTIONS)


def categorical_probabilities(z: Any) -> Any:
    return Torch.Categorical(probs=z.softmax(-1)).log_prob(ACTIONS)


def normal(z: Any) -> Any:
    return Torch.Normal(z[:, 0], 0.5).log_prob(RETURNS.sin())


def normal_of_several(z: Any) -> Any:
    return Torch.Normal(z[:, :2], z[:, 2:].exp()).log_prob(X[:, :2]).sum(-1)


def bernoulli(z: Any) -> Any:
    return Torch.Bernoulli(logits=z[:, 0]).log_prob((ACTIONS > 1).float())


def cross_entropy(z: Any) -> Any:
    return -F.cross_entropy(z, ACTIONS, reduction="none")


def log_of_softmax(z: Any) -> Any:
    return (z.softmax(-1) + 1e-8).log().gather(1, ACTIONS[:, None]).squeeze(1)


def log_of_chosen(z: Any) -> Any:
    return z.softmax(-1)[torch.arange(16), ACTIONS].clamp(min=1e-8).log()


FORMS = [
    log_softmax,
    by_ones_and_zeros,
    categorical,
    categorical_probabilities,
    normal,
    normal_of_several,
    bernoulli,
    cross_entropy,
    log_of_softmax,
    log_of_chosen,
]


def plain(chosen: Any, advantage: Any) -> Any:
    return -(chosen * advantage).mean()  # policy


def ratio(chosen: Any, advantage: Any) -> Any:
    return -((chosen - OLD).exp() * advantage).mean()  # policy


def clipped(chosen: Any, advantage: Any) -> Any:
    moved = (chosen - OLD).exp()
    kept = moved.clamp(0.8, 1.2) * advantage
    return -torch.min(moved * advantage, kept).mean()  # policy


def normalised(chosen: Any, advantage: Any) -> Any:
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    return (-advantage * chosen).mean()  # policy


LOSSES = [plain, ratio, clipped, normalised]


def notes(
    form: Callable[[Any], Any], loss: Callable[[Any, Any], Any], *, cut: bool, steps: bool = False
) -> list[Any]:
    """Return the notes on targets of an actor and a critic that share their first layer."""
    model = network()
    with gw.watch(model) as witness:
        hidden = model[:2](X)
        values = model[2](hidden).squeeze(1)
        advantage = RETURNS - values
        if steps:
            following = model(X + 1).squeeze(1).detach()
            advantage = RETURNS + 0.9 * following - values
        error = advantage.square().mean()
        (loss(form(hidden), advantage.detach() if cut else advantage) + error).backward()
    return [note for note in witness.report.notes if note.kind == KIND]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_each_way_to_write_a_policy(form: Callable[[Any], Any]) -> None:
    (note,) = notes(form, plain, cut=False)
    assert at(note, plain, "# policy")
    assert notes(form, plain, cut=True) == []


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("steps", [False, True])
def test_each_way_to_weigh_it(loss: Callable[[Any, Any], Any], steps: bool) -> None:
    assert notes(categorical, loss, cut=False, steps=steps)
    assert notes(categorical, loss, cut=True, steps=steps) == []


def focal(model: Any, _: Any) -> Any:
    z = model[:2](X)
    chosen = F.cross_entropy(z, ACTIONS, reduction="none")
    return ((torch.ones(16) * 2 - (-chosen).exp()) * chosen).mean()


def quality_focal(model: Any, _: Any) -> Any:
    z, quality = model(X).squeeze(1), RETURNS.sigmoid()
    losses = F.binary_cross_entropy_with_logits(z, quality, reduction="none")
    return ((quality - z.sigmoid()).abs() * losses).mean()


def soft_actor(model: Any, other: Any) -> Any:
    z = model[:2](X)
    actions = Torch.Normal(z[:, :2], z[:, 2:].exp()).rsample()
    chosen = Torch.Normal(z[:, :2], z[:, 2:].exp()).log_prob(actions).sum(-1)
    value = other(torch.cat([actions, X[:, :1]], 1)).squeeze(1)
    return (0.2 * chosen - value).mean()


def adaptive_halting(model: Any, other: Any) -> Any:
    losses = F.cross_entropy(model[:2](X), ACTIONS, reduction="none")
    halted = other(X).squeeze(1).sigmoid()
    return (losses * (torch.ones(16) - halted) + halted * losses.detach()).mean()


def residual_weight(model: Any, other: Any) -> Any:
    losses = F.cross_entropy(model[:2](X), ACTIONS, reduction="none")
    return (losses * (X[:, 0] + other(X).squeeze(1))).mean() + other(X).square().mean()


def learned_uncertainty(model: Any, other: Any) -> Any:
    losses = F.cross_entropy(model[:2](X), ACTIONS, reduction="none")
    scale = other(X).squeeze(1)
    return (losses * (-scale).exp() + scale).mean()


def entropy_and_likelihood(model: Any, _: Any) -> Any:
    z = model[:2](X)
    policy = Torch.Categorical(logits=z)
    return -(policy.log_prob(ACTIONS) * RETURNS).mean() - 0.01 * policy.entropy().mean()


def mixture(model: Any, other: Any) -> Any:
    densities = Torch.Normal(model[:2](X), 1.0).log_prob(RETURNS[:, None])
    return -torch.logsumexp(densities + F.log_softmax(other[:2](X), -1), -1).mean()


def cubic(model: Any, other: Any) -> Any:
    rest = RETURNS - model(X).squeeze(1)
    return (rest**3 * 0.1 + rest**2).mean() + ((RETURNS - other(X)[:, 0]) * rest).square().mean()


@pytest.mark.parametrize(
    "loss",
    [
        focal,
        quality_focal,
        soft_actor,
        adaptive_halting,
        residual_weight,
        learned_uncertainty,
        entropy_and_likelihood,
        mixture,
        cubic,
    ],
)
def test_weights_that_are_meant_to_have_a_gradient(loss: Callable[[Any, Any], Any]) -> None:
    model, other = network(), copy.deepcopy(network())
    with gw.watch(model, other) as witness:
        loss(model, other).backward()
    assert KIND not in kinds(witness.report.notes)
