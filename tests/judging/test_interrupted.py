"""Ctrl-C while a program is judged leaves the judgement up to there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import gradwitness as gw
from capture.tiny import network
from experiment.invoke import cli
from gradwitness.judging import conclusion
from gradwitness.judging.custom import accused
from gradwitness.judging.local import Judge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEPS = 6
AGREES, DISAGREES = gw.Verdict.AGREES, gw.Verdict.DISAGREES


def interrupted(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def at_call(number: int) -> Callable[[Judge, int], None]:
    """Return a method that judges calls, but is interrupted at one of them."""
    called = Judge.called

    def one(self: Judge, call: int) -> None:
        if call == number:
            raise KeyboardInterrupt
        called(self, call)

    return one


class Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * ctx.saved_tensors[0]


def watched(spoil: Callable[[Any], Any] = lambda y: y) -> gw.Witness:
    """Watch a step whose report is interrupted."""
    torch.manual_seed(0)
    model: Any = nn.Linear(3, 2)
    witness = gw.watch(model)
    with pytest.raises(KeyboardInterrupt), witness:
        spoil(model(torch.ones(2, 3))).square().mean().backward()
    return witness


def doubled(y: Any) -> Any:
    y.register_hook(lambda g: 2 * g)
    return y


def test_what_was_judged_before_the_replay_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    tape = network()[0]
    monkeypatch.setattr(conclusion, "replayed_gradients", interrupted)
    with pytest.raises(KeyboardInterrupt) as interrupt:
        gw.judge(tape)
    report: Any = getattr(interrupt.value, "report", None)
    steps = len(tape.calls) + sum(len(s.node_runs) for s in tape.sweeps)
    (reason,) = report.reasons()
    assert reason == (
        f"interrupted after {steps} of {steps} steps: what slopes and the float64 replay would say "
        "is not known"
    )
    assert report.verdict is gw.Verdict.INCONCLUSIVE
    assert {row.verdict for row in report.rows} == {AGREES}


def test_the_replay_of_what_agrees_can_be_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = nn.Linear(3, 2)
    with gw.watch(model) as witness:
        model(torch.ones(2, 3)).square().mean().backward()
    with monkeypatch.context() as patched:
        patched.setattr(conclusion, "replayed_gradients", interrupted)
        with pytest.raises(KeyboardInterrupt):
            str(witness)
    assert witness.verdict is AGREES
    witness.require()
    assert all(row.digits > 5 for row in witness.report.rows)


def test_a_fault_that_was_found_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conclusion, "replayed_gradients", interrupted)
    witness = watched(doubled)
    assert witness.verdict is DISAGREES
    assert len(witness.report.wrong) == 1


def test_a_function_whose_slopes_are_not_known_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accused, "_settled", interrupted)
    witness = watched(Half.apply)
    assert witness.report.wrong == ()
    assert "interrupted before the slopes of its function were measured" in witness.report.reasons()
    assert witness.verdict is gw.Verdict.INCONCLUSIVE


def test_a_second_interrupt_leaves_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conclusion, "replayed_gradients", interrupted)
    monkeypatch.setattr(Judge, "report_so_far", interrupted)
    witness = watched(doubled)
    assert not witness.ended
    with pytest.raises(gw.GradwitnessError, match="before the watched block has ended"):
        _ = witness.report


def test_a_recording_is_judged_up_to_there(monkeypatch: pytest.MonkeyPatch) -> None:
    tape, whole = network()
    monkeypatch.setattr(Judge, "called", at_call(STEPS))
    with pytest.raises(KeyboardInterrupt) as interrupt:
        gw.judge(tape)
    report: Any = getattr(interrupt.value, "report", None)
    steps = len(tape.calls) + sum(len(s.node_runs) for s in tape.sweeps)
    assert set(report.reasons()) == {f"interrupted after {STEPS} of {steps} steps"}
    # What was judged is as it is in the whole.
    judged = [f.title for f in report.findings if f.verdict is AGREES]
    assert judged
    assert judged == [f.title for f in whole.findings[: len(judged)]]


@pytest.mark.parametrize("ends", ["txt", "json"])
def test_the_command_shows_and_saves_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ends: str
) -> None:
    monkeypatch.chdir(tmp_path)
    gw.save_tape(network()[0], "tape.npz")
    monkeypatch.setattr(Judge, "called", at_call(STEPS))
    result = cli("check", "tape.npz", "--json", "--save", f"made.{ends}")
    assert result.code == 130
    assert result.err.endswith("gradwitness: interrupted\n")
    record = json.loads(result.out)
    assert (record["verdict"], record["exit_code"]) == ("INCONCLUSIVE", 130)
    assert "interrupted after 6 of" in record["steps"][-1]["reason"]
    assert "interrupted after 6 of" in (tmp_path / f"made.{ends}").read_text()
    shown = cli("check", "tape.npz")
    assert shown.code == 130
    assert "interrupted after 6 of" in shown.out


def test_the_command_shows_what_a_program_s_judgement_came_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(
        "import torch\ndef step():\n    w = torch.ones(3, requires_grad=True)\n"
        "    (w * w).sum().backward()\n"
    )
    monkeypatch.setattr(conclusion, "replayed_gradients", interrupted)
    result = cli("check", f"{tmp_path}/train.py:step")
    assert result.code == 130
    assert "interrupted before it was over" in result.out
    assert "AGREES" in result.out
