"""Architectures with complex numbers: Fourier transforms, rotations, complex weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from architectures.workload import Workload, classes, entry

if TYPE_CHECKING:
    from torch import Tensor


class _SpectralConvolution(nn.Module):
    """Complex weights for the lowest frequencies of both signs, none for the others."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        shape = (2, width, width, modes, modes)
        self.weight = nn.Parameter(torch.randn(shape, dtype=torch.cfloat) / width)

    def forward(self, x: Tensor) -> Any:
        spectrum, m = torch.fft.rfft2(x, norm="ortho"), self.modes
        out = torch.zeros_like(spectrum)
        for rows, weight in zip((slice(0, m), slice(-m, None)), self.weight, strict=True):
            low = spectrum[:, :, rows, :m]
            out[:, :, rows, :m] = torch.einsum("bixy,ioxy->boxy", low, weight)
        return torch.fft.irfft2(out, s=x.shape[-2:], norm="ortho")


@entry
def fourier_operator() -> Workload:
    """A Fourier neural operator: fields in, fields out."""
    width = 4
    lift, project = nn.Conv2d(3, width, 1), nn.Conv2d(width, 1, 1)
    spectral = nn.ModuleList(_SpectralConvolution(width, 2) for _ in range(2))
    local = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(2))
    model = nn.ModuleList([lift, spectral, local, project])
    x, y = torch.randn(2, 3, 6, 8), torch.randn(2, 1, 6, 8)

    def loss() -> Any:
        h = lift(x)
        for far, near in zip(spectral, local, strict=True):
            h = F.gelu(far(h) + near(h))
        return F.mse_loss(project(h), y)

    return Workload(model, loss)


class _RotaryAttention(nn.Module):
    """Attention whose queries and keys are turned in the complex plane, as in LLaMA's own code."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, turns: Tensor) -> Any:
        q, k, v = (part.view(*x.shape[:2], self.heads, -1) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = (self._turned(part, turns).transpose(1, 2) for part in (q, k))
        mixed = F.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))

    @staticmethod
    def _turned(x: Tensor, turns: Tensor) -> Any:
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turns[:, None]).flatten(3).type_as(x)


@entry
def complex_rotary() -> Workload:
    steps, width, heads = 5, 8, 2
    embed, attend, out = nn.Embedding(11, width), _RotaryAttention(width, heads), nn.Linear(8, 11)
    frequencies = 10.0 ** -torch.arange(0, width // heads, 2)
    phases = torch.outer(torch.arange(steps), frequencies)
    turns = torch.polar(torch.ones_like(phases), phases)
    words = classes(11, 2, steps)

    def loss() -> Any:
        return F.cross_entropy(out(attend(embed(words), turns)).flatten(0, 1), words.flatten())

    return Workload(nn.ModuleList([embed, attend, out]), loss)


@entry
def spectrogram() -> Workload:
    """A filter judged by two spectra of what it makes, and by what comes back from them."""
    model = nn.Conv1d(1, 1, 5, padding=2)
    sound, wanted = torch.randn(2, 1, 48), torch.randn(2, 48)
    windows = [torch.hann_window(n) for n in (8, 16)]

    def loss() -> Any:
        made = model(sound).squeeze(1).float()
        total = F.l1_loss(made, wanted)
        for window in windows:
            n = len(window)
            ours, theirs = (
                torch.stft(x, n, n // 4, window=window, return_complex=True) for x in (made, wanted)
            )
            total = total + (ours.abs() - theirs.abs()).pow(2).mean()
            back = torch.istft(ours * 0.5, n, n // 4, window=window, length=48)
            total = total + F.mse_loss(back, wanted)
        return total

    return Workload(model, loss)


class _LongConvolution(nn.Module):
    """A state space in diagonal form, whose kernel is as long as the sequence (S4D)."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.rand(width, states) - 1)
        self.turn = nn.Parameter(math.pi * torch.arange(states).repeat(width, 1))
        self.mix = nn.Parameter(torch.randn(width, states, dtype=torch.cfloat))
        self.skip = nn.Parameter(torch.randn(width, 1))

    def forward(self, u: Tensor) -> Any:
        length = u.shape[-1]
        step = torch.complex(-self.rate.exp(), self.turn) / length
        powers = torch.exp(step[..., None] * torch.arange(length))
        kernel = 2 * torch.einsum("hn,hnl->hl", self.mix * (step.exp() - 1) / step, powers).real
        product = torch.fft.rfft(kernel, n=2 * length) * torch.fft.rfft(u, n=2 * length)
        return torch.fft.irfft(product, n=2 * length)[..., :length] + u * self.skip


@entry
def long_convolution() -> Workload:
    model = nn.Sequential(_LongConvolution(3, 4), nn.GELU(), _LongConvolution(3, 4))
    x, y = torch.randn(2, 3, 10), torch.randn(2, 3, 10)
    return Workload(model, lambda: F.mse_loss(model(x), y))


@entry
def auto_correlation() -> Workload:
    """Autoformer's attention: series shifted to where they resemble each other most."""
    model = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
    x, y = torch.randn(2, 12, 6), torch.randn(2, 12, 6)

    def loss() -> Any:
        q, k, v = (layer(x).float().transpose(1, 2) for layer in model)
        resembling = torch.fft.irfft(torch.fft.rfft(q) * torch.conj(torch.fft.rfft(k)), n=12)
        weights, shifts = resembling.mean(1).topk(2, dim=-1)
        places = (torch.arange(12) + shifts[..., None]) % 12
        rolled = torch.stack([v[sample][:, at] for sample, at in enumerate(places)])
        mixed = (rolled * weights.softmax(-1)[:, None, :, None]).sum(2)
        return F.mse_loss(mixed.transpose(1, 2), y)

    return Workload(model, loss)


@entry
def complex_layers() -> Workload:
    """Layers of complex weights, an activation of the modulus, and a phase that is to be found."""
    first = nn.Linear(4, 6, dtype=torch.cfloat)
    second = nn.Linear(6, 2, dtype=torch.cfloat)
    shift = nn.Parameter(torch.rand(6))
    model = nn.ModuleList([first, second, nn.ParameterList([shift])])
    x, y = torch.randn(3, 4, dtype=torch.cfloat), torch.randn(3, 2, dtype=torch.cfloat)

    def loss() -> Any:
        h = first(x)
        h = F.relu(h.abs() + shift) * h.sgn()
        out = second(h / (1 + h.mH.mH.abs()))
        return (out - y).abs().square().mean() - 0.1 * torch.cos(out.angle() - y.angle()).mean()

    return Workload(model, loss)
