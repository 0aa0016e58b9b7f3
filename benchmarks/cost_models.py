"""Models whose plain step takes 50 ms and more on one thread, for `cost.py`: one of each kind."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

Tensor = torch.Tensor


@dataclass
class Case:
    """A model, what goes in, and the loss of both."""

    model: nn.Module
    inputs: tuple[Tensor, ...]
    loss: Callable[..., Tensor]

    def step(self) -> None:
        """Run forward and backward."""
        self.model.zero_grad()
        torch.autograd.backward(self.loss(self.model, *self.inputs))

    def doubled(self) -> Case:
        """Return the same in float64."""
        inputs = tuple(x.double() if x.is_floating_point() else x for x in self.inputs)
        return Case(copy.deepcopy(self.model).double(), inputs, self.loss)


class Residual(nn.Module):
    """Adds what it holds to its input."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        result: Tensor = x + self.inner(x)
        return result


class First(nn.Module):
    """Returns the first result of a recurrent layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs without the state."""
        result: Tensor = self.layer(x)[0]
        return result


class Block(nn.Module):
    """A decoder's block: causal attention, then a gated or plain perceptron."""

    def __init__(self, width: int, heads: int, *, gated: bool) -> None:
        super().__init__()
        norm = nn.RMSNorm if gated else nn.LayerNorm
        self.heads, self.gated = heads, gated
        self.before, self.between = norm(width), norm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gate = nn.Linear(width, 4 * width) if gated else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the residual stream behind the block."""
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.before(x)).chunk(3, -1)
        )
        if self.gated:
            q, k = rotated(q), rotated(k)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        y = self.between(x)
        inner = F.gelu(self.up(y)) if self.gate is None else F.silu(self.gate(y)) * self.up(y)
        result: Tensor = x + self.down(inner)
        return result


def rotated(x: Tensor) -> Tensor:
    """Return queries or keys with rotary positions."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] / 100.0 ** (
        torch.arange(half, dtype=x.dtype) / half
    )
    a, b = x.chunk(2, -1)
    return torch.cat((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), -1)


class Experts(nn.Module):
    """A mixture of four perceptrons, of which each token takes the best one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.route = nn.Linear(width, 4)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return what the experts make of their tokens."""
        share, chosen = self.route(x).softmax(-1).max(-1)
        y = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            here = (chosen == number).nonzero()[:, 0]
            y = y.index_add(0, here, expert(x[here]) * share[here, None])
        return y


class Messages(nn.Module):
    """A layer of a graph network: sums over the edges that arrive."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.edge, self.node = nn.Linear(2 * width, width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, ends: Tensor) -> Tensor:
        """Return the nodes' new states."""
        sent = F.relu(self.edge(torch.cat((x[ends[0]], x[ends[1]]), -1)))
        arrived = torch.zeros_like(x).index_add(0, ends[1], sent)
        return F.relu(self.node(torch.cat((x, arrived), -1)))


def mean_square(model: nn.Module, *inputs: Tensor) -> Tensor:
    """Return a loss of whatever a model returns."""
    result: Tensor = model(*inputs).square().mean()
    return result


def distance(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """Return the mean square of how far a model's result is from a target."""
    result: Tensor = F.mse_loss(model(x), target)
    return result


def classified(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of a model's scores, over all positions."""
    scores = model(x)
    return F.cross_entropy(scores.reshape(-1, scores.shape[-1]), target.reshape(-1))


def mlp(width: int = 256, layers: int = 8, batch: int = 4096) -> Case:
    """Return a perceptron of ReLUs."""
    parts = [part for _ in range(layers) for part in (nn.Linear(width, width), nn.ReLU())]
    model = nn.Sequential(*parts, nn.Linear(width, 10))
    return Case(model, (torch.randn(batch, width), torch.randint(0, 10, (batch,))), classified)


def residual_mlp() -> Case:
    """Return a perceptron with LayerNorm, GELU and skips."""
    blocks = [
        Residual(nn.LayerNorm(256), nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 256))
        for _ in range(4)
    ]
    return Case(nn.Sequential(*blocks), (torch.randn(2048, 256),), mean_square)


def convolved(*block: Callable[[], nn.Module], size: int, channels: int = 32, n: int = 6) -> Case:
    """Return blocks on images, between a stem and a head."""
    blocks = [Residual(*(make() for make in block)) for _ in range(n)]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    model = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), *blocks, *head)
    data = torch.randn(8, 3, size, size), torch.randint(0, 10, (8,))
    return Case(model, data, classified)


def conv(groups: int = 1) -> Callable[[], nn.Module]:
    """Return a maker of convolutions on 32 channels."""
    return lambda: nn.Conv2d(32, 32, 3, padding=1, groups=groups)


def unet() -> Case:
    """Return an encoder and decoder with pooling and upsampling."""
    parts = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    parts += [nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2)]
    parts += [nn.Conv2d(64, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 3, 1)]
    return Case(nn.Sequential(*parts), (torch.randn(8, 3, 64, 64),), mean_square)


def autoencoder() -> Case:
    """Return strided convolutions and transposed ones."""
    parts: list[nn.Module] = [nn.Conv2d(3, 32, 4, 2, 1), nn.LeakyReLU(), nn.Conv2d(32, 64, 4, 2, 1)]
    parts += [nn.Tanh(), nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ELU()]
    parts += [nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Sigmoid()]
    x = torch.rand(32, 3, 64, 64)
    return Case(nn.Sequential(*parts), (x,), lambda m, x: F.binary_cross_entropy(m(x), x))


def waves() -> Case:
    """Return dilated convolutions on sound."""
    blocks = [
        Residual(nn.Conv1d(64, 64, 3, padding=2**k, dilation=2**k), nn.Tanh()) for k in range(5)
    ]
    model = nn.Sequential(nn.Conv1d(1, 64, 1), *blocks, nn.Conv1d(64, 1, 1))
    return Case(model, (torch.randn(8, 1, 2048),), mean_square)


def encoder(width: int = 128, layers: int = 4, length: int = 64) -> Case:
    """Return ``nn.TransformerEncoder`` on sequences."""
    layer = nn.TransformerEncoderLayer(
        width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True
    )
    model = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
    # After a LayerNorm the mean square alone is constant, and its gradient is rounding.
    x, target = torch.randn(2, 16, length, width)
    return Case(model, (x, target), distance)


def vit() -> Case:
    """Return a transformer on patches of images."""
    layer = nn.TransformerEncoderLayer(
        128, 4, 512, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    body = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    patches = (nn.Conv2d(3, 128, 4, 4), nn.Flatten(2))

    def loss(model: Any, x: Tensor, target: Tensor) -> Tensor:
        seen = model[1](model[0](x).transpose(1, 2)).mean(1)
        return F.cross_entropy(model[2](seen), target)

    model = nn.Sequential(nn.Sequential(*patches), body, nn.Linear(128, 10))
    return Case(model, (torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,))), loss)


def decoder(*, gated: bool) -> Case:
    """Return a small GPT-2, or a small LLaMA."""
    blocks = [Block(128, 4, gated=gated) for _ in range(2)]
    model = nn.Sequential(nn.Embedding(4096, 128), *blocks, nn.Linear(128, 4096, bias=False))
    tokens = torch.randint(0, 4096, (6, 129))
    return Case(model, (tokens[:, :-1], tokens[:, 1:]), classified)


def recurrent(kind: Any) -> Case:
    """Return a recurrent network over 32 steps."""
    return Case(
        First(kind(128, 256, num_layers=2, batch_first=True)),
        (torch.randn(32, 32, 128),),
        mean_square,
    )


def experts() -> Case:
    """Return two mixtures of experts."""
    return Case(
        nn.Sequential(Experts(128), Residual(Experts(128))), (torch.randn(4096, 128),), mean_square
    )


def recommender() -> Case:
    """Return bags of embeddings, and a perceptron of their products."""

    def loss(model: Any, items: Tensor, clicked: Tensor) -> Tensor:
        bags = torch.stack([bag(part) for bag, part in zip(model[0], items, strict=True)], 1)
        pairs = (bags @ bags.transpose(1, 2)).flatten(1)
        scores = model[1](torch.cat((bags.flatten(1), pairs), 1))[:, 0]
        return F.binary_cross_entropy_with_logits(scores, clicked.to(scores.dtype))

    bags = nn.ModuleList(nn.EmbeddingBag(5000, 32, mode="sum") for _ in range(8))
    top = nn.Sequential(nn.Linear(8 * 32 + 64, 512), nn.ReLU(), nn.Linear(512, 1))
    items, clicked = torch.randint(0, 5000, (8, 4096, 8)), torch.randint(0, 2, (4096,))
    return Case(nn.ModuleList((bags, top)), (items, clicked), loss)


def graph() -> Case:
    """Return a graph network of 4,096 nodes and 32,768 edges."""

    def loss(model: Any, x: Tensor, ends: Tensor) -> Tensor:
        for layer in model:
            x = layer(x, ends)
        return x.square().mean()

    model = nn.ModuleList(Messages(64) for _ in range(2))
    return Case(model, (torch.randn(4096, 64), torch.randint(0, 4096, (2, 32768))), loss)


def spectral() -> Case:
    """Return a Fourier layer, between perceptrons."""

    def loss(model: Any, x: Tensor) -> Tensor:
        waves = torch.fft.rfft(model[0](x), dim=1)
        back = torch.fft.irfft(waves * torch.view_as_complex(model[1].weight), n=x.shape[1], dim=1)
        result: Tensor = model[2](F.gelu(back)).square().mean()
        return result

    kernel = nn.Module()
    kernel.weight = nn.Parameter(torch.randn(129, 128, 2) / math.sqrt(128))
    model = nn.ModuleList((nn.Linear(64, 128), kernel, nn.Linear(128, 64)))
    return Case(model, (torch.randn(48, 256, 64),), loss)


CASES: dict[str, Callable[[], Case]] = {
    "MLP, ReLU": mlp,
    "MLP, LayerNorm, GELU": residual_mlp,
    "CNN, BatchNorm": lambda: convolved(
        conv(), lambda: nn.BatchNorm2d(32), nn.ReLU, conv(), size=32
    ),
    "CNN, depthwise": lambda: convolved(
        conv(32), lambda: nn.BatchNorm2d(32), nn.Hardswish, lambda: nn.Conv2d(32, 32, 1), size=48
    ),
    "CNN, GroupNorm, SiLU": lambda: convolved(
        lambda: nn.GroupNorm(8, 32), nn.SiLU, conv(), size=40
    ),
    "U-Net": unet,
    "autoencoder": autoencoder,
    "dilated Conv1d": waves,
    "TransformerEncoder": encoder,
    "ViT": vit,
    "GPT": lambda: decoder(gated=False),
    "LLaMA": lambda: decoder(gated=True),
    "LSTM": lambda: recurrent(nn.LSTM),
    "GRU": lambda: recurrent(nn.GRU),
    "mixture of experts": experts,
    "recommender": recommender,
    "graph network": graph,
    "Fourier layer": spectral,
}
