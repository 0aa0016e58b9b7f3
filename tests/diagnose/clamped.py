"""A network with a clamped pre-activation, and mistakes in what is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from diagnose.broken import broken

if TYPE_CHECKING:
    from torch import Tensor


class Clamped(nn.Module):
    """Pre-activations are cut off at 1, the second layer's are not."""

    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.first = nn.Linear(5, 8)
        self.second = nn.Linear(8, 8)
        self.output = nn.Linear(8, 3)
        self.mistake = mistake

    def clamp(self, z: Tensor) -> Tensor:
        if self.mistake == "left out":
            return z
        if self.mistake == "ignored":
            return broken(lambda z: z.clamp(-1, 1), lambda g, _: g)(z)
        return z.clamp(-1, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sigmoid(self.clamp(3 * self.first(x)))
        h = 3 * h
        if self.mistake != "added":
            h = self.second(h)
        else:

            def backward(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Any:
                g = g * (functional.linear(x, w, b).abs() <= 1)
                return g @ w, g.t() @ x, g.sum(0)

            h = broken(functional.linear, backward)(h, self.second.weight, self.second.bias)
        result: Tensor = self.output(torch.tanh(h))
        return result
