"""Lines of a name and whole numbers, with nothing else between: `%g` prints 48.0 as 48."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradwitness.claims.sources import read_claims
from gradwitness.judging.claimed.between_sources import compare_runs
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from gradwitness.claims.claim import Claims


def read(tmp_path: Path, content: str, name: str = "a.txt") -> Claims:
    path = tmp_path / name
    path.write_text(content)
    return read_claims(path)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dW2 48", 48),
        ("dW2 0", 0),
        ("dW2 -3", -3),
        ("  dW2\t+48 \r", 48),
        ("dW2 48 -3", [48, -3]),
    ],
)
def test_a_name_and_whole_numbers_are_a_tensor(
    line: str, expected: float | list[float], tmp_path: Path
) -> None:
    for content in (f"b1 -0.285\n{line}\nc1 0.5\n", f"{line}\nc1 0.5\nb1 -0.285\n"):
        claims = read(tmp_path, content)
        (run,) = claims.runs
        assert run["dW2"].array.tolist() == expected
        assert {*run} == {"b1", "dW2", "c1"}
        assert not claims.notes


def test_another_whole_number_is_another_gradient(tmp_path: Path) -> None:
    first = read(tmp_path, "b1 -0.285\ndW2 48\n")
    second = read(tmp_path, "b1 -0.285\ndW2 4800\n")
    (report,) = compare_runs(first, second)
    assert report.verdict is Verdict.DISAGREES


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("step 48\na 0.5\n", [["a"]]),
        ("epoch 1\na 0.5\nepoch 2\na 0.25\n", [["a"], ["a"]]),
        ("hidden_layer 3\na 0.5\n", [["a"]]),
        ("of the hidden layer 3\na 0.5\n", [["a"]]),
        ("gradients at step 3\na 0.5\n", [["a"]]),
        ("batch_size 64\na 0.5\n", [["a"]]),
        ("dW2 48\n[[0.5, 0.25]]\n", [["dW2 48"]]),
        ("dW2 48\n\n0.5 0.25\n", [["dW2 48"]]),
        ("dW2 48\ntensor([0.5, 0.25])\n", [["dW2 48"]]),
    ],
)
def test_headings_stay_headings(content: str, names: list[list[str]], tmp_path: Path) -> None:
    claims = read(tmp_path, content)
    assert [[*run] for run in claims.runs] == names
    assert not any("read as text" in note for note in claims.notes)


@pytest.mark.parametrize(
    ("content", "names", "told"),
    [
        ("Stem 1\nw 0.5\nStem 2\nw 1.5\n", ["Stem 1 w", "Stem 2 w"], "'Stem 1'"),
        ("conv 1\nw 0.5\nfc 1\nw 1.5\n", ["conv 1 w", "fc 1 w"], "'conv 1'"),
        ("Results 2\n---------\nw 0.5\n", ["w"], "'Results 2'"),
        ("layer 1 bias 3\nlayer 1 w 0.5\n", ["layer 1 w"], "'layer 1 bias 3'"),
    ],
)
def test_headings_that_may_be_tensors_are_told(
    content: str, names: list[str], told: str, tmp_path: Path
) -> None:
    claims = read(tmp_path, content)
    (run,) = claims.runs
    assert [*run] == names
    assert f"a.txt:1 was read as text: {told}" in claims.notes
