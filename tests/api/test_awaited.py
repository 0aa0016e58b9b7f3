"""A report that is completed when it is asked for: until then it rests on the record alone."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import gradwitness as gw
from gradwitness.judging.pathology.panel import Panel

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.judging.note import Note
    from gradwitness.judging.pathology.detector import Judgement


def watched(model: nn.Module, x: torch.Tensor) -> gw.Witness:
    with gw.watch(model) as witness:
        torch.autograd.backward(model(x).square().mean())
    return witness


def model_and_input() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    layers = nn.BatchNorm1d(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4)
    return nn.Sequential(*layers), torch.randn(32, 8)


def digits(witness: Any) -> list[float]:
    return [row.digits for row in witness.report.rows]


def test_what_is_written_after_the_block_is_not_replayed() -> None:
    expected = digits(watched(*model_and_input()))
    model, x = model_and_input()
    witness = watched(model, x)
    with torch.no_grad():
        for tensor in (x, *model.parameters(), *model.buffers()):
            tensor.fill_(3)
    assert digits(witness) == expected
    assert min(expected) > 5


def test_a_report_that_nobody_has_looked_at_keeps_nothing_of_the_program_alive() -> None:
    model, x = model_and_input()
    alive = [weakref.ref(tensor) for tensor in (x, *model.parameters(), *model.buffers())]
    witness = watched(model, x)
    del model, x
    gc.collect()
    assert [kept() for kept in alive] == [None] * len(alive)
    assert min(digits(witness)) > 5


def unpickled(witness: gw.Witness) -> Any:
    return pickle.loads(pickle.dumps(witness))  # noqa: S301 (our own)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, unpickled])
def test_copies_are_complete(copied: Callable[[gw.Witness], Any]) -> None:
    witness = watched(*model_and_input())
    other = copied(witness)
    assert digits(other) == digits(witness)
    assert str(other) == str(witness)


def test_notes_of_a_fast_look_wait_until_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    made = Panel.notes

    def notes(panel: Panel, judgement: Judgement) -> tuple[Note, ...]:
        asked.append("notes")
        return made(panel, judgement)

    monkeypatch.setattr(Panel, "notes", notes)
    torch.manual_seed(0)
    first = nn.Linear(8, 16)
    with torch.no_grad():
        # A unit that no sample switches on.
        first.bias[3].fill_(-1e3)
    model, x = nn.Sequential(first, nn.ReLU(), nn.Linear(16, 4)), torch.randn(64, 8)
    with gw.watch(model, depth="fast") as witness:
        torch.autograd.backward(model(x).square().mean())
    assert witness.verdict is gw.Verdict.AGREES
    assert asked == []
    assert [note.kind for note in witness.report.notes] == ["dead units"]
    assert all(math.isnan(row.digits) for row in witness.report.rows)
    assert asked == ["notes"]
