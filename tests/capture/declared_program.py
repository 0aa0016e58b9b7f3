"""A program with what its author means: hooks, a detached number, a lambda."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

FACTOR = 0.5


def scaled(gradient: Any) -> Any:
    """Scale a gradient."""
    return FACTOR * gradient


def squared(hook: Callable[[Any], Any]) -> torch.Tensor:
    """Return a leaf after a pass whose second tensor has a hook."""
    x = torch.linspace(-1, 1, 6).requires_grad_()
    y = x.sin()
    y.register_hook(hook)
    y.square().sum().backward()
    return x


def with_lambda() -> torch.Tensor:
    """Do the same with a hook that has no name."""
    return squared(lambda g: FACTOR * g)


def on_leaf() -> torch.Tensor:
    """Put the hook on the leaf itself."""
    x = torch.linspace(-1, 1, 6).requires_grad_()
    x.register_hook(scaled)
    (x.sin().square().sum() + x.square().sum()).backward()
    return x


class Solver:
    """A hook within a method."""

    def run(self) -> torch.Tensor:
        """Register one that is made anew each time."""

        def hook(gradient: Any) -> Any:
            return FACTOR * gradient

        return squared(hook)


def target(x: Any) -> Any:
    """Cut a number off on purpose."""
    return (x * x.detach()).sum()
