"""A program with what its author means: hooks, a detached number, a lambda."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from capture.programs import run_back

if TYPE_CHECKING:
    from collections.abc import Callable

FACTOR = 0.5
TERMS = 0


def scaled(gradient: Any) -> Any:
    """Scale a gradient."""
    return FACTOR * gradient


def squared(hook: Callable[[Any], Any]) -> Any:
    """Return a leaf after a pass whose second tensor has a hook."""
    x: Any = torch.linspace(-1, 1, 6).requires_grad_()
    y = x.sin()
    y.register_hook(hook)
    run_back(y.square().sum())
    return x


def passed_on() -> Any:
    """Put it where what follows rounds nothing."""
    x: Any = torch.linspace(-1, 1, 6).requires_grad_()
    y = x + 1
    y.register_hook(scaled)
    run_back(y.square())
    return x


def with_lambda() -> Any:
    """Do the same with a hook that has no name."""
    return squared(lambda g: FACTOR * g)


def on_leaf() -> Any:
    """Put the hook on the leaf itself."""
    x: Any = torch.linspace(-1, 1, 6).requires_grad_()
    x.register_hook(scaled)
    run_back(x.sin().square().sum() + x.square().sum())
    return x


class Solver:
    """A hook within a method."""

    def run(self) -> Any:
        """Register one that is made anew each time."""

        def hook(gradient: Any) -> Any:
            return FACTOR * gradient

        return squared(hook)


def target(x: Any) -> Any:
    """Cut a number off on purpose."""
    return (x * x.detach()).sum()
