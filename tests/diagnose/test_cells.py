"""What is detached inside of nn.LSTM, nn.GRU and nn.RNN, whose steps share one line, is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.nn import functional

from diagnose.trials import staged
from gradwitness.diagnose.rank import diagnose

if TYPE_CHECKING:
    from torch import Tensor

    from gradwitness.diagnose.case import Case

STEPS = 3


class Net(nn.Module):
    """A recurrent layer by torch, or by hand with something detached."""

    def __init__(self, kind: str, mistake: str = "") -> None:
        super().__init__()
        self.kind, self.mistake = kind, mistake
        self.cell = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind](4, 6)
        self.leave = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.by_hand(x) if self.mistake else self.cell(x)[0]
        return self.leave(y)  # type: ignore[no-any-return]

    def by_hand(self, x: Tensor) -> Tensor:
        cell, states = self.cell, []
        h = c = x.new_zeros(x.shape[1], 6)
        for step in x:
            if self.mistake in ("state", "h"):
                h = h.detach()
            if self.mistake in ("state", "c"):
                c = c.detach()
            a = functional.linear(step, cell.weight_ih_l0, cell.bias_ih_l0)
            b = functional.linear(h, cell.weight_hh_l0, cell.bias_hh_l0)
            if self.kind == "rnn":
                h = torch.tanh(a + b)
            elif self.kind == "gru":
                (ra, za, na), (rb, zb, nb) = a.chunk(3, -1), b.chunk(3, -1)
                r, z = self.gate("reset", ra + rb), self.gate("update", za + zb)
                n = torch.tanh(na + r * nb)
                h = (1 - z) * n + z * h
            else:
                i, f, g, o = (a + b).chunk(4, -1)
                c = self.gate("forget", f) * c + self.gate("in", i) * torch.tanh(g)
                h = self.gate("out", o) * torch.tanh(c)
            states.append(h)
        return torch.stack(states)

    def gate(self, name: str, z: Tensor) -> Tensor:
        gate = torch.sigmoid(z)
        return gate.detach() if self.mistake == name else gate


def case(kind: str, mistake: str) -> Case:
    torch.manual_seed(0)
    # In float32 torch takes one fused step for all of an LSTM's, in which no place is seen.
    right = Net(kind).double()
    wrong = Net(kind, mistake).double()
    wrong.load_state_dict(right.state_dict())
    x, y = torch.randn(STEPS, 3, 4).double(), torch.randn(STEPS, 3, 2).double()

    def loss(model: nn.Module) -> Tensor:
        return functional.mse_loss(model(x), y)

    torch.autograd.backward(loss(wrong))
    claims = {n: p.grad.numpy() for n, p in wrong.named_parameters() if p.grad is not None}
    return staged(right, loss, claims)


@pytest.mark.parametrize(
    ("kind", "mistake", "cause"),
    [
        ("rnn", "state", "detached between steps"),
        ("gru", "state", "detached between steps"),
        ("lstm", "state", "detached between steps"),
        ("lstm", "h", "detached between steps"),
        ("lstm", "c", "detached between steps"),
        ("gru", "reset", "detached"),
        ("gru", "update", "detached"),
        ("lstm", "forget", "detached"),
        ("lstm", "in", "detached"),
        ("lstm", "out", "detached"),
    ],
)
def test_what_is_detached_in_a_recurrent_layer_is_named(
    kind: str, mistake: str, cause: str
) -> None:
    claimed = case(kind, mistake)
    refuted = {name for name, exhibit in claimed.exhibits.items() if exhibit.refuted}
    assert refuted
    first, *others = diagnose(claimed)
    assert (first.cause, others) == (cause, [])
    assert first.place.removeprefix(f"{STEPS} steps: ").startswith("cell ")
    assert set(first.explains) == refuted


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_right_claims_are_explained_by_nothing(kind: str) -> None:
    for mistake in ("", "nothing"):
        claimed = case(kind, mistake)
        assert not any(exhibit.refuted for exhibit in claimed.exhibits.values())
        assert diagnose(claimed) == ()
