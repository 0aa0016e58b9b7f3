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

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROGRAM = """
import torch
def right():
    (torch.ones(3, requires_grad=True) ** 2).sum().backward()
def deep():
    deep()
"""
# What is tried; a word in capitals stands for what no shell-like line can hold.
TRIES = """
run --inputs 0 | inputs is 0; it must be a whole number
run --inputs 1000000000 | some 4.2e.19 numbers, more than 1e.08
run --batch 99999999999999 | choose fewer inputs, hidden layers, units
run --hidden 10001 --width 1 | hidden is 10001; it must be at most 10000
run --seed -1 | seed is -1
run --dtype x | dtype 'x' is not known; choose float32, float64
run --activation x | activation 'x' is not known; choose relu
run --loss x | loss 'x' is not known; choose square
run --preset x | preset 'x' is not known; choose default
run --weights absent.npz | absent.npz: cannot be read as .npz of weights
run --weights folder | folder: cannot be read as .npz of weights
run --weights huge.npz | huge.npz: cannot be read .*Unable to allocate
run --weights bad.npz | bad.npz: cannot be read as .npz of weights
run --preset sigmoid --out file | file: the folder cannot be made
run --preset sigmoid --out file/inside | file/inside: the folder cannot be made
run --preset sigmoid --explain x | no gradient is called 'x'; there are:
run --inputs x | Invalid value for '--inputs'
run extra | unexpected extra argument
check | Missing argument
check absent.py:step | no such file: absent.py
check p.py | 'p.py' is neither FILE.py:FUNCTION nor a tape
check p.py:absent | p.py has no function 'absent'
check absent.npz | absent.npz is not a file
check folder.npz | folder.npz is not a file
check bad.npz | bad.npz is not a tape that can be read
check UNDECODABLE | \\\\udcff.npz is not a file
check p.py:deep | p.py:deep failed by itself
check p.py:deep --save a.gif | a.gif: unsupported extension '.gif'; use .txt
check p.py:right --save folder | folder: unsupported extension ''
check p.py:right --save absent/a.txt | absent/a.txt cannot be written
check p.py:right --save file/a.txt | file/a.txt cannot be written
check p.py:right --claims absent | absent cannot be read
check p.py:right --claims folder | folder is a folder
check p.py:right --claims bad.txt | bad.txt: no numbers in it
check p.py:right --claims bad.json | bad.json, line 1, column 7
check p.py:right --claims bad.npz | bad.npz: .* Write it with numpy.savez
check p.py:right --claims good.json --dtype x | 'x' is no format that claims can be judged in
check p.py:right --claims good.json --sweep 7 | there is no backward pass 7
check p.py:right --sweep 1 | --sweep and --dtype are about claims
check p.py:right --dtype float32 | --sweep and --dtype are about claims
check p.py:right --explain x | no gradient is called 'x'
check bad.npz --probe | a tape cannot be probed
check p.py:deep --probe | p.py:deep failed by itself
check p.py:right --nope | No such option
diff absent good.json | absent cannot be read
diff good.json folder | folder is a folder
diff good.json bad.txt | bad.txt: no numbers in it
diff good.json good.json --dtype x | 'x' is no format that claims can be judged in
diff good.json good.json --dtype int64 | 'int64' is no format that claims can be judged in
diff good.json good.json --save a.svg | a.svg: unsupported extension '.svg'; use .txt
diff good.json good.json --save absent/a.txt | absent/a.txt cannot be written
laws good.json --weights good.json --layers x | no law is known for 'x'
laws good.json --weights good.json | Missing option
laws absent --weights good.json --layers LAYERS | absent cannot be read
laws good.json --weights folder --layers LAYERS | folder is a folder
grade absent.toml a.py | absent.toml cannot be read
grade folder a.py | folder cannot be read
grade bad.txt a.py | bad.txt is not TOML
grade task.toml absent.py | absent.py: there is no such file to grade
grade task.toml good.json --save a.svg | a.svg: unsupported extension '.svg'; use .txt
grade deep.toml good.json | p.py:deep failed by itself
graph absent.py:step | no such file: absent.py
graph p.py:deep -o a.txt | a.txt: unsupported extension '.txt'; use .svg
graph p.py:right -o absent/a.svg | absent/a.svg cannot be written
graph --preset x | preset 'x' is not known
graph bad.npz | bad.npz is not a tape that can be read
rules nothing | there is no rule for 'nothing'
rules [bold] | there is no rule for '\\[bold\\]'
rules a b | unexpected extra argument
nope | No such command
--nope | No such option
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
def test_bad_input(tried: str, tmp_path: Path) -> None:
    command, _, said = tried.partition("|")
    before = sorted(tmp_path.iterdir())
    result = cli(*(WORDS.get(word, word) for word in command.split()))
    assert result.code == 2
    last = result.err.strip().rpartition("\n")[2]
    assert re.search(said.strip(), last)
    assert last.startswith(("gradwitness: ", "Error: "))
    assert "bug in gradwitness" not in last
    # The error of a program is shown whole: it is its own.
    assert ("Traceback" in result.err) is ("failed by itself" in said)
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
    monkeypatch.setattr(command_line, "rules_table", lambda: [][0])
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
    monkeypatch.setattr(command_line, "rules_table", leave)
    assert command_line.run_words(["rules"]) == 2
    assert capsys.readouterr().err == (
        "gradwitness: the program closed standard output: the verdict cannot be shown\n"
    )


def test_output_whose_encoding_lacks_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(command_line, "rules_table", lambda: "größe")
    assert command_line.run_words(["rules"]) == 0
    assert raw.getvalue() == rb"gr\xf6\xdfe" + b"\n"
