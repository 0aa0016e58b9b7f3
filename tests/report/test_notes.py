"""Notes as the terminal and the JSON record show them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import gradwitness as gw
from gradwitness.judging.note import Note
from gradwitness.report.console import as_text
from gradwitness.report.record import dumps, report_record
from gradwitness.report.tables.terminal import noted
from gradwitness.tape import Source

if TYPE_CHECKING:
    import pytest

FIELDS = {"kind", "text", "call", "node", "pass", "module", "line"}


def record_of(witness: gw.Witness) -> Any:
    return json.loads(dumps(report_record(witness.report, witness.tape)))


def cut() -> gw.Witness:
    torch.manual_seed(0)
    first, second = nn.Linear(3, 4), nn.Linear(4, 1)
    with gw.watch(nn.Sequential(first, second)) as witness:
        h = first(torch.randn(5, 3)).detach()  # here
        torch.autograd.backward(second(h).square().mean())
    return witness


def here() -> str:
    lines = Path(__file__).read_text().splitlines()
    return f"{__file__}:{next(n for n, line in enumerate(lines, 1) if '# here' in line)}"


def test_a_note_says_what_and_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    text = str(cut())
    (block,) = [part for part in text.split("\n\n") if part.startswith("NOTE")]
    lines = block.splitlines()
    assert lines[0] == "NOTE       parameters cut off"
    assert lines[1] == f"  at       {here().rpartition('/')[2]}"
    assert lines[2].startswith("  what     0.weight and 0.bias: ")
    # Notes stand before the verdict, which they do not change.
    assert text.index("NOTE") < text.index("verdict   AGREES")


def test_a_place_has_its_module_and_may_be_missing() -> None:
    placed = Note("dead units", "Text.", Source("body.3", "/tmp/x.py:7"))  # noqa: S108 (no file)
    assert as_text(noted(placed)).splitlines()[1:] == [
        "NOTE       dead units",
        "  at       /tmp/x.py:7 in module body.3",
        "  what     Text.",
    ]
    for source in (None, Source(), Source("body.3", "")):
        lines = as_text(noted(Note("stale gradient", "Text.", source))).splitlines()
        assert lines[1:] == ["NOTE       stale gradient", "  what     Text."]


def test_the_record_has_every_field_of_a_note() -> None:
    witness = cut()
    (note,) = record_of(witness)["notes"]
    assert set(note) == FIELDS
    (original,) = witness.report.notes
    assert (note["kind"], note["text"]) == ("parameters cut off", original.text)
    assert note["line"] == here()
    assert (note["call"], note["node"], note["pass"], note["module"]) == (
        original.call,
        None,
        None,
        "",
    )


def test_a_note_without_a_place_is_a_record_too() -> None:
    torch.manual_seed(0)
    model: Any = nn.Linear(2, 1)
    with gw.watch(model) as witness:
        torch.autograd.backward(model(torch.randn(3, 2)).square().mean())
        model.bias.grad.numpy()[...] *= 2
    (note,) = record_of(witness)["notes"]
    assert set(note) == FIELDS
    assert (note["kind"], note["line"], note["module"], note["pass"]) == (
        "gradient changed unseen",
        "",
        "",
        None,
    )


def test_no_notes_is_an_empty_list() -> None:
    with gw.watch() as witness:
        torch.ones(2) * 2
    assert record_of(witness)["notes"] == []
    assert "NOTE" not in str(witness)


def test_markup_in_a_note_is_shown_as_it_is() -> None:
    note = Note("dead units", "[bold]relu[/bold] at [0, 1]", Source("", "a[b].py:1"))
    text = as_text(noted(note))
    assert "[bold]relu[/bold] at [0, 1]" in text
    assert "a[b].py:1" in text
