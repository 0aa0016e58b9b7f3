"""Operations with a right forward pass and a backward pass that somebody wrote wrongly, in torch.

``Broken(forward, backward)`` is a module; backward is written out by hand with its mistake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional, grad

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def broken(forward: Callable[..., Tensor], backward: Callable[..., Any]) -> Callable[..., Tensor]:
    """Return a function whose backward is ``backward(g, *inputs)``."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Tensor:
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            return backward(grads[0], *ctx.saved_tensors)

    def apply(*inputs: Tensor) -> Tensor:
        result: Tensor = Function.apply(*inputs)  # type: ignore[no-untyped-call]
        return result

    return apply


class Norm(nn.Module):
    """Layer norm over the last axis or batch norm over the first, by hand when told a mistake."""

    def __init__(self, width: int, over: int, mistake: str = "", eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + 0.3 * torch.randn(width))
        self.bias = nn.Parameter(0.3 * torch.randn(width))
        self.over, self.mistake, self.eps = over, mistake, eps

    def honest(self, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        if self.over == -1:
            return functional.layer_norm(x, w.shape, w, b, self.eps)
        return functional.batch_norm(x, None, None, w, b, training=True, eps=self.eps)

    def backward_by_hand(self, g: Tensor, x: Tensor, w: Tensor, _: Tensor) -> Any:
        gap = x - x.mean(self.over, keepdim=True)
        rate = 1 / torch.sqrt((gap * gap).mean(self.over, keepdim=True) + self.eps)
        n = gap * rate
        through = g if self.mistake == "gamma" else g * w
        dx = through.clone()
        times = {"both": 0, "mean twice": 2, "variance twice": 2}.get(self.mistake, 0)
        over_mean = times if self.mistake.startswith(("mean", "both")) else 1
        along = times if self.mistake.startswith(("variance", "both")) else 1
        dx = dx - over_mean * through.mean(self.over, keepdim=True)
        dx = dx - along * n * (through * n).mean(self.over, keepdim=True)
        rows = tuple(range(x.ndim - 1))
        dw = (g * (x if self.mistake == "raw" else n)).sum(rows)
        return dx * rate, dw, g.sum(rows)

    def forward(self, x: Tensor) -> Tensor:
        if self.mistake == "eps":
            gap = x - x.mean(self.over, keepdim=True)
            variance = (gap * gap).mean(self.over, keepdim=True)
            return gap / torch.sqrt(variance) * self.weight + self.bias
        if self.mistake == "eps outside":
            gap = x - x.mean(self.over, keepdim=True)
            variance = (gap * gap).mean(self.over, keepdim=True)
            return gap / (torch.sqrt(variance) + self.eps) * self.weight + self.bias
        if not self.mistake:
            return self.honest(x, self.weight, self.bias)
        return broken(self.honest, self.backward_by_hand)(x, self.weight, self.bias)


def gelu_by_hand(mistake: str) -> Callable[[Tensor], Tensor]:
    if not mistake:
        return functional.gelu

    def backward(g: Tensor, x: Tensor) -> Tensor:
        gate = 0.5 * (1 + torch.erf(x / 2**0.5))
        if mistake == "gate":
            return g * gate
        if mistake == "none":
            return g
        t = torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))
        inner = (2 / torch.pi) ** 0.5 * (1 + 3 * 0.044715 * x * x)
        slope: Tensor = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner
        return g * slope

    return broken(functional.gelu, backward)


def softmax_by_hand(mistake: str) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        return torch.softmax(x, -1)

    def backward(g: Tensor, x: Tensor) -> Tensor:
        p = torch.softmax(x, -1)
        return g * p * (1 - p) if mistake == "diagonal" else g * p

    return broken(forward, backward) if mistake in ("diagonal", "no mean") else forward


class Block(nn.Module):
    """A small transformer block with one head, causal attention, and a mistake on request."""

    def __init__(self, width: int, mistake: str = "") -> None:
        super().__init__()
        of_norm = ("mean", "variance", "gamma", "both", "eps", "mean twice", "variance twice")
        first = mistake if mistake in of_norm else ""
        self.first = Norm(width, -1, first)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.second = Norm(width, -1)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.mistake, self.width = mistake, width

    def forward(self, x: Tensor) -> Tensor:
        n = self.first(x)
        q, k, v = self.query(n), self.key(n), self.value(n)
        scores = q @ k.transpose(-1, -2)
        if self.mistake != "scale":
            scores = scores / self.width**0.5
        if self.mistake != "mask":
            hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(hidden, -1e9)
        seen = softmax_by_hand(self.mistake)(scores) @ v
        skip = x.detach() if self.mistake == "skip" else x
        h = skip + self.out(seen)
        n = self.second(h)
        branch = self.down(
            gelu_by_hand({"gate": "gate", "other": "other"}.get(self.mistake, ""))(self.up(n))
        )
        if self.mistake == "branch":
            branch = branch.detach()
        result: Tensor = h + branch
        return result


class Transformer(nn.Module):
    """A table, two blocks, and a linear layer to the classes."""

    def __init__(self, mistake: str = "", at: int = 1) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 6)
        self.blocks = nn.ModuleList(Block(6, mistake if k == at else "") for k in range(2))
        self.head = nn.Linear(6, 7)
        self.mistake = mistake

    def forward(self, words: Tensor) -> Tensor:
        x = self.table(words)
        if self.mistake == "rows":
            x = broken(lambda w: functional.embedding(words, w), self.overwrite(words))(
                self.table.weight
            )
        for block in self.blocks:
            x = block(x)
        result: Tensor = self.head(x)
        return result

    def overwrite(self, words: Tensor) -> Callable[..., Tensor]:
        def backward(g: Tensor, w: Tensor) -> Tensor:
            out = torch.zeros_like(w)
            for word, row in zip(words.reshape(-1), g.reshape(-1, g.shape[-1]), strict=True):
                out[word] = row
            return out

        return backward


class Normal(nn.Module):
    """Linear layers with batch norm, ReLU and dropout."""

    def __init__(self, mistake: str = "", at: int = 1) -> None:
        super().__init__()
        self.inputs = nn.Linear(5, 8)
        self.norms = nn.ModuleList(
            Norm(8, 0, "" if mistake.startswith("dropout") or k != at else mistake)
            for k in range(2)
        )
        self.middle = nn.Linear(8, 8)
        self.output = nn.Linear(8, 3)
        self.mistake = mistake
        self.kept = (torch.rand(12, 8) < 0.7).float()

    def drop(self, x: Tensor) -> Tensor:
        torch.manual_seed(5)
        if self.mistake == "dropout off":
            return x
        if self.mistake not in ("dropout mask", "dropout scale", "dropout no mask"):
            return functional.dropout(x, 0.3)
        kept = functional.dropout(torch.ones_like(x), 0.3)

        def backward(g: Tensor, x: Tensor) -> Tensor:
            if self.mistake == "dropout mask":
                return g
            return g / 0.7 if self.mistake == "dropout no mask" else g * (kept > 0)

        return broken(lambda x: x * kept, backward)(x)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norms[0](self.inputs(x)))
        h = self.drop(h)
        h = torch.relu(self.norms[1](self.middle(h)))
        result: Tensor = self.output(h)
        return result


class Running(nn.Module):
    """Batch norm with running statistics, in training or evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(5, 8)
        self.norm = nn.BatchNorm1d(8)
        self.output = nn.Linear(8, 3)
        with torch.no_grad():
            self.norm.running_mean.normal_()  # type: ignore[union-attr]
            self.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.output(torch.relu(self.norm(self.inputs(x))))
        return result


class Images(nn.Module):
    """Two convolutions, the second with a stride, a pooling, a linear layer."""

    def __init__(self, mistake: str = "", pool: str = "max") -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 4, 3, stride=2)
        self.output = nn.Linear(16, 3)
        self.mistake, self.pool = mistake, pool

    def walk(self, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return functional.conv2d(x, w, b, stride=2)

    def walk_back(self, g: Tensor, x: Tensor, w: Tensor, _: Tensor) -> Any:
        dw = grad.conv2d_weight(x, list(w.shape), g, stride=2)  # type: ignore[no-untyped-call]
        if self.mistake == "flip":
            dx = grad.conv2d_input(list(x.shape), w.flip(2, 3), g, stride=2)  # type: ignore[no-untyped-call]
        else:
            dx = torch.zeros_like(x)
            for i in range(g.shape[2]):
                for j in range(g.shape[3]):
                    dx[:, :, i : i + 3, j : j + 3] += torch.einsum("no,ockl->nckl", g[..., i, j], w)
        return dx, dw, g.sum((0, 2, 3))

    def pooled(self, x: Tensor) -> Tensor:
        plain = functional.max_pool2d if self.pool == "max" else functional.avg_pool2d
        if self.mistake not in ("spread", "all"):
            return plain(x, 2)

        def backward(g: Tensor, x: Tensor) -> Tensor:
            repeated = g.repeat_interleave(2, 2).repeat_interleave(2, 3)
            return repeated / 4 if self.mistake == "spread" else repeated

        return broken(lambda x: plain(x, 2), backward)(x)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.pooled(self.first(x)))
        step = self.second
        if self.mistake in ("flip", "stride"):
            h = broken(self.walk, self.walk_back)(h, step.weight, step.bias)
        else:
            h = step(h)
        result: Tensor = self.output(torch.tanh(h).flatten(1))
        return result


class Residual(nn.Module):
    """Linear layers in residual branches."""

    def __init__(self, mistake: str = "", at: int = 1) -> None:
        super().__init__()
        self.inputs = nn.Linear(4, 6)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.output = nn.Linear(6, 2)
        self.mistake, self.at = mistake, at

    def forward(self, x: Tensor) -> Tensor:
        h = self.inputs(x)
        for k, layer in enumerate(self.layers):
            mistake = self.mistake if k == self.at else ""
            branch = torch.tanh(layer(h.detach() if mistake == "branch" else h))
            h = (h.detach() if mistake == "skip" else h) + branch
        result: Tensor = self.output(h)
        return result


class Tied(nn.Module):
    """An autoencoder whose decoder is the encoder's weight, transposed."""

    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 7) / 2)
        self.hidden = nn.Parameter(torch.randn(4) / 2)
        self.visible = nn.Parameter(torch.randn(7) / 2)
        self.mistake = mistake

    def forward(self, x: Tensor) -> Tensor:
        coder = self.weight.detach() if self.mistake == "encoder" else self.weight
        decoder = self.weight.detach() if self.mistake == "decoder" else self.weight
        return torch.sigmoid(x @ coder.t() + self.hidden) @ decoder + self.visible


class Guarded(nn.Module):
    """Roots of what may be negative or zero, kept safe twice, or by what selects too late."""

    def __init__(self, mistake: str = "", at: str = "scale", guard: str = "where") -> None:
        super().__init__()
        self.inputs = nn.Linear(5, 8)
        self.output = nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.randn(8).clamp(min=0))
        self.mistake, self.at, self.guard = mistake, at, guard

    def root(self, x: Tensor) -> Tensor:
        ok = x > 0
        if self.mistake == "times mask":
            return torch.sqrt(x) * ok
        if self.mistake == "single":
            return torch.where(ok, torch.sqrt(x), 0.0)
        if self.guard == "index":
            return torch.zeros_like(x).masked_scatter(ok, torch.sqrt(x[ok]))
        if self.guard == "fill":
            return torch.sqrt(x.masked_fill(~ok, 1.0)).masked_fill(~ok, 0.0)
        return torch.where(ok, torch.sqrt(torch.where(ok, x, 1.0)), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.inputs(x))
        if self.at == "scale":
            h = h * self.root(self.scale)
        elif self.at == "hidden":
            h = self.root(h + 0.7) * (1 + self.scale)
        elif self.at == "both":
            h = self.root(h + 0.8) * self.root(self.scale)
        elif self.at == "distances":
            gap = (h[:, None] - h[None]).square().sum(-1)
            h = h * self.scale + self.root(gap).sum(1, keepdim=True)
        result: Tensor = self.output(h)
        return result


class Cached(nn.Module):
    """Layers whose backward, on request, works on what another call of theirs has saved."""

    def __init__(self, mistake: str = "", *, twice: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(5, 8)
        self.shared = nn.Linear(8, 8)
        self.output = nn.Linear(8, 3)
        self.mistake, self.twice = mistake, twice
        self.saved: dict[str, Tensor] = {}

    def linear(self, name: str, x: Tensor, *, overwritten: bool = False) -> Tensor:
        layer = self.get_submodule(name)
        right: Tensor = layer(x)
        kept = self.saved.setdefault(name, x.detach())
        if overwritten:
            self.saved[name] = x.detach()
        elif self.mistake not in (f"{name} input", "all inputs"):
            return right

        def backward(g: Tensor, x: Tensor, w: Tensor, _: Tensor) -> Any:
            # A later call of a shared layer has saved its own by now.
            return g @ w, g.t() @ (self.saved[name] if overwritten else kept), g.sum(0)

        return broken(functional.linear, backward)(x, layer.weight, layer.bias)

    def activation(self, name: str, x: Tensor) -> Tensor:
        kept = self.saved.setdefault(name, x.detach())
        function = torch.relu if name == "relu" else torch.tanh
        if self.mistake != name:
            return function(x)

        def backward(g: Tensor, _: Tensor) -> Tensor:
            return g * (kept > 0) if name == "relu" else g * (1 - torch.tanh(kept) ** 2)

        return broken(function, backward)(x)

    def forward(self, x: Tensor, *, anew: bool = False) -> Tensor:
        if anew:
            self.saved = {}
        shared = self.mistake == "overwritten"
        first = self.activation("relu", self.linear("first", x))
        h = self.activation("tanh", self.linear("shared", first, overwritten=shared))
        if self.twice:
            h = torch.sin(self.linear("shared", first + h, overwritten=shared))
        return self.linear("output", h)
