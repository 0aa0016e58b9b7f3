"""A backward pass costs what is new since the last, however many came before in the block."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import gradwitness as gw
from capture.programs import leaf
from gradwitness.capture import record
from gradwitness.capture.memory.memories import Memories


@pytest.mark.parametrize("keep", [None, 0])
@pytest.mark.parametrize("depth", ["full", "fast"])
def test_a_later_pass_looks_at_as_many_tensors_as_an_early_one(
    depth: Any, keep: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    of = Memories.of

    def counted(self: Memories, tensor: torch.Tensor) -> Any:
        nonlocal looks
        looks += 1
        return of(self, tensor)

    monkeypatch.setattr(Memories, "of", counted)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    x, steps = torch.randn(2, 3), []
    with gw.watch(model, depth=depth, keep=keep) as witness:
        for _ in range(30):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            before = looks
            loss.backward()
            steps.append(looks - before)
            optimizer.step()
    assert witness.verdict is gw.Verdict.AGREES
    # Which identities are used again is chance.
    assert 0 < steps[29] < 1.2 * steps[4]


class Taken(torch.autograd.Function):
    """Says that it changes its argument, by no call."""

    @staticmethod
    def forward(ctx: Any, x: Any, _: Any) -> Any:
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:  # noqa: ARG004
        return None, gradient


def test_a_function_gives_a_history_to_a_tensor_of_an_earlier_pass() -> None:
    with record() as recorder:
        plain, w = torch.ones(3), leaf(3)
        (plain * w).sum().backward()
        apply: Any = Taken.apply
        (apply(plain, w) * 2).sum().backward()
    node = next(n for n in recorder.tape.nodes if n.name.startswith("Taken"))
    assert None not in node.outputs
