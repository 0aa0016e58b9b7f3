"""On long tapes the trials grow with the number of steps, and a note says what is not tried."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from diagnose.trials import staged, without_figures
from diagnose.ways import routed
from gradwitness.diagnose import budget, suspects
from gradwitness.diagnose.hypotheses.operands import wrong_operands
from gradwitness.diagnose.rank import diagnose
from gradwitness.diagnose.replayed_faults import Trial

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

    from gradwitness.diagnose.case import Case


class Loop(nn.Module):
    """A recurrent network as a loop; the weight's gradient may be made with another step's."""

    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.mistake = mistake
        self.enter, self.again, self.leave = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = before = torch.zeros(x.shape[0], 6)
        for number, step in enumerate(x.unbind(1)):
            z = self.again(h)
            if self.mistake == "input of the step before" and number:
                weight, bias = self.again.weight, self.again.bias
                frozen = functional.linear(h, weight.detach(), bias)
                other = functional.linear(before.detach(), weight, bias.detach())
                z = routed(z, frozen + other)
            before = h
            activated = torch.tanh(self.enter(step) + z)
            h = routed(activated, self.enter(step) + z) if self.mistake == "no tanh" else activated
        return self.leave(h)  # type: ignore[no-any-return]


def case(mistake: str, steps: int = 6) -> Case:
    generator = torch.Generator().manual_seed(5)
    x, y = torch.randn(5, steps, 4, generator=generator), torch.randn(5, 2, generator=generator)

    def loss(model: nn.Module) -> torch.Tensor:
        return functional.mse_loss(model(x), y)

    torch.manual_seed(3)
    right = Loop()
    wrong = Loop(mistake)
    wrong.load_state_dict(right.state_dict())
    torch.autograd.backward(loss(wrong))
    claims = {n: p.grad.numpy() for n, p in wrong.named_parameters() if p.grad is not None}
    return staged(right, loss, claims)


def noisy(steps: int) -> Case:
    right = case("", steps)
    e = right.exhibits["again.weight"]
    noise = np.random.default_rng(0).standard_normal(e.claim.shape)
    wrong = dataclasses.replace(e, claim=e.claim * (1 + 0.3 * noise), refuted=True)
    return dataclasses.replace(right, exhibits={**right.exhibits, "again.weight": wrong})


@pytest.mark.parametrize("steps", [5, 12])
def test_input_of_another_step_at_all_steps_is_named(
    steps: int, snapshot: SnapshotAssertion
) -> None:
    first, *others = diagnose(case("input of the step before", steps))
    assert (first.cause, others) == ("wrong operand: input of another step", [])
    assert first.place.startswith(f"{steps - 1} steps: again")
    assert without_figures(first.text) == snapshot
    assert first.explains == ("again.weight",)


def test_trials_grow_with_the_steps_and_not_with_their_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []
    with_mistakes = Trial.with_mistakes

    def counted(trial: Trial, mistakes: Any) -> Any:
        tried.append(1)
        return with_mistakes(trial, mistakes)

    monkeypatch.setattr(Trial, "with_mistakes", counted)
    counts = []
    for steps in (12, 24):
        tried.clear()
        assert list(wrong_operands(noisy(steps)))
        counts.append(len(tried))
    assert counts[1] < 2.2 * counts[0]


def test_a_change_that_is_none_is_not_carried() -> None:
    """A weight's gradient that is wrong at the last step leaves the steps before it alone."""
    trial = Trial.of(case("", 12))
    assert trial is not None
    last = next(s for s in trial.sites({"aten.addmm"}) if s.place.startswith("again"))
    edge = last.edge("B")
    assert edge is not None
    changed = trial.with_mistakes([(last, lambda visit: visit.sending(2 * visit.sent[edge], edge))])
    assert list(changed) == ["again.weight"]
    assert trial.effort.spent < 12


def test_what_was_left_out_is_told_and_all_steps_at_once_are_still_tried(
    monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion
) -> None:
    wrong = case("no tanh")
    assert diagnose(wrong)[0].cause == "activation derivative missing"
    assert suspects.untried(wrong) == ""
    monkeypatch.setattr(budget, "LIMIT", 1)
    first, *_ = diagnose(wrong)
    assert (first.cause, first.place[:7]) == ("activation derivative missing", "6 steps")
    assert without_figures(suspects.untried(wrong)) == snapshot
