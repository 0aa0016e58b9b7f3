"""Architectures over sequences and sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from architectures.workload import Workload, classes, entry

if TYPE_CHECKING:
    from torch import Tensor


class _Translator(nn.Module):
    """An encoder over packed sequences and a decoder with additive attention, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(15, 8, padding_idx=0)
        self.encoder = nn.GRU(8, 6, batch_first=True, bidirectional=True)
        self.cell = nn.GRUCell(8 + 12, 12)
        self.query = nn.Linear(12, 10)
        self.key = nn.Linear(12, 10, bias=False)
        self.energy = nn.Linear(10, 1, bias=False)
        self.out = nn.Linear(24, 15)

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.embed(source), lengths, batch_first=True, enforce_sorted=False
        )
        states, last = self.encoder(packed)
        memory, _ = pad_packed_sequence(states, batch_first=True)
        hidden = torch.tanh(torch.cat([last[0], last[1]], 1))
        padding = torch.arange(memory.shape[1])[None] >= lengths[:, None]
        keys, made = self.key(memory), []
        for word in target.unbind(1):
            energy = self.energy(torch.tanh(self.query(hidden)[:, None] + keys)).squeeze(-1)
            weights = energy.masked_fill(padding, float("-inf")).softmax(-1)
            context = torch.bmm(weights[:, None], memory.to(weights.dtype)).squeeze(1)
            hidden = self.cell(torch.cat([self.embed(word), context], 1), hidden)
            made.append(self.out(torch.cat([hidden, context], 1)))
        return torch.stack(made, 1)


@entry
def translator() -> Workload:
    model = _Translator()
    source, target = classes(14, 3, 5) + 1, classes(14, 3, 4) + 1
    lengths = torch.tensor([3, 5, 2])
    for row, length in zip(source, lengths, strict=True):
        row[int(length) :] = 0
    wanted = target.roll(-1, 1)
    wanted[:, -1] = 0
    return Workload(
        model,
        lambda: F.cross_entropy(
            model(source, lengths, target).flatten(0, 1), wanted.flatten(), ignore_index=0
        ),
    )


class _Causal(nn.Module):
    def __init__(self, narrow: int, wide: int, dilation: int) -> None:
        super().__init__()
        self.pad = 2 * dilation
        self.conv = weight_norm(nn.Conv1d(narrow, wide, 3, dilation=dilation))
        self.skip = nn.Conv1d(narrow, wide, 1)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(F.relu(self.conv(F.pad(x, (self.pad, 0)))))
        return F.relu(y + self.skip(x))


@entry
def tcn() -> Workload:
    model = nn.Sequential(_Causal(3, 6, 1), _Causal(6, 6, 2), _Causal(6, 6, 4), nn.Conv1d(6, 1, 1))
    x, y = torch.randn(3, 3, 20), torch.randn(3, 1, 20)
    return Workload(model, lambda: F.huber_loss(model(x), y, delta=0.7))


class _Wave(nn.Module):
    """WaveNet's gate: tanh of one half times sigmoid of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.ModuleList([nn.Conv1d(4, 8, 2, dilation=2**i) for i in range(3)])
        self.skips = nn.ModuleList([nn.Conv1d(4, 5, 1) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor | None = None
        for gate, skip in zip(self.gates, self.skips, strict=True):
            a, b = gate(x).chunk(2, dim=1)
            x = x[..., -a.shape[-1] :] + torch.tanh(a) * torch.sigmoid(b)
            made = skip(x)[..., -4:]
            total = made if total is None else total + made
        assert total is not None
        return F.log_softmax(total, 1)


@entry
def wavenet() -> Workload:
    model = _Wave()
    x, y = torch.randn(2, 4, 14), classes(5, 2, 4)
    return Workload(model, lambda: F.nll_loss(model(x), y))


class _Rotary(nn.Module):
    """Causal attention with rotary positions, by halves and without complex numbers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.norm = nn.RMSNorm(width)

    def turn(self, x: Tensor) -> Tensor:
        length, width = x.shape[-2:]
        rates = 10000.0 ** (-torch.arange(0, width, 2) / width)
        angle = torch.outer(torch.arange(length).float(), rates)
        cos, sin = angle.cos(), angle.sin()
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(
            self.turn(q).to(v), self.turn(k).to(v), v, is_causal=True
        )
        return x + self.out(y.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


@entry
def rotary() -> Workload:
    model = nn.Sequential(nn.Embedding(11, 8), _Rotary(8, 2), _Rotary(8, 2), nn.Linear(8, 11))
    words = classes(11, 2, 7)
    return Workload(
        model, lambda: F.cross_entropy(model(words[:, :-1]).transpose(1, 2), words[:, 1:])
    )


class _Relative(nn.Module):
    """Attention by einsum, with a learned bias for each distance, as in T5 and Swin."""

    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads = heads
        self.bias = nn.Parameter(0.1 * torch.randn(2 * length - 1, heads))
        self.projections = nn.Parameter(torch.randn(3, heads, width, width // heads) / 3)
        self.out = nn.Parameter(torch.randn(heads, width // heads, width) / 3)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        q, k, v = torch.einsum("bnd,thde->tbhne", self.norm(x), self.projections)
        apart = torch.arange(n)[:, None] - torch.arange(n)[None] + n - 1
        scores = torch.einsum("bhne,bhme->bhnm", q, k) / q.shape[-1] ** 0.5
        weights = (scores + self.bias[apart].permute(2, 0, 1)).softmax(-1)
        return x + torch.einsum("bhnm,bhme,hed->bnd", weights.to(v), v, self.out)


@entry
def relative() -> Workload:
    model = nn.Sequential(_Relative(8, 2, 6), _Relative(8, 2, 6), nn.Linear(8, 3))
    x, y = torch.randn(3, 6, 8), torch.randn(3, 6, 3)
    return Workload(model, lambda: F.mse_loss(model(x), y))


@entry
def bag_of_words() -> Workload:
    model = nn.ModuleDict(
        {"bag": nn.EmbeddingBag(20, 6, mode="mean"), "out": nn.Linear(6, 4), "top": nn.Linear(6, 4)}
    )
    words, starts, y = classes(20, 11), torch.tensor([0, 4, 7]), classes(4, 3)
    biggest = nn.EmbeddingBag(20, 6, mode="max")
    model["biggest"] = biggest

    def loss() -> Tensor:
        scores = model["out"](model["bag"](words, starts)) + model["top"](biggest(words, starts))
        return F.nll_loss(F.log_softmax(scores, -1), y) + F.multi_margin_loss(scores, y)

    return Workload(model, loss)


class _Recogniser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 8, 3, padding=1)
        self.rnn = nn.LSTM(8, 6, bidirectional=True)
        self.out = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.rnn(F.elu(self.conv(x)).permute(2, 0, 1))
        return self.out(hidden).log_softmax(-1)  # type: ignore[no-any-return]


@entry
def speech() -> Workload:
    """A recogniser with CTC."""
    model = _Recogniser()
    x, y = torch.randn(2, 4, 9), classes(4, 2, 3) + 1
    lengths, sizes = torch.tensor([9, 8]), torch.tensor([3, 2])
    return Workload(model, lambda: F.ctc_loss(model(x).float(), y, lengths, sizes))


class _Scan(nn.Module):
    """A selective state space as in Mamba, written as a plain recurrence."""

    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(width, 1))
        self.skip = nn.Parameter(torch.ones(width))
        self.select = nn.Linear(width, 2 * state + 1, bias=False)
        self.gate = nn.Linear(width, width)
        self.state = state

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.select(x).float()
        step, into, out = chosen.split([1, self.state, self.state], dim=-1)
        step = F.softplus(step)
        decay = torch.exp(step[..., None] * -torch.exp(self.rate))
        fed = (step * x)[..., None] * into[..., None, :]
        hidden, made = torch.zeros_like(fed[:, 0]), []
        for t in range(x.shape[1]):
            hidden = decay[:, t] * hidden + fed[:, t]
            made.append((hidden * out[:, t, None]).sum(-1))
        y = torch.stack(made, 1) + self.skip * x
        return y * F.silu(self.gate(x))


@entry
def state_space() -> Workload:
    model = nn.Sequential(_Scan(6, 4), nn.LayerNorm(6), _Scan(6, 4), nn.Linear(6, 2))
    x, y = torch.randn(2, 7, 6), torch.randn(2, 2)
    return Workload(model, lambda: F.l1_loss(model(x)[:, -1], y))
