"""A replay in pieces has the numbers of a replay at once, and of float64 torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness
from gradwitness.capture import record
from gradwitness.engine import in_pieces, tiling

if TYPE_CHECKING:
    from gradwitness.tape import Call, Tape


def program(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    y = torch.nn.functional.linear(x, w, b)
    # Written over: what held the memory before keeps its numbers.
    z = (y.sigmoid() * y).add_(x[:, :1])
    return torch.nn.functional.gelu(z).softmax(-1).square().sum()


@pytest.fixture
def leaves() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(*shape, generator=generator).requires_grad_()
        for shape in ((12, 6), (5, 6), (5,))
    ]


@pytest.fixture
def tape(leaves: list[torch.Tensor]) -> Tape:
    with record() as recorder:
        torch.autograd.backward(program(*leaves))
    return recorder.tape


def test_a_replay_in_pieces_is_the_replay(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = gradwitness.replay(tape)
    monkeypatch.setattr(tiling, "_LARGE", 8)
    monkeypatch.setattr(tiling, "_PIECE", 16)
    steps: list[str] = []
    small_steps = tiling.small_steps

    def noted(tape: Tape, call: Call, pieces: list[Any], *rest: Any, **how: Any) -> Any:
        steps.extend(call.op for _ in pieces)
        return small_steps(tape, call, pieces, *rest, **how)

    monkeypatch.setattr(in_pieces, "small_steps", noted)
    cut = gradwitness.replay(tape)
    assert len(set(steps)) > 3
    assert at_once.trusted == cut.trusted == ()
    assert [*cut.values] == [*at_once.values]
    assert [*cut.arriving] == [*at_once.arriving]
    pieces: list[Any] = [*cut.values.values(), *cut.arriving.values()]
    for numbers in (*at_once.values.values(), *at_once.arriving.values()):
        np.testing.assert_allclose(pieces.pop(0), numbers, rtol=1e-13, atol=1e-15)


def test_a_replay_has_the_numbers_of_float64(tape: Tape, leaves: list[torch.Tensor]) -> None:
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    torch.autograd.backward(program(*wide))
    replayed = gradwitness.replay(tape)
    nodes = [node.id for node in tape.nodes if node.kind == "accumulate"]
    gradients = [replayed.gradient(0, node) for node in nodes]
    expected = [leaf.grad.numpy() for leaf in wide if leaf.grad is not None]
    assert len(gradients) == len(expected) == 3
    for g in gradients:
        assert g is not None
        assert any(g.shape == e.shape and np.allclose(g, e, rtol=1e-12, atol=0) for e in expected)
