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
    ("first", "second", "verdict"),
    [
        ("dW2 = 48", "dW2 = 48", Verdict.AGREES),
        ("dW2 = 48", "dW2 = 49", Verdict.INCONCLUSIVE),
        ("dW2 = 48", "dW2 = 48.4", Verdict.INCONCLUSIVE),
        ("dW2 = 48", "dW2 = 48.000001", Verdict.AGREES),
        ("dW2 = 123457", "dW2 = 123456.7", Verdict.AGREES),  # as %g prints it
        ("dW2 = 48", "dW2 = 50", Verdict.DISAGREES),
        ("dW2 = [48, 51]", "dW2 = [48.2, 51.0]", Verdict.INCONCLUSIVE),
        ("dW2 = [0.5, 48, 1.25]", "dW2 = [0.5, 48.4, 1.25]", Verdict.DISAGREES),
    ],
)
def test_numbers_that_may_be_whole_or_rounded_to_be(
    first: str, second: str, verdict: Verdict, tmp_path: Path
) -> None:
    # 48 is 48.4 rounded to a whole number, and 49 is not 48: which it is, the text does not tell.
    claims = [
        read(tmp_path, f"a = 0.25\n{line}\n", f"{n}.txt") for n, line in enumerate((first, second))
    ]
    for pair in (claims, claims[::-1]):
        (report,) = compare_runs(pair[0], pair[1])
        _, row = report.rows
        assert row.verdict is verdict
        is_told = row.reason.startswith("printed without decimals")
        assert is_told == (verdict is Verdict.INCONCLUSIVE)


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
        ("layer 48\nw 0.5\n", ["w"], "'layer 48'"),
        ("step 48\nw 0.5\n", ["w"], "'step 48'"),
        ("b 12x\nw 0.5\n", ["w"], "'b 12x'"),
    ],
)
def test_lines_with_numbers_that_are_passed_over_are_told(
    content: str, names: list[str], told: str, tmp_path: Path
) -> None:
    claims = read(tmp_path, content)
    (run,) = claims.runs
    assert [*run] == names
    headings = [note for note in claims.notes if "with a number" in note]
    assert len(headings) == 1
    assert told in headings[0]


def test_the_lines_that_are_passed_over_are_counted(tmp_path: Path) -> None:
    claims = read(tmp_path, "".join(f"epoch {n}\na {n}.5\n" for n in range(9)))
    assert len(claims.runs) == 9
    assert (
        "9 lines with a number were read as headings: 'epoch 0', 'epoch 1', 'epoch 2', 'epoch 3' "
        "and 5 more"
    ) in claims.notes
