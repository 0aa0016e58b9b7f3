"""Are causes also named in functions that the hypotheses were not made beside? Prints a table.

``python benchmarks/more_causes.py``, with the options of `causes`. The functions and their mistakes
were written from what public packages have, before the hypotheses were read.
"""

# ruff: noqa: ARG004, ARG005, D102, D103, E741 (the functions say by themselves what they are)

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from causes import Subject, cut, main, scale, swap


def same(t: Any) -> Any:
    return t


def sent(t: Any, change: Any) -> Any:
    """Return a value whose gradient is changed on its way back."""
    t = t * 1
    if t.requires_grad:
        t.register_hook(change)
    return t


def grn(x: Any, g: Any, nx: Any = same, m: Any = same, skip: Any = same) -> Any:
    r = (x * x).sum(1, keepdim=True).sqrt()
    n = nx(r / (m(r.mean(-1, keepdim=True)) + 1e-06))
    return g * (x * n) + skip(x)


def weight_norm(v: Any, g: Any, n: Any = same) -> Any:
    return g[:, None] * v / n((v * v).sum(1, keepdim=True).sqrt())


def dice(x: Any, t: Any, num: Any = same, den: Any = same, p: Any = same) -> Any:
    q = p(torch.sigmoid(x))
    return (1 - num(2 * (q * t).sum(-1)) / den(q.sum(-1) + t.sum(-1) + 1.0)).mean()


def tversky(x: Any, t: Any, a: Any = 0.3, b: Any = 0.7) -> Any:
    p = torch.sigmoid(x)
    tp, fp, fn = ((p * t).sum(-1), (p * (1 - t)).sum(-1), ((1 - p) * t).sum(-1))
    return 1 - tp / (tp + a * fp + b * fn)


def focal_alpha(x: Any, t: Any, g: Any = 2.0, alpha: Any = same) -> Any:
    p = torch.sigmoid(x)
    pt = p * t + (1 - p) * (1 - t)
    return alpha(0.25 * t + 0.75 * (1 - t)) * -((1 - pt) ** g) * torch.log(pt)


def ctc_like(lp: Any, skip: Any = same) -> Any:
    a = lp[0]
    for k in range(1, lp.shape[0]):
        moved = torch.cat([torch.full_like(a[:1], -20.0), a[:-1]])
        a = torch.logaddexp(a, skip(moved)) + lp[k]
    return a.logsumexp(0)


def ema(x: Any, a: Any, last: Any = same, new: Any = same) -> Any:
    h, out = (torch.zeros_like(x[:, 0]), [])
    for k in range(x.shape[1]):
        h = last(a * h) + new(1 - a) * x[:, k]
        out.append(h)
    return torch.stack(out, 1)


SEG = torch.tensor([0, 0, 1, 2, 2, 2, 3, 1])


def segment_softmax(x: Any, total: Any = same) -> Any:
    e = torch.exp(x)
    s = torch.zeros(4, x.shape[1], dtype=x.dtype).index_add(0, SEG, e)
    return e / total(s)[SEG]


def segment_mean(x: Any) -> Any:
    n = torch.bincount(SEG).to(x)[:, None]
    return torch.zeros(4, x.shape[1], dtype=x.dtype).index_add(0, SEG, x) / n


def alibi(q: Any, k: Any, v: Any, s: Any = same, p: Any = same) -> Any:
    n = q.shape[-2]
    bias = -0.5 * (torch.arange(n)[:, None] - torch.arange(n)[None]).abs().to(q)
    a = s(q @ k.transpose(-1, -2)) * q.shape[-1] ** (-0.5) + bias
    return p(torch.softmax(a, -1)) @ v


def depthwise(x: Any, w: Any) -> Any:
    return (F.pad(x, (2, 0)).unfold(-1, 3, 1) * w[:, None, :]).sum(-1)


def bspline(x: Any, c: Any, h: Any = same) -> Any:
    u = h(torch.sigmoid(x) * 4)
    i = u.detach().floor().clamp(max=3)
    t = u - i
    w = (
        torch.stack(
            [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], -1
        )
        / 6
    )
    return (w * c[i.long()[..., None] + torch.arange(4)]).sum(-1)


def logdet_chol(a: Any, f: Any = same) -> Any:
    m = a @ a.T + torch.eye(a.shape[0], dtype=a.dtype)
    return f(2 * torch.log(torch.diagonal(torch.linalg.cholesky(m))).sum())


def dist(x: Any, y: Any, a: Any = same, b: Any = same, c: Any = same) -> Any:
    return a((x * x).sum(-1))[:, None] + b((y * y).sum(-1))[None] - 2 * c(x) @ y.T


def pdist(x: Any, other: Any = same) -> Any:
    return ((x[:, None] - other(x)[None]) ** 2).sum(-1)


def rbf(x: Any, y: Any, g: Any, by: Any = same) -> Any:
    return torch.exp(by(-g * ((x[:, None] - y[None]) ** 2).sum(-1)))


def topk(x: Any, back: Any = None) -> Any:
    v = x.topk(3, -1).values
    return v if back is None else swap(v, back(x))


def householder(x: Any, v: Any, den: Any = same, dot: Any = same) -> Any:
    return x - 2 * dot((x * v).sum(-1, keepdim=True)) * v / den((v * v).sum())


def vae(m: Any, lv: Any, e: Any = same) -> Any:
    return -0.5 * (1 + lv - m * m - e(torch.exp(lv))).sum(-1).mean()


def nll(m: Any, v: Any, y: Any, sq: Any = same, lg: Any = same) -> Any:
    s = F.softplus(v) + 0.001
    return 0.5 * (lg(torch.log(s)) + (y - m) ** 2 / sq(s))


def se(x: Any, a: Any, b: Any, gate: Any = same, mean: Any = same) -> Any:
    g = torch.sigmoid(torch.relu(mean(x.mean(-1)) @ a) @ b)
    return x * gate(g)[..., None]


def fourier(x: Any, w: Any, c: Any = same, z: Any = same) -> Any:
    p = z(2 * math.pi * x) @ w
    return torch.cat([torch.sin(p), c(torch.cos(p))], -1)


def weighted_nll(x: Any, t: Any, w: Any = True) -> Any:
    weights = torch.tensor([0.2, 1.0, 3.0, 0.7, 1.6], dtype=x.dtype)[t]
    nl = -(x - x.logsumexp(-1, keepdim=True)).gather(1, t[:, None])[:, 0]
    return (weights * nl).sum() / weights.sum() if w else nl.mean()


def ignoring(x: Any, mask: Any = True, n: Any = True) -> Any:
    t = torch.arange(8) % 5
    valid = t != 2
    nl = -torch.log_softmax(x, -1).gather(1, t[:, None])[:, 0]
    return (nl * (valid if mask else 1)).sum() / (valid.sum() if n else 8)


def entropy(x: Any, one: Any = same, p: Any = same) -> Any:
    q = p(torch.softmax(x, -1))
    return -(q * one(torch.log(q))).sum(-1)


def instance_norm(x: Any, w: Any, v: Any = same, m: Any = same) -> Any:
    d = x - m(x.mean((-1, -2), keepdim=True))
    return d / torch.sqrt(v((d * d).mean((-1, -2), keepdim=True)) + 0.001) * w[:, None, None]


def add_rms(x: Any, r: Any, w: Any, v: Any = same, skip: Any = same) -> Any:
    h = x + r
    return (h * torch.rsqrt(v((h * h).mean(-1, keepdim=True)) + 1e-06) * w, skip(h))


def dsq(x: Any, k: Any) -> Any:
    return torch.tanh(k * (x - 0.25)) / torch.tanh(0.25 * k)


def maxout(x: Any) -> Any:
    return x.reshape(8, 6, 2).max(-1).values


def arcface(x: Any, w: Any, nx: Any = same, nw: Any = same, s: Any = same) -> Any:
    x = x / nx((x * x).sum(-1, keepdim=True).sqrt())
    w = w / nw((w * w).sum(-1, keepdim=True).sqrt())
    return s(8.0 * (x @ w.T))


def rot_pairs(x: Any, back: Any = False) -> Any:
    t = torch.arange(6)[:, None] * torch.tensor([1.0, 0.3, 0.1, 0.03])
    c, s = (torch.cos(t).to(x), torch.sin(t).to(x))
    s = -s if back else s
    a, b = (x[..., ::2], x[..., 1::2])
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)


def lru(x: Any, nu: Any, norm: Any = same) -> Any:
    lam = torch.exp(-torch.exp(nu))
    g = norm(torch.sqrt(1 - lam * lam))
    h, out = (torch.zeros_like(x[:, 0]), [])
    for k in range(x.shape[1]):
        h = lam * h + g * x[:, k]
        out.append(h)
    return torch.stack(out, 1)


def kd(s: Any, t: Any, T: Any = 3.0, f: Any = same) -> Any:
    p = torch.softmax(t / T, -1)
    return f(T * T * (p * (torch.log(p) - torch.log_softmax(s / T, -1))).sum(-1).mean())


def infonce(z: Any, t: Any, T: Any = same) -> Any:
    s = z @ z.T * torch.exp(T(t))
    return (torch.logsumexp(s, -1) - s.diagonal()).mean()


def prelu(x: Any, a: Any) -> Any:
    return torch.where(x > 0, x, a * x)


def lowrank(x: Any, u: Any, s: Any, v: Any) -> Any:
    return x @ u * s @ v.T


def revcum(g: Any) -> Any:
    return g.flip(-1).cumsum(-1).flip(-1)


class Custom(torch.autograd.Function):
    """A backward by hand in place of another's, for gradients that no function has."""

    @staticmethod
    def forward(ctx: Any, value: Any, back: Any, *inputs: Any) -> Any:
        ctx.back = back
        return value.clone()

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return (None, None, *ctx.back(g))


def by(value: Any, back: Any, *inputs: Any) -> Any:
    return Custom.apply(value.detach(), back, *inputs)  # type: ignore[no-untyped-call]


def sm_wrong(x: Any) -> Any:
    p = torch.softmax(x, -1).detach()
    return by(p, lambda g: (p * (g - (p * g).sum(0, keepdim=True)),), x)


def sm_cp(x: Any) -> Any:
    y = x.cumprod(-1).detach()
    return by(y, lambda g: (revcum(g * y),), x)


def sent_idx(x: Any) -> Any:
    i = torch.tensor([2, 0, 2, 1, 2])

    def back(g: Any) -> Any:
        out = torch.zeros_like(x)
        out[i] = 3.0 * g
        return (out,)

    return by(x[i] * 3.0, back, x)


def softmax_left(q: Any, k: Any, v: Any, only_diag: Any = False) -> Any:
    n, sc = (q.shape[-2], q.shape[-1] ** (-0.5))
    bias = -0.5 * (torch.arange(n)[:, None] - torch.arange(n)[None]).abs().to(q)
    p = torch.softmax(q @ k.transpose(-1, -2) * sc + bias, -1).detach()
    q0, k0, v0 = (q.detach(), k.detach(), v.detach())

    def back(g: Any) -> Any:
        dp = g @ v0.transpose(-1, -2)
        ds = (dp * p if only_diag else dp) * sc
        return (ds @ k0, ds.transpose(-1, -2) @ q0, p.transpose(-1, -2) @ g)

    return by(p @ v, back, q, k, v)


def prelu_g(x: Any, a: Any) -> Any:
    x0, a0 = (x.detach(), a.detach())
    return by(
        prelu(x, a), lambda g: (torch.where(g > 0, g, a0 * g), (g * x0 * (x0 <= 0)).sum(0)), x, a
    )


def up_one(x: Any) -> Any:
    return by(x.repeat_interleave(2, -1).repeat_interleave(2, -2), lambda g: (g[..., ::2, ::2],), x)


FURTHER = (
    Subject(
        "gelu_erf",
        lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
        ((8, 12),),
        (
            ("term missing", lambda x: 0.5 * x * (1 + cut(torch.erf(x / 2**0.5)))),
            ("scale left out", lambda x: 0.5 * x * (1 + torch.erf(scale(x / 2**0.5, 2**0.5)))),
            (
                "term with the wrong sign",
                lambda x: 0.5 * x * (1 + scale(torch.erf(x / 2**0.5), -1)),
            ),
        ),
    ),
    Subject(
        "quick_gelu",
        lambda x: x * torch.sigmoid(1.702 * x),
        ((8, 12),),
        (("scale left out", lambda x: x * torch.sigmoid(scale(1.702 * x, 1 / 1.702))),),
    ),
    Subject(
        "relu2",
        lambda x: torch.relu(x) ** 2,
        ((8, 12),),
        (
            ("missing factor 2", lambda x: scale(torch.relu(x) ** 2, 0.5)),
            (
                "mask taken from the gradient|another mask",
                lambda x: sent(swap(torch.relu(x) ** 2, x**2), lambda g: g * (g > 0)),
            ),
            ("mask|without a step", lambda x: swap(torch.relu(x) ** 2, x**2)),
        ),
    ),
    Subject(
        "elu",
        lambda x: torch.where(x > 0, x, torch.exp(x.clamp(max=0)) - 1),
        ((8, 12),),
        (
            (
                "mask taken from the gradient|another mask",
                lambda x: sent(
                    swap(torch.where(x > 0, x, torch.exp(x.clamp(max=0)) - 1), x),
                    lambda g: torch.where(g > 0, g, 0),
                ),
            ),
            (
                "activation derivative missing|of a step left out",
                lambda x: swap(torch.where(x > 0, x, torch.exp(x.clamp(max=0)) - 1), x),
            ),
        ),
    ),
    Subject(
        "hard_swish",
        lambda x: x * torch.clamp(2 * x + 3, 0, 6) / 6,
        ((8, 12),),
        (
            ("mask ignored", lambda x: x * swap(torch.clamp(2 * x + 3, 0, 6), 2 * x + 3) / 6),
            ("term missing", lambda x: x * cut(torch.clamp(2 * x + 3, 0, 6)) / 6),
        ),
    ),
    Subject(
        "snake",
        lambda x, a: x + torch.sin(a * x) ** 2 / a,
        ((8, 12), (12,)),
        (
            ("term missing", lambda x, a: x + torch.sin(a * x) ** 2 / cut(a)),
            ("missing factor 2", lambda x, a: x + scale(torch.sin(a * x) ** 2, 0.5) / a),
            ("term missing", lambda x, a: cut(x) + torch.sin(a * x) ** 2 / a),
        ),
    ),
    Subject(
        "softplus_beta",
        lambda x: torch.log1p(torch.exp(3 * x)) / 3,
        ((8, 12),),
        (
            (
                "without a number",
                lambda x: swap(torch.log1p(torch.exp(3 * x)) / 3, torch.log1p(torch.exp(x))),
            ),
        ),
    ),
    Subject(
        "grn",
        grn,
        ((4, 6, 5), (5,)),
        (
            ("variance path missing|term missing", lambda x, g: grn(x, g, nx=cut)),
            ("term missing|mean path", lambda x, g: grn(x, g, m=cut)),
            ("term missing", lambda x, g: grn(x, g, skip=cut)),
            ("term counted twice", lambda x, g: grn(x, g, skip=lambda t: scale(t, 2))),
        ),
    ),
    Subject(
        "weight_norm",
        weight_norm,
        ((7, 5), (7,)),
        (
            ("variance path missing|term missing", lambda v, g: weight_norm(v, g, cut)),
            (
                "a factor missing",
                lambda v, g: (
                    cut(weight_norm(v, g))
                    + (weight_norm(v, torch.ones_like(g)) - cut(weight_norm(v, torch.ones_like(g))))
                    + weight_norm(cut(v), g)
                    - cut(weight_norm(v, g))
                ),
            ),
        ),
    ),
    Subject(
        "dice",
        dice,
        ((6, 9), "unit"),
        (
            ("term missing|variance path", lambda x, t: dice(x, t, den=cut)),
            ("term missing", lambda x, t: dice(x, t, num=cut)),
            (
                "scale left out|term with a wrong factor",
                lambda x, t: dice(x, t, num=lambda s: scale(s, 0.5)),
            ),
            ("activation derivative missing", lambda x, t: dice(x, t, p=lambda s: swap(s, x))),
        ),
    ),
    Subject(
        "tversky",
        tversky,
        ((6, 9), "unit"),
        (("two numbers exchanged", lambda x, t: swap(tversky(x, t), tversky(x, t, 0.7, 0.3))),),
    ),
    Subject(
        "focal_alpha",
        focal_alpha,
        ((6, 9), "unit"),
        (
            (
                "a factor missing",
                lambda x, t: swap(focal_alpha(x, t), focal_alpha(x, t, alpha=lambda a: 1.0)),
            ),
            (
                "term missing",
                lambda x, t: (
                    lambda p: (0.25 * t + 0.75 * (1 - t)) * -cut((1 - p) ** 2.0) * torch.log(p)
                )(torch.sigmoid(x) * t + (1 - torch.sigmoid(x)) * (1 - t)),
            ),
            ("without a number", lambda x, t: swap(focal_alpha(x, t), focal_alpha(x, t, g=0.0))),
        ),
    ),
    Subject("ctc_like", ctc_like, ((5, 4),), (("term missing", lambda x: ctc_like(x, cut)),)),
    Subject(
        "masked_lse",
        lambda x, m: x.masked_fill(m > 0.5, -30.0).logsumexp(-1),
        ((6, 6), "unit"),
        (
            (
                "mask ignored|without a step",
                lambda x, m: swap(x.masked_fill(m > 0.5, -30.0).logsumexp(-1), x.logsumexp(-1)),
            ),
            (
                "wrong axis",
                lambda x, m: swap(
                    x.masked_fill(m > 0.5, -30.0).logsumexp(-1),
                    (cut(torch.softmax(x.masked_fill(m > 0.5, -30.0), 0)) * x).sum(-1),
                ),
            ),
        ),
    ),
    Subject(
        "log_softmax_t",
        lambda x: torch.log_softmax(x / 2.0, -1),
        ((7, 7),),
        (
            (
                "term missing|softmax left out|softmax without its mean",
                lambda x: swap(torch.log_softmax(x / 2.0, -1), x / 2.0),
            ),
            (
                "wrong axis",
                lambda x: (
                    x / 2.0
                    - (lambda s: swap(torch.logsumexp(x / 2.0, -1, keepdim=True).expand(7, 7), s))(
                        cut(torch.softmax(x / 2, 0)) * 1 * (x / 2.0).sum(-1, keepdim=True)
                    )
                ),
            ),
            ("extra factor 2", lambda x: scale(torch.log_softmax(x / 2.0, -1), 2.0)),
            (
                "sister function",
                lambda x: swap(torch.log_softmax(x / 2.0, -1), torch.softmax(x / 2.0, -1)),
            ),
        ),
    ),
    Subject(
        "row_softmax",
        lambda x: torch.softmax(x, -1),
        ((7, 7),),
        (
            ("wrong axis", lambda x: sm_wrong(x)),
            (
                "softmax treated elementwise",
                lambda x: swap(
                    torch.softmax(x, -1), cut(torch.softmax(x, -1) * (1 - torch.softmax(x, -1))) * x
                ),
            ),
            ("sister function", lambda x: swap(torch.softmax(x, -1), torch.log_softmax(x, -1))),
        ),
    ),
    Subject(
        "dsq",
        dsq,
        ((8, 12), ()),
        (
            (
                "a factor missing|scale left out",
                lambda x, k: (lambda y: y)(
                    cut(dsq(x, k))
                    + dsq(cut(x), k)
                    - cut(dsq(x, k))
                    + (dsq(x, cut(k)) - cut(dsq(x, k))) / cut(k)
                ),
            ),
            ("term missing", lambda x, k: torch.tanh(k * (x - 0.25)) / cut(torch.tanh(0.25 * k))),
        ),
    ),
    Subject(
        "cumsum",
        lambda x: x.cumsum(-1),
        ((6, 9),),
        (
            ("running sum not reversed", lambda x: swap(x.cumsum(-1), revcum(x))),
            ("running sum off by one", lambda x: swap(x.cumsum(-1), x.cumsum(-1) - x)),
            ("wrong axis", lambda x: swap(x.cumsum(-1), x.cumsum(0))),
            ("of a step left out", lambda x: swap(x.cumsum(-1), x)),
        ),
    ),
    Subject(
        "scaled_cumsum",
        lambda x, w: torch.tanh((x * w).cumsum(-1)),
        ((6, 9), (9,)),
        (
            (
                "running sum not reversed",
                lambda x, w: torch.tanh(swap((x * w).cumsum(-1), revcum(x * w))),
            ),
            (
                "activation derivative missing|without a step",
                lambda x, w: swap(torch.tanh((x * w).cumsum(-1)), (x * w).cumsum(-1)),
            ),
        ),
    ),
    Subject(
        "cumprod",
        lambda x: x.cumprod(-1),
        ((5, 6),),
        (
            (
                "running sum not reversed",
                lambda x: swap(
                    x.cumprod(-1),
                    revcum(x * cut(x.cumprod(-1) / x / x.cumprod(-1))) * 1 * cut(x.cumprod(-1)),
                ),
            ),
            (
                "a factor too many|wrong power",
                lambda x: swap(x.cumprod(-1), (lambda c: c * cut(x))(x) * 0 + sm_cp(x)),
            ),
        ),
    ),
    Subject(
        "ema",
        ema,
        ((3, 6, 4), (4,)),
        (
            ("term missing", lambda x, a: ema(x, a, last=cut)),
            ("term missing", lambda x, a: ema(x, a, new=cut)),
        ),
    ),
    Subject(
        "segment_softmax",
        segment_softmax,
        ((8, 3),),
        (
            (
                "term missing|softmax left out|softmax without its mean",
                lambda x: segment_softmax(x, cut),
            ),
            (
                "wrong axis|repeated",
                lambda x: swap(
                    segment_softmax(x),
                    (lambda p: p * cut(segment_softmax(x) / p))(torch.softmax(x, 0)),
                ),
            ),
        ),
    ),
    Subject(
        "segment_mean",
        segment_mean,
        ((8, 3),),
        (
            (
                "of a step left out|a factor",
                lambda x: swap(
                    segment_mean(x), torch.zeros(4, 3, dtype=x.dtype).index_add(0, SEG, x)
                ),
            ),
            (
                "averaged|mean against sum|a factor",
                lambda x: swap(
                    segment_mean(x), torch.zeros(4, 3, dtype=x.dtype).index_add(0, SEG, x) / 8
                ),
            ),
        ),
    ),
    Subject(
        "index_rows",
        lambda x: x[torch.tensor([2, 0, 2, 1, 2])] * 3.0,
        ((4, 5),),
        (
            ("repeated indices", lambda x: sent_idx(x)),
            ("missing factor 3", lambda x: scale(x[torch.tensor([2, 0, 2, 1, 2])] * 3.0, 1 / 3)),
        ),
    ),
    Subject(
        "alibi",
        alibi,
        ((2, 5, 4), (2, 5, 4), (2, 5, 4)),
        (
            (
                "extra factor 2|scale left out",
                lambda q, k, v: alibi(q, k, v, s=lambda t: scale(t, 2.0)),
            ),
            ("of a step left out", lambda q, k, v: softmax_left(q, k, v)),
            ("softmax without its mean", lambda q, k, v: softmax_left(q, k, v, True)),
        ),
    ),
    Subject(
        "depthwise",
        depthwise,
        ((2, 3, 8), (3, 3)),
        (
            (
                "axis flipped",
                lambda x, w: swap(
                    depthwise(x, w), depthwise(x, cut(w)) + depthwise(cut(x), w.flip(-1))
                ),
            ),
            (
                "factor flipped",
                lambda x, w: swap(
                    depthwise(x, w), depthwise(x, cut(w).flip(-1)) + depthwise(cut(x), w)
                ),
            ),
            (
                "padding cut off|shift",
                lambda x, w: swap(
                    depthwise(x, w),
                    (F.pad(x, (1, 1)).unfold(-1, 3, 1) * cut(w)[:, None, :]).sum(-1)
                    + depthwise(cut(x), w),
                ),
            ),
        ),
    ),
    Subject(
        "bspline",
        bspline,
        ((6, 5), (8,)),
        (
            ("missing factor 4", lambda x, c: bspline(x, c, h=lambda t: scale(t, 0.25))),
            (
                "activation derivative missing",
                lambda x, c: bspline(x, c, h=lambda t: swap(t, 4 * x)),
            ),
        ),
    ),
    Subject(
        "logdet_chol",
        logdet_chol,
        ((5, 5),),
        (("missing factor 2", lambda a: logdet_chol(a, f=lambda t: scale(t, 0.5))),),
    ),
    Subject(
        "slogdet",
        lambda a: torch.linalg.slogdet(a)[1],
        ((5, 5),),
        (
            (
                "transposed",
                lambda a: swap(torch.linalg.slogdet(a)[1], (cut(torch.linalg.inv(a)) * a).sum()),
            ),
        ),
    ),
    Subject(
        "inverse",
        torch.linalg.inv,
        ((5, 5),),
        (
            (
                "transposed",
                lambda a: swap(
                    torch.linalg.inv(a),
                    -(cut(torch.linalg.inv(a)).T @ a @ cut(torch.linalg.inv(a)).T),
                ),
            ),
            ("wrong sign", lambda a: scale(torch.linalg.inv(a), -1)),
        ),
    ),
    Subject(
        "dist",
        dist,
        ((6, 3), (5, 3)),
        (
            ("term missing", lambda x, y: dist(x, y, a=cut)),
            ("term missing", lambda x, y: dist(x, y, c=cut)),
            ("missing factor 2", lambda x, y: dist(x, y, a=lambda t: scale(t, 0.5))),
        ),
    ),
    Subject("pdist", pdist, ((6, 3),), (("term missing", lambda x: pdist(x, cut)),)),
    Subject(
        "rbf",
        rbf,
        ((6, 3), (5, 3), ()),
        (
            (
                "a factor missing",
                lambda x, y, g: (
                    cut(rbf(x, y, g))
                    + (rbf(x, y, cut(g)) - cut(rbf(x, y, g))) / cut(g)
                    + rbf(cut(x), cut(y), g)
                    - cut(rbf(x, y, g))
                ),
            ),
            (
                "activation derivative missing|of a step left out",
                lambda x, y, g: swap(rbf(x, y, g), -g * ((x[:, None] - y[None]) ** 2).sum(-1)),
            ),
            (
                "missing factor 2",
                lambda x, y, g: (
                    cut(rbf(x, y, g))
                    + (rbf(x, y, cut(g)) - cut(rbf(x, y, g))) / 2
                    + rbf(cut(x), cut(y), g)
                    - cut(rbf(x, y, g))
                ),
            ),
        ),
    ),
    Subject(
        "topk",
        topk,
        ((6, 9),),
        (
            ("wrong places", lambda x: topk(x, lambda t: t[:, :3])),
            ("wrong places", lambda x: topk(x, lambda t: t.topk(3, -1, largest=False).values)),
            (
                "wrong places",
                lambda x: topk(x, lambda t: t.gather(1, t.topk(3, -1).indices.sort(-1).values)),
            ),
        ),
    ),
    Subject(
        "householder",
        householder,
        ((8, 5), (5,)),
        (
            ("term missing|variance path", lambda x, v: householder(x, v, den=cut)),
            ("term missing", lambda x, v: householder(x, v, dot=cut)),
        ),
    ),
    Subject("vae_kl", vae, ((6, 4), (6, 4)), (("term missing", lambda m, l: vae(m, l, cut)),)),
    Subject(
        "reparam",
        lambda m, l, e: m + torch.exp(0.5 * l) * e,
        ((6, 4), (6, 4), "const"),
        (
            ("extra factor 2", lambda m, l, e: m + torch.exp(scale(0.5 * l, 2.0)) * e),
            (
                "activation derivative missing",
                lambda m, l, e: m + swap(torch.exp(0.5 * l), 0.5 * l) * e,
            ),
        ),
    ),
    Subject(
        "gauss_nll",
        nll,
        ((6, 4), (6, 4), "const"),
        (
            ("term missing", lambda m, v, y: nll(m, v, y, sq=cut)),
            ("term missing", lambda m, v, y: nll(m, v, y, lg=cut)),
            (
                "missing factor 2",
                lambda m, v, y: (
                    cut(nll(m, v, y))
                    + nll(cut(m), v, y)
                    - cut(nll(m, v, y))
                    + (nll(m, cut(v), y) - cut(nll(m, v, y))) / 2
                ),
            ),
        ),
    ),
    Subject(
        "squeeze_excite",
        se,
        ((4, 6, 5), (6, 3), (3, 6)),
        (
            ("term missing", lambda x, a, b: se(x, a, b, mean=cut)),
            ("mean against sum", lambda x, a, b: se(x, a, b, mean=lambda t: scale(t, 5.0))),
        ),
    ),
    Subject(
        "fourier",
        fourier,
        ((6, 3), (3, 4)),
        (
            (
                "missing factor 6.28",
                lambda x, w: (
                    cut(fourier(x, w))
                    + (fourier(x, cut(w)) - cut(fourier(x, w))) / (2 * math.pi)
                    + fourier(cut(x), w)
                    - cut(fourier(x, w))
                ),
            ),
            ("term with the wrong sign", lambda x, w: fourier(x, w, c=lambda t: scale(t, -1))),
            ("term missing", lambda x, w: fourier(x, w, c=cut)),
        ),
    ),
    Subject(
        "weighted_nll",
        lambda x: weighted_nll(x, torch.arange(8) % 5),
        ((8, 5),),
        (
            (
                "without a number",
                lambda x: swap(
                    weighted_nll(x, torch.arange(8) % 5),
                    weighted_nll(x, torch.arange(8) % 5, False),
                ),
            ),
        ),
    ),
    Subject(
        "ignoring_ce",
        ignoring,
        ((8, 5),),
        (
            ("mask ignored", lambda x: swap(ignoring(x), ignoring(x, mask=False))),
            (
                "averaged|mean against sum|a factor",
                lambda x: swap(ignoring(x), ignoring(x, n=False)),
            ),
        ),
    ),
    Subject(
        "entropy",
        entropy,
        ((6, 5),),
        (("of a step left out", lambda x: entropy(x, p=lambda t: swap(t, x))),),
    ),
    Subject(
        "instance_norm",
        instance_norm,
        ((2, 3, 4, 4), (3,)),
        (
            ("variance path missing", lambda x, w: instance_norm(x, w, v=cut)),
            ("mean path missing", lambda x, w: instance_norm(x, w, m=cut)),
        ),
    ),
    Subject(
        "add_rms",
        add_rms,
        ((6, 8), (6, 8), (8,)),
        (
            ("variance path missing", lambda x, r, w: add_rms(x, r, w, v=cut)),
            ("gradient of output 1 ignored", lambda x, r, w: add_rms(x, r, w, skip=cut)),
        ),
    ),
    Subject(
        "maxout",
        maxout,
        ((8, 12),),
        (
            ("mask ignored", lambda x: swap(maxout(x), x.reshape(8, 6, 2).sum(-1))),
            ("mask ignored|averaged", lambda x: swap(maxout(x), x.reshape(8, 6, 2).mean(-1))),
        ),
    ),
    Subject(
        "arcface",
        arcface,
        ((6, 4), (5, 4)),
        (
            ("variance path missing", lambda x, w: arcface(x, w, nx=cut)),
            ("variance path missing", lambda x, w: arcface(x, w, nw=cut)),
            ("missing factor 8", lambda x, w: arcface(x, w, s=lambda t: scale(t, 1 / 8))),
        ),
    ),
    Subject(
        "rot_pairs",
        rot_pairs,
        ((6, 8),),
        (("term with the wrong sign", lambda x: swap(rot_pairs(x), rot_pairs(x, True))),),
    ),
    Subject("lru", lru, ((3, 5, 4), (4,)), (("term missing", lambda x, n: lru(x, n, cut)),)),
    Subject(
        "distill",
        kd,
        ((6, 5), "const"),
        (
            ("missing factor 9", lambda s, t: kd(s, t, f=lambda v: scale(v, 1 / 9))),
            (
                "without a number",
                lambda s, t: swap(
                    kd(s, t),
                    3.0
                    * (torch.logsumexp(s / 3, -1) * 3 - (torch.softmax(t, -1) * s).sum(-1)).mean(),
                ),
            ),
        ),
    ),
    Subject(
        "infonce",
        infonce,
        ((6, 4), ()),
        (
            (
                "activation derivative missing|a factor",
                lambda z, t: (
                    cut(infonce(z, t))
                    + infonce(z, cut(t))
                    - cut(infonce(z, t))
                    + (infonce(cut(z), t) - cut(infonce(z, t))) / cut(torch.exp(t))
                ),
            ),
            (
                "term missing",
                lambda z, t: (lambda s: (torch.logsumexp(s, -1) - s.diagonal()).mean())(
                    z @ cut(z).T * torch.exp(t)
                ),
            ),
        ),
    ),
    Subject(
        "prelu",
        prelu,
        ((8, 5), (5,)),
        (
            ("mask taken from the gradient|another mask", lambda x, a: prelu_g(x, a)),
            (
                "mask turned round",
                lambda x, a: swap(
                    prelu(x, a), prelu(x, cut(a)) + torch.where(x > 0, cut(x) * a, 0 * a)
                ),
            ),
        ),
    ),
    Subject(
        "lowrank",
        lowrank,
        ((6, 5), (5, 2), (2,), (7, 2)),
        (
            (
                "a factor missing",
                lambda x, u, s, v: swap(
                    lowrank(x, u, s, v), lowrank(x, u, s, cut(v)) + cut(x @ u) @ v.T
                ),
            ),
            (
                "of a step left out|a factor missing",
                lambda x, u, s, v: swap(
                    lowrank(x, u, s, v), lowrank(cut(x), u, s, v) + x @ cut(u) @ cut(v).T
                ),
            ),
        ),
    ),
    Subject(
        "clamped_glu",
        lambda x, y: F.silu(x) * torch.clamp(y, -0.7, 0.7),
        ((8, 5), (8, 5)),
        (
            ("mask ignored", lambda x, y: F.silu(x) * swap(torch.clamp(y, -0.7, 0.7), y)),
            (
                "wrong value",
                lambda x, y: swap(
                    F.silu(x) * torch.clamp(y, -0.7, 0.7),
                    F.silu(x) * cut(y) + cut(F.silu(x)) * torch.clamp(y, -0.7, 0.7),
                ),
            ),
        ),
    ),
    Subject(
        "pixel_shuffle",
        lambda x: x.reshape(2, 2, 3, 4).permute(0, 2, 1, 3).reshape(2, 3, 8),
        ((2, 6, 4),),
        (
            (
                "another order|wrong places",
                lambda x: swap(
                    x.reshape(2, 2, 3, 4).permute(0, 2, 1, 3).reshape(2, 3, 8),
                    x.reshape(2, 3, 2, 4).reshape(2, 3, 8),
                ),
            ),
        ),
    ),
    Subject(
        "roll",
        lambda x: torch.roll(x, 2, -1) * 2.5,
        ((5, 7),),
        (
            (
                "index shift",
                lambda x: swap(torch.roll(x, 2, -1) * 2.5, torch.roll(x, -2, -1) * 2.5),
            ),
            ("of a step left out|index shift", lambda x: swap(torch.roll(x, 2, -1) * 2.5, x * 2.5)),
        ),
    ),
    Subject(
        "reflect",
        lambda x: F.pad(x[None], (2, 2), mode="reflect")[0],
        ((4, 7),),
        (
            (
                "padding dropped",
                lambda x: swap(F.pad(x[None], (2, 2), mode="reflect")[0], F.pad(x, (2, 2))),
            ),
        ),
    ),
    Subject(
        "upsample",
        lambda x: x.repeat_interleave(2, -1).repeat_interleave(2, -2),
        ((2, 3, 4),),
        (
            (
                "mean against sum|averaged",
                lambda x: scale(x.repeat_interleave(2, -1).repeat_interleave(2, -2), 0.25),
            ),
            ("one sample only", lambda x: up_one(x)),
        ),
    ),
    Subject(
        "horner",
        lambda x, c: ((c[3] * x + c[2]) * x + c[1]) * x + c[0],
        ((8, 6), (4,)),
        (
            (
                "term missing|factor",
                lambda x, c: swap(
                    ((c[3] * x + c[2]) * x + c[1]) * x + c[0],
                    cut(c[3]) * x**3 / 3
                    + cut(c[2]) * x**2 / 2
                    + cut(c[1]) * x
                    + ((c[3] * cut(x) + c[2]) * cut(x) + c[1]) * cut(x)
                    + c[0],
                ),
            ),
        ),
    ),
    Subject(
        "margin",
        lambda a, b, y: torch.relu(0.3 - torch.sign(y) * (a - b)).mean(),
        ((8, 5), (8, 5), "const"),
        (
            (
                "another mask",
                lambda a, b, y: (lambda d: swap(torch.relu(0.3 - d).mean(), torch.relu(-d).mean()))(
                    torch.sign(y) * (a - b)
                ),
            ),
            (
                "mask|without a step",
                lambda a, b, y: (lambda d: swap(torch.relu(0.3 - d).mean(), (-d).mean()))(
                    torch.sign(y) * (a - b)
                ),
            ),
            (
                "of a step left out|a factor missing",
                lambda a, b, y: swap(
                    torch.relu(0.3 - torch.sign(y) * (a - b)).mean(),
                    (-cut(torch.sign(y) * (a - b) < 0.3).to(a) * (a - b)).mean(),
                ),
            ),
        ),
    ),
    Subject(
        "poisson",
        lambda x, t: (torch.exp(x) - t * x).mean(),
        ((8, 5), "unit"),
        (
            ("term missing", lambda x, t: (torch.exp(x) - t * cut(x)).mean()),
            ("activation derivative missing", lambda x, t: (swap(torch.exp(x), x) - t * x).mean()),
        ),
    ),
    Subject(
        "charbonnier",
        lambda x, y: torch.sqrt((x - y) ** 2 + 0.01).sum(-1),
        ((8, 5), (8, 5)),
        (
            (
                "of a step left out|wrong power",
                lambda x, y: swap(
                    torch.sqrt((x - y) ** 2 + 0.01).sum(-1), (0.5 * (x - y) ** 2).sum(-1)
                ),
            ),
            (
                "eps",
                lambda x, y: swap(torch.sqrt((x - y) ** 2 + 0.01).sum(-1), (x - y).abs().sum(-1)),
            ),
            ("extra factor 2", lambda x, y: scale(torch.sqrt((x - y) ** 2 + 0.01).sum(-1), 2.0)),
        ),
    ),
    Subject(
        "logcosh",
        lambda x, y: torch.log(torch.cosh(x - y)),
        ((8, 5), (8, 5)),
        (
            (
                "activation derivative missing|without a step",
                lambda x, y: swap(torch.log(torch.cosh(x - y)), x - y),
            ),
            (
                "of a step left out|activation derivative missing",
                lambda x, y: swap(torch.log(torch.cosh(x - y)), torch.cosh(x - y)),
            ),
        ),
    ),
)

if __name__ == "__main__":
    main(FURTHER)
