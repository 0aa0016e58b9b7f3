"""Wrong gradients that public projects had, each as a small program, wrong and mended.

Written from what was reported: owner/repository and number of the issue or pull request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from diagnose.broken import broken

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@dataclass(frozen=True)
class Made:
    """A function and its leaves; ``finish`` makes the loss of its result."""

    function: Callable[..., Tensor]
    leaves: list[Any]
    finish: Callable[[Tensor], Tensor] | None = None

    def loss(self) -> Tensor:
        """Return the loss: each element of the result has a weight of its own."""
        result = self.function(*self.leaves)
        if self.finish is not None:
            return self.finish(result)
        weights = torch.linspace(0.5, 1.5, result.numel()).to(result.dtype)
        return (result * weights.reshape(result.shape)).sum()


REPORTS: dict[str, Callable[[bool, torch.dtype], Made]] = {}


def report(source: str) -> Callable[[Any], Any]:
    """Enter a program into the table: told whether to be wrong, and in which format."""

    def enter(make: Any) -> Any:
        REPORTS[source] = make
        return make

    return enter


def leaf(dtype: torch.dtype, *shape: int) -> Any:
    """Return a leaf whose numbers are the same in every format but for their rounding."""
    return torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_()


@report("k2-fsa/k2 341")
def total_score_without_its_cotangent(wrong: bool, dtype: torch.dtype) -> Made:
    def backward(g: Tensor, x: Tensor) -> Tensor:
        p = torch.softmax(x, -1)
        return p if wrong else p * g[:, None]

    return Made(broken(lambda x: torch.logsumexp(x, -1), backward), [leaf(dtype, 3, 5)])


@report("linkedin/Liger-Kernel 1298")
def losses_of_all_tokens_weighted_as_the_first(wrong: bool, dtype: torch.dtype) -> Made:
    labels = torch.tensor([1, 0, 3, 2])

    def forward(x: Tensor, w: Tensor) -> Tensor:
        return F.cross_entropy(x @ w, labels, reduction="none")

    def backward(g: Tensor, x: Tensor, w: Tensor) -> Any:
        p = torch.softmax(x @ w, -1) - F.one_hot(labels, 4).to(x.dtype)
        p = p * (g[0] if wrong else g[:, None])
        return p @ w.T, x.T @ p

    return Made(broken(forward, backward), [leaf(dtype, 4, 3), leaf(dtype, 3, 4)])


class Exponential(torch.autograd.Function):
    """exp, which keeps its result."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.exp()
        ctx.y = y.detach()
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        result: Tensor = grads[0] * ctx.y
        return result


@report("linkedin/Liger-Kernel 254")
def gate_that_writes_over_what_it_was_given(wrong: bool, dtype: torch.dtype) -> Made:
    def backward(g: Tensor, a: Tensor, b: Tensor) -> Any:
        s = torch.sigmoid(a)
        da, db = g * b * (s + a * s * (1 - s)), g * a * s
        # Other functions keep these tensors for their own backward.
        return (a.data.copy_(da), db) if wrong else (da, db)

    gate = broken(lambda a, b: F.silu(a) * b, backward)

    def function(x: Tensor, b: Tensor) -> Tensor:
        return gate(Exponential.apply(x), b)  # type: ignore[no-untyped-call]

    return Made(function, [leaf(dtype, 3, 4), leaf(dtype, 3, 4)])


def rms(x: Tensor) -> Tensor:
    return torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def rms_norm(x: Tensor, w: Tensor) -> Tensor:
    return x * rms(x) * w


def rms_norm_to_x(g: Tensor, x: Tensor, w: Tensor) -> Tensor:
    n, u = x * rms(x), g * w
    return rms(x) * (u - n * (u * n).mean(-1, keepdim=True))


@report("unslothai/unsloth 4533")
def norm_whose_weight_gets_no_gradient(wrong: bool, dtype: torch.dtype) -> Made:
    def backward(g: Tensor, x: Tensor, w: Tensor) -> Any:
        return rms_norm_to_x(g, x, w), None if wrong else (g * x * rms(x)).sum(0)

    return Made(broken(rms_norm, backward), [leaf(dtype, 4, 6), leaf(dtype, 6)])


@report("unslothai/unsloth 4550")
def norm_that_reads_its_cotangent_after_writing_over_it(wrong: bool, dtype: torch.dtype) -> Made:
    def backward(g: Tensor, x: Tensor, w: Tensor) -> Any:
        dx = rms_norm_to_x(g, x, w)
        if wrong:
            dx = g.copy_(dx)
        return dx, (g * x * rms(x)).sum(0)

    return Made(broken(rms_norm, backward), [leaf(dtype, 4, 6), leaf(dtype, 6)])


@report("Dao-AILab/flash-attention 355")
def kernel_that_takes_its_cotangent_for_contiguous(wrong: bool, dtype: torch.dtype) -> Made:
    def backward(g: Tensor, x: Tensor) -> Tensor:
        g = g.as_strided(g.shape, (g.shape[1], 1)) if wrong else g.contiguous()
        return g * (1 - torch.tanh(x).square())

    function = broken(torch.tanh, backward)
    other = torch.randn(5, 3).to(dtype)
    return Made(function, [leaf(dtype, 3, 5)], lambda y: (y.T * other).sum())


@report("aws-neuron/nki-samples 81")
def attention_whose_backward_drops_no_weights(wrong: bool, dtype: torch.dtype) -> Made:
    kept = (torch.rand(4, 4) > 0.4).to(dtype) / 0.6

    def forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (torch.softmax(q @ k.T, -1) * kept) @ v

    def backward(g: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Any:
        p = torch.softmax(q @ k.T, -1)
        dp = g @ v.T if wrong else g @ v.T * kept
        ds = p * (dp - (dp * p).sum(-1, keepdim=True))
        return ds @ k, ds.T @ q, (p * kept).T @ g

    return Made(broken(forward, backward), [leaf(dtype, 4, 3) for _ in range(3)])


def turned(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([-b, a], -1)


@report("PaddlePaddle/Paddle 74716")
def rotary_embedding_with_unlike_halves(wrong: bool, dtype: torch.dtype) -> Made:
    sin, cos = torch.randn(2, 3, 6).to(dtype)

    def backward(g: Tensor, _: Tensor) -> Any:
        return g * cos - (turned(g) * sin if wrong else turned(g * sin))

    return Made(broken(lambda x: x * cos + turned(x) * sin, backward), [leaf(dtype, 3, 6)])


class Synthesis(torch.autograd.Function):
    """Two bands joined again: a filter each."""

    wrong = False

    @staticmethod
    def forward(ctx: Any, low: Tensor, high: Tensor) -> Tensor:  # noqa: ARG004 (torch prescribes it)
        return 0.7 * low + 0.3 * high

    @classmethod
    def backward(cls, ctx: Any, *grads: Tensor) -> Any:
        (g,) = grads
        if cls.wrong:
            return (0.7 * g, 0.3 * g) if ctx.needs_input_grad[0] else (None, None)
        return 0.7 * g, 0.3 * g


class SynthesisWrong(Synthesis):
    wrong = True


@report("fbcotter/pytorch_wavelets 65")
def gradient_of_the_second_input_only_where_the_first_needs_one(
    wrong: bool, dtype: torch.dtype
) -> Made:
    apply: Any = (SynthesisWrong if wrong else Synthesis).apply
    low = torch.randn(4).to(dtype)
    return Made(lambda high: apply(low, high), [leaf(dtype, 4)], lambda y: y.square().sum())


@report("state-spaces/mamba 1023")
def second_branch_without_its_scale_of_rows(wrong: bool, dtype: torch.dtype) -> Made:
    first, second = torch.rand(2, 4, 1).to(dtype)

    def backward(g: Tensor, *_: Tensor) -> Any:
        return g * first, g if wrong else g * second

    return Made(
        broken(lambda x, y: x * first + y * second, backward),
        [leaf(dtype, 4, 3), leaf(dtype, 4, 3)],
    )
