"""Training loops of many kinds, each a function that makes a model and its step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    Loop = tuple[nn.Module, Callable[[Any], Any]]


def mlp() -> Loop:
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 1))
    x, y = torch.randn(5, 6), torch.randn(5, 1)
    return model, lambda net: F.mse_loss(net(x), y)


def convolutional() -> Loop:
    model = nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.1), nn.Linear(36, 3)),
    )
    x, y = torch.randn(4, 2, 8, 8), torch.tensor([0, 2, 1, 2])
    return model, lambda net: F.cross_entropy(net(x), y)


def transformer() -> Loop:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 2), torch.randn(2, 5, 8)
    return model, lambda net: net(x).square().mean()


def lstm() -> Loop:
    model, x = nn.LSTM(4, 6, num_layers=2, dropout=0.3), torch.randn(5, 3, 4)
    return model, lambda net: net(x)[0].square().mean()


def gru() -> Loop:
    model, x = nn.GRU(4, 6, bidirectional=True), torch.randn(5, 3, 4)
    return model, lambda net: net(x)[1].square().mean()


def embedding() -> Loop:
    model = nn.ModuleList([nn.Embedding(9, 4, padding_idx=0), nn.EmbeddingBag(9, 4, mode="sum")])
    rows = torch.tensor([[1, 2, 0], [8, 1, 1]])
    return model, lambda net: (net[0](rows).sum(1) * net[1](rows)).tanh().sum()


class Checkpointed(nn.Module):
    """Has all that running twice may change: dropout, statistics, the order of hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.ReLU())
            for _ in range(2)
        )

    def forward(self, x: Any) -> Any:
        for reentrant, part in enumerate(self.parts):
            x = checkpoint(part, x, use_reentrant=bool(reentrant))
        return x


def checkpointed() -> Loop:
    x: Any = torch.randn(5, 6, requires_grad=True)
    return Checkpointed(), lambda net: net(x).square().mean()


def mixed() -> Loop:
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    x, y = torch.randn(4, 6), torch.tensor([0, 1, 2, 1])

    def loss(net: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(net(x), y)

    return model, loss


def accumulated() -> Loop:
    model, batches = nn.Linear(6, 2), torch.randn(3, 4, 6)

    def loss(net: Any) -> Any:
        for batch in batches[:2]:
            torch.autograd.backward(net(batch).square().mean() / 3)
        torch.autograd.backward(net(batches[2]).square().mean() / 3)
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)

    return model, loss


def penalised() -> Loop:
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    x: Any = torch.randn(3, 4, requires_grad=True)

    def loss(net: Any) -> Any:
        (slope,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
        return (slope.norm(dim=1) - 1).square().mean()

    return model, loss


def branching() -> Loop:
    """Use what torch computes otherwise under a mode: products, fillings, lazy conjugates."""
    model, mask = nn.Linear(4, 4), torch.eye(4) > 0

    def loss(net: Any) -> Any:
        weight = net.weight.masked_fill(mask, net.bias.sum()).masked_fill(mask.flip(0), 0.0)
        unreal = torch.complex(net.weight, net.weight.flip(0) + torch.eye(4))
        return weight.prod(1).sum() + torch.linalg.pinv(unreal).abs().sum() * 1e-3

    return model, loss


def halve(leaf: Any) -> None:
    leaf.grad.mul_(0.5)


def hooked() -> Loop:
    """Hooks of every kind, one of which runs a backward pass of its own."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    x, weight = torch.randn(3, 4), torch.tensor([[1e13, 0, 0], [1e13, 1e13, 0], [1e13] * 3])

    def scale(_: Any) -> Any:
        with torch.enable_grad():
            own = weight.clone().requires_grad_()
            torch.autograd.backward(own.clone().prod())
        return None if own.grad is None else _ * (1 + own.grad.sum())

    first: Any = model[0].weight
    first.register_post_accumulate_grad_hook(halve)
    first.register_hook(scale)
    model[1].register_full_backward_hook(lambda *_: None)

    def loss(net: Any) -> Any:
        y = net(x)
        y.register_hook(scale)
        y.grad_fn.register_hook(
            lambda outgoing, _: tuple(None if g is None else g * 2 for g in outgoing)
        )
        return y.square().mean()

    return model, loss


LOOPS = [
    *(mlp, convolutional, transformer, lstm, gru, embedding),
    *(checkpointed, mixed, accumulated, penalised, branching, hooked),
]
