"""Training steps whose structure is learnt or bound: transformed images, orthogonal weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from architectures.workload import Workload, classes, entry

if TYPE_CHECKING:
    from torch import Tensor


class _SpatialTransformer(nn.Module):
    """A small network looks at the image and says how to turn it before another reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(1, 4, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 6)
        )
        self.read = nn.Sequential(
            nn.Conv2d(1, 4, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2)
        )
        self.head = nn.Linear(64, 3)
        self.register_buffer("still", torch.eye(2, 3))
        self.still: Tensor

    def forward(self, x: Tensor) -> Tensor:
        theta = self.still + 0.1 * self.look(x).float().view(-1, 2, 3)
        grid = F.affine_grid(theta, [*x.shape], align_corners=False)
        turned = F.grid_sample(x, grid, align_corners=False)
        made: Tensor = self.head(self.read(turned))
        return made


@entry
def spatial_transformer() -> Workload:
    model = _SpatialTransformer()
    x, y = torch.rand(4, 1, 12, 12), classes(3, 4)
    return Workload(model, lambda: F.cross_entropy(model(x), y))


class _OrthogonalRecurrence(nn.Module):
    """A recurrent network that keeps lengths: its weights are products of reflections."""

    def __init__(self) -> None:
        super().__init__()
        inner: Any = parametrizations.orthogonal(nn.Linear(5, 5, bias=False))
        frame: Any = parametrizations.orthogonal(
            nn.Linear(5, 3, bias=False), orthogonal_map="householder", use_trivialization=False
        )
        self.inner, self.frame = inner, frame
        self.into = nn.Linear(2, 5)

    def forward(self, steps: Tensor) -> Tensor:
        state = self.into(steps[0])
        for x in steps[1:]:
            state = torch.tanh(self.inner(state) + self.into(x))
        made: Tensor = self.frame(state)
        return made


@entry
def orthogonal_recurrence() -> Workload:
    model = _OrthogonalRecurrence()
    x, y = torch.randn(4, 3, 2), classes(3, 3)
    return Workload(model, lambda: F.cross_entropy(model(x), y))


@entry
def rare_words() -> Workload:
    """A language model whose rare words share small classifiers; one of them is met once."""
    table = nn.Embedding(40, 6, padding_idx=0)
    tails: Any = nn.AdaptiveLogSoftmaxWithLoss(6, 40, [4, 12, 20], div_value=1.5)
    model = nn.ModuleDict({"table": table, "mix": nn.GRU(6, 6), "tails": tails})
    words = torch.tensor([[1, 2, 3, 5, 13, 0], [1, 3, 7, 2, 6, 3]]).T.contiguous()

    def loss() -> Tensor:
        known = torch.unique(words)
        rows = table(known)[torch.searchsorted(known, words)]
        h, _ = model["mix"](rows)
        # Its shares are stored side by side in the format of its input.
        with torch.autocast("cpu", enabled=False):
            total: Tensor = tails(h[:-1].float().flatten(0, 1), words[1:].flatten()).loss
        often = torch.bincount(words.flatten(), minlength=40).float()
        return total + 0.01 * (table.weight.square().sum(1) / (1 + often)).sum()

    return Workload(model, loss)
