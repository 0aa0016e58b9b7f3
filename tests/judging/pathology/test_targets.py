"""Targets through which gradients flow, and two sides that are both meant to learn."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F

import gradwitness as gw
from judging.pathology.watching import at, data, kinds, network, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

KIND = "target requires grad"
X = data(16)
Y = torch.randn(16, 1, generator=torch.Generator().manual_seed(2))


def watched(loss: Callable[[Any, Any], Any]) -> gw.Witness:
    model, other = network(), copy.deepcopy(network())
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    with gw.watch(model, other) as witness:
        loss(model, other).backward()
    return witness


def data_with_grad(model: Any, _: Any) -> Any:
    y = Y.clone().requires_grad_()
    return F.mse_loss(model(X), y)


def bootstrapped(model: Any, _: Any) -> Any:
    target = Y + 0.9 * model(X + 1)
    return F.smooth_l1_loss(model(X), target)


def smaller_of_two(model: Any, _: Any) -> Any:
    target = (Y + 0.9 * torch.minimum(model(X + 1), model(X + 2))).squeeze(-1)
    return F.huber_loss(model(X).squeeze(-1), target)


def teacher(model: Any, other: Any) -> Any:
    target = other(X)
    return F.mse_loss(model(X), target)


def squares(model: Any, _: Any) -> Any:
    done = torch.arange(16).remainder(4).eq(3).float()[:, None]
    target = Y + 0.99 * (1 - done) * model(X + 1)
    return (target - model(X)).square().mean()


def distilled(model: Any, other: Any) -> Any:
    one, two = model[0](X), other[0](X)
    return 0.5 * F.kl_div(
        F.log_softmax(one / 2, -1), F.softmax(two / 2, -1), reduction="batchmean"
    ) + F.cross_entropy(one, torch.arange(16) % 4)


def distilled_logarithms(model: Any, other: Any) -> Any:
    one, two = (F.log_softmax(m[0](X), -1) for m in (model, other))
    return F.kl_div(one, two, reduction="batchmean", log_target=True)


def actor_and_critic(model: Any, _: Any, *, cut: bool = False) -> Any:
    hidden, returns, actions = model[:2](X), Y[:, 0], torch.arange(16)[:, None] % 4
    chosen = F.log_softmax(hidden, -1).gather(1, actions).squeeze(1)
    advantage = returns - model[2](hidden).squeeze(1)
    weight = advantage.detach() if cut else advantage
    policy = -(chosen * weight).mean()
    return policy + advantage.square().mean()


def actor_and_cut_critic(model: Any, other: Any) -> Any:
    return actor_and_critic(model, other, cut=True)


def focal(model: Any, _: Any) -> Any:
    logarithms = F.log_softmax(model[:2](X), -1)
    return -((1 - logarithms.exp()) ** 2 * logarithms)[:, 0].mean()


WRITTEN_OUT = {
    squares: "target - model",
    distilled: "F.kl_div",
    distilled_logarithms: "F.kl_div",
    actor_and_critic: "policy =",
}


@pytest.mark.parametrize("loss", WRITTEN_OUT, ids=lambda loss: loss.__name__)
def test_a_target_of_a_loss_that_is_written_out(loss: Any) -> None:
    (note,) = (n for n in watched(loss).report.notes if n.kind == KIND)
    assert at(note, loss, WRITTEN_OUT[loss])
    assert "0.weight" in note.text


@pytest.mark.parametrize("loss", [data_with_grad, bootstrapped, smaller_of_two, teacher])
def test_a_target_that_is_none(loss: Any, snapshot: SnapshotAssertion) -> None:
    (note,) = (n for n in watched(loss).report.notes if n.kind == KIND)
    assert at(note, loss, "return ")
    assert plain(note.text) == snapshot


def detached(model: Any, other: Any) -> Any:
    with torch.no_grad():
        target = other(X)
    bootstrap = (Y + 0.9 * model(X + 1)).detach()
    return F.mse_loss(model(X), target) + F.smooth_l1_loss(model(X), bootstrap)


def two_views(model: Any, _: Any) -> Any:
    return F.mse_loss(model(X), model(X + 0.1))


def two_kinds_of_data(model: Any, other: Any) -> Any:
    return F.mse_loss(model(X), other(Y.expand(16, 3) + 0))


def mutual(model: Any, other: Any) -> Any:
    one, two = model(X), other(X)
    return F.mse_loss(one, two) + F.mse_loss(one, Y) + F.mse_loss(two, Y)


def codebook(model: Any, other: Any) -> Any:
    z, code = model(X), other(Y.expand(16, 3) + 0)
    return F.mse_loss(code.detach(), z) + F.mse_loss(code, z.detach())


def two_heads(model: Any, _: Any) -> Any:
    hidden = model[0](X)
    return F.mse_loss(model[2](hidden), model[2](hidden.tanh()))


def mean_of_neighbours(model: Any, _: Any) -> Any:
    around = model(X + 0.1) + model(X - 0.1)
    return (model(X) - (Y + 0.5 * around)).square().mean()


def step_of_a_flow(model: Any, _: Any) -> Any:
    return (model(X + 0.1) - (model(X) + 0.1 * Y)).square().mean()


def mutual_divergence(model: Any, other: Any) -> Any:
    one, two, classes = model[0](X), other[0](X), torch.arange(16) % 4
    divergence = F.kl_div(F.log_softmax(one, -1), F.softmax(two, -1), reduction="batchmean")
    return divergence + F.cross_entropy(one, classes) + F.cross_entropy(two, classes)


def posterior(model: Any, other: Any) -> Any:
    q = F.softmax(other[0](X), -1)
    return F.kl_div(F.log_softmax(model[0](X), -1), q, reduction="sum") + F.mse_loss(q[:, :1], Y)


def two_runs(model: Any, _: Any) -> Any:
    one, two = model[0](X), model[0](X + 0.1)
    return F.kl_div(F.log_softmax(one, -1), F.softmax(two, -1), reduction="batchmean")


@pytest.mark.parametrize(
    "loss",
    [
        actor_and_cut_critic,
        focal,
        mean_of_neighbours,
        step_of_a_flow,
        mutual_divergence,
        posterior,
        two_runs,
    ],
)
def test_two_sides_of_a_loss_that_is_written_out(loss: Callable[[Any, Any], Any]) -> None:
    assert KIND not in kinds(watched(loss).report.notes)


@pytest.mark.parametrize(
    "loss", [detached, two_views, two_kinds_of_data, mutual, codebook, two_heads]
)
def test_data_and_sides_that_learn(loss: Callable[[Any, Any], Any]) -> None:
    assert kinds(watched(loss).report.notes) == []


def test_labels_that_are_learned() -> None:
    model, labels = network(), Y.clone().requires_grad_()
    optimizer = torch.optim.SGD([*model.parameters(), labels], 0.1)
    with gw.watch(model) as witness:
        loss: Any = F.mse_loss(model(X), labels)
        loss.backward()
        optimizer.step()
    assert witness.report.notes == ()
