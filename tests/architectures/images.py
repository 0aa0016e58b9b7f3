"""Architectures over images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from architectures.workload import Workload, classes, entry

if TYPE_CHECKING:
    from torch import Tensor


class _Inverted(nn.Module):
    """A MobileNetV3 block: expand, depthwise, squeeze and excite, project, add."""

    def __init__(self, narrow: int, wide: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(
            nn.Conv2d(narrow, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 5, padding=2, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.Hardswish(inplace=True),
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(wide, 4, 1),
            nn.ReLU(),
            nn.Conv2d(4, wide, 1),
            nn.Hardsigmoid(),
        )
        self.project = nn.Sequential(nn.Conv2d(wide, narrow, 1, bias=False), nn.BatchNorm2d(narrow))

    def forward(self, x: Tensor) -> Tensor:
        wide = self.depthwise(self.expand(x))
        return x + self.project(wide * self.squeeze(wide))  # type: ignore[no-any-return]


@entry
def mobilenet() -> Workload:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU6(),
        _Inverted(8, 16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2, inplace=True),
        nn.Linear(8, 5),
    )
    x, y = torch.randn(4, 3, 16, 16), classes(5, 4)
    return Workload(model, lambda: F.cross_entropy(model(x), y))


class _ConvNext(nn.Module):
    """A ConvNeXt block: depthwise 7x7, layer norm over channels, MLP, layer scale, drop path."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = (self.scale * self.mlp(y)).permute(0, 3, 1, 2)
        kept = torch.empty(x.shape[0], 1, 1, 1).bernoulli_(0.75).div_(0.75)
        return x + y * kept  # type: ignore[no-any-return]


@entry
def convnext() -> Workload:
    model = nn.Sequential(nn.Conv2d(3, 8, 4, 4), _ConvNext(8), _ConvNext(8))
    head = nn.Linear(8, 5)
    x, y = torch.randn(4, 3, 24, 24), torch.rand(4, 5).softmax(1)
    both = nn.ModuleDict({"body": model, "head": head})
    return Workload(both, lambda: F.cross_entropy(head(model(x).mean((-2, -1))), y))


class _Mixing(nn.Module):
    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.tokens = nn.Sequential(nn.Linear(tokens, 12), nn.GELU("tanh"), nn.Linear(12, tokens))
        self.channels = nn.Sequential(nn.Linear(width, 20), nn.Mish(), nn.Linear(20, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norms[1](x))  # type: ignore[no-any-return]


@entry
def mixer() -> Workload:
    model = nn.Sequential(_Mixing(9, 10), _Mixing(9, 10), nn.Linear(10, 4))
    x, y = torch.randn(3, 9, 10), torch.randint(0, 2, (3, 4)).float()
    return Workload(
        model, lambda: F.binary_cross_entropy_with_logits(model(x).mean(1), y, torch.rand(3, 4))
    )


@entry
def siamese() -> Workload:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.PReLU(4), nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Linear(36, 8)
    )
    a, p, n = torch.randn(3, 5, 1, 10, 10)
    sign = torch.tensor([1, -1, 1, -1, 1])

    def loss() -> Tensor:
        one, same, other = model(a), model(p), model(n)
        return F.triplet_margin_loss(one, same, other, margin=2.0) + F.cosine_embedding_loss(
            one, same, sign, margin=0.1
        )

    return Workload(model, loss)


@entry
def contrastive() -> Workload:
    """SimCLR: normalised projections of two views, similarities, temperature."""
    model = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 6))
    x = torch.randn(6, 10)

    def loss() -> Tensor:
        views = torch.cat([x + 0.1 * torch.randn_like(x), x * 1.1])
        z = F.normalize(model(views), dim=1)
        similar = (z @ z.T) / 0.5
        similar = similar.masked_fill(torch.eye(12, dtype=torch.bool), -1e4)
        return F.cross_entropy(similar, torch.arange(12).roll(6))

    return Workload(model, loss)


@entry
def detector() -> Workload:
    """Boxes and classes from a pyramid of two levels: focal loss, IoU loss, masks of positives."""
    body = nn.Conv2d(3, 8, 3, 2, 1)
    deeper = nn.Conv2d(8, 8, 3, 2, 1)
    heads = nn.ModuleDict({"label": nn.Conv2d(8, 3, 1), "box": nn.Conv2d(8, 4, 1)})
    model = nn.ModuleDict({"body": body, "deeper": deeper, "heads": heads})
    x = torch.randn(2, 3, 16, 16)
    wanted = torch.randint(0, 2, (2, 64, 3)).float()
    boxes = torch.rand(2, 64, 4) + 0.5
    positive = torch.rand(2, 64) > 0.7

    def loss() -> Tensor:
        fine = F.relu(body(x))
        coarse = F.interpolate(F.relu(deeper(fine)), scale_factor=2.0, mode="nearest")
        merged = fine + coarse
        logits = heads["label"](merged).flatten(2).transpose(1, 2)
        sides = heads["box"](merged).flatten(2).transpose(1, 2).float().exp()
        each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        p = logits.sigmoid()
        right = p * wanted + (1 - p) * (1 - wanted)
        focal = (0.25 * (1 - right) ** 2 * each).sum()
        a, b = sides[positive], boxes[positive]
        left, top, over, under = torch.minimum(a, b).unbind(-1)
        inner = (left + over) * (top + under)
        area = [(t[:, 0] + t[:, 2]) * (t[:, 1] + t[:, 3]) for t in (a, b)]
        overlap = inner / (area[0] + area[1] - inner).clamp(min=1e-6)
        return focal / 64 - overlap.clamp(min=1e-3).log().mean()  # type: ignore[no-any-return]

    return Workload(model, loss)
