"""Reports as files: the extension chooses the format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import gradwitness as gw
from capture.handmade import tape
from gradwitness.report.console import as_text
from gradwitness.report.save import (
    FORMS,
    PICTURE,
    TEXTS,
    Form,
    endings,
    require_ending,
    save,
    save_report,
)
from gradwitness.report.tables.terminal import summary

if TYPE_CHECKING:
    from pathlib import Path


def test_every_ending(tmp_path: Path) -> None:
    given = tape("d3")
    report = gw.judge(given)
    for ending in ("txt", "json", "html", "npz", "svg", "dot", "pdf", "png"):
        save_report(tmp_path / f"a.{ending}", given, report)
    assert (tmp_path / "a.txt").read_text() == as_text(summary(report, given))
    assert json.loads((tmp_path / "a.json").read_text())["verdict"] == "DISAGREES"
    assert gw.judge(gw.load_tape(tmp_path / "a.npz")).verdict is gw.Verdict.DISAGREES
    assert (tmp_path / "a.html").read_text().startswith("<!DOCTYPE html>")
    assert "MulBackward0 #3" in (tmp_path / "a.svg").read_text()
    assert (tmp_path / "a.dot").read_text().startswith("digraph")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF-")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["a", "a.gif", "a.TXT", "svg"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    given = tape()
    report = gw.judge(given)
    with pytest.raises(
        gw.InputError,
        match=r"unsupported extension '.*'; use \.txt, \.json, \.sarif, \.html, \.svg, \.dot, "
        r"\.pdf, \.png, \.npz$",
    ):
        save_report(tmp_path / name, given, report)
    with pytest.raises(
        gw.InputError, match=r"unsupported extension '.*'; use \.svg, \.dot, \.pdf, \.png$"
    ):
        require_ending(tmp_path / name, *PICTURE)
    assert list(tmp_path.iterdir()) == []


def test_what_a_file_is_made_of_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(
        gw.InputError, match=r"unsupported extension '\.svg'; use \.txt, \.json, \.sarif$"
    ):
        save(tmp_path / "a.svg", {"parts": list, "record": dict})
    with pytest.raises(
        gw.InputError, match=r"unsupported extension '\.npz'; use \.txt, \.json, \.sarif, \.html$"
    ):
        require_ending(tmp_path / "a.npz", *TEXTS)
    assert list(tmp_path.iterdir()) == []


def test_a_new_kind_of_file_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        FORMS, ".htm", Form("record", lambda path, record: path.write_text(record["verdict"]))
    )
    given = tape("d3")
    save_report(tmp_path / "a.htm", given, gw.judge(given))
    assert (tmp_path / "a.htm").read_text() == "DISAGREES"
    assert endings().endswith(", .htm")
    assert endings(*TEXTS) == ".txt, .json, .sarif, .html, .htm"
    assert endings(*PICTURE) == ".svg, .dot, .pdf, .png"


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    given = tape()
    with pytest.raises(gw.InputError, match="cannot write"):
        save_report(tmp_path / "file" / "a.txt", given, gw.judge(given))
    assert (tmp_path / "file").read_text() == "old"
