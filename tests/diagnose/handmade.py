"""Networks whose backward pass is written out by hand in NumPy, float32, with mistakes on request.

Nothing here uses the package: the mistakes are those of a person who writes backward by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "": nn.Identity}


@dataclass
class Network:
    """Layers with activations, a loss, and the mistakes of whoever wrote backward.

    ``mistakes`` has names with the number of the layer, or None for everywhere.
    """

    sizes: list[int]
    activations: list[str]
    loss: str
    batch: int
    seed: int
    mistakes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        generator = np.random.default_rng(self.seed)
        self.W, self.b = [], []
        for n, m in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            self.W.append((generator.standard_normal((m, n)) * 1.3 / np.sqrt(n)).astype("f"))
            self.b.append((generator.standard_normal(m) * 0.3).astype("f"))
        self.x = generator.standard_normal((self.batch, self.sizes[0])).astype("f")
        if self.loss == "ce":
            self.target = generator.integers(0, self.sizes[-1], self.batch)
        else:
            self.target = generator.standard_normal((self.batch, self.sizes[-1])).astype("f")

    def makes(self, mistake: str, layer: int | None = None) -> bool:
        return mistake in self.mistakes and self.mistakes[mistake] in (None, layer)

    def model(self) -> nn.Sequential:
        layers: list[nn.Module] = []
        for W, b, name in zip(self.W, self.b, self.activations, strict=True):
            layer = nn.Linear(W.shape[1], W.shape[0])
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(W))
                layer.bias.copy_(torch.from_numpy(b))
            layers += [layer, _ACTIVATIONS[name]()]
        return nn.Sequential(*layers)

    def torch_loss(self, model: nn.Module) -> torch.Tensor:
        y, target = model(torch.from_numpy(self.x)), torch.from_numpy(self.target)
        if self.loss == "ce":
            return nn.functional.cross_entropy(y, target)
        if self.loss == "mse":
            return nn.functional.mse_loss(y, target)
        square: torch.Tensor = ((y - target) ** 2).mean()
        return square

    # By hand.

    def forward(self, W: list[Array], b: list[Array]) -> tuple[list[Array], list[Array]]:
        a, z = [self.x], []
        for Wk, bk, name in zip(W, b, self.activations, strict=True):
            z.append(a[-1] @ Wk.T + bk)
            a.append(_apply(name, z[-1]))
        return z, a

    def derivative(self, k: int, z: Array, a: Array) -> Array | float:
        name = self.activations[k]
        if self.makes("no derivative", k):
            return 1.0
        if self.makes("mask where none", k) and not name:
            return (z > 0).astype("f")
        if self.makes("at the activation", k):
            return _slope(name, a, _apply(name, a))
        if self.makes("formula of z", k):
            return _slope(name, z, z)
        if self.makes("sigmoid's derivative", k):
            return a * (1 - a)
        if self.makes("tanh's derivative", k):
            return np.asarray(1 - a * a, "f")
        return _slope(name, z, a)

    def first_delta(self, y: Array) -> Array:
        if self.loss != "ce":
            delta = 2 * (y - self.target) / y.size
            delta = delta / 2 if self.makes("no 2") else delta
            return np.asarray(delta * y.size if self.makes("sum") else delta, "f")
        p = np.exp(y - y.max(1, keepdims=True))
        p = p / p.sum(1, keepdims=True)
        hot = np.eye(y.shape[1], dtype="f")[self.target]
        delta = p if self.makes("no target") else p - hot
        if self.makes("elementwise softmax"):
            delta = -hot / p * p * (1 - p)
        if self.makes("twice"):
            delta = delta * p * (1 - p)
        return np.asarray(delta if self.makes("no 1/B") else delta / self.batch, "f")

    def claims(self) -> dict[str, Array]:
        W, b = self.W, self.b
        if "updated" in self.mistakes:
            rate = np.float32(self.mistakes["updated"])
            g = self.gradients(W, b)
            W = [w - rate * g[f"{2 * k}.weight"] for k, w in enumerate(W)]
            b = [c - rate * g[f"{2 * k}.bias"] for k, c in enumerate(b)]
        return self.gradients(W, b)

    def gradients(self, W: list[Array], b: list[Array]) -> dict[str, Array]:
        z, a = self.forward(W, b)
        gradients: dict[str, Array] = {}
        delta = self.first_delta(a[-1])  # of the activation
        for k in reversed(range(len(W))):
            dz = (delta * self.derivative(k, z[k], a[k + 1])).astype("f")
            arrives = delta if self.makes("raw delta", k) else dz
            dW, db = arrives.T @ self.operand(k, z, a), arrives.sum(0)
            if self.makes("one sample", k):
                dW, db = arrives[-1:].T @ a[k][-1:], arrives[-1]
            if self.makes("bias not summed", k):
                db = arrives
            if self.makes("bias over outputs", k):
                db = arrives.sum(1)
            gradients[f"{2 * k}.weight"], gradients[f"{2 * k}.bias"] = dW, db
            delta = dz @ self.way_back(k, W[k], dW)
            if self.makes("stops", k):
                delta = np.zeros_like(delta)
        return {name: np.asarray(g, "f") for name, g in gradients.items()}

    def operand(self, k: int, z: list[Array], a: list[Array]) -> Array:
        """Return what the weight's gradient is made with: the layer's input."""
        if self.makes("pre-activation operand", k) and k:
            return z[k - 1]
        if self.makes("own output operand", k):
            return z[k]
        return a[k - 1] if self.makes("layer before's operand", k) and k else a[k]

    def way_back(self, k: int, W: Array, dW: Array) -> Array:
        """Return the matrix by which a gradient is sent to the layer before."""
        if "updated within" in self.mistakes:
            return W - np.float32(self.mistakes["updated within"]) * dW
        square = W.shape[0] == W.shape[1]
        return W.T if self.makes("untransposed", k) and square else W


def _apply(name: str, z: Array) -> Array:
    if name == "relu":
        return np.maximum(z, 0)
    if name == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-z)), "f")
    return np.tanh(z) if name == "tanh" else z


def _slope(name: str, z: Array, a: Array) -> Array | float:
    if name == "relu":
        return (z > 0).astype("f")
    if name == "sigmoid":
        return np.asarray(a * (1 - a), "f")
    return np.asarray(1 - a * a, "f") if name == "tanh" else 1.0
