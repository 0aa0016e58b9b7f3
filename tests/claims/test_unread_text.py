"""Words in a text where a number should be, which are none: the tensor is not dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradwitness import Verdict, diff
from gradwitness.claims.sources import read_claims

if TYPE_CHECKING:
    from pathlib import Path

NO_NUMBERS = [
    "b = 1d5",
    "b = 0x10",
    "b = 12f",
    "b = 1_000",
    "b = \u0661\u0662",
    "b = 1.5e",
    "b: 1e5e5",
    "b: (1.5)",
    "b = 1.5-0.5j",
    "b = --",
    "b = 0.5 1d5",
    "b 1d5",
    "b 0x10",
    "b[1] = 12x",
]


@pytest.mark.parametrize("line", NO_NUMBERS)
def test_what_cannot_be_read_does_not_agree(tmp_path: Path, line: str) -> None:
    for name, words in (("a.txt", line), ("b.txt", line), ("c.txt", "b = 0.5"), ("d.txt", "")):
        (tmp_path / name).write_text(f"w = [0.5 0.25]\n{words}\n", encoding="utf-8")
    assert any("a.txt:2 was read as text" in note for note in read_claims(tmp_path / "a.txt").notes)
    for other in ("b.txt", "c.txt", "d.txt"):
        for first, second in (("a.txt", other), (other, "a.txt")):
            (run,) = diff(tmp_path / first, tmp_path / second).runs
            assert run.verdict is Verdict.INCONCLUSIVE
            assert run.rows[0].verdict is Verdict.AGREES


def test_each_run_keeps_what_it_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("w = 0.5\nb = 1d5\nw = 0.25\nb = 2d5\n")
    assert [[*run] for run in read_claims(path).runs] == [["w", "b"], ["w", "b"]]


@pytest.mark.parametrize(
    "line",
    [
        "time = 12s",
        "time: 3.5ms",
        "memory = 512MiB",
        "acc: 95%",
        "date: 2026-11-30",
        "input: 3x4",
        "step 3/10",
        "layer: 2b",
        "conv 2d",
        "Gradients ---",
        "name = x",
    ],
)
def test_other_text_takes_no_part(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"w = [0.5 0.25]\n{line}\n")
    (run,) = read_claims(path).runs
    assert [*run] == ["w"]
    assert diff(path, path).verdict is Verdict.AGREES
