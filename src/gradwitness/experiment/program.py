"""The torch side of the experiment: an ordinary model and an ordinary training step."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from gradwitness._errors import InputError
from gradwitness._printable import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradwitness.experiment.config import Config

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


@dataclass(frozen=True)
class Result:
    """The result of one step."""

    prediction: torch.Tensor
    target: torch.Tensor


@dataclass(frozen=True)
class Program:
    """A model with its data, ready for one step."""

    config: Config
    model: nn.Module
    x: torch.Tensor
    y: torch.Tensor | None

    def step(self) -> Result:
        """Run forward and backward once."""
        prediction = self.model(self.x)
        # The conv network's target depends on x, so it is part of the graph.
        target = self.x.sum() if self.y is None else self.y
        _loss(self.config.loss, prediction, target).backward()  # type: ignore[no-untyped-call]
        return Result(prediction, target)

    def names(self) -> dict[str, torch.Tensor]:
        """Return the names of the data."""
        return {"x": self.x} if self.y is None else {"x": self.x, "y": self.y}


class ConvNet(nn.Module):
    """Two branches that meet: flatten(x) + flatten(conv(x)), then two Linears."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1)
        self.hidden = nn.Linear(inputs, inputs)
        self.output = nn.Linear(inputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the prediction, of shape (1,)."""
        h = torch.flatten(x) + torch.flatten(self.conv(x))
        prediction: torch.Tensor = self.output(self.hidden(h))
        return prediction


def build(config: Config, weights: Mapping[str, NDArray[Any]] | None = None) -> Program:
    """Make the model and the data of a configuration, with torch's random weights or with these.

    Raises `InputError` if weights are missing, unknown, of another shape, or not finite.
    """
    dtype: torch.dtype = getattr(torch, config.dtype)
    # The global generator is left unchanged.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = ConvNet(config.inputs) if config.network == "conv" else _dense(config)
        if config.network == "conv":
            x = torch.rand(1, 1, config.inputs)
        else:
            shape = (config.inputs,) if config.batch == 1 else (config.batch, config.inputs)
            x = torch.rand(shape)
    model = model.to(dtype)
    x = x.to(dtype)
    if weights is not None:
        _load(model, weights)
    if config.network == "conv":
        return Program(config, model, x.requires_grad_(), None)
    y = (x * x).sum(-1, keepdim=True) / config.inputs
    return Program(config, model, x, y)


def _dense(config: Config) -> nn.Module:
    activation = _ACTIVATIONS[config.activation]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["input"] = nn.Linear(config.inputs, config.units)
    if config.activate_input:
        layers["activation0"] = activation()
    for k in range(1, config.hidden + 1):
        layers[f"hidden{k}"] = nn.Linear(config.units, config.units)
        layers[f"activation{k}"] = activation()
    layers["output"] = nn.Linear(config.units, 1)
    return nn.Sequential(layers)


def _loss(name: str, prediction: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if name == "mse":
        return nn.functional.mse_loss(prediction, y)
    error = prediction - y
    if name == "product":
        return (error * error).sum()
    terms = error.abs() if name == "l1" else error**2
    # One sample: the term itself, no mean.
    return terms if prediction.dim() == 1 else terms.mean()


def _load(model: nn.Module, weights: Mapping[str, NDArray[Any]]) -> None:
    parameters = dict(model.named_parameters())
    missing, unknown = parameters.keys() - weights.keys(), weights.keys() - parameters.keys()
    if missing or unknown:
        raise InputError(
            f"the weights do not fit the network: missing {listed(sorted(missing)) or 'none'}; "
            f"unknown {listed(sorted(unknown)) or 'none'}"
        )
    for name, parameter in parameters.items():
        array = np.asarray(weights[name])
        if array.shape != tuple(parameter.shape):
            raise InputError(
                f"weights: {name} has shape {array.shape}, but the network needs "
                f"{tuple(parameter.shape)} (out, in)"
            )
        if array.dtype.kind not in "fiu":
            raise InputError(f"weights: {name} has dtype {array.dtype}, but must be real numbers")
        numbers = torch.tensor(array.astype(np.float64))
        with torch.no_grad():
            parameter.copy_(numbers)
        if not torch.isfinite(parameter).all():
            index = tuple(torch.nonzero(~torch.isfinite(parameter))[0].tolist())
            raise InputError(
                f"weights: {name}{list(index)} is {array[index]}, which is not finite in "
                f"{str(parameter.dtype).removeprefix('torch.')}"
            )
