"""What a TASK.toml may say, and what is said of one that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradwitness import InputError
from gradwitness.grading.task import Limits, read_task

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, text: str) -> Path:
    path = folder / "task.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_but_the_program_has_a_default(tmp_path: Path) -> None:
    task = read_task(written(tmp_path, 'program = "net.py:step"'))
    assert task.title == "task"
    assert task.target == str(tmp_path / "net.py:step")
    assert task.submission == Limits()
    assert (task.worth("any"), task.carried_forward) == (1.0, 0.5)


def test_marks_are_looked_up_by_name(tmp_path: Path) -> None:
    text = 'tape = "a.npz"\n[marks]\neach = 2\ncarried_forward = 0.25\n"0.weight" = 5\n'
    task = read_task(written(tmp_path, text))
    assert task.target == str(tmp_path / "a.npz")
    assert (task.worth("0.weight"), task.worth("0.bias")) == (5.0, 2.0)
    assert task.carried_forward == 0.25


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "give either program"),
        ('program = "a.py:f"\ntape = "b.npz"', "give either program"),
        ("program = 3", "program = 3: expected text"),
        ('program = "a.py:f"\nprogramme = 1', "programme is not known"),
        ('program = "a.py:f"\nmarks = 3', r"marks is a table: write \[marks\]"),
        ('program = "a.py:f"\n[marks]\nw = "2"', "marks.w = '2': expected a number"),
        ('program = "a.py:f"\n[marks]\nhidden.weight = 2', "names with dots need quotes"),
        ('program = "a.py:f"\n[marks]\nw = -1', "expected a number from 0 on"),
        ('program = "a.py:f"\n[marks]\nw = nan', "expected a number from 0 on"),
        ('program = "a.py:f"\n[marks]\nw = true', "expected a number"),
        ('program = "a.py:f"\n[marks]\ncarried_forward = 2', "is a share, from 0 to 1"),
        ('program = "a.py:f"\n[submission]\nseconds = 0', "lets nothing run"),
        ('program = "a.py:f"\n[submission]\nfunction = "a b"', "is no function's name"),
        ('program = "a.py:f"\n[submission]\nformat = "int8"', "expected float64"),
        ('program = "a.py:f"\n[submission]\ndata = "none.npz"', "there is no file"),
        ('program = "a.py:f"\n[submission]\ntime = 3', "submission.time is not known"),
        ("program = ", "is not TOML"),
    ],
)
def test_a_wrong_task_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_task(written(tmp_path, text))


def test_a_task_that_is_not_there_or_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*none\.toml: No such file"):
        read_task(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not TOML"):
        read_task(tmp_path / "bytes.toml")
