"""How thoroughly a program is judged: the word for it, and where it is said."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

import gradwitness as gw
from gradwitness.cli import run_words
from gradwitness.report.record import report_record

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import torch
w = torch.arange(1.0, 4.0, requires_grad=True)

def step():
    w.square().sum().backward()
"""


def watched(**options: object) -> gw.Witness:
    w = torch.arange(1.0, 4.0, requires_grad=True)
    with gw.watch(names={"w": w}, **options) as witness:  # type: ignore[arg-type]
        torch.autograd.backward(w.square().sum())
    return witness


def test_an_unknown_depth_is_refused_before_anything_runs() -> None:
    with pytest.raises(gw.InputError, match="depth='quick': give 'full', 'fast' or 'sample'"):
        gw.watch(depth="quick")
    with pytest.raises(gw.InputError, match="depth='quick': give 'full' or 'fast'"):
        gw.judge(watched().tape, depth="quick")
    with pytest.raises(gw.InputError, match="keep='much' bytes"):
        gw.watch(keep="much")


def test_the_report_says_its_depth() -> None:
    full, fast = watched(), watched(depth="fast")
    assert (full.report.depth, fast.report.depth) == ("full", "fast")
    assert report_record(fast.report, fast.tape)["depth"] == "fast"
    assert "verdict (fast)" in str(fast)
    assert "(fast)" not in str(full)
    assert fast.verdict is gw.Verdict.AGREES


def test_fast_keeps_no_values_and_knows_no_digits() -> None:
    (row,) = watched(depth="fast").report.rows
    assert math.isnan(row.digits)
    assert not watched(depth="fast").tape.complete
    assert watched(depth="fast", keep=None).tape.complete
    assert math.isnan(watched(depth="fast", keep=None).report.rows[0].digits)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    assert run_words(["check", f"{program}:step", "--depth", "fast"]) == 0
    assert "verdict (fast)" in capsys.readouterr().out
    assert run_words(["check", f"{program}:step", "--depth", "quick"]) == 2
    assert "give 'full' or 'fast'" in capsys.readouterr().err
    assert run_words(["check", f"{program}:step", "--depth", "fast", "--probe"]) == 2
    assert "--probe judges in full: leave out --depth fast" in capsys.readouterr().err
    assert run_words(["check", f"{program}:step", "--depth", "fast", "--rerun", "step"]) == 2
    assert "--rerun step judges in full" in capsys.readouterr().err


def test_a_recording_is_judged_as_fast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gw.save_tape(watched().tape, tmp_path / "tape.npz")
    assert run_words(["check", f"{tmp_path / 'tape.npz'}", "--depth", "fast"]) == 0
    assert "verdict (fast)" in capsys.readouterr().out


def test_one_run_with_claims() -> None:
    model = torch.nn.Linear(3, 1, bias=False)
    x = torch.tensor([[1.0, 2.0, 3.0]])
    claims = {"weight": [[1.0, 2.0, 3.0]]}
    result = gw.check(model, x, claims=claims, depth="fast")
    assert result.verdict is gw.Verdict.AGREES
