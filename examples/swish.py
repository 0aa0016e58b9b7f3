"""A training step with a wrong gradient in it: the backward of Swish forgets a term.

Try ``gradwitness check examples/swish.py:step``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Swish(torch.autograd.Function):
    """x * sigmoid(x), with its backward written by hand."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Return the activation."""
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        """Return the gradient: s + x s (1 - s) is wanted, and the second term is missing."""
        (g,) = gradients
        (x,) = ctx.saved_tensors
        return g * torch.sigmoid(x)


class Net(nn.Module):
    """Two linear layers with the activation between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        hidden: torch.Tensor = Swish.apply(self.first(x))  # type: ignore[no-untyped-call]
        result: torch.Tensor = self.second(hidden)
        return result


def step() -> None:
    """Run one forward and one backward pass."""
    torch.manual_seed(0)
    net = Net()
    x = torch.rand(16, 4)
    loss = nn.functional.mse_loss(net(x), x.sum(1, keepdim=True))
    loss.backward()  # type: ignore[no-untyped-call]
