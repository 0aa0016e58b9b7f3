"""What an entry of the zoo is: a model, and what one training step computes with it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


@dataclass(frozen=True)
class Workload:
    """A model and what a training step does to it: ``loss()`` runs the forward pass."""

    model: nn.Module
    loss: Callable[[], Tensor]

    def step(self, *, low: bool = False) -> None:
        """Run forward and backward once, the forward pass in bfloat16 where it is low."""
        chosen = torch.autocast("cpu", torch.bfloat16) if low else contextlib.nullcontext()
        with chosen:
            loss = self.loss()
        torch.autograd.backward(loss)


class Turns(Workload):
    """A training step of several losses: ``turns(low)`` runs it whole."""

    def __init__(self, model: nn.Module, turns: Callable[[bool], None]) -> None:
        super().__init__(model, lambda: torch.empty(0))
        object.__setattr__(self, "turns", turns)

    def step(self, *, low: bool = False) -> None:
        turns: Callable[[bool], None] = self.__dict__["turns"]
        turns(low)


ZOO: dict[str, Callable[[], Workload]] = {}


def entry(make: Callable[[], Workload]) -> Callable[[], Workload]:
    """Enter a workload into the table, under the name of the function that makes it."""
    ZOO[make.__name__] = make
    return make


def classes(count: int, *shape: int) -> Tensor:
    """Return random labels, or random words."""
    return torch.randint(0, count, shape)
