"""What the search for a cause takes, for a function whose forward is a loop: counted in steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from capture.functions import apply
from gradwitness import Verdict, watch
from gradwitness.diagnose import budget
from gradwitness.diagnose.hypotheses.nearby_functions import nearby_functions
from gradwitness.diagnose.hypotheses.wrong_terms import wrong_terms
from gradwitness.diagnose.hypotheses.wrong_values import wrong_derivatives
from gradwitness.engine.replay_steps import Steps
from gradwitness.judging.causes import guilty as causes
from gradwitness.judging.causes.torch_words import Words

if TYPE_CHECKING:
    import pytest

    from gradwitness.diagnose.case import Case

_STEPS = 30


class Kepler(torch.autograd.Function):
    """Kepler's equation E - e sin E = M by Newton's method; dE/de = sin E / (1 - e cos E)."""

    @staticmethod
    def forward(ctx: Any, mean: Any, e: Any) -> Any:
        anomaly = mean.clone()
        for _ in range(_STEPS):
            off = anomaly - e * torch.sin(anomaly) - mean
            anomaly = anomaly - off / (1 - e * torch.cos(anomaly))
        ctx.save_for_backward(anomaly, e)
        return anomaly

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        anomaly, e = ctx.saved_tensors
        d = 1 - e * torch.cos(anomaly)
        return g / d, -g * torch.sin(anomaly) / d  # the sign is wrong


def watched() -> Any:
    mean = torch.tensor([0.3, 0.9, 1.5, 0.6], requires_grad=True)
    e = torch.tensor([0.4, 0.3, 0.6, 0.5], requires_grad=True)
    with watch(names={"mean": mean, "e": e}) as witness:
        apply(Kepler, mean, e).cos().sum().backward()
    return witness.report


def case(monkeypatch: pytest.MonkeyPatch) -> Case:
    """Return what the hypotheses are given."""
    seen: list[Case] = []

    def diagnosed(case: Case, _: Any) -> tuple[()]:
        seen.append(case)
        return ()

    with monkeypatch.context() as patch:
        patch.setattr(causes, "diagnose", diagnosed)
        assert watched().verdict is Verdict.DISAGREES
    return seen[0]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each step that is replayed."""
    replayed: list[int] = []
    for name in ("forward", "backward"):
        step = getattr(Steps, name)

        def run(self: Any, *given: Any, step: Any = step) -> Any:
            replayed.append(1)
            return step(self, *given)

        monkeypatch.setattr(Steps, name, run)
    return replayed


def test_a_hypothesis_keeps_to_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the loop's 270 steps could be left out, doubled, or be a term: one trial may go over.

    Mistakes at all steps of one line are tried beyond the budget: of wrong derivatives, four at
    each of the nine lines.
    """
    loop = case(monkeypatch)
    tape = loop.tape
    assert tape is not None
    once = len(tape.calls) + len(tape.sweeps[0].node_runs)
    assert once > 16 * _STEPS
    replayed = counted(monkeypatch)
    beyond = {nearby_functions: 1, wrong_terms: 1, wrong_derivatives: 1 + 4 * 9}
    for hypothesis, passes in beyond.items():
        replayed.clear()
        list(hypothesis(loop))
        assert len(replayed) <= budget.ALONE + passes * once, hypothesis
        assert loop.skipped


def test_a_loop_is_written_out_in_a_time_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    measure = Words.measure

    def counting(words: Words, call: Any) -> None:
        measured.append(1)
        measure(words, call)

    monkeypatch.setattr(Words, "measure", counting)
    report = watched()
    wrong = [f for f in report.findings if f.verdict is Verdict.DISAGREES]
    calls = 10 * _STEPS
    assert wrong[0].forward[-1].startswith("(left out: ")
    assert len(measured) < 8 * calls


def test_the_cause_is_found() -> None:
    """-sin E / (1 - e cos E) is -1 times the derivative."""
    wrong = [f for f in watched().findings if f.verdict is Verdict.DISAGREES]
    assert [f.cause for f in wrong] == ["wrong sign"]
