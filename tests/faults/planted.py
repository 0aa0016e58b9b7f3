"""Models with a planted wrong gradient: each is right in its forward pass and wrong in backward.

Every fault is one that people really make.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

INPUTS, WIDTH, HIDDEN = 10, 21, 10


class Transposed(torch.autograd.Function):
    """A linear layer whose weight gradient comes out transposed: a square layer hides it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, w)
        return x @ w.t() + b

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (g,) = grads
        x, w = ctx.saved_tensors
        return g @ w, x.t() @ g, g.sum(0)


class Masked(torch.autograd.Function):
    """A linear layer without activation whose backward applies a ReLU mask all the same."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        y = x @ w.t() + b
        ctx.save_for_backward(x, w, y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (g,) = grads
        x, w, y = ctx.saved_tensors
        g = g * (y > 0)
        return g @ w, g.t() @ x, g.sum(0)


class HalfSquare(torch.autograd.Function):
    """The square of the error, with the factor 2 missing in its derivative."""

    @staticmethod
    def forward(ctx: Any, e: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(e)
        return e * e

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        (g,) = grads
        (e,) = ctx.saved_tensors
        half: torch.Tensor = g * e
        return half


class LayerBefore(torch.autograd.Function):
    """A linear layer that hands out the weight gradient of the layer that ran before it."""

    before: ClassVar[torch.Tensor | None] = None

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, w)
        return x @ w.t() + b

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (g,) = grads
        x, w = ctx.saved_tensors
        right = g.t() @ x
        given = right if LayerBefore.before is None else LayerBefore.before
        LayerBefore.before = right
        return g @ w, given, g.sum(0)


class ZeroWeight(torch.autograd.Function):
    """A linear layer whose weight gradient is all zeros."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, w)
        return x @ w.t() + b

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (g,) = grads
        _, w = ctx.saved_tensors
        return g @ w, torch.zeros_like(w), g.sum(0)


class HalfScale(torch.autograd.Function):
    """An activation of one's own, x * sigmoid(x), whose backward gives half of what it should."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        (g,) = grads
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        half: torch.Tensor = 0.5 * g * (s + x * s * (1 - s))
        return half


class Linear(nn.Linear):
    """A linear layer computed by a given function."""

    def __init__(self, inputs: int, outputs: int, function: type[torch.autograd.Function]) -> None:
        super().__init__(inputs, outputs)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.function.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return result


class Activation(nn.Module):
    """An activation computed by a given function."""

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.function.apply(x)  # type: ignore[no-untyped-call]
        return result


def network(**replaced: nn.Module) -> nn.Sequential:
    """Return the experiment's network with some of its modules replaced, by name."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["input"] = nn.Linear(INPUTS, WIDTH)
    for k in range(1, HIDDEN + 1):
        layers[f"hidden{k}"] = nn.Linear(WIDTH, WIDTH)
        layers[f"relu{k}"] = nn.ReLU()
    layers["output"] = nn.Linear(WIDTH, 1)
    for name, module in replaced.items():
        layers[name] = module
    return nn.Sequential(layers)


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes
    ----------
    build, honest : callable
        Make the model with and without the fault; torch's generator is seeded before.
    node : str
        Name of the node that makes the fault.
    module : str
        Where that node stands; empty outside of modules.
    guilty : frozenset of str
        Gradients that are wrong through the last step on their way. Others inherit.
    square : callable
        Makes the loss from the error.
    """

    build: Callable[[], nn.Module]
    node: str
    module: str
    guilty: frozenset[str] = frozenset()
    square: Callable[[torch.Tensor], torch.Tensor] = torch.square
    honest: Callable[[], nn.Module] = network


def _layer_before() -> nn.Module:
    LayerBefore.before = None
    pair = {name: Linear(WIDTH, WIDTH, LayerBefore) for name in ("hidden5", "hidden6")}
    return network(**pair)


def _half_square(e: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = HalfSquare.apply(e)  # type: ignore[no-untyped-call]
    return result


FAULTS = {
    "weight gradient transposed in a square layer": Fault(
        lambda: network(hidden4=Linear(WIDTH, WIDTH, Transposed)),
        "TransposedBackward",
        "hidden4",
        frozenset({"hidden4.weight"}),
    ),
    "ReLU mask on the first layer, which has none": Fault(
        lambda: network(input=Linear(INPUTS, WIDTH, Masked)),
        "MaskedBackward",
        "input",
        frozenset({"input.weight", "input.bias"}),
    ),
    "factor 2 missing in the loss": Fault(network, "HalfSquareBackward", "", square=_half_square),
    "gradient of the layer before": Fault(
        _layer_before, "LayerBeforeBackward", "hidden5", frozenset({"hidden5.weight"})
    ),
    "all-zero first-layer gradient": Fault(
        lambda: network(input=Linear(INPUTS, WIDTH, ZeroWeight)),
        "ZeroWeightBackward",
        "input",
        frozenset({"input.weight"}),
    ),
    "custom function with half its backward": Fault(
        lambda: network(relu5=Activation(HalfScale)),
        "HalfScaleBackward",
        "relu5",
        honest=lambda: network(relu5=nn.SiLU()),
    ),
}


@dataclass(frozen=True)
class Case:
    """A fault with one seed's weights and data.

    Attributes
    ----------
    model : torch.nn.Module
    step : callable
        One training step with the fault.
    right : dict of str to Tensor
        What torch's own autograd gives for the same weights without the fault.
    """

    model: nn.Module
    step: Callable[[], None]
    right: dict[str, torch.Tensor]

    def wrong(self) -> dict[str, torch.Tensor]:
        """Return the gradients that the step has left in the model."""
        return _gradients(self.model)


def case(fault: Fault, seed: int) -> Case:
    """Return a fault with the weights and data of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = fault.build()
        x = torch.rand(1, INPUTS)
    y = (x * x).sum(-1, keepdim=True) / INPUTS
    honest = fault.honest()
    honest.load_state_dict(model.state_dict())
    torch.square(honest(x) - y).sum().backward()  # type: ignore[no-untyped-call]

    def step() -> None:
        fault.square(model(x) - y).sum().backward()  # type: ignore[no-untyped-call]

    return Case(model, step, _gradients(honest))


def _gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
