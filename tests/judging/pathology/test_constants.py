"""Gradients without a graph that a loss takes for numbers, and those that are meant as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn

import gradwitness as gw
from judging.pathology.watching import at, data, kinds, network

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

KIND = "gradient without a graph"
X, Y = data(16), data(16)[:, :1].exp()


def watched(loss: Callable[..., Any], **options: Any) -> gw.Witness:
    model, x = network(), X.clone().requires_grad_()
    with gw.watch(model, names={"x": x}) as witness:
        loss(model, x, **options).backward()
    return witness


def gradient(y: Any, of: Any, **options: Any) -> Any:
    return torch.autograd.grad(y.sum(), of, retain_graph=True, **options)[0]


def penalty(model: Any, x: Any, **options: Any) -> Any:
    y = model(x)
    (g,) = torch.autograd.grad(y.sum(), x, retain_graph=True, **options)
    return y.mean() + 10 * (g.norm(2, 1) - 1).square().mean()


def residual(model: Any, x: Any, **options: Any) -> Any:
    u = model(x)
    return (gradient(u, x, **options)[:, :1] + u).square().mean()


def burgers(model: Any, x: Any, **options: Any) -> Any:
    u = model(x)
    slopes = gradient(u, x, **options)
    return (slopes[:, :1] + u * slopes[:, 1:2]).square().mean()


def forces(model: Any, x: Any, **options: Any) -> Any:
    energy = model(x)
    force = -gradient(energy, x, **options)
    return F.mse_loss(energy, Y) + F.l1_loss(force, torch.zeros(16, 3))


def size_of_gradients(model: Any, x: Any, **options: Any) -> Any:
    loss = F.mse_loss(model(x), Y)
    gs = torch.autograd.grad(loss, [*model.parameters()], retain_graph=True, **options)
    return loss + 0.1 * sum(g.square().sum() for g in gs)


@pytest.mark.parametrize("loss", [penalty, residual, burgers, forces, size_of_gradients])
def test_a_term_without_a_graph(loss: Callable[..., Any]) -> None:
    assert kinds(watched(loss).report.notes) == [KIND]
    assert kinds(watched(loss, create_graph=True).report.notes) == []


def test_it_says_where(snapshot: SnapshotAssertion) -> None:
    (note,) = watched(penalty).report.notes
    assert at(note, penalty, "autograd.grad")
    assert note.text.replace(note.text.partition(" at ")[2].partition(" ")[0], "FILE") == snapshot


def detached_penalty(model: Any, x: Any) -> Any:
    y = model(x)
    g = gradient(y, x, create_graph=True).detach()
    return y.mean() + 10 * (g.norm(2, 1) - 1).square().mean()


def penalty_of_data(model: Any, x: Any) -> Any:
    y = model(x)
    size = gradient(y, x, create_graph=True).norm(2, 1)
    return y.mean() + 10 * (size.data - 1).square().mean()


def penalty_without_gradients(model: Any, x: Any) -> Any:
    y = model(x)
    g = gradient(y, x, create_graph=True)
    with torch.no_grad():
        term = 10 * (g.norm(2, 1) - 1).square().mean()
    return y.mean() + term


def detached_residual(model: Any, x: Any) -> Any:
    u = model(x)
    return (gradient(u, x, create_graph=True)[:, :1].detach() + u).square().mean()


@pytest.mark.parametrize(
    "loss",
    [detached_penalty, penalty_of_data, penalty_without_gradients, detached_residual],
)
def test_a_graph_that_was_made_for_nothing(
    loss: Callable[..., Any], snapshot: SnapshotAssertion
) -> None:
    (note,) = watched(loss).report.notes
    assert note.kind == KIND
    assert note.text.replace(note.text.partition(" at ")[2].partition(" ")[0], "FILE") == snapshot


def logged_penalty(model: Any, x: Any) -> Any:
    y = model(x)
    g = gradient(y, x, create_graph=True)
    shown = y.mean().detach() + (g.norm(2, 1) - 1).square().mean().detach()
    shown.item()
    return y.mean()


def used_elsewhere(model: Any, x: Any) -> Any:
    y = model(x)
    g = gradient(y, x, create_graph=True)
    return y.mean() + g.square().mean() + g.detach().abs().mean()


def weighs_its_residual(model: Any, x: Any) -> Any:
    u = model(x)
    errors = (gradient(u, x, create_graph=True)[:, 0] + u[:, 0]).square()
    return ((-errors.detach().cumsum(0)).exp() * errors).mean() + u.square().mean()


def detached_steps(model: Any, x: Any) -> Any:
    w = model[0].weight
    for _ in range(2):
        w = w - 0.1 * gradient((x @ w.T).tanh(), w, create_graph=True).detach()
    moved = x + 0.1 * gradient(model(x), x, create_graph=True).detach().sign()
    return (x @ w.T).square().mean() + model(moved).square().mean()


def meant_under_a_checkpoint(model: Any, x: Any) -> Any:
    def summed(z: Any) -> Any:
        return model(z).mean()

    y: Any = torch.utils.checkpoint.checkpoint(summed, x, use_reentrant=False)
    (g,) = torch.autograd.grad(y, x, retain_graph=True)
    return y + g.detach().norm()


def curvature(model: Any, x: Any) -> Any:
    parameters = [*model.parameters()]
    loss = F.mse_loss(model(x), Y)
    gs = torch.autograd.grad(loss, parameters, create_graph=True)
    along: Any = sum((g * g.detach()).sum() for g in gs)
    torch.autograd.grad(along, parameters, retain_graph=True)
    return loss


@pytest.mark.parametrize(
    "loss",
    [
        logged_penalty,
        used_elsewhere,
        weighs_its_residual,
        detached_steps,
        meant_under_a_checkpoint,
        curvature,
    ],
)
def test_a_graph_that_is_used_or_not_joined(loss: Callable[..., Any]) -> None:
    assert KIND not in kinds(watched(loss).report.notes)


def logged(model: Any, x: Any) -> Any:
    y = model(x)
    gradient(y, x).norm().item()
    return y.mean()


def said_to_be_meant(model: Any, x: Any) -> Any:
    y = model(x)
    return y.mean() + gradient(y, x).detach().norm()


def adversarial(model: Any, x: Any) -> Any:
    g = gradient(F.mse_loss(model(x), Y), x)
    moved = [x + 0.1 * g.sign(), X + 0.1 * g / g.norm(), (x - g).detach()]
    return sum(F.mse_loss(model(m), Y) for m in moved)


def through_residual_layers(model: Any, x: Any) -> Any:
    def layers(z: Any) -> Any:
        return model(z + F.pad(model(z), (0, 2)))

    return layers(X + 0.1 * gradient(layers(x), x)).square().mean()


def on_hidden_layers(model: Any, x: Any) -> Any:
    hidden = model[0](x)
    g = gradient(model[2](hidden), hidden)
    return model[2](hidden + 0.1 * g / g.norm()).square().mean()


def first_order_steps(model: Any, x: Any) -> Any:
    w = model[0].weight
    for _ in range(2):
        w = w - 0.1 * gradient((x @ w.T).tanh(), w)
    return (x @ w.T).square().mean()


def weight_of_a_loss(model: Any, x: Any) -> Any:
    first, second = F.mse_loss(model(x), Y), model(x).abs().mean()
    one, two = (gradient(loss, model[2].weight).norm() for loss in (first, second))
    return first + one / two * second


def matched_gradients(model: Any, x: Any) -> Any:
    parameters = [*model.parameters()]
    real = torch.autograd.grad(F.mse_loss(model(X + 1), Y), parameters)
    own = torch.autograd.grad(model(x).square().mean(), parameters, create_graph=True)
    return sum((a - b).square().sum() for a, b in zip(real, own, strict=True))


def elastic_weights(model: Any, x: Any) -> Any:
    parameters = [*model.parameters()]
    fisher = torch.autograd.grad(F.mse_loss(model(x), Y), parameters)
    kept = sum(
        (f.square() * (p - 0.5).square()).sum() for f, p in zip(fisher, parameters, strict=True)
    )
    return F.mse_loss(model(x), Y) + kept


def of_a_teacher(model: Any, x: Any) -> Any:
    torch.manual_seed(5)
    teacher = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    wanted = gradient(teacher(x), x)
    return F.mse_loss(gradient(model(x), x, create_graph=True), wanted)


@pytest.mark.parametrize(
    "loss",
    [
        logged,
        said_to_be_meant,
        adversarial,
        through_residual_layers,
        on_hidden_layers,
        first_order_steps,
        weight_of_a_loss,
        matched_gradients,
        elastic_weights,
        of_a_teacher,
    ],
)
def test_gradients_meant_as_numbers(loss: Callable[..., Any]) -> None:
    assert KIND not in kinds(watched(loss).report.notes)
