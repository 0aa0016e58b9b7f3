"""Whatever a command is given: exit code 2, one error that says what and where, nothing written."""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from experiment.invoke import cli
from gradwitness import cli as command_line
from gradwitness._ending import exit_code
from gradwitness.report.tables import rules_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

PROGRAM = """
import torch
def right():
    (torch.ones(3, requires_grad=True) ** 2).sum().backward()
def deep():
    deep()
"""
# What is tried; a word in capitals stands for what no shell-like line can hold.
TRIES = """
run --inputs 0
run --inputs 1000000000
run --batch 99999999999999
run --hidden 10001 --width 1
run --seed -1
run --dtype x
run --activation x
run --loss x
run --preset x
run --preset conv --hidden 3
run --weights absent.npz
run --weights folder
run --weights huge.npz
run --weights bad.npz
run --preset sigmoid --out file
run --preset sigmoid --out file/inside
run --preset sigmoid --explain x
run --inputs x
run extra
check
check absent.py:step
check p.py
check p.py:absent
check absent.npz
check folder.npz
check bad.npz
check UNDECODABLE
check p.py:deep
check p.py:deep --save a.gif
check p.py:right --save folder
check p.py:right --save absent/a.txt
check p.py:right --save file/a.txt
check p.py:right --claims absent
check p.py:right --claims folder
check p.py:right --claims bad.txt
check p.py:right --claims bad.json
check p.py:right --claims bad.npz
check p.py:right --claims good.json --dtype x
check p.py:right --claims good.json --pass 7
check p.py:right --pass 1
check p.py:right --dtype float32
check p.py:right --explain x
check p.py:right --redact
check bad.npz --probe
check p.py:deep --probe
check p.py:right --nope
diff absent good.json
diff good.json folder
diff good.json bad.txt
diff good.json good.json --dtype x
diff good.json good.json --dtype int64
diff good.json good.json --save a.svg
diff good.json good.json --save absent/a.txt
laws good.json --weights good.json --layers x
laws good.json --weights good.json
laws absent --weights good.json --layers LAYERS
laws good.json --weights folder --layers LAYERS
grade absent.toml a.py
grade folder a.py
grade bad.txt a.py
grade task.toml absent.py
grade task.toml folder
grade task.toml good.json --save a.svg
grade deep.toml good.json
graph absent.py:step
graph p.py:deep -o a.txt
graph p.py:right -o absent/a.svg
graph --preset x
graph bad.npz
rules nothing
rules [bold]
rules a b
nope
--nope
"""
WORDS = {"UNDECODABLE": os.fsdecode(b"\xff.npz"), "LAYERS": "linear:0 relu linear:2 cross_entropy"}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "folder.npz"):
        (tmp_path / name).mkdir()
    for name, content in {
        "p.py": PROGRAM.encode(),
        "file": b"x",
        "bad.txt": b"\xff\xfe",
        "bad.json": b'{"a": ',
        "bad.npz": b"PK\x03\x04xx",
        "good.json": b'{"w": [1.0, 2.0]}',
        "task.toml": b'program = "p.py:right"',
        "deep.toml": b'program = "p.py:deep"',
    }.items():
        (tmp_path / name).write_bytes(content)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }" % 10**18
    header = header.ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
        archive.writestr("first.weight.npy", array)


@pytest.mark.parametrize("tried", TRIES.strip().splitlines())
def test_bad_input(tried: str, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    before = sorted(tmp_path.iterdir())
    result = cli(*(WORDS.get(word, word) for word in tried.split()))
    assert result.code == 2
    last = result.err.strip().rpartition("\n")[2].replace(str(tmp_path), "FOLDER")
    # What typer itself says begins otherwise.
    assert last == snapshot if last.startswith("gradwitness: ") else last.startswith("Error: ")
    assert "fault of gradwitness" not in last
    # The error of a program is shown whole: it is its own.
    assert ("Traceback" in result.err) is ("raised an exception" in last)
    assert sorted(p for p in tmp_path.iterdir() if p.name != "__pycache__") == before


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "gradwitness: interrupted"),
        (SystemExit(0), 2, r"gradwitness: the program called sys.exit\(0\)"),
        (MemoryError(), 2, "gradwitness: out of memory$"),
        (MemoryError("for 3 GiB"), 2, "gradwitness: out of memory: for 3 GiB"),
        (OSError(5, "Input/output error", "a.npz"), 2, "gradwitness: cannot use a.npz: Input/"),
        (RecursionError("too deep\nhere"), 2, "failed: RecursionError: too deep. This is a bug"),
        (
            KeyError("x"),
            2,
            "gradwitness: failed: KeyError: 'x'. This is a bug in gr",
        ),
        (AssertionError(), 2, "gradwitness: failed: AssertionError. This is a bug"),
    ],
)
def test_an_error_that_nobody_expected(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.delenv("GRADWITNESS_DEBUG", raising=False)
    assert exit_code(fails) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.match(f".*{said}", shown.err)
    assert shown.err.count("\n") == 1


def test_our_own_fault_in_full(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRADWITNESS_DEBUG", "1")
    monkeypatch.setattr(rules_text, "rules_table", lambda: [][0])
    assert command_line.run_words(["rules"]) == 2
    shown = capsys.readouterr()
    assert "Traceback" in shown.err
    assert "failed: IndexError: list index out of range" in shown.err.splitlines()[-1]


def _close() -> None:
    sys.stdout.close()


def _drop() -> None:
    sys.stdout = None


@pytest.mark.parametrize("leave", [_close, _drop])
def test_a_program_that_closes_its_output(
    leave: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(rules_text, "rules_table", leave)
    assert command_line.run_words(["rules"]) == 2
    assert capsys.readouterr().err == (
        "gradwitness: the program closed standard output: the verdict cannot be shown\n"
    )


def test_output_whose_encoding_lacks_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(rules_text, "rules_table", lambda: "größe")
    assert command_line.run_words(["rules"]) == 0
    assert raw.getvalue() == rb"gr\xf6\xdfe" + b"\n"
