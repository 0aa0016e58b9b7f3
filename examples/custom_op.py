"""An operator of one's own, and the rule that tells the witness what it computes.

Try ``gradwitness check examples/custom_op.py:step``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import gradwitness


@torch.library.custom_op("mylib::swish", mutates_args=())
def swish(x: torch.Tensor, beta: float) -> torch.Tensor:
    """Return x * sigmoid(beta x); the witness sees one opaque call."""
    return x * torch.sigmoid(beta * x)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    del output
    ctx.save_for_backward(inputs[0])
    ctx.beta = inputs[1]


def _backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, None]:
    (x,) = ctx.saved_tensors
    s = torch.sigmoid(ctx.beta * x)
    return g * (s + ctx.beta * x * s * (1 - s)), None


swish.register_autograd(_backward, setup_context=_keep)


@gradwitness.rule("mylib::swish", "y = x / (1 + exp(-beta * x))")
def swish_rule(x: Any, *, beta: float) -> Any:
    """Return the value, in plain NumPy calls."""
    return x / (1 + np.exp(-beta * x))


@swish_rule.vjp("x", "g * (s + beta * x * s * (1 - s)), s = 1 / (1 + exp(-beta * x))")
def _(g: Any, x: Any, *, beta: float) -> Any:
    s = 1 / (1 + np.exp(-beta * x))
    return g * (s + beta * x * s * (1 - s))


class Net(nn.Module):
    """Two linear layers with the operator between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        result: torch.Tensor = self.second(swish(self.first(x), 1.5))
        return result


def step() -> None:
    """Run one forward and one backward pass."""
    torch.manual_seed(0)
    net = Net()
    x = torch.rand(16, 4)
    loss = nn.functional.mse_loss(net(x), x.sum(1, keepdim=True))
    loss.backward()  # type: ignore[no-untyped-call]
