"""Reports as files: the extension chooses the format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import gradwitness as gw
from capture.handmade import tape
from gradwitness.report.picture.graph import draw
from gradwitness.report.save import save_picture, save_report
from gradwitness.report.tables.terminal import as_text, summary

if TYPE_CHECKING:
    from pathlib import Path


def test_every_ending(tmp_path: Path) -> None:
    given = tape("d3")
    report = gw.judge(given)
    for ending in ("txt", "json", "npz", "svg", "dot", "pdf", "png"):
        save_report(tmp_path / f"a.{ending}", given, report)
    assert (tmp_path / "a.txt").read_text() == as_text(summary(report, given))
    assert json.loads((tmp_path / "a.json").read_text())["verdict"] == "DISAGREES"
    assert gw.judge(gw.load_tape(tmp_path / "a.npz")).verdict is gw.Verdict.DISAGREES
    assert "MulBackward0 #3" in (tmp_path / "a.svg").read_text()
    assert (tmp_path / "a.dot").read_text().startswith("digraph")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF-")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["a", "a.gif", "a.TXT", "svg"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    given = tape()
    report = gw.judge(given)
    with pytest.raises(
        gw.InputError, match=r"the ending chooses the form, and must be one of \.tx"
    ):
        save_report(tmp_path / name, given, report)
    with pytest.raises(gw.InputError, match=r"a picture ends with one of \.svg, \.dot, \.pdf, \.p"):
        save_picture(tmp_path / name, draw(given, report, title=""))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    given = tape()
    with pytest.raises(gw.InputError, match="cannot be written"):
        save_report(tmp_path / "file" / "a.txt", given, gw.judge(given))
    assert (tmp_path / "file").read_text() == "old"
