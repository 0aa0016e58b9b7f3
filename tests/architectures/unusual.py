"""Training steps off the beaten track: graphs, experts, games, physics, distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from architectures.workload import Workload, classes, entry

if TYPE_CHECKING:
    from torch import Tensor


class _Messages(nn.Module):
    """Graph layer: messages along edges, summed, averaged and maximised at their target."""

    def __init__(self, narrow: int, wide: int) -> None:
        super().__init__()
        self.message = nn.Linear(2 * narrow, wide)
        self.score = nn.Linear(2 * narrow, 1)
        self.update = nn.Linear(narrow + 3 * wide, wide)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        both = torch.cat([x[source], x.index_select(0, target)], -1)
        message = F.relu(self.message(both)).float()
        score = F.leaky_relu(self.score(both), 0.2).float().exp()
        total = score.new_zeros(x.shape[0], 1).index_add(0, target, score)
        weighted = message * (score / total[target])
        empty = message.new_zeros(x.shape[0], message.shape[1])
        place = target[:, None].expand_as(message)
        found = [
            empty.index_add(0, target, weighted),
            empty.scatter_reduce(0, place, message, "mean"),
            empty.scatter_reduce(0, place, message, "amax"),
        ]
        return F.elu(self.update(torch.cat([x, *found], -1)))


@entry
def graph_network() -> Workload:
    model = nn.ModuleList([_Messages(4, 6), _Messages(6, 6), nn.Linear(6, 2)])
    x, edges = torch.randn(7, 4), classes(7, 2, 15)
    graph, y = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([0, 1])

    def loss() -> Tensor:
        h = model[1](model[0](x, edges), edges)
        pooled = torch.zeros(2, 6).scatter_add(0, graph[:, None].expand(-1, 6), h.float())
        return F.cross_entropy(model[2](pooled), y)

    return Workload(model, loss)


class _Experts(nn.Module):
    """A mixture of experts: the two best of four for each token, and a loss that balances."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, 4, bias=False)
        self.experts = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 12), nn.SiLU(), nn.Linear(12, width)) for _ in range(4)]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shares = self.router(x).float().softmax(-1)
        best, chosen = shares.topk(2, -1)
        best = best / best.sum(-1, keepdim=True)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            token, rank = torch.where(chosen == number)
            made = expert(x[token]) * best[token, rank, None]
            out.index_add_(0, token, made.to(out))
        load = F.one_hot(chosen, 4).float().mean((0, 1))
        return x + out, 4 * (load * shares.mean(0)).sum()


@entry
def experts() -> Workload:
    layer, head = _Experts(6), nn.Linear(6, 3)
    model = nn.ModuleDict({"layer": layer, "head": head})
    x, y = torch.randn(9, 6), classes(3, 9)

    def loss() -> Tensor:
        h, balance = layer(x)
        return F.cross_entropy(head(h), y) + 0.01 * balance  # type: ignore[no-any-return]

    return Workload(model, loss)


@entry
def products() -> Workload:
    """A factorisation machine and a sum-product layer: einsum, prod, cumprod, logsumexp."""
    model = nn.ParameterDict(
        {
            "factors": nn.Parameter(torch.randn(6, 3)),
            "mix": nn.Parameter(torch.randn(3, 4, 3)),
            "bias": nn.Parameter(torch.randn(4)),
        }
    )
    x, y = torch.rand(5, 6), torch.rand(5)

    def loss() -> Tensor:
        z = torch.einsum("bi,ik->bk", x, model["factors"])
        pairs = (z**2 - torch.einsum("bi,ik->bk", x**2, model["factors"] ** 2)).sum(-1) / 2
        units = torch.einsum("bk,klm,bm->bl", z, model["mix"], z) + model["bias"]
        gates = torch.sigmoid(units).cumprod(-1).prod(-1)
        return F.mse_loss(torch.tanh(pairs) * gates + units.logsumexp(-1), y)

    return Workload(model, loss)


@entry
def q_learning() -> Workload:
    """A step of double DQN with duelling heads."""
    body = nn.Sequential(nn.Linear(5, 16), nn.ReLU())
    model = nn.ModuleDict({"body": body, "worth": nn.Linear(16, 1), "gain": nn.Linear(16, 3)})
    frozen = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))
    now, later = torch.randn(8, 5), torch.randn(8, 5)
    action, reward, over = classes(3, 8), torch.randn(8), torch.rand(8) > 0.8

    def worth(x: Tensor) -> Tensor:
        h = body(x)
        gain = model["gain"](h)
        return model["worth"](h) + gain - gain.mean(1, keepdim=True)  # type: ignore[no-any-return]

    def loss() -> Tensor:
        with torch.no_grad():
            best = worth(later).argmax(1, keepdim=True)
            target = reward + 0.9 * frozen(later).gather(1, best).squeeze(1) * ~over
        value = worth(now).gather(1, action[:, None]).squeeze(1)
        return F.smooth_l1_loss(value, target)

    return Workload(model, loss)


@entry
def policy_gradient() -> Workload:
    """A step of PPO: ratios, clipping, entropy, a clipped value loss."""
    actor = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 3))
    critic = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 1))
    model = nn.ModuleDict({"actor": actor, "critic": critic})
    state, action = torch.randn(10, 4), classes(3, 10)
    before, gain, back = torch.randn(10) - 1, torch.randn(10), torch.randn(10)

    def loss() -> Tensor:
        policy: Any = torch.distributions.Categorical(logits=actor(state).float())
        ratio = (policy.log_prob(action) - before).exp()
        better = (gain - gain.mean()) / (gain.std() + 1e-8)
        clipped = torch.min(ratio * better, ratio.clamp(0.8, 1.2) * better)
        value = critic(state).squeeze(-1)
        return -clipped.mean() + 0.5 * (value - back).pow(2).mean() - 0.01 * policy.entropy().mean()  # type: ignore[no-any-return]

    return Workload(model, loss)


@entry
def physics() -> Workload:
    """A physics-informed network: the equation u'' = -u and its derivatives by autograd.grad."""
    model = nn.Sequential(
        nn.Linear(1, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 1)
    )
    points = torch.linspace(0, 3, 9)[:, None]

    def loss() -> Tensor:
        x = points.clone().requires_grad_()
        u = model(x).float()
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
        return (bend + u).pow(2).mean() + (u[0] - 1).pow(2).sum() + slope[0].pow(2).sum()  # type: ignore[no-any-return]

    return Workload(model, loss)


class _Sines(nn.Module):
    """Fourier features and SIREN: sin of a scaled linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("waves", 3 * torch.randn(2, 6))
        self.waves: Tensor
        self.hidden = nn.Linear(12, 12)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        angle = 2 * torch.pi * x @ self.waves
        x = torch.cat([angle.sin(), angle.cos()], -1)
        return torch.sigmoid(self.out(torch.sin(5 * self.hidden(x))))


@entry
def radiance_field() -> Workload:
    """NeRF's volume rendering along rays, over a field of sines."""
    model = _Sines()
    depth = nn.Linear(2, 1)
    both = nn.ModuleDict({"colour": model, "density": depth})
    points, wanted = torch.rand(4, 6, 2), torch.rand(4, 3)

    def loss() -> Tensor:
        alpha = 1 - torch.exp(-F.softplus(depth(points).float().squeeze(-1)) * 0.3)
        through = torch.cumprod(torch.cat([torch.ones(4, 1), 1 - alpha + 1e-10], -1), -1)
        weights = alpha * through[:, :-1]
        return F.mse_loss((weights[..., None] * model(points)).sum(1), wanted)

    return Workload(both, loss)


@entry
def capsules() -> Workload:
    """Dynamic routing: squash, softmax of agreements that carry no gradient, margin loss."""
    model = nn.ParameterDict({"pose": nn.Parameter(0.3 * torch.randn(5, 3, 4, 4))})
    x, y = torch.randn(2, 5, 4), F.one_hot(classes(3, 2), 3).float()

    def squash(v: Tensor) -> Tensor:
        square = v.square().sum(-1, keepdim=True)
        return square / (1 + square) * v / (square + 1e-8).sqrt()

    def loss() -> Tensor:
        votes = torch.einsum("bid,icde->bice", x, model["pose"])
        agree = torch.zeros(2, 5, 3)
        for turn in range(2):
            shares = agree.softmax(-1)[..., None]
            made = squash((shares * votes).sum(1))
            if turn == 0:
                agree = agree + (votes * made[:, None]).sum(-1).detach()
        length = torch.linalg.vector_norm(made, dim=-1)
        there, absent = F.relu(0.9 - length) ** 2, F.relu(length - 0.1) ** 2
        return (y * there + 0.5 * (1 - y) * absent).sum(1).mean()

    return Workload(model, loss)


@entry
def recommender() -> Workload:
    """Two towers, a bilinear form, ranking and divergence losses."""
    model = nn.ModuleDict(
        {"user": nn.Embedding(6, 5), "item": nn.Embedding(8, 5), "form": nn.Bilinear(5, 5, 1)}
    )
    user, good, bad = classes(6, 7), classes(8, 7), classes(8, 7)

    def loss() -> Tensor:
        u, i, j = model["user"](user), model["item"](good), model["item"](bad)
        better = model["form"](u, i) - model["form"](u, j)
        ranks = -F.logsigmoid(better).mean()
        margin = F.margin_ranking_loss((u * i).sum(1), (u * j).sum(1), torch.ones(7), 0.5)
        spread = F.kl_div(F.log_softmax(i, 1), F.softmax(u.detach(), 1), reduction="batchmean")
        return ranks + margin + 0.1 * spread

    return Workload(model, loss)
