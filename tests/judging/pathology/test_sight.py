"""Numbers that leave autograd's sight and come back, and those that are meant to be constants."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradwitness as gw
from gradwitness.judging.pathology.sight import KIND
from judging.pathology.watching import at, data, kinds, leaf, network, notes_of, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion


def detached_norm(w: Any) -> Any:
    norm = w.norm().detach()
    return (w / norm).exp().sum()


def data_norm(w: Any) -> Any:
    norm = w.data.norm()
    return (w / norm).exp().sum()


def norm_without_gradients(w: Any) -> Any:
    with torch.no_grad():
        norm = w.norm()
    return (w / norm).exp().sum()


def python_norm(w: Any) -> Any:
    norm = w.norm().item()
    return (w / norm).exp().sum()


def inverse_norm(w: Any) -> Any:
    factor = 1 / w.norm().item()
    return (w * factor).exp().sum()


def clipped_norm(w: Any) -> Any:
    factor = min(1.0, 2.5 / w.norm().item())
    return (w * factor).exp().sum()


def root_of_variance(w: Any) -> Any:
    scale = -(w.var().item() ** 0.5)
    return (w / scale).exp().sum()


def new_tensor_norm(w: Any) -> Any:
    norm = torch.tensor(w.norm().item())
    return (w / norm).exp().sum()


def detached_in_place(w: Any) -> Any:
    norm = w.norm().detach_()
    return (w / norm).exp().sum()


def written_without_gradients(w: Any) -> Any:
    norm = torch.empty((), dtype=w.dtype)
    with torch.no_grad():
        torch.norm(w, out=norm)
    return (w / norm).exp().sum()


def transport(x: Any) -> Any:
    cost = (x[:, None] - torch.tensor([0.5, 1.5])) ** 2
    f = -torch.logsumexp(-cost, 1)
    potential = f.detach()
    return (torch.exp(potential[:, None] - cost) * cost).sum()


def scaled_by_largest(w: Any) -> Any:
    largest = w.detach().amax()
    return (w / largest).exp().sum()


def scaled_by_groups(w: Any) -> Any:
    largest = torch.zeros(2).scatter_reduce(0, GROUPS, w.detach(), "amax", include_self=False)
    return (w / largest[GROUPS]).exp().sum()


def shifted_by_means(w: Any) -> Any:
    means = torch.zeros(2).scatter_reduce(0, GROUPS, w.detach(), "mean", include_self=False)
    return (w - means[GROUPS]).exp().sum()


GROUPS = torch.tensor([0, 1, 1])
# The singular vectors of a layer, from step to step.
DIRECTIONS = (torch.ones(4), torch.ones(3))
LEAKS: dict[Callable[[Any], Any], str] = {
    detached_norm: "detach()",
    data_norm: ".data",
    norm_without_gradients: "norm = w.norm()",
    python_norm: "w / norm",
    inverse_norm: "w * factor",
    clipped_norm: "w * factor",
    root_of_variance: "w / scale",
    new_tensor_norm: "torch.tensor(",
    detached_in_place: "detach_()",
    written_without_gradients: "out=norm",
    transport: "detach()",
    scaled_by_largest: "detach()",
    scaled_by_groups: "detach()",
    shifted_by_means: "detach()",
}


@pytest.mark.parametrize("function", LEAKS, ids=lambda function: function.__name__)
def test_what_leaves_and_meets_its_own_parameter_is_noted(
    function: Callable[[Any], Any], snapshot: SnapshotAssertion
) -> None:
    (note,) = notes_of(function, leaf(0.25, -1.5, 3.0))
    assert note.kind == KIND
    assert at(note, function, LEAKS[function])
    assert plain(note.text) == snapshot


@pytest.mark.parametrize("function", LEAKS, ids=lambda function: function.__name__)
def test_gradcheck_names_it_too(function: Callable[[Any], Any]) -> None:
    # What is cut off counts: the norm has a slope of its own, so autograd's is not the function's.
    with pytest.raises(gw.GradientDisagreement, match="leave autograd's sight"):
        gw.gradcheck(function, leaf(0.25, -1.5, 3.0))


def straight_through(x: Any) -> Any:
    code = torch.round(4 * x) / 4
    one, two = x + (code - x).detach(), (code - x).detach() + x
    three, four = x - x.detach() + code.detach(), code.detach() + x - x.detach()
    return (one.exp() + two.exp() + three.exp() + four.exp()).sum()


def shifted_softmax(x: Any) -> Any:
    largest = x.max().detach()
    weights = (x - largest).exp()
    return (weights / weights.sum()).square().sum() + weights.sum().log() + largest


def softmax_of_groups(x: Any) -> Any:
    largest = torch.zeros(2).scatter_reduce(0, GROUPS, x.detach(), "amax", include_self=False)
    weights = (x - largest[GROUPS]).exp()
    sums = torch.zeros(2).index_add(0, GROUPS, weights)
    again = torch.full((2,), -9.0).index_reduce_(0, GROUPS, x.detach(), "amax")
    others = (x - again.clamp(min=-8).index_select(0, GROUPS)).exp()
    total = torch.zeros(2).index_add(0, GROUPS, others).gather(0, GROUPS)
    return (weights / sums[GROUPS]).square().sum() + (others / total).square().sum()


def softmax_block_by_block(x: Any) -> Any:
    largest, total, result = torch.tensor([-1e9]), torch.zeros(1), torch.zeros(1)
    for block, value in ((x[:2], 2.0), (x[2:], 3.0)):
        following = torch.maximum(largest, block.detach().amax(0, keepdim=True))
        weights, scale = (block - following).exp(), (largest - following).exp()
        total = total * scale + weights.sum(0, keepdim=True)
        result = result * scale + (weights * value).sum(0, keepdim=True)
        largest = following
    return (result / total).square().sum() + (largest + total.log()).sum()


def masked(x: Any) -> Any:
    return (x * (x.detach() > 0).float() * torch.ones_like(x)).exp().sum()


def scaled(x: Any) -> Any:
    return x.square().sum() * torch.tensor(0.3).item() / torch.tensor([0.1, 0.7]).std().item()


def with_constants_of_its_own(x: Any) -> Any:
    first = (0.6 * x.sum()).exp()
    return (x * math.pi / math.sqrt(48)).exp().sum() + first * 0.3 + x.sum() * math.log(2)


def sum_of_losses(x: Any) -> Any:
    return x.square().mean() + x.exp().mean().detach()


@pytest.mark.parametrize(
    "function",
    [
        straight_through,
        shifted_softmax,
        softmax_of_groups,
        softmax_block_by_block,
        masked,
        scaled,
        with_constants_of_its_own,
        sum_of_losses,
    ],
)
@pytest.mark.filterwarnings("ignore:index_reduce")
def test_what_costs_no_gradient_is_not_noted(function: Callable[[Any], Any]) -> None:
    assert notes_of(function, leaf(0.25, -1.5, 3.0)) == ()


def target_network(model: nn.Module, x: Any, optimizer: Any) -> None:
    target = copy.deepcopy(model)
    for _ in range(2):
        optimizer.zero_grad()
        with torch.no_grad():
            wanted = 1 + 0.9 * target(x + 1)
        loss: Any = F.mse_loss(model(x), wanted)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), model.parameters(), strict=True):
                slow.mul_(0.9).add_(fast, alpha=0.1)


def replaced_averages(model: nn.Module, x: Any, optimizer: Any) -> None:
    target = copy.deepcopy(model)
    for _ in range(2):
        optimizer.zero_grad()
        loss: Any = F.mse_loss(model(x), target(x).detach())
        loss.backward()
        optimizer.step()
        for slow, fast in zip(target.parameters(), model.parameters(), strict=True):
            slow.data = 0.9 * slow.data + 0.1 * fast.data


def metrics_and_clipping(model: nn.Module, x: Any, optimizer: Any) -> None:
    logged = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        logged.append(loss.item())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        with torch.no_grad():
            logged.append(model(x).abs().mean().item())


def truncated_in_time(model: nn.Module, x: Any, optimizer: Any) -> None:
    state = torch.zeros(8, 1)
    optimizer.zero_grad()
    for _ in range(2):
        state = state.detach()
        state = state + model(x + state)
        (state * model(x)).square().mean().backward()


def truncated_in_place(model: nn.Module, x: Any, optimizer: Any) -> None:
    state = torch.zeros(8, 1)
    optimizer.zero_grad()
    for _ in range(2):
        state = state.detach_() + model(x + state)
        (state * model(x)).square().mean().backward()


def power_iteration(model: Any, x: Any, optimizer: Any) -> None:
    optimizer.zero_grad()
    weight = model[0].weight
    with torch.no_grad():
        F.normalize(weight @ DIRECTIONS[1], dim=0, out=DIRECTIONS[0])
        F.normalize(weight.t() @ DIRECTIONS[0], dim=0, out=DIRECTIONS[1])
    sigma = DIRECTIONS[0] @ weight @ DIRECTIONS[1]
    loss: Any = F.linear(x, weight / sigma).square().mean()
    loss.backward()


def moving_average(model: Any, x: Any, optimizer: Any) -> None:
    average = torch.zeros_like(model[0].weight)
    for _ in range(2):
        optimizer.zero_grad()
        loss: Any = model(x).square().mean() + (model[0].weight - average).square().sum()
        loss.backward()
        with torch.no_grad():
            average.mul_(0.9).add_(model[0].weight, alpha=0.1)
        optimizer.step()


def semi_gradient(model: nn.Module, x: Any, optimizer: Any) -> None:
    optimizer.zero_grad()
    target = (1 + 0.9 * model(x + 1)).detach()
    loss: Any = (model(x) - target).square().mean() + F.huber_loss(model(x), target)
    loss.backward()


def separate_critic(model: nn.Module, x: Any, optimizer: Any) -> None:
    critic = network()
    optimizer.zero_grad()
    advantage = x[:, :1] - critic(x)
    (advantage.square().mean() - (model(x) * advantage.detach()).mean()).backward()


def shared_critic(model: Any, x: Any, optimizer: Any) -> None:
    optimizer.zero_grad()
    hidden, returns = model[:2](x), x[:, :1].flip(0) + 0.5
    actions, values = F.log_softmax(hidden, -1)[:, :1], model[2](hidden)
    returns = torch.tensor(returns.numpy())
    advantage = (returns - values).detach()
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    loss: Any = F.mse_loss(values, returns) - (actions * advantage).mean()
    loss.backward()


def two_views(model: Any, x: Any, optimizer: Any) -> None:
    optimizer.zero_grad()
    one, other = model[:2](x), model[:2](x + 0.1 * torch.randn_like(x))
    loss: Any = -F.cosine_similarity(one.sin(), other.detach(), dim=1).mean()
    loss.backward()


def keys_and_queries(model: Any, x: Any, optimizer: Any) -> None:
    optimizer.zero_grad()
    query = F.normalize(model[:2](x), dim=1)
    key = F.normalize(model[:2](x + torch.randn(x.shape)), dim=1).detach()
    loss: Any = F.cross_entropy(query @ key.T / 0.2, torch.arange(len(x)))
    loss.backward()


def gated(model: Any, x: Any) -> Any:
    hidden = model[:2](x)
    return (hidden * hidden.sigmoid().detach()).square().mean()


def attended(model: Any, x: Any) -> Any:
    hidden = model[:2](x)
    weights = F.softmax(hidden @ hidden.T, -1).detach()
    return (weights @ hidden).square().mean()


def noisy_scale(model: Any, x: Any) -> Any:
    size = (model[:2](x) + torch.randn(4)).square().mean().sqrt().detach()
    return (model[:2](x) * size).square().mean()


@pytest.mark.parametrize("loss", [gated, attended, noisy_scale])
def test_a_factor_of_the_same_data_or_one_number_is_noted(loss: Callable[..., Any]) -> None:
    model = network()
    with gw.watch(model) as witness:
        loss(model, data()).backward()
    assert KIND in kinds(witness.report.notes)


@pytest.mark.parametrize(
    "step",
    [
        shared_critic,
        two_views,
        keys_and_queries,
        target_network,
        replaced_averages,
        metrics_and_clipping,
        truncated_in_time,
        truncated_in_place,
        power_iteration,
        moving_average,
        semi_gradient,
        separate_critic,
    ],
)
def test_constants_of_healthy_programs_are_not_noted(step: Callable[..., None]) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    with gw.watch(model) as witness:
        step(model, data(), optimizer)
    assert KIND not in kinds(witness.report.notes)


class _Spectral(nn.Linear):
    """Divides by the largest singular value, whose vectors it finds by iteration."""

    cut = False

    def forward(self, x: Any) -> Any:
        with torch.no_grad():
            u = torch.ones(4)
            for _ in range(50):
                v = F.normalize(self.weight.t() @ u, dim=0)
                u = F.normalize(self.weight @ v, dim=0)
        sigma = torch.dot(u, self.weight @ v)
        if self.cut:
            sigma = sigma.detach()
        return F.linear(x, self.weight / sigma, self.bias)


@pytest.mark.parametrize("cut", [False, True])
def test_singular_vectors_may_be_constants_but_the_value_not(cut: bool) -> None:
    torch.manual_seed(0)
    model = _Spectral(3, 4)
    model.cut = cut
    with gw.watch(model) as witness:
        model(data()).square().mean().backward()
    notes = [note for note in witness.report.notes if note.kind == KIND]
    assert len(notes) == cut
    assert all(at(note, _Spectral.forward, "sigma.detach()") for note in notes)


def test_what_a_hook_may_add_is_not_noted() -> None:
    # A fixed point of z = w tanh(z) + x: the hook adds the gradient through z itself.
    w = leaf(0.5)
    with torch.no_grad():
        z = torch.ones(1)
        for _ in range(99):
            z = w * torch.tanh(z) + 1
    with gw.watch(names={"w": w}) as witness:
        with torch.no_grad():
            z = w * torch.tanh(z) + 1
        z = w * torch.tanh(z) + 1
        slope = w.detach() * (1 - torch.tanh(z.detach()) ** 2)
        z.register_hook(lambda g: g / (1 - slope))
        z.sum().backward()
    assert KIND not in kinds(witness.report.notes)


def equilibrium(model: Any, x: Any, *, cut: bool) -> Any:
    """A fixed point that was found with gradients off, and one step from it."""
    with torch.no_grad():
        z = torch.zeros(8, 3)
        for _ in range(20):
            z = torch.tanh(0.5 * model[0](z)[:, :3] + x)
    z = z.detach().requires_grad_() if cut else z.requires_grad_()
    return torch.tanh(0.5 * model[0](z)[:, :3] + x).square().mean()


@pytest.mark.parametrize("cut", [False, True])
def test_what_became_a_leaf_is_still_made_of_others(cut: bool) -> None:
    model = network()
    with gw.watch(model[0]) as witness:
        equilibrium(model, data(), cut=cut).backward()
    (note,) = witness.report.notes
    assert note.kind == KIND
    assert note.text.startswith("weight and bias: part of the gradient is missing.")


@pytest.mark.parametrize("passed_on", [False, True])
def test_a_leaf_whose_gradient_goes_on_by_hand_is_not_noted(passed_on: bool) -> None:
    model = nn.Embedding(5, 4)
    words = torch.arange(5)
    with gw.watch(model) as witness:
        h: Any = model(words).tanh()
        leaf = h.detach().requires_grad_()
        loss: Any = F.cross_entropy(leaf @ model.weight.T, words)
        loss.backward()
        if passed_on:
            h.backward(leaf.grad)
    assert kinds(witness.report.notes) == ([] if passed_on else [KIND])


@pytest.mark.parametrize("kind", ["parametrized", "hooked"])
def test_torchs_spectral_norm_is_not_noted(kind: str) -> None:
    # Its singular vectors are constants, for which the singular value is stationary.
    norms: Any = nn.utils
    norm = norms.parametrizations.spectral_norm if kind == "parametrized" else norms.spectral_norm
    model = norm(nn.Linear(3, 4))
    with gw.watch(model) as witness:
        model(data()).square().mean().backward()
    assert witness.report.notes == ()


def penalised(model: Any, x: Any, how: Callable[[Any], Any]) -> gw.Witness:
    with gw.watch(model) as witness:
        x = x.clone().requires_grad_()
        (g,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        (model(x).mean() + how(g)).backward()
    return witness


HALF_PENALTIES: dict[str, Callable[[Any], Any]] = {
    "product": lambda g: (g * g.detach()).sum(),
    "norm": lambda g: (g / g.norm(dim=1, keepdim=True).detach()).sin().sum(),
}
PENALTIES: dict[str, Callable[[Any], Any]] = {
    "penalty": lambda g: (g.norm(dim=1) - 1).square().mean(),
    "of the other sign": lambda g: (g * (g.detach() > 0)).square().sum(),
    "straight through": lambda g: (g + (g.sign() - g).detach()).exp().sum(),
    "logged": lambda g: g.square().sum() + 0 * g.detach().norm(),
}


@pytest.mark.parametrize("how", HALF_PENALTIES.values(), ids=[*HALF_PENALTIES])
def test_a_gradient_that_meets_its_own_detached_numbers_is_noted(how: Any) -> None:
    notes = [n for n in penalised(network(), data(), how).report.notes if n.kind == KIND]
    (note,) = notes
    assert note.text.startswith("0.weight, 0.bias and 2.weight: part of the gradient is missing.")


@pytest.mark.parametrize("how", PENALTIES.values(), ids=[*PENALTIES])
def test_penalties_on_gradients_are_not_noted(how: Any) -> None:
    assert KIND not in kinds(penalised(network(), data(), how).report.notes)


def test_a_second_derivative_along_a_gradient_is_meant() -> None:
    model, x = network(), data()
    parameters: list[Any] = [*model.parameters()]
    with gw.watch(model) as witness:
        loss = model(x).square().mean()
        gs = torch.autograd.grad(loss, parameters, create_graph=True)
        along: Any = sum((g * g.detach()).sum() for g in gs)
        curved = torch.autograd.grad(along, parameters, retain_graph=True)
        loss.backward()
        for parameter, c in zip(parameters, curved, strict=True):
            parameter.grad -= 0.1 * c
    assert KIND not in kinds(witness.report.notes)


@pytest.mark.parametrize("by_hand", [False, True])
def test_first_order_steps_with_a_graph_are_not_noted(by_hand: bool) -> None:
    model, x = network(), data()
    weight: Any = model[0].weight
    with gw.watch(model) as witness:
        (g,) = torch.autograd.grad(F.linear(x, weight).sin().sum(), weight, create_graph=True)
        fast = weight - 0.1 * (g.detach() if by_hand else g)
        loss: Any = F.linear(x, fast).square().mean()
        loss.backward()
    assert KIND not in kinds(witness.report.notes)
