"""Is a wrong custom backward found, placed, and called by its right cause? Prints a table.

``python benchmarks/causes.py [--seeds N] [--only WORD] [--list]``. Each function below is put into
an ``autograd.Function`` whose backward returns gradients with one fault, at random cotangents, in
float32. A fault is one of the gradients (sign, factor, swapped, transposed, rows missing), or of
the formula: then the gradients are those of another function, as one that detaches the mean.
The faulty gradients are autograd's, in float64, rounded to float32 at the end.

Found: the verdict is DISAGREES. Placed: at the backward of the function, and at the inputs whose
gradients are wrong. First, three: the right cause is named first, or is it or the runner-up.
Abstained: no cause was named. Wrong: another one was named, and the right one is not the runner-up.
The same functions with their right gradients must agree.
"""

# ruff: noqa: ARG004, D103 (the functions say by themselves what they are)

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table

import gradwitness
from gradwitness import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Tensors = tuple[Any, ...]
    Of = Callable[..., Any]


@dataclass(frozen=True)
class Subject:
    """A function, the shapes of its inputs, and others whose gradients are its mistakes."""

    name: str
    f: Of
    shapes: tuple[Any, ...]
    mistakes: tuple[tuple[str, Of], ...] = ()  # the cause as a pattern, and the other function
    lift: float = 0.0  # added to inputs that must be positive


def cut(t: torch.Tensor) -> torch.Tensor:
    """Return a value without its gradient."""
    return t.detach()


def scale(t: torch.Tensor, by: float) -> torch.Tensor:
    """Return a value whose gradient is multiplied by a number."""
    return t.detach() + by * (t - t.detach())


def swap(value: torch.Tensor, gradient_of: torch.Tensor) -> torch.Tensor:
    """Return a value with another one's gradient."""
    return value.detach() + gradient_of - gradient_of.detach()


def through(value: torch.Tensor, slope: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return a value with a wrong slope over an input."""
    return value.detach() + slope.detach() * (x - x.detach())


def layer_norm(
    x: Any, w: Any, b: Any, mean: Any = lambda t: t, var: Any = lambda t: t, rate: Any = lambda t: t
) -> Any:
    m = mean(x.mean(-1, keepdim=True))
    v = var(((x - m) ** 2).mean(-1, keepdim=True))
    return (x - m) * rate(torch.rsqrt(v + 1e-5)) * w + b


def rms_norm(x: Any, w: Any, var: Any = lambda t: t) -> Any:
    return x * torch.rsqrt(var((x * x).mean(-1, keepdim=True)) + 1e-6) * w


def batch_norm(x: Any, w: Any, b: Any, mean: Any = lambda t: t, var: Any = lambda t: t) -> Any:
    m = mean(x.mean(0))
    v = var(((x - m) ** 2).mean(0))
    return (x - m) / torch.sqrt(v + 1e-5) * w + b


def group_norm(x: Any, w: Any, mean: Any = lambda t: t, var: Any = lambda t: t) -> Any:
    g = x.reshape(x.shape[0], 4, -1)
    d = g - mean(g.mean(-1, keepdim=True))
    return (d / torch.sqrt(var((d * d).mean(-1, keepdim=True)) + 1e-5)).reshape(x.shape) * w


def softmax(x: Any, total: Any = lambda t: t) -> Any:
    e = torch.exp(x - x.max(-1, keepdim=True).values.detach())
    return e / total(e.sum(-1, keepdim=True))


def attention(q: Any, k: Any, v: Any, total: Any = lambda t: t, by: Any = 1.0) -> Any:
    s = scale(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, by)
    return softmax(s, total) @ v


def causal(q: Any, k: Any, v: Any, mask: Any = True) -> Any:
    s = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    hidden = torch.ones(s.shape[-2:]).tril() == 0
    s = s.masked_fill(hidden, -1e9) if mask else swap(s.masked_fill(hidden, -1e9), s)
    return torch.softmax(s, -1) @ v


def lstm(x: Any, h: Any, c: Any, w: Any, forget: Any = lambda t: t, gate: Any = lambda t: t) -> Any:
    i, f, g, o = (torch.cat([x, h], -1) @ w).chunk(4, -1)
    c = forget(torch.sigmoid(f)) * c + gate(torch.sigmoid(i)) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru(x: Any, h: Any, w: Any, u: Any, update: Any = lambda t: t, reset: Any = lambda t: t) -> Any:
    a, b = x @ w, h @ u
    z, r, _ = torch.sigmoid(a + b).chunk(3, -1)
    z = update(z)
    n = torch.tanh(a.chunk(3, -1)[2] + reset(r) * b.chunk(3, -1)[2])
    return (1 - z) * n + z * h


def rnn(x: Any, h: Any, w: Any, u: Any, b: Any, state: Any = lambda t: t) -> Any:
    for k in range(3):
        h = torch.tanh(x[:, k] @ w + state(h) @ u + b)
    return h


def conv(x: Any, w: Any, b: Any, stride: Any = 1) -> Any:
    rows = F.unfold(x, 3, stride=stride)
    y = w.flatten(1) @ rows + b[:, None]
    side = (x.shape[-1] - 3) // stride + 1
    return y.reshape(x.shape[0], w.shape[0], side, side)


def cross_entropy(x: Any, t: Any, total: Any = lambda t: t, smooth: Any = 0.0) -> Any:
    p = F.one_hot(t, x.shape[-1]).to(x) * (1 - smooth) + smooth / x.shape[-1]
    return -(p * (x - total(torch.log(torch.exp(x).sum(-1, keepdim=True))))).sum(-1).mean()


def focal(x: Any, t: Any, gamma: Any = 2.0, power: Any = lambda t: t) -> Any:
    p = torch.exp(-F.binary_cross_entropy_with_logits(x, t, reduction="none"))
    return (-(power(1 - p) ** gamma) * torch.log(p)).mean()


def huber(x: Any, y: Any, mask: Any = lambda t: t) -> Any:
    d = x - y
    return torch.where(d.abs() < 1.0, 0.5 * d * d, mask(d.abs() - 0.5)).mean()


def contrastive(a: Any, b: Any, norm: Any = lambda t: t) -> Any:
    a, b = (t / norm((t * t).sum(-1, keepdim=True).sqrt()) for t in (a, b))
    return -torch.log_softmax(a @ b.T / 0.1, -1).diagonal().mean()


def rotary(q: Any, cos: Any, sin: Any, half: Any = lambda t: t) -> Any:
    a, b = q.chunk(2, -1)
    return q * cos + half(torch.cat([-b, a], -1)) * sin


def gated(x: Any, w: Any, v: Any, gate: Any = lambda t: t, up: Any = lambda t: t) -> Any:
    return gate(F.silu(x @ w)) * up(x @ v)


def moe(x: Any, router: Any, w: Any, route: Any = lambda t: t) -> Any:
    p = route(torch.softmax(x @ router, -1))
    return torch.einsum("ne,nd,edf->nf", p, x, w)


def scan(x: Any, a: Any) -> Any:
    h, out = torch.zeros_like(x[:, 0]), []
    for k in range(x.shape[1]):
        h = a * h + x[:, k]
        out.append(h)
    return torch.stack(out, 1)


def dropout(x: Any, by: Any = 2.0) -> Any:
    mask = (torch.arange(x.numel()).reshape(x.shape) % 3 != 0).to(x)
    return x * mask * by


S, V, C = "term missing", "variance path missing", "mean and variance taken as constants"
LEFT = "derivative of a step left out|term|activation derivative missing|wrong power"
MASK = "mask|clamp ignored|relu mask"
SUBJECTS = (
    Subject(
        "isrlu",
        lambda x: x * torch.rsqrt(1 + torch.clamp(x, max=0) ** 2),
        ((16, 20),),
        ((S, lambda x: x * cut(torch.rsqrt(1 + torch.clamp(x, max=0) ** 2))),),
    ),
    Subject(
        "swish",
        lambda x: x * torch.sigmoid(x),
        ((8, 12),),
        (
            (S, lambda x: x * cut(torch.sigmoid(x))),
            ("term counted twice", lambda x: x * scale(torch.sigmoid(x), 2)),
            ("term with the wrong sign", lambda x: x * scale(torch.sigmoid(x), -1)),
        ),
    ),
    Subject(
        "swish_beta",
        lambda x, b: x * torch.sigmoid(b * x),
        ((8, 12), ()),
        ((S, lambda x, b: x * cut(torch.sigmoid(b * x))),),
    ),
    Subject(
        "gelu_tanh",
        lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.044715 * x**3))),
        ((8, 12),),
        (
            (S, lambda x: 0.5 * x * (1 + cut(torch.tanh(0.8 * (x + 0.044715 * x**3))))),
            (S, lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + cut(0.044715 * x**3))))),
        ),
    ),
    Subject(
        "mish",
        lambda x: x * torch.tanh(torch.log1p(torch.exp(x))),
        ((8, 12),),
        ((S, lambda x: x * cut(torch.tanh(torch.log1p(torch.exp(x))))),),
    ),
    Subject("tanh", torch.tanh, ((8, 12),), ((LEFT, lambda x: swap(torch.tanh(x), x)),)),
    Subject("sigmoid", torch.sigmoid, ((8, 12),), ((LEFT, lambda x: swap(torch.sigmoid(x), x)),)),
    Subject(
        "softsign",
        lambda x: x / (1 + x.abs()),
        ((8, 12),),
        ((S, lambda x: x / (1 + cut(x.abs()))),),
    ),
    Subject(
        "cube",
        lambda x: x**3,
        ((8, 12),),
        (("missing factor 3", lambda x: swap(x**3, x**3 / 3)),),
    ),
    Subject("log_eps", lambda x: torch.log(x * x + 1e-2), ((8, 12),)),
    Subject(
        "relu",
        torch.relu,
        ((8, 12),),
        (
            (MASK, lambda x: swap(torch.relu(x), x)),
            (MASK, lambda x: swap(torch.relu(x), -torch.relu(-x))),
        ),
    ),
    Subject(
        "leaky",
        lambda x: torch.where(x > 0, x, 0.1 * x),
        ((8, 12),),
        ((MASK + "|scale", lambda x: swap(torch.where(x > 0, x, 0.1 * x), x)),),
    ),
    Subject(
        "clamp",
        lambda x: torch.clamp(x, -0.5, 0.5),
        ((8, 12),),
        (
            (MASK, lambda x: swap(torch.clamp(x, -0.5, 0.5), x)),
            (MASK, lambda x: swap(torch.clamp(x, -0.5, 0.5), torch.clamp(x, min=-0.5))),
        ),
    ),
    Subject(
        "hardshrink",
        lambda x: torch.where(x.abs() > 0.5, x, torch.zeros_like(x)),
        ((8, 12),),
        ((MASK, lambda x: x + 0),),
    ),
    Subject(
        "dropout",
        dropout,
        ((8, 12),),
        (
            (MASK + "|scale", lambda x: swap(dropout(x), 2 * x)),
            (
                "scale left out|constant factor|missing factor 2",
                lambda x: swap(dropout(x), dropout(x, by=1.0)),
            ),
        ),
    ),
    Subject(
        "masked_scores",
        lambda x, m: x.masked_fill(m > 0, -9.0),
        ((8, 12), "const"),
        ((MASK, lambda x, m: swap(x.masked_fill(m > 0, -9.0), x)),),
    ),
    Subject("sum_squares", lambda x: (x * x).sum(), ((8, 12),)),
    Subject("mean_rows", lambda x: x.mean(0), ((8, 12),)),
    Subject(
        "logsumexp",
        lambda x: torch.log(torch.exp(x).sum(-1)),
        ((8, 12),),
        ((LEFT, lambda x: swap(torch.log(torch.exp(x).sum(-1)), torch.exp(x).sum(-1))),),
    ),
    Subject("std", lambda x: ((x - x.mean(-1, keepdim=True)) ** 2).mean(-1).sqrt(), ((8, 12),)),
    Subject("l2_norm", lambda x: (x * x).sum(-1).sqrt(), ((8, 12),)),
    Subject(
        "normalize",
        lambda x: x / (x * x).sum(-1, keepdim=True).sqrt(),
        ((8, 12),),
        ((f"{V}|{S}", lambda x: x / cut((x * x).sum(-1, keepdim=True).sqrt())),),
    ),
    Subject(
        "layer_norm",
        layer_norm,
        ((16, 12), (12,), (12,)),
        (
            ("mean path", lambda x, w, b: layer_norm(x, w, b, mean=cut)),
            (V, lambda x, w, b: layer_norm(x, w, b, var=cut)),
            (C, lambda x, w, b: layer_norm(x, w, b, mean=cut, var=cut)),
            (
                "wrong value",
                lambda x, w, b: layer_norm(x, cut(w), b) + cut(x) * w - cut(x * w),
            ),
        ),
    ),
    Subject(
        "rms_norm",
        rms_norm,
        ((16, 12), (12,)),
        ((f"{V}|{S}", lambda x, w: rms_norm(x, w, var=cut)),),
    ),
    Subject(
        "batch_norm",
        batch_norm,
        ((16, 12), (12,), (12,)),
        (
            ("mean path", lambda x, w, b: batch_norm(x, w, b, mean=cut)),
            (V, lambda x, w, b: batch_norm(x, w, b, var=cut)),
            (C, lambda x, w, b: batch_norm(x, w, b, mean=cut, var=cut)),
        ),
    ),
    Subject(
        "group_norm",
        group_norm,
        ((4, 16), (16,)),
        (
            ("mean path", lambda x, w: group_norm(x, w, mean=cut)),
            (V, lambda x, w: group_norm(x, w, var=cut)),
        ),
    ),
    Subject("softmax", softmax, ((8, 12),), ((S, lambda x: softmax(x, cut)),)),
    Subject(
        "log_softmax",
        lambda x: x - torch.log(torch.exp(x).sum(-1, keepdim=True)),
        ((8, 12),),
        ((S, lambda x: x - cut(torch.log(torch.exp(x).sum(-1, keepdim=True)))),),
    ),
    Subject(
        "linear",
        lambda x, w, b: x @ w.T + b,
        ((16, 12), (7, 12), (7,)),
        (("averaged|mean against sum", lambda x, w, b: x @ w.T + scale(b, 1 / 16)),),
    ),
    Subject(
        "square_linear",
        lambda x, w: x @ w,
        ((9, 9), (9, 9)),
        (
            (
                "factor transposed",
                lambda x, w: (
                    cut(x @ w) + x @ w.T.detach() + x.detach() @ w - (x @ w.T + x @ w).detach()
                ),
            ),
        ),
    ),
    Subject("bilinear", lambda x, w, y: ((x @ w) * y).sum(-1), ((8, 5), (5, 6), (8, 6))),
    Subject(
        "lora",
        lambda x, w, a, b: x @ w + 0.5 * (x @ a @ b),
        ((8, 6), (6, 6), (6, 2), (2, 6)),
        (
            (S, lambda x, w, a, b: x @ w + 0.5 * (cut(x) @ a @ b)),
            (
                "factor|scale left out|term with|counted twice",
                lambda x, w, a, b: x @ w + scale(0.5 * (x @ a @ b), 2.0),
            ),
        ),
    ),
    Subject("outer", lambda x, y: x[:, None] * y[None, :], ((7,), (7,))),
    Subject("einsum", lambda a, b: torch.einsum("bij,bjk->bik", a, b), ((3, 4, 5), (3, 5, 4))),
    Subject(
        "attention",
        attention,
        ((2, 6, 8), (2, 6, 8), (2, 6, 8)),
        (
            (S, lambda q, k, v: attention(q, k, v, cut)),
            (
                "scale left out|constant factor|factor|square root",
                lambda q, k, v: attention(q, k, v, by=8**0.5),
            ),
        ),
    ),
    Subject(
        "causal",
        causal,
        ((6, 8), (6, 8), (6, 8)),
        ((MASK, lambda q, k, v: causal(q, k, v, mask=False)),),
    ),
    Subject(
        "linear_attention",
        lambda q, k, v: torch.relu(q) @ (torch.relu(k).T @ v),
        ((6, 4), (6, 4), (6, 4)),
    ),
    Subject("embedding", lambda w: w[torch.tensor([0, 3, 3, 1, 5, 0])], ((8, 6),)),
    Subject(
        "embedding_scaled",
        lambda w: F.embedding(torch.tensor([1, 1, 2, 5]), w) * 2.0,
        ((8, 6),),
        (
            (
                "missing factor 2|scale left out",
                lambda w: scale(F.embedding(torch.tensor([1, 1, 2, 5]), w) * 2.0, 0.5),
            ),
        ),
    ),
    Subject(
        "scatter",
        lambda x: torch.zeros(5, 6, dtype=x.dtype).index_add(0, torch.tensor([0, 1, 1, 4]), x),
        ((4, 6),),
    ),
    Subject("gather", lambda x: x.gather(1, torch.tensor([[0, 1], [2, 2], [1, 0]])), ((3, 4),)),
    Subject("mse", lambda x, y: ((x - y) ** 2).mean(), ((8, 12), (8, 12))),
    Subject(
        "mae",
        lambda x, y: (x - y).abs().mean(),
        ((8, 12), (8, 12)),
        (
            (
                f"{MASK}|{LEFT}|abs derivative missing|sign",
                lambda x, y: swap((x - y).abs().mean(), (x - y).mean()),
            ),
        ),
    ),
    Subject(
        "huber",
        huber,
        ((8, 12), (8, 12)),
        (("term missing|mask|dead", lambda x, y: huber(x, y, cut)),),
    ),
    Subject(
        "bce",
        lambda x, t: (F.softplus(x) - x * t).mean(),
        ((8, 12), "unit"),
        ((S, lambda x, t: (F.softplus(x) - cut(x) * t).mean()),),
    ),
    Subject(
        "cross_entropy",
        lambda x: cross_entropy(x, torch.arange(8) % 5),
        ((8, 5),),
        ((S, lambda x: cross_entropy(x, torch.arange(8) % 5, cut)),),
    ),
    Subject(
        "smooth_ce",
        lambda x: cross_entropy(x, torch.arange(8) % 5, smooth=0.1),
        ((8, 5),),
        (
            (
                "wrong value|another",
                lambda x: swap(
                    cross_entropy(x, torch.arange(8) % 5, smooth=0.1),
                    cross_entropy(x, torch.arange(8) % 5),
                ),
            ),
        ),
    ),
    Subject(
        "focal",
        lambda x, t: focal(x, t),
        ((8, 12), "unit"),
        ((S, lambda x, t: focal(x, t, power=cut)),),
    ),
    Subject(
        "kl",
        lambda x, y: (
            torch.softmax(x, -1) * (torch.log_softmax(x, -1) - torch.log_softmax(y, -1))
        ).sum(),
        ((8, 5), (8, 5)),
        (
            (
                S,
                lambda x, y: (
                    cut(torch.softmax(x, -1))
                    * (torch.log_softmax(x, -1) - torch.log_softmax(y, -1))
                ).sum(),
            ),
        ),
    ),
    Subject(
        "contrastive",
        contrastive,
        ((6, 8), (6, 8)),
        ((f"{V}|{S}", lambda a, b: contrastive(a, b, cut)),),
    ),
    Subject(
        "triplet",
        lambda a, p, n: torch.relu(((a - p) ** 2).sum(-1) - ((a - n) ** 2).sum(-1) + 1).mean(),
        ((8, 4), (8, 4), (8, 4)),
        (
            (
                S,
                lambda a, p, n: torch.relu(
                    ((a - p) ** 2).sum(-1) - ((cut(a) - n) ** 2).sum(-1) + 1
                ).mean(),
            ),
        ),
    ),
    Subject(
        "cosine",
        lambda a, b: (a * b).sum(-1) / ((a * a).sum(-1).sqrt() * (b * b).sum(-1).sqrt()),
        ((8, 5), (8, 5)),
        (
            (
                f"{V}|{S}",
                lambda a, b: (a * b).sum(-1) / cut((a * a).sum(-1).sqrt() * (b * b).sum(-1).sqrt()),
            ),
        ),
    ),
    Subject("conv", conv, ((2, 3, 6, 6), (4, 3, 3, 3), (4,))),
    Subject("conv_stride", lambda x, w, b: conv(x, w, b, 2), ((2, 3, 7, 7), (4, 3, 3, 3), (4,))),
    Subject("conv1d", lambda x, w: x.unfold(-1, 3, 1) @ w, ((4, 3, 10), (3,))),
    Subject("pool", lambda x: x.unfold(-1, 2, 2).mean(-1), ((4, 8),)),
    Subject("max_pool", lambda x: x.reshape(4, 4, 2).max(-1).values, ((4, 8),)),
    Subject(
        "lstm",
        lstm,
        ((4, 5), (4, 6), (4, 6), (11, 24)),
        (
            (S, lambda x, h, c, w: lstm(x, h, c, w, forget=cut)),
            (S, lambda x, h, c, w: lstm(x, h, c, w, gate=cut)),
        ),
    ),
    Subject(
        "gru",
        gru,
        ((4, 5), (4, 6), (5, 18), (6, 18)),
        (
            (S, lambda x, h, w, u: gru(x, h, w, u, update=cut)),
            (S, lambda x, h, w, u: gru(x, h, w, u, reset=cut)),
        ),
    ),
    Subject(
        "rnn",
        rnn,
        ((4, 3, 5), (4, 6), (5, 6), (6, 6), (6,)),
        ((f"{S}|detached", lambda x, h, w, u, b: rnn(x, h, w, u, b, cut)),),
    ),
    Subject("scan", scan, ((3, 5, 4), (4,))),
    Subject(
        "gated",
        gated,
        ((8, 6), (6, 7), (6, 7)),
        (
            (
                S,
                lambda x, w, v: (
                    gated(cut(x), w, v)
                    + gated(x, cut(w), cut(v), gate=cut)
                    - gated(cut(x), cut(w), cut(v))
                ),
            ),
        ),
    ),
    Subject(
        "geglu",
        lambda x, y: x * F.gelu(y),
        ((8, 6), (8, 6)),
        (("derivative|activation", lambda x, y: x * swap(F.gelu(y), y)),),
    ),
    Subject(
        "residual",
        lambda x, w: x + torch.tanh(x @ w),
        ((8, 6), (6, 6)),
        (
            (S, lambda x, w: cut(x) + torch.tanh(x @ w)),
            (S, lambda x, w: x + torch.tanh(cut(x) @ w)),
        ),
    ),
    Subject(
        "rotary",
        lambda q: rotary(
            q,
            torch.linspace(-1, 1, 8, dtype=q.dtype).cos(),
            torch.linspace(-1, 1, 8, dtype=q.dtype).sin(),
        ),
        ((6, 8),),
        (
            (
                "term with the wrong sign",
                lambda q: rotary(
                    q,
                    torch.linspace(-1, 1, 8, dtype=q.dtype).cos(),
                    torch.linspace(-1, 1, 8, dtype=q.dtype).sin(),
                    lambda t: scale(t, -1),
                ),
            ),
        ),
    ),
    Subject(
        "moe",
        moe,
        ((6, 4), (4, 3), (3, 4, 5)),
        ((S, lambda x, r, w: moe(x, r, w, cut) + moe(cut(x), r, cut(w)) - cut(moe(x, r, w))),),
    ),
    Subject("film", lambda x, g, b: x * (1 + g[:, None]) + b[:, None], ((4, 5, 6), (4, 6), (4, 6))),
    Subject("two_results", lambda x, y: (x * y, torch.exp(x) + y), ((8, 5), (8, 5))),
    Subject(
        "polar",
        lambda r, a: (r * torch.cos(a), r * torch.sin(a)),
        ((8, 5), (8, 5)),
        (
            (
                "term with the wrong sign",
                lambda r, a: (
                    cut(r) * scale(torch.cos(a), -1)
                    + r * cut(torch.cos(a))
                    - cut(r * torch.cos(a)),
                    r * torch.sin(a),
                ),
            ),
        ),
    ),
    Subject(
        "logit",
        lambda x: torch.log(torch.sigmoid(x) / (1 - torch.sigmoid(x) + 1e-3)),
        ((8, 5),),
        ((S, lambda x: torch.log(torch.sigmoid(x) / cut(1 - torch.sigmoid(x) + 1e-3))),),
    ),
)


@dataclass(frozen=True)
class Fault:
    """A right answer, and the gradients that a backward returns."""

    subject: str
    cause: str
    wrong: frozenset[int]
    grads: tuple[Any, ...]
    inputs: Tensors
    cotangents: Tensors


def as_tuple(results: Any) -> Tensors:
    """Return one or several results as a tuple."""
    return results if isinstance(results, tuple) else (results,)


def inputs_of(subject: Subject, seed: int) -> list[torch.Tensor]:
    """Return inputs of a function: those that are constants of it do not require gradients."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for shape in subject.shapes:
        like = subject.shapes[0] if isinstance(shape, str) else shape
        x = torch.randn(like, generator=generator)
        x = torch.rand(like, generator=generator) if shape == "unit" else x
        found.append(x.requires_grad_(not isinstance(shape, str)))
    return found


def gradients(f: Of, inputs: Any, cotangents: Any) -> list[Any]:
    """Return autograd's gradients in float64; None for constants."""
    wide = [x.detach().double().requires_grad_(x.requires_grad) for x in inputs]
    results = as_tuple(f(*wide))
    total = sum((r * c.double()).sum() for r, c in zip(results, cotangents, strict=True))
    wanted = [x for x in wide if x.requires_grad]
    found = iter(torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True))
    return [next(found) if x.requires_grad else None for x in wide]


def faults(subject: Subject, seed: int) -> Iterator[Fault]:
    """Yield the faults of a function: those of its gradients, then those of its formula."""
    inputs = inputs_of(subject, seed)
    results = as_tuple(subject.f(*inputs))
    generator = torch.Generator().manual_seed(seed + 1000)
    cotangents = tuple(torch.randn(r.shape, generator=generator) for r in results)
    right = gradients(subject.f, inputs, cotangents)
    named = [
        *of_gradients(right, subject, inputs, cotangents),
        *((c, gradients(f, inputs, cotangents)) for c, f in subject.mistakes),
    ]
    for cause, wrong in named:
        off = {
            k
            for k, (a, b) in enumerate(zip(wrong, right, strict=True))
            if b is not None
            and (a is None or a.shape != b.shape or (a - b).abs().max() > 1e-3 * b.abs().max())
        }
        is_zero = all(not wrong[k].abs().max() > 1e-9 for k in off if wrong[k] is not None)
        if off and (cause == "gradient missing" or not is_zero):
            grads = tuple(None if g is None else g.float() for g in wrong)
            yield Fault(subject.name, cause, frozenset(off), grads, tuple(inputs), cotangents)


def of_gradients(
    right: list[Any], subject: Subject, inputs: Any, cotangents: Any
) -> Iterator[tuple[str, list[Any]]]:
    """Yield the faults that any backward may have."""
    many = [k for k, g in enumerate(right) if g is not None and g.numel() > 1]
    k = len(subject.name) % len(many)
    at = many[k]
    g = right[at]

    def with_(*changed: tuple[int, Any]) -> list[Any]:
        return [dict(changed).get(n, h) for n, h in enumerate(right)]

    ones = [torch.ones_like(c) for c in cotangents]
    yield "does not depend on the incoming gradient", gradients(subject.f, inputs, ones)
    yield "wrong sign", with_((at, -g))
    yield (
        "extra factor 2|gradient accumulated|term counted twice|constant factor",
        with_((at, 2 * g)),
    )
    yield "mean against sum|averaged", with_((at, g / inputs[at].shape[0]))
    yield "gradient missing", with_((at, None))
    yield "gradient missing", with_((at, 0 * g))
    yield "low precision", [h if h is None else h.bfloat16().double() for h in right]
    if g.shape[0] > 3:
        cut_off = g.clone()
        cut_off[-2:] = 0
        yield "last rows missing|dead slices|mask", with_((at, cut_off))
    if g.ndim == 2 and g.shape[0] == g.shape[1]:
        yield "transposed", with_((at, g.T))
    for other in many:
        if other > at and right[other].shape == g.shape:
            yield "swapped", with_((at, right[other]), (other, g))
            break
    if len(cotangents) > 1:
        none = [cotangents[0], *(torch.zeros_like(c) for c in cotangents[1:])]
        yield "gradient of output . ignored", gradients(subject.f, inputs, none)
    squares = [c * c for c in cotangents]
    yield "incoming gradient applied twice", gradients(subject.f, inputs, squares)


def applied(fault: Fault, f: Of) -> Any:
    """Return an autograd.Function with the fault's gradients."""

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            return f(*inputs)

        @staticmethod
        def backward(ctx: Any, *arrived: Any) -> Any:
            return fault.grads

    return Custom.apply


@dataclass
class Tally:
    """What came of one kind of fault."""

    runs: int = 0
    found: int = 0
    placed: int = 0
    first: int = 0
    three: int = 0
    abstained: int = 0
    wrong: int = 0

    def add(self, fault: Fault, f: Of) -> str:
        """Judge one fault; return what was said if it was not right."""
        leaves = [x.detach().clone().requires_grad_(x.requires_grad) for x in fault.inputs]
        with gradwitness.watch() as witness:
            results = as_tuple(applied(fault, f)(*leaves))
            torch.autograd.backward(results, fault.cotangents)
        wrong = witness.report.wrong
        self.runs += 1
        self.found += witness.verdict is Verdict.DISAGREES
        inputs = {finding.tensor_nr for finding in wrong}
        at_home = all(finding.symbol.endswith("Custom.backward") for finding in wrong)
        self.placed += bool(wrong) and at_home and inputs == fault.wrong
        causes = [f.cause for f in wrong]
        said = [bool(re.search(fault.cause, cause)) for cause in causes]
        near = [bool(re.search(fault.cause, f"{f.cause} {f.runner_up}")) for f in wrong]
        self.first += bool(said) and all(said)
        self.three += bool(near) and all(near)
        silent = [not cause for cause in causes]
        self.abstained += any(silent) and all(a or b for a, b in zip(near, silent, strict=True))
        bad = [c for c, n, s in zip(causes, near, silent, strict=True) if not (n or s)]
        self.wrong += bool(bad)
        return "" if said and all(said) else f"{causes or witness.verdict.value}"


def main(subjects: tuple[Subject, ...] = SUBJECTS) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="causes of wrong custom backwards")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--list", action="store_true", help="every fault that is not named first")
    options = parser.parse_args()
    tallies: dict[str, Tally] = defaultdict(Tally)
    missed, right = [], Counter[str]()
    for subject in track([s for s in subjects if re.search(options.only, s.name)]):
        for seed in range(options.seeds):
            for fault in faults(subject, seed):
                said = tallies[fault.cause.partition("|")[0]].add(fault, subject.f)
                if said:
                    missed.append(f"{subject.name}: {fault.cause}: {said}")
            leaves = inputs_of(subject, seed)
            with gradwitness.watch() as witness:
                results = as_tuple(subject.f(*leaves))
                torch.autograd.backward(results, [torch.randn(r.shape) for r in results])
            right[witness.verdict.value] += 1
    table = Table(*("fault", "runs", "found", "placed", "first", "or second", "abstained", "wrong"))
    whole = Tally()
    for name, tally in sorted(tallies.items()):
        for figure in vars(tally):
            setattr(whole, figure, getattr(whole, figure) + getattr(tally, figure))
        table.add_row(name, *map(str, vars(tally).values()))
    table.add_row("all", *map(str, vars(whole).values()))
    console = Console(width=120)
    console.print(table)
    console.print(f"{len(subjects)} functions; right ones: {dict(right)}")
    for line in missed if options.list else ():
        console.print(line, markup=False, highlight=False)


if __name__ == "__main__":
    main()
