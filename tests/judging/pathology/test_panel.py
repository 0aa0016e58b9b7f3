"""A detector that fails loses its notes and is noted; a program that ends early loses none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from gradwitness.judging.pathology import DETECTORS
from gradwitness.judging.pathology.stale import Stale
from judging.pathology.watching import data, kinds, loss_of, network

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion
    from torch import nn


def cut(model: Any) -> None:
    """Run two steps without zero_grad, and with a detached first layer."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):
        model[2](torch.tanh(model[0](data())).detach()).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("where", ["called", "node_ran", "notes"])
def test_a_detector_that_fails(
    monkeypatch: pytest.MonkeyPatch, detector: type[Any], where: str
) -> None:
    model = network()
    with gw.watch(model) as sound:
        cut(model)
    expected = sound.report

    def fail(*_: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(detector, where, fail)
    model = network()
    with gw.watch(model) as witness:
        cut(model)
    # The verdicts, and the notes of the other detectors, are unchanged.
    assert [row.verdict for row in witness.report.rows] == [row.verdict for row in expected.rows]
    lost = {"Stale": "stale gradient", "Disconnected": "parameters cut off"}
    others = [n.kind for n in expected.notes if n.kind != lost.get(detector.__name__)]
    assert kinds(witness.report.notes) == [*others, "detector failed"]
    text = witness.report.notes[-1].text
    assert text.startswith(detector.__name__)
    assert "ZeroDivisionError: planted" in text
    assert "detector failed" in str(witness)


def test_the_premise_that_there_is_something_to_tell() -> None:
    model = network()
    with gw.watch(model) as witness:
        cut(model)
    assert kinds(witness.report.notes) == ["parameters cut off", "stale gradient"]


def test_an_interruption_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stale, "called", interrupt)
    with pytest.raises(KeyboardInterrupt), gw.watch() as witness:
        torch.ones(2) * 2
    assert witness.ended
    assert kinds(witness.report.notes) == []


def in_forward(model: nn.Module) -> None:
    torch.tanh(torch.ones(3, requires_grad=True))
    raise KeyboardInterrupt


def in_backward(model: nn.Module) -> None:
    def stop(g: Any) -> None:
        raise KeyboardInterrupt

    loss = loss_of(model, data())
    loss.register_hook(stop)
    loss.backward()


def between_steps(model: nn.Module) -> None:
    optimizer = torch.optim.Adam(model.parameters())
    loss_of(model, data()).backward()
    optimizer.step()
    raise KeyboardInterrupt


def in_the_second_step(model: nn.Module) -> None:
    optimizer = torch.optim.Adam(model.parameters())
    loss_of(model, data()).backward()
    optimizer.step()
    optimizer.zero_grad()
    in_backward(model)


@pytest.mark.parametrize("program", [in_forward, in_backward, between_steps, in_the_second_step])
def test_who_stops_the_program_gets_a_report_without_false_notes(
    program: Callable[[nn.Module], None],
) -> None:
    model = network()
    with pytest.raises(KeyboardInterrupt), gw.watch(model) as witness:
        program(model)
    assert witness.report.notes == ()
    assert str(witness)
    assert gw.judge(witness.tape).notes == ()


def test_nothing_at_all(snapshot: SnapshotAssertion) -> None:
    with gw.watch(network()) as witness:
        pass
    assert witness.report.notes == ()
    assert str(witness).partition("\n\n")[0] == snapshot


@pytest.mark.parametrize("keep", [0, None])
def test_notes_with_and_without_the_numbers(keep: int | None) -> None:
    model = network()
    with gw.watch(model, keep=keep) as witness:
        cut(model)
    assert kinds(witness.report.notes) == ["parameters cut off", "stale gradient"]


def test_a_tape_that_is_judged_later_has_the_same_notes() -> None:
    model = network()
    with gw.watch(model) as witness:
        cut(model)
    assert gw.judge(witness.tape).notes == witness.report.notes
