"""Small networks with several ways for the gradient, and mistakes on one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from gradwitness.diagnose.case import Case

from diagnose.trials import staged


def routed(value: Tensor, route: Tensor) -> Tensor:
    """Return a value whose gradient goes another way."""
    return value.detach() + (route - route.detach())


class Attention(nn.Module):
    """Embedded words, one head of width 9, and a readout by the embedding: a tied weight."""

    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.mistake = mistake
        self.table = nn.Embedding(7, 9)
        self.norm = nn.LayerNorm(9)
        self.all = nn.Linear(9, 27)
        self.last = nn.Linear(9, 9)

    def normalised(self, x: Tensor) -> Tensor:
        if self.mistake == "mean":
            mean = x.mean(-1, keepdim=True).detach()
            rate = torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + self.norm.eps)
            return (x - mean) * rate * self.norm.weight + self.norm.bias
        return self.norm(x)  # type: ignore[no-any-return]

    def forward(self, words: Tensor) -> Tensor:
        x = self.table(words)
        q, k, v = self.all(self.normalised(x)).chunk(3, -1)
        if self.mistake == "query cut off":
            q = q.detach()
        if self.mistake == "value's sign":
            v = routed(v, -v)
        product = q @ k.transpose(-1, -2)
        score = product / 3
        if self.mistake == "scale left out":
            score = routed(score, product)
        if self.mistake == "scale twice":
            score = routed(score, score / 3)
        if self.mistake == "0.37":
            score = routed(score, 0.37 * score)
        y = self.last(score.softmax(-1) @ v)
        return functional.linear(x + y, self.table.weight)


class Recurrent(nn.Module):
    """A recurrent network written as a loop: one line makes the same step several times."""

    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.mistake = mistake
        self.enter, self.again, self.gate = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.leave = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], 6)
        for number, step in enumerate(x.unbind(1)):
            if self.mistake == "every step cut" or (self.mistake == "one cut" and number == 2):
                h = h.detach()
            z = self.enter(step) + self.again(h)
            u = torch.sigmoid(self.gate(h))
            if self.mistake == "gate cut":
                u = u.detach()
            new = torch.tanh(z)
            if self.mistake == "tanh everywhere":
                new = routed(new, z)
            h = u * h + (1 - u) * new
        return self.leave(h)  # type: ignore[no-any-return]


class Logits(nn.Module):
    """Two layers, and a loss over logits."""

    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.mistake = mistake
        self.first, self.norm, self.last = nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        if mistake == "eps":
            self.norm.eps = 1e-3

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.first(x))))  # type: ignore[no-any-return]


def loss_for(model: nn.Module) -> Callable[[Any], Tensor]:
    generator = torch.Generator().manual_seed(50)
    if isinstance(model, Attention):
        words, then = (torch.randint(0, 7, (4, 5), generator=generator) for _ in range(2))
        then[0, :3] = -100  # not to count

        def likelihood(m: Any) -> Tensor:
            logits = m(words).reshape(-1, 7)
            if m.mistake == "divided by all":
                summed = functional.cross_entropy(logits, then.reshape(-1), reduction="sum")
                return summed / then.numel()
            return functional.cross_entropy(logits, then.reshape(-1))

        return likelihood
    if isinstance(model, Recurrent):
        x, y = torch.randn(5, 4, 4, generator=generator), torch.randn(5, 2, generator=generator)
        return lambda m: functional.mse_loss(m(x), y)
    x = torch.randn(8, 5, generator=generator)
    targets = torch.randint(0, 2, (8, 3), generator=generator).float()

    def loss(m: Any) -> Tensor:
        logits = m(x)
        value = functional.binary_cross_entropy_with_logits(logits, targets)
        if m.mistake == "target":
            return routed(value, functional.softplus(logits).mean())
        if m.mistake == "sign":
            return -value
        return 65536 * value if m.mistake == "loss scale" else value

    return loss


def case(kind: type[nn.Module], mistake: str) -> Case:
    """Return the claims of one who makes a mistake, beside the right ones."""
    torch.manual_seed(0)
    right = kind()
    torch.manual_seed(0)
    wrong = kind(mistake)
    loss = loss_for(right)
    torch.autograd.backward(loss(wrong))
    claims = {
        n: torch.zeros_like(p).numpy() if p.grad is None else p.grad.numpy()
        for n, p in wrong.named_parameters()
    }
    return staged(right, loss, claims)
