"""More wrong gradients that public projects had: places, statistics, formats and what is kept."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from diagnose.broken import broken
from faults.reported import Made, leaf, report


@report("pytorch/pytorch 1528")
def repeated_indices_of_which_the_last_counts(wrong: bool, dtype: torch.dtype) -> Made:
    index = torch.tensor([0, 2, 0, 1, 2])

    def backward(g: Tensor, x: Tensor) -> Tensor:
        zeros = torch.zeros_like(x)
        return zeros.index_copy_(0, index, g) if wrong else zeros.index_add_(0, index, g)

    return Made(broken(lambda x: x[index], backward), [leaf(dtype, 4, 2)])


@report("PaddlePaddle/Paddle 28622")
def ignored_labels_that_get_a_gradient(wrong: bool, dtype: torch.dtype) -> Made:
    labels = torch.tensor([1, 2, 0, 2])
    counts = (labels != 2)[:, None]

    def forward(x: Tensor) -> Tensor:
        return F.cross_entropy(x, labels, ignore_index=2, reduction="sum")

    def backward(g: Tensor, x: Tensor) -> Tensor:
        p = torch.softmax(x, -1) - F.one_hot(labels, 4).to(x.dtype)
        return g * (p if wrong else p * counts)

    return Made(broken(forward, backward), [leaf(dtype, 4, 4)])


@report("pytorch/xla 913")
def running_statistics_differentiated_as_those_of_the_batch(
    wrong: bool, dtype: torch.dtype
) -> Made:
    mean, rate = torch.randn(3).to(dtype), torch.rand(3).to(dtype) + 0.5

    def backward(g: Tensor, x: Tensor) -> Tensor:
        n = (x - mean) * rate
        return rate * (g - g.mean(0) - n * (g * n).mean(0)) if wrong else rate * g

    return Made(broken(lambda x: (x - mean) * rate, backward), [leaf(dtype, 5, 3)])


@report("proger/accelerated-scan 15")
def scan_by_blocks_whose_carry_scales_the_block(wrong: bool, dtype: torch.dtype) -> Made:
    decay = torch.rand(6).to(dtype)

    def forward(x: Tensor) -> Tensor:
        states = [x[0]]
        for t in range(1, 6):
            states.append(decay[t] * states[-1] + x[t])
        return torch.stack(states)

    def backward(g: Tensor, _: Tensor) -> Tensor:
        grads = torch.zeros_like(g)
        for end in (6, 3):  # two blocks, the last one first
            carry = grads[end] if end < 6 else torch.zeros(())
            local, through = torch.zeros(()), torch.ones(())
            for t in range(end - 1, end - 4, -1):
                after = decay[t + 1] if t < 5 else torch.zeros(())
                local = g[t] + (after * local if t < end - 1 else 0)
                through = through * after
                grads[t] = local * through + carry if wrong else local + through * carry
        return grads

    return Made(broken(forward, backward), [leaf(dtype, 6)])


@report("flagos-ai/FlagGems 5218")
def resizing_that_drops_the_outermost_terms(wrong: bool, dtype: torch.dtype) -> Made:
    places = torch.linspace(0, 1, 10).to(dtype)
    weights = torch.stack([1 - places, places])

    def backward(g: Tensor, _: Tensor) -> Tensor:
        # The window around each input is as wide as 10 / 2, not as 9 / 1.
        window = weights * (weights > 0.25) if wrong else weights
        return g @ window.T

    return Made(broken(lambda x: x @ weights, backward), [leaf(dtype, 3, 2)])


@report("pytorch/pytorch 23925")
def samples_beyond_the_border_that_pull(wrong: bool, dtype: torch.dtype) -> Made:
    x = torch.randn(5).to(dtype)

    def neighbours(at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inside = at.clamp(0, 4)
        low = inside.floor().long()
        return inside - low, x[low], F.pad(x, (0, 1))[low + 1]

    def forward(at: Tensor) -> Tensor:
        share, left, right = neighbours(at)
        return left * (1 - share) + right * share

    def backward(g: Tensor, at: Tensor) -> Tensor:
        _, left, right = neighbours(at)
        return g * (right - left) * (1 if wrong else (at > 0) & (at < 4))

    at = torch.tensor([-0.7, 0.3, 2.6, 4.4]).to(dtype).requires_grad_()
    return Made(broken(forward, backward), [at])


@report("tenstorrent/tt-metal 56202")
def weights_of_a_group_norm_with_another_groups_mean(wrong: bool, dtype: torch.dtype) -> Made:
    group = torch.arange(6) % 2 if wrong else torch.arange(6) // 3

    def backward(g: Tensor, x: Tensor, w: Tensor) -> Any:
        parts = x.reshape(-1, 2, 3)
        gap = parts - parts.mean(-1, keepdim=True)
        rate = torch.rsqrt(gap.square().mean(-1, keepdim=True) + 1e-5)
        u, n = (g * w).reshape(-1, 2, 3), gap * rate
        dx = rate * (u - u.mean(-1, keepdim=True) - n * (u * n).mean(-1, keepdim=True))
        taken = (x - parts.mean(-1)[:, group]) * rate[:, group, 0]
        return dx.reshape(x.shape), (g * taken).sum(0)

    function = broken(lambda x, w: F.group_norm(x, 2, w), backward)
    return Made(function, [leaf(dtype, 4, 6), leaf(dtype, 6)])


@report("tenstorrent/tt-metal 55349")
def tangent_by_a_polynomial_of_three_digits(wrong: bool, dtype: torch.dtype) -> Made:
    def backward(g: Tensor, x: Tensor) -> Tensor:
        y = torch.tanh(x)
        return g * (0.99919701 - 0.9985 * y * y if wrong else 1 - y * y)

    return Made(broken(torch.tanh, backward), [leaf(dtype, 12)])


@report("axolotl-ai-cloud/axolotl 3528")
def magnitude_that_is_multiplied_twice(wrong: bool, dtype: torch.dtype) -> Made:
    def forward(x: Tensor, m: Tensor) -> Any:
        return x * (m / x.norm(dim=0))

    def backward(g: Tensor, x: Tensor, m: Tensor) -> Any:
        size = x.norm(dim=0)
        u = x / size
        dx = (m / size) * (g - u * (u * g).sum(0))
        return dx, (g * (u * (m / size) if wrong else u)).sum(0)

    return Made(broken(forward, backward), [leaf(dtype, 4, 3), leaf(dtype, 3)])


@report("microsoft/DirectML 740")
def losses_of_single_tokens_without_gradient(wrong: bool, dtype: torch.dtype) -> Made:
    labels = torch.tensor([1, 0, 3])

    def backward(g: Tensor, x: Tensor) -> Tensor:
        p = torch.softmax(x, -1) - F.one_hot(labels, 4).to(x.dtype)
        return torch.zeros_like(x) if wrong else g[:, None] * p

    def forward(x: Tensor) -> Tensor:
        return F.cross_entropy(x, labels, reduction="none")

    return Made(broken(forward, backward), [leaf(dtype, 3, 4)])


class Kept(Function):
    """x^2; what backward needs is kept where the next use writes over it, or where it should be."""

    wrong: ClassVar[bool]
    last: ClassVar[Tensor]

    @classmethod
    def forward(cls, ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        cls.last = x.detach()
        return x * x

    @classmethod
    def backward(cls, ctx: Any, *grads: Tensor) -> Tensor:
        x: Tensor = cls.last if cls.wrong else ctx.saved_tensors[0]
        return 2 * grads[0] * x


class KeptInTheClass(Kept):
    wrong = True


class KeptInTheContext(Kept):
    wrong = False


@report("pytorch/pytorch 16947")
def state_of_the_function_instead_of_its_use(wrong: bool, dtype: torch.dtype) -> Made:
    apply: Any = (KeptInTheClass if wrong else KeptInTheContext).apply
    return Made(lambda a, b: apply(a) * apply(b), [leaf(dtype, 4), leaf(dtype, 4)])


@report("pytorch/pytorch 65244")
def gradient_of_a_whole_batch_that_autograd_sums(wrong: bool, dtype: torch.dtype) -> Made:
    def backward(g: Tensor, y: Tensor) -> Tensor:
        return g.expand(4, 3) if wrong else g.expand(3)

    return Made(broken(lambda y: y.sum(), backward), [leaf(dtype, 3)])


class Square(Function):
    """(2 x)^2, whose backward uses what forward computed in between, or its argument."""

    wrong = False

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.save_for_backward(x)
        ctx.double = 2 * x
        return ctx.double.square()

    @classmethod
    def backward(cls, ctx: Any, *grads: Tensor) -> Any:
        double = ctx.double if cls.wrong else 2 * ctx.saved_tensors[0]
        return 4 * grads[0] * double


class SquareByItsIntermediate(Square):
    wrong = True


@report("pytorch/pytorch 58509")
def second_derivative_without_what_was_computed_in_between(wrong: bool, dtype: torch.dtype) -> Made:
    apply: Any = (SquareByItsIntermediate if wrong else Square).apply

    def slope(x: Tensor) -> Tensor:
        (first,) = torch.autograd.grad(apply(x).square().sum(), x, create_graph=True)
        return first

    return Made(slope, [leaf(dtype, 4)])


@report("graphdeco-inria/diff-gaussian-rasterization 94")
def mixed_term_with_the_factor_of_the_pure_ones(wrong: bool, dtype: torch.dtype) -> Made:
    x, y = torch.randn(2, 5).to(dtype)

    def power(conic: Tensor) -> Tensor:
        a, b, c = conic
        return torch.exp(-0.5 * (a * x * x + c * y * y) - b * x * y)

    def backward(g: Tensor, conic: Tensor) -> Tensor:
        g = g * power(conic)
        mixed = -g * x * y * (0.5 if wrong else 1)
        return torch.stack([-0.5 * g * x * x, mixed, -0.5 * g * y * y]).sum(1)

    return Made(broken(power, backward), [leaf(dtype, 3)])


@report("openvdb/fvdb-core 432")
def gradient_of_the_scale_for_that_of_its_logarithm(wrong: bool, dtype: torch.dtype) -> Made:
    def backward(g: Tensor, x: Tensor, log: Tensor) -> Any:
        to_scale = (g * x).sum(0)
        return g * log.exp(), to_scale if wrong else to_scale * log.exp()

    return Made(broken(lambda x, log: x * log.exp(), backward), [leaf(dtype, 4, 3), leaf(dtype, 3)])


@report("intel/torch-xpu-ops 4380")
def columns_by_the_height_of_an_image(wrong: bool, dtype: torch.dtype) -> Made:
    height, width = 4, 2  # as wide as high, both are the same

    def forward(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 0).repeat_interleave(2, 1)

    def backward(g: Tensor, x: Tensor) -> Tensor:
        columns = (torch.arange(2 * width) - (height - width if wrong else 0)).clamp(0) // 2
        rows = torch.zeros(height, 2 * width, dtype=g.dtype)
        rows.index_add_(0, torch.arange(2 * height) // 2, g)
        return torch.zeros_like(x).index_add_(1, columns, rows)

    return Made(broken(forward, backward), [leaf(dtype, height, width)])
