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


def scaled_in_place(leaf: Any) -> None:
    """Scale what a leaf has accumulated."""
    leaf.grad.mul_(FACTOR)


def after_accumulation() -> Any:
    """Put a hook on the accumulated gradient, which there is before."""
    x: Any = torch.linspace(-1, 1, 6).requires_grad_()
    x.grad = torch.ones(6)
    x.register_post_accumulate_grad_hook(scaled_in_place)
    run_back(x.sin().square().sum() + x.square().sum())
    return x


def of_module(_: Any, sent: Any, __: Any) -> Any:
    """Scale what a module sends."""
    return tuple(FACTOR * g for g in sent)


def before_module(_: Any, arrived: Any) -> Any:
    """Scale what arrives at a module."""
    return tuple(FACTOR * g for g in arrived)


class Product(torch.nn.Module):
    """Of two tensors."""

    def forward(self, x: Any, y: Any) -> Any:
        """Return it."""
        return x.sin() * y


def in_module(put: str, hook: Any) -> Any:
    """Put a hook on a module."""
    x: Any = torch.linspace(-1, 1, 6).requires_grad_()
    module = Product()
    getattr(module, put)(hook)
    run_back(module(2 * x, x.cos()).square())
    return x


def behind_module() -> Any:
    """Put a hook on a module that takes the leaf itself."""
    x: Any = torch.linspace(-1, 1, 6).requires_grad_()
    module = torch.nn.Tanh()
    module.register_full_backward_hook(of_module)
    run_back(module(x).square())
    return x


def of_node(sent: Any, _: Any) -> Any:
    """Scale what a node sends."""
    return tuple(FACTOR * g for g in sent)


def on_node() -> Any:
    """Put a hook on a node."""
    x: Any = torch.linspace(-1, 1, 6).requires_grad_()
    y: Any = x.sin()
    y.grad_fn.register_hook(of_node)
    run_back(y.square())
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
