"""Training steps that differentiate a gradient: penalties, inner steps, forces, equations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from architectures.workload import Workload, classes, entry

if TYPE_CHECKING:
    from torch import Tensor


def _steepness(out: Tensor, x: Tensor) -> Tensor:
    """Return the length of the gradient of each sample's output, which can be differentiated."""
    (slope,) = torch.autograd.grad(out.float().sum(), x, create_graph=True)
    return slope.flatten(1).norm(dim=1)  # type: ignore[no-any-return]


@entry
def wasserstein_critic() -> Workload:
    """WGAN-GP: a critic whose gradient is to have length 1 between real and made images."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(6, 8, 3, padding=1, groups=2),
        nn.LayerNorm([8, 6, 6]),
        nn.LeakyReLU(0.2),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.Softplus(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 1),
    )
    real, made, share = torch.randn(3, 3, 12, 12), torch.randn(3, 3, 12, 12), torch.rand(3, 1, 1, 1)

    def loss() -> Tensor:
        between = (share * real + (1 - share) * made).requires_grad_()
        penalty = (_steepness(model(between), between) - 1).square().mean()
        return model(made).mean() - model(real).mean() + 10 * penalty  # type: ignore[no-any-return]

    return Workload(model, loss)


@entry
def meta_learning() -> Workload:
    """MAML: two inner steps of gradient descent, through which the outer loss is differentiated."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.BatchNorm2d(6),
        nn.ELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    seen, asked = torch.randn(6, 1, 8, 8), torch.randn(6, 1, 8, 8)
    labels, wanted = classes(3, 6), classes(3, 6)

    def loss() -> Tensor:
        weights: dict[str, Tensor] = dict(model.named_parameters())
        for _ in range(2):
            out = torch.func.functional_call(model, weights, (seen,))
            slopes = torch.autograd.grad(
                F.cross_entropy(out, labels), [*weights.values()], create_graph=True
            )
            pairs = zip(weights.items(), slopes, strict=True)
            weights = {name: w - 0.2 * slope for (name, w), slope in pairs}
        return F.cross_entropy(torch.func.functional_call(model, weights, (asked,)), wanted)

    return Workload(model, loss)


class _Energy(nn.Module):
    """The energy of atoms by their kinds and places, message by message (SchNet, small)."""

    def __init__(self) -> None:
        super().__init__()
        self.kind = nn.Embedding(3, 8)
        self.filter = nn.Sequential(nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 8))
        self.update = nn.Sequential(nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8))
        self.norm = nn.LayerNorm(8)
        self.out = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, kind: Tensor, place: Tensor, pairs: Tensor) -> Tensor:
        here, there = pairs
        distance = (place[here] - place.index_select(0, there)).norm(dim=-1)
        waves = torch.exp(-((distance[:, None] - torch.linspace(0, 3, 6)) ** 2))
        weight = self.filter(waves).float() * (0.5 * (torch.cos(distance) + 1))[:, None]
        h = self.kind(kind)
        received = torch.zeros_like(h).index_add(0, here, weight * h[there])
        h = h + self.update(received).float()
        return self.out(self.norm(h)).float().sum()  # type: ignore[no-any-return]


@entry
def energy_and_forces() -> Workload:
    """An energy that is learned together with its forces, minus its gradient for the places."""
    model = _Energy()
    kind, place = torch.tensor([0, 1, 2, 1, 0]), torch.randn(5, 3)
    pairs = torch.tensor([(i, j) for i in range(5) for j in range(5) if i != j]).T
    energy, forces = torch.randn(()), torch.randn(5, 3)

    def loss() -> Tensor:
        at = place.clone().requires_grad_()
        found = model(kind, at, pairs)
        (slope,) = torch.autograd.grad(found, at, create_graph=True)
        return F.mse_loss(found, energy) + F.huber_loss(-slope, forces)

    return Workload(model, loss)


class _Wave(nn.Module):
    """SIREN, and one hidden layer of another bend."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 10), nn.Linear(10, 10), nn.Linear(10, 1)])

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        return last(F.gelu(second(torch.sin(2 * first(x)))))  # type: ignore[no-any-return]


@entry
def wave_equation() -> Workload:
    """A physics-informed network in time and space: u_tt = u_xx, by autograd.grad twice."""
    model = _Wave()
    points = torch.rand(7, 2)

    def loss() -> Tensor:
        at = points.clone().requires_grad_()
        u = model(at).float()
        (slope,) = torch.autograd.grad(u.sum(), at, create_graph=True)
        (by_time,) = torch.autograd.grad(slope[:, 0].sum(), at, create_graph=True)
        (by_place,) = torch.autograd.grad(slope[:, 1].sum(), at, create_graph=True)
        residual = by_time[:, 0] - by_place[:, 1]
        return residual.square().mean() + (u[:, 0] - torch.sin(points[:, 1])).square().mean()  # type: ignore[no-any-return]

    return Workload(model, loss)


@entry
def steep_attention() -> Workload:
    """Attention whose output is to move little with its input: a gradient-norm penalty."""
    model = nn.ModuleDict({"norm": nn.LayerNorm(8), "in": nn.Linear(8, 24), "out": nn.Linear(8, 3)})
    x, y = torch.randn(2, 5, 8), classes(3, 2)

    def forward(at: Tensor) -> Tensor:
        parts = model["in"](model["norm"](at)).view(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        query, key, value = parts
        scores = (query @ key.transpose(-1, -2) / 2).softmax(-1)
        mixed = (scores @ value).transpose(1, 2).reshape(2, 5, 8)
        return model["out"]((at + mixed).mean(1)).float()  # type: ignore[no-any-return]

    def loss() -> Tensor:
        at = x.clone().requires_grad_()
        error = F.cross_entropy(forward(at), y)
        return error + 0.1 * _steepness(error, at).square().sum()

    return Workload(model, loss)
