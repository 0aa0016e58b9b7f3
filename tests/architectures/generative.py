"""Architectures that make data, and training steps of more than one loss."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from architectures.workload import Turns, Workload, entry

if TYPE_CHECKING:
    from torch import Tensor


@entry
def vae() -> Workload:
    encoder = nn.Sequential(nn.Linear(12, 16), nn.Softplus(), nn.Linear(16, 6))
    decoder = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 12))
    model = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    x = torch.rand(5, 12)

    def loss() -> Tensor:
        mean, log_variance = encoder(x).chunk(2, dim=-1)
        deviation = torch.exp(0.5 * log_variance)
        code = mean + deviation * torch.randn_like(deviation)
        made = F.binary_cross_entropy_with_logits(decoder(code), x, reduction="sum")
        apart = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        return (made + apart) / 5

    return Workload(model, loss)


@entry
def vector_quantised() -> Workload:
    """A VQ-VAE: nearest codes, straight through, codebook and commitment losses."""
    encoder, decoder = nn.Linear(8, 4), nn.Linear(4, 8)
    book = nn.Embedding(6, 4)
    model = nn.ModuleDict({"encoder": encoder, "book": book, "decoder": decoder})
    x = torch.randn(7, 8)

    def loss() -> Tensor:
        z = encoder(x)
        nearest = torch.cdist(z.float(), book.weight).argmin(-1)
        code = book(nearest)
        through = z + (code - z).detach()
        return (
            F.mse_loss(decoder(through), x)
            + F.mse_loss(code, z.detach())
            + 0.25 * F.mse_loss(z, code.detach())
        )

    return Workload(model, loss)


@entry
def gan() -> Workload:
    """A step of each of two players, whose optimizers take turns."""
    maker = nn.Sequential(
        nn.Linear(4, 24),
        nn.BatchNorm1d(24),
        nn.ReLU(True),
        nn.Unflatten(1, (6, 2, 2)),
        nn.ConvTranspose2d(6, 1, 4, 2, 1),
        nn.Tanh(),
    )
    critic = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.LeakyReLU(0.2, True), nn.Flatten(), nn.Linear(16, 1)
    )
    first = torch.optim.Adam(maker.parameters(), 2e-3, betas=(0.5, 0.999))
    second = torch.optim.SGD(critic.parameters(), 1e-2, momentum=0.9)
    real = torch.randn(5, 1, 4, 4)

    def turns(low: bool) -> None:
        chosen = torch.autocast("cpu", torch.bfloat16) if low else contextlib.nullcontext()
        with chosen:
            made = maker(torch.randn(5, 4))
            second.zero_grad()
            true, false = critic(real), critic(made.detach())
            judge = F.binary_cross_entropy_with_logits
            loss = judge(true, torch.ones_like(true)) + judge(false, torch.zeros_like(false))
        torch.autograd.backward(loss)
        second.step()
        first.zero_grad()
        with chosen:
            fooled = critic(made)
            other = judge(fooled, torch.ones_like(fooled))
        torch.autograd.backward(other)
        first.step()

    return Turns(nn.ModuleDict({"maker": maker, "critic": critic}), turns)


class _Denoiser(nn.Module):
    """A UNet of diffusion: timestep embedding, residual blocks with group norm, attention."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, 16), nn.SiLU(), nn.Linear(16, width))
        self.into = nn.Conv2d(1, width, 3, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(4, width) for _ in range(3)])
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(2)])
        self.down = nn.Conv2d(width, width, 3, 2, 1)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.up = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(2 * width, 1, 1)

    def clock(self, t: Tensor) -> Tensor:
        half = self.width // 2
        rates = torch.exp(-math.log(10000) * torch.arange(half) / half)
        angle = t[:, None].float() * rates[None]
        return torch.cat([angle.sin(), angle.cos()], -1)

    def attend(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norms[2](x).view(b, c, h * w)).chunk(3, dim=1)
        weights = torch.softmax(torch.bmm(q.transpose(1, 2), k) * c**-0.5, -1)
        return x + torch.bmm(v, weights.to(v).transpose(1, 2)).view(b, c, h, w)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        when = self.time(self.clock(t))[:, :, None, None]
        x = self.into(x)
        x = x + self.convs[0](F.silu(self.norms[0](x))) + when
        deep = self.attend(self.down(x))
        deep = deep + self.convs[1](F.silu(self.norms[1](deep)))
        wide = self.up(F.interpolate(deep, scale_factor=2.0, mode="nearest"))
        return self.out(torch.cat([x, wide], 1))  # type: ignore[no-any-return]


@entry
def diffusion() -> Workload:
    model = _Denoiser()
    x, keep = torch.randn(2, 1, 8, 8), torch.linspace(0.99, 0.9, 20).cumprod(0)

    def loss() -> Tensor:
        t = torch.randint(0, 20, (2,))
        noise, share = torch.randn_like(x), keep[t][:, None, None, None]
        return F.mse_loss(model(share.sqrt() * x + (1 - share).sqrt() * noise, t), noise)

    return Workload(model, loss)


class _Coupling(nn.Module):
    """A layer of RealNVP: one half scales and moves the other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 12), nn.ReLU(), nn.Linear(12, 2 * width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, -1)
        scale, shift = self.net(a).float().chunk(2, -1)
        scale = torch.tanh(scale)
        return torch.cat([b * scale.exp() + shift, a], -1), scale.sum(-1)


@entry
def flow() -> Workload:
    model = nn.ModuleList([_Coupling(2) for _ in range(3)])
    x = torch.randn(6, 4)

    def loss() -> Tensor:
        z, total = x, torch.zeros(6)
        for layer in model:
            z, volume = layer(z)
            total = total + volume
        normal: Any = torch.distributions.Normal(0.0, 1.0)
        return -(normal.log_prob(z).sum(-1) + total).mean()  # type: ignore[no-any-return]

    return Workload(model, loss)
