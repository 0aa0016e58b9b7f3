"""Numbers that change where autograd does not see it, and changes that cost no gradient."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradwitness as gw
from gradwitness.judging.pathology.changed_unseen import KIND
from judging.pathology.watching import at, data, kinds, leaf, network, notes_of, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

X = (0.25, -1.5, 3.0)


def without_gradients(x: Any) -> Any:
    h = 2 * x
    with torch.no_grad():
        h.mul_(3)
    return h.square().sum()


def through_data(x: Any) -> Any:
    h = 2 * x
    h.data.mul_(3)
    return h.square().sum()


def through_detach(x: Any) -> Any:
    h = 2 * x
    h.detach().mul_(3)
    return h.square().sum()


def one_row(x: Any) -> Any:
    h = 2 * x
    h.data[0] *= 3
    return h.square().sum()


def part_without_gradients(x: Any) -> Any:
    h = 2 * x
    with torch.no_grad():
        h[1:] *= 3
    return h.square().sum()


def normalised(x: Any) -> Any:
    h = 2 * x
    h.data.copy_(h.data / h.data.norm())
    return (h * torch.arange(3.0)).sum().square()


def another_tensor(x: Any) -> Any:
    h = 2 * x
    h.data = 3 * h.data
    return h.square().sum()


def in_numpy(x: Any) -> Any:
    h = 2 * x
    h.detach().numpy()[...] *= 3
    return h.square().sum()  # taken


def of_itself(x: Any) -> Any:
    h = 2 * x
    with torch.no_grad():
        h += h.square()
    return h.square().sum()


def relu_by_hand(x: Any) -> Any:
    h = 1.0 * x
    h.data[h.data < 1] = 0
    return h.exp().sum()


class _Double(torch.autograd.Function):
    """Doubles its input, of which it does not say that it wrote to it."""

    @staticmethod
    def forward(_: Any, h: Any) -> Any:
        h.mul_(2)
        return h.sum()

    @staticmethod
    def backward(_: Any, *gradients: Any) -> Any:
        return 2 * gradients[0].expand(3)


def in_a_function(x: Any) -> Any:
    h = 2 * x
    double: Any = _Double
    first = double.apply(h)
    return first + h.square().sum()


CHANGES: dict[Callable[[Any], Any], str] = {
    without_gradients: "h.mul_",
    through_data: "mul_(3)",
    through_detach: "mul_(3)",
    one_row: "*= 3",
    part_without_gradients: "*= 3",
    normalised: "copy_",
    another_tensor: "h.data = ",
    in_numpy: "# taken",
    of_itself: "+= h.square",
    relu_by_hand: "= 0",
}


@pytest.mark.parametrize("function", CHANGES, ids=lambda function: function.__name__)
def test_a_change_that_autograd_does_not_see_is_noted(
    function: Callable[[Any], Any], snapshot: SnapshotAssertion
) -> None:
    (note,) = notes_of(function, leaf(*X))
    assert note.kind == KIND
    assert at(note, function, CHANGES[function])
    assert plain(note.text) == snapshot


@pytest.mark.parametrize("function", CHANGES, ids=lambda function: function.__name__)
def test_the_gradient_is_wrong_indeed(function: Callable[[Any], Any]) -> None:
    # By central differences in float64, of the program as it stands.
    x = torch.tensor(X, dtype=torch.float64)
    wide: Any = x.clone().requires_grad_()
    function(wide).backward()
    slopes = [
        (function(x + step) - function(x - step)).item() / 2e-6 for step in 1e-6 * torch.eye(3)
    ]
    assert not torch.allclose(wide.grad, torch.tensor(slopes, dtype=torch.float64), rtol=1e-3)


def test_a_function_that_does_not_say_that_it_writes_is_noted() -> None:
    assert KIND in kinds(notes_of(in_a_function, leaf(*X)))


def noise(x: Any) -> Any:
    h = 2 * x
    with torch.no_grad():
        h.add_(torch.randn(3), alpha=0.1)
        h -= 1
    h.data = h.data + torch.ones(3)
    return h.square().sum()


def straight_through(x: Any) -> Any:
    h, codes = x.exp(), torch.tensor([0.0, 1.0, 20.0])
    h.data.round_()
    one = h.square().sum()
    k = 2 * x
    k.data = k.data.sign() * k.data.abs().mean()
    m = 2 * x
    m.data.copy_(codes[(m.data[:, None] - codes).abs().argmin(1)])
    return one + k.square().sum() + m.square().sum()


def masked_scores(x: Any) -> Any:
    scores = x[:, None] * x
    scores.data.masked_fill_(torch.ones(3, 3).triu(1).bool(), -torch.inf)
    return (scores.softmax(-1) * torch.arange(3.0)).sum()


def seen(x: Any) -> Any:
    h = 2 * x
    h[0] = 3.0
    h[1].mul_(2)
    h.add_(1)
    F.dropout(h, 0.5, inplace=True)
    return h.square().sum()


def before_it_is_made(x: Any) -> Any:
    h = torch.empty(3)
    h.fill_(2)
    h.data.mul_(3)
    return (h * x).exp().sum()


def no_change(x: Any) -> Any:
    h = x * 0.25
    h.data.clamp_(-9, 9)
    with torch.no_grad():
        h.mul_(1)
    return h.square().sum()


def not_taken_again(x: Any) -> Any:
    h = 2 * x
    loss = (h * torch.ones(3)).sum()
    h.data.zero_()
    return loss


def a_cache(x: Any) -> Any:
    cache = torch.zeros(2, 3)
    cache[0] = 2 * x
    with torch.no_grad():
        cache[1] = torch.ones(3)
        cache[1].mul_(2)
    return cache.square().sum()


def a_copy(x: Any) -> Any:
    h = 2 * x
    kept = h.detach().clone()
    kept.mul_(3)
    return (h * kept.sum().sign()).square().sum()


SILENT = [
    noise,
    straight_through,
    masked_scores,
    seen,
    before_it_is_made,
    no_change,
    not_taken_again,
    a_cache,
    a_copy,
]


@pytest.mark.parametrize("function", SILENT, ids=lambda function: function.__name__)
def test_a_change_that_costs_no_gradient_is_not_noted(function: Callable[[Any], Any]) -> None:
    assert KIND not in kinds(notes_of(function, leaf(*X)))


def initialised(model: Any, x: Any) -> None:
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    nn.init.zeros_(model[0].bias)
    with torch.no_grad():
        model[0].weight.mul_(0.5)
        model[0].weight[0] = 0
    model[2].weight.data.copy_(torch.ones(1, 4))
    model(x).square().mean().backward()


def updated_by_hand(model: Any, x: Any) -> None:
    turned = model[0].weight.t()
    for _ in range(3):
        # A view of a leaf that is updated shows what it became.
        h = torch.tanh(x @ turned + model[0].bias)
        (model[2](h).square().mean()).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
        model[0].bias.data = model[0].bias.data.clamp(-1, 1)


def averaged(model: Any, x: Any) -> None:
    slow, optimizer = copy.deepcopy(model), torch.optim.Adam(model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        loss: Any = F.mse_loss(model(x), slow(x).detach())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        with torch.no_grad():
            for old, new in zip(slow.parameters(), model.parameters(), strict=True):
                old.mul_(0.9).add_(new, alpha=0.1)


def clipped_weights(model: Any, x: Any) -> None:
    optimizer = torch.optim.RMSprop(model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        (model(x).mean() - model(x + 1).mean()).backward()
        optimizer.step()
        for parameter in model.parameters():
            parameter.data.clamp_(-0.01, 0.01)


def batch_norm(model: Any, x: Any) -> None:
    model = nn.Sequential(model[0], nn.BatchNorm1d(4), nn.Dropout(0.2), nn.ReLU(inplace=True))
    for _ in range(2):
        model(x).square().mean().backward()


def spectral(model: Any, x: Any) -> None:
    model[0] = nn.utils.parametrizations.spectral_norm(model[0])
    for _ in range(2):
        model(x).square().mean().backward()


def projected_attack(model: Any, x: Any) -> None:
    delta: Any = torch.zeros_like(x, requires_grad=True)
    for _ in range(2):
        model(x + delta).mean().backward()
        delta.data.add_(delta.grad.sign(), alpha=0.1).clamp_(-0.1, 0.1)
        delta.grad.zero_()


def truncated(model: Any, x: Any) -> None:
    state = torch.zeros(8, 1)
    for _ in range(2):
        state = model(x + state.detach_())
        state.square().mean().backward()


def second_pass(model: Any, x: Any) -> None:
    x = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    (g.norm(dim=1) - 1).square().mean().backward()


def padded_and_bounded(model: Any, x: Any) -> None:
    table = nn.Embedding(5, 4, padding_idx=0, max_norm=1.0)
    with torch.no_grad():
        table.weight[1:] *= 7
    for _ in range(2):
        model[1:](table(torch.arange(5))).sum().backward()


@pytest.mark.parametrize(
    "step",
    [
        initialised,
        updated_by_hand,
        averaged,
        clipped_weights,
        batch_norm,
        spectral,
        projected_attack,
        truncated,
        second_pass,
        padded_and_bounded,
    ],
)
def test_updates_and_buffers_of_healthy_programs_are_not_noted(step: Callable[..., None]) -> None:
    model = network()
    with gw.watch(model) as witness:
        step(model, data())
    assert KIND not in kinds(witness.report.notes)
