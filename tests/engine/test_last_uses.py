"""A replay that forgets what no step needs any more has the same gradients, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradwitness
from gradwitness.capture import record
from gradwitness.engine import replay_memory
from gradwitness.engine.last_uses import ForgetfulMemory
from gradwitness.engine.replay import replayed_gradients
from gradwitness.engine.replay_steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.tape import Call, Tape


def leaf(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape))).requires_grad_()


def in_place() -> None:
    x = leaf(4, 6)
    y = x * 2
    kept = y.tanh()
    y[:, 1:3].mul_(kept[:, :2])
    torch.autograd.backward((y.sigmoid() * kept).sum())


def twice() -> None:
    w = leaf(3, 3)
    loss = (w @ w).softmax(-1).square().sum()
    torch.autograd.backward(loss, retain_graph=True)
    torch.autograd.backward(loss)


def second_order() -> None:
    x = leaf(5)
    (g,) = torch.autograd.grad(x.exp().square().sum(), x, create_graph=True)
    torch.autograd.backward(g.square().sum())


def taken_within() -> None:
    x = leaf(2, 5)
    y = torch.nn.functional.gelu(x)
    torch.autograd.grad(y.square().sum(), [x, y])


class Cubed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, *g: torch.Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 3 * x * x * g[0]


def custom() -> None:
    y: Any = Cubed.apply(leaf(4).exp())  # type: ignore[no-untyped-call]
    torch.autograd.backward(y.square().sum())


def layers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    rest = nn.Sequential(nn.Flatten(), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 3))
    scores = rest(model(torch.randn(5, 2, 6, 6)))
    loss = nn.functional.cross_entropy(scores, torch.tensor([0, 1, 2, 0, 1]))
    torch.autograd.backward(loss)


def recurrent() -> None:
    torch.manual_seed(0)
    y, _ = nn.LSTM(3, 4)(torch.randn(5, 2, 3))
    torch.autograd.backward(y.square().sum())


PROGRAMS = (in_place, twice, second_order, taken_within, custom, layers, recurrent)


def recorded(program: Callable[[], None]) -> Tape:
    with record() as recorder:
        program()
    return recorder.tape


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_the_gradients_are_those_of_the_whole_replay(program: Callable[[], None]) -> None:
    tape = recorded(program)
    whole, alone = gradwitness.replay(tape), replayed_gradients(tape)
    assert alone.trusted == whole.trusted
    handed_out = {
        (number, edge.node, edge.index)
        for number, sweep in enumerate(tape.sweeps)
        for edge in [
            *(edge for edge, _ in sweep.captured),
            *(gradwitness.tape.Edge(update.node, 0) for update in sweep.leaves),
        ]
    }
    assert handed_out
    for place in handed_out:
        np.testing.assert_array_equal(alone.gradient(*place), whole.gradient(*place))
    assert handed_out <= {*alone.arriving} < {*whole.arriving}


def test_memory_is_that_of_what_is_still_needed() -> None:
    """Of 12 tensors in a row, each of 1,000 numbers, no more than three live at once.

    Each is read by the next call alone: adding a number has a gradient that needs none.
    """

    def program() -> None:
        y = leaf(1000)
        for _ in range(12):
            y = y + 1
        torch.autograd.backward(y.sum())

    tape = recorded(program)
    held: list[int] = []

    class Counting(Steps):
        def forward(self, tape: Tape, call: Call, lookup: Any) -> tuple[Any, ...]:
            held.append(sum(array.size for array in memory.buffers.values()))
            return super().forward(tape, call, lookup)

    memory: replay_memory.Memory = ForgetfulMemory(tape, {}, Counting())
    for step, call in enumerate(tape.calls):
        memory.begins(step)
        memory.run(call)
    assert len(held) >= 13
    assert max(held) <= 3000
    memory = replay_memory.Memory(tape, {}, Counting())
    for call in tape.calls:
        memory.run(call)
    assert max(held) >= 12000
