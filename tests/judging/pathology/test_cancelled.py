"""Parameters whose gradient is nothing but rounding, and those that merely have small ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradwitness as gw
from judging.pathology.watching import at, kinds

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

KIND = "cannot learn"


class _Router(nn.Module):
    """Sends each token to its best experts, and may normalise their weights to 1."""

    def __init__(self, best: int, *, normalised: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 4)
        self.experts = nn.Parameter(0.3 * torch.randn(4, 8, 8))
        self.best, self.normalised = best, normalised

    def forward(self, x: Any) -> Any:
        weights, chosen = torch.softmax(self.gate(x), -1).topk(self.best, -1)
        if self.normalised:
            weights = weights / weights.sum(-1, keepdim=True)
        each = torch.einsum("td,tkde->tke", x, self.experts[chosen])
        return (each * weights[..., None]).sum(1)


class _Scaled(nn.Module):
    """Normalises away its scale."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(8, 8), nn.Parameter(torch.tensor([2.0]))

    def forward(self, x: Any) -> Any:
        return F.layer_norm(self.layer(x) * self.scale, (8,), eps=0) ** 3


class _Mixture(nn.Module):
    """Sums up weights that are 1 in sum."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.mix = nn.Linear(8, 8), nn.Parameter(torch.randn(5))

    def forward(self, x: Any) -> Any:
        return self.layer(x) * torch.softmax(self.mix, 0).sum()


def watched(make: Callable[[], nn.Module], dtype: torch.dtype = torch.float32) -> gw.Witness:
    torch.manual_seed(0)
    model = make().to(dtype)
    x = torch.randn(20, 8).to(dtype)
    with gw.watch(model) as witness:
        model(x).square().mean().backward()
    return witness


def alone() -> nn.Module:
    return _Router(1, normalised=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [alone, _Scaled, _Mixture])
def test_what_cancels_cannot_learn(make: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    assert kinds(watched(make, dtype).report.notes) == [KIND]


def test_it_says_where(snapshot: SnapshotAssertion) -> None:
    (note,) = watched(alone).report.notes
    assert at(note, _Router.forward, "self.gate(x)")
    assert note.text == snapshot


def deep_and_flat() -> nn.Module:
    layers = [part for _ in range(20) for part in (nn.Linear(8, 8), nn.Sigmoid())]
    return nn.Sequential(*layers)


def with_useless_biases() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 8), nn.BatchNorm1d(8)
    )


def low_rank() -> nn.Module:
    # Half of it begins at zero, so the other half gets a zero that is exact.
    first, second = nn.Linear(8, 2, bias=False), nn.Linear(2, 8)
    nn.init.zeros_(second.weight)
    return nn.Sequential(first, second)


class _Attention(nn.Module):
    """Has a key bias, which the softmax takes out."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Any) -> Any:
        x = x.reshape(4, 5, 8)
        return self.attention(x, x, x)[0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: _Router(2, normalised=True),
        lambda: _Router(1, normalised=False),
        deep_and_flat,
        with_useless_biases,
        low_rank,
        _Attention,
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_can_learn(make: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    assert KIND not in kinds(watched(make, dtype).report.notes)


@pytest.mark.parametrize("beside", [[1.0], []], ids=["and one that is known", "alone"])
def test_a_gradient_that_is_not_known_is_not_zero(beside: list[float]) -> None:
    w = torch.tensor([*beside, 0.0], requires_grad=True)
    with gw.watch(names={"w": w}) as witness:
        loss: Any = F.rrelu(w, training=True).sum()
        loss.backward()
    # As if the slopes that were drawn had not been recorded.
    call = next(c for c in witness.tape.calls if "rrelu" in c.op)
    noise: Any = call.arguments["noise"]
    values = [
        replace(v, array=np.full(v.shape, np.nan, np.float32)) if v.id == noise.value else v
        for v in witness.tape.values
    ]
    report = gw.judge(replace(witness.tape, values=tuple(values)))
    assert report.verdict is gw.Verdict.INCONCLUSIVE
    assert KIND not in kinds(report.notes)
