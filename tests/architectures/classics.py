"""The architectures that every course begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from architectures.workload import Workload, classes, entry

if TYPE_CHECKING:
    from torch import Tensor


@entry
def mlp() -> Workload:
    model = nn.Sequential(
        nn.Linear(12, 24),
        nn.GELU(),
        nn.Dropout(0.2),
        nn.Linear(24, 24),
        nn.SiLU(),
        nn.Linear(24, 5),
    )
    x, y = torch.randn(8, 12), classes(5, 8)
    return Workload(model, lambda: F.cross_entropy(model(x), y, label_smoothing=0.1))


@entry
def lenet() -> Workload:
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 25, 10),
    )
    x, y = torch.rand(4, 1, 28, 28), classes(10, 4)
    return Workload(model, lambda: F.cross_entropy(model(x), y))


class _Residual(nn.Module):
    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(narrow, wide, 3, stride, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, wide, 3, 1, 1, bias=False),
            nn.BatchNorm2d(wide),
        )
        self.skip = nn.Sequential(
            nn.Conv2d(narrow, wide, 1, stride, bias=False), nn.BatchNorm2d(wide)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x), inplace=True)


@entry
def residual() -> Workload:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        _Residual(8, 8, 1),
        _Residual(8, 16, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    x, y = torch.randn(4, 3, 32, 32), classes(5, 4)
    return Workload(model, lambda: F.cross_entropy(model(x), y))


class _UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.GroupNorm(3, 6), nn.SiLU())
        self.middle = nn.Sequential(
            nn.Conv2d(6, 12, 3, padding=1), nn.InstanceNorm2d(12, affine=True), nn.LeakyReLU(0.1)
        )
        self.smooth = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.learned = nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.out = nn.Conv2d(6 + 12 + 6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        deep = self.middle(F.max_pool2d(skip, 2))
        return self.out(torch.cat([skip, self.smooth(deep), self.learned(deep)], 1))  # type: ignore[no-any-return]


@entry
def unet() -> Workload:
    model = _UNet()
    x, y = torch.randn(2, 2, 16, 16), classes(3, 2, 16, 16)
    return Workload(model, lambda: F.cross_entropy(model(x), y))


@entry
def lstm() -> Workload:
    model = nn.ModuleDict(
        {"embed": nn.Embedding(20, 8), "rnn": nn.LSTM(8, 12, 2), "out": nn.Linear(12, 20)}
    )
    x, y = classes(20, 7, 3), classes(20, 21)

    def loss() -> Tensor:
        hidden, _ = model["rnn"](model["embed"](x))
        return F.cross_entropy(model["out"](hidden).flatten(0, 1), y)

    return Workload(model, loss)


@entry
def gru() -> Workload:
    model = nn.ModuleDict(
        {"rnn": nn.GRU(6, 10, 2, bidirectional=True, batch_first=True), "out": nn.Linear(20, 1)}
    )
    x, y = torch.randn(4, 6, 6), torch.rand(4, 1)

    def loss() -> Tensor:
        hidden, _ = model["rnn"](x)
        return F.binary_cross_entropy_with_logits(model["out"](hidden[:, -1]), y)

    return Workload(model, loss)


@entry
def encoder() -> Workload:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(16, 9)
    )
    x, y = torch.randn(3, 6, 16), classes(9, 18)
    return Workload(model, lambda: F.cross_entropy(model(x).flatten(0, 1), y))


@entry
def decoder() -> Workload:
    layer = nn.TransformerDecoderLayer(16, 4, 32, batch_first=True, norm_first=True)
    model = nn.TransformerDecoder(layer, 2)
    memory, x, y = torch.randn(3, 5, 16), torch.randn(3, 6, 16), torch.randn(3, 6, 16)
    mask = nn.Transformer.generate_square_subsequent_mask(6)
    return Workload(
        model,
        lambda: F.smooth_l1_loss(model(x, memory, tgt_mask=mask, tgt_is_causal=True), y),
    )
