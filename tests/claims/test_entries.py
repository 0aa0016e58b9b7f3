"""Text with an entry of a tensor in each line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradwitness import FileFormatError, Verdict, diff
from gradwitness.claims.sources import read_claims

if TYPE_CHECKING:
    from pathlib import Path

W = [[0.125, -0.25], [0.375, 0.53125], [0.625, -0.75]]
B = [1.5, -2.5, 3.5]
RIGHT = {"fc.w": np.array(W), "fc.b": np.array(B)}
ENTRIES = [
    *((f"fc.w[{i},{j}]", W[i][j]) for i in range(3) for j in range(2)),
    *((f"fc.b[{i}]", B[i]) for i in range(3)),
]


def _written(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("form", ["{} {}", "{} = {}", "{}: {}", "grad {}\t{}", "- {}: {}"])
@pytest.mark.parametrize(
    "index", [("[", ",", "]"), ("[", ", ", "]"), ("[", "][", "]"), (" (", ", ", ")")]
)
def test_entries_make_their_tensor(tmp_path: Path, form: str, index: tuple[str, str, str]) -> None:
    begin, between, end = index
    lines = [
        form.format(name.replace("[", begin).replace(",", between).replace("]", end), number)
        for name, number in ENTRIES
    ]
    path = _written(tmp_path / "a.txt", lines)
    (run,) = read_claims(path).runs
    found = {name.removeprefix("grad "): claim.array.tolist() for name, claim in run.items()}
    assert found == {"fc.w": W, "fc.b": B}
    assert diff(RIGHT, path).verdict is Verdict.AGREES


def test_entries_may_count_from_one_and_come_in_any_order(tmp_path: Path) -> None:
    lines = [f"w[{i + 1},{j + 1}] {W[i][j]}" for i in range(3) for j in range(2)]
    (run,) = read_claims(_written(tmp_path / "a.txt", lines[::-1])).runs
    assert run["w"].array.tolist() == W


def test_columns_are_named_by_the_line_above(tmp_path: Path) -> None:
    lines = ["name   torch   mine", *(f"{name}  {n}  {2 * n}" for name, n in ENTRIES)]
    path = _written(tmp_path / "a.txt", lines)
    (run,) = read_claims(path).runs
    assert list(run) == ["fc.w.torch", "fc.w.mine", "fc.b.torch", "fc.b.mine"]
    assert run["fc.w.mine"].array.tolist() == (2 * np.array(W)).tolist()
    assert diff(RIGHT, path).verdict is Verdict.INCONCLUSIVE
    assert diff(path, names=("torch", "torch")).verdict is Verdict.AGREES
    assert diff(path, names=("torch", "mine")).verdict is Verdict.DISAGREES


@pytest.mark.parametrize("missing", [[0], [3], [5], [4, 5], [6], [8], [0, 1]])
def test_a_missing_entry_is_not_a_wrong_one(tmp_path: Path, missing: list[int]) -> None:
    lines = [f"{name} {n}" for k, (name, n) in enumerate(ENTRIES) if k not in missing]
    assert diff(RIGHT, _written(tmp_path / "a.txt", lines)).verdict is Verdict.INCONCLUSIVE


def test_scattered_entries_alone_are_no_claims(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.txt", [f"{name} {n}" for name, n in ENTRIES[:6:3]])
    with pytest.raises(FileFormatError, match="2 entries do not fill the shape"):
        read_claims(path)


def test_what_is_left_of_a_tensor_is_still_judged(tmp_path: Path) -> None:
    lines = [f"{name} {n + (k == 1)}" for k, (name, n) in enumerate(ENTRIES) if k not in (4, 5)]
    assert diff(RIGHT, _written(tmp_path / "a.txt", lines)).verdict is Verdict.DISAGREES


def test_entries_come_again_in_another_run(tmp_path: Path) -> None:
    lines = [f"{name} {factor * n}" for factor in (1, 2) for name, n in ENTRIES]
    runs = read_claims(_written(tmp_path / "a.txt", lines)).runs
    assert [run["fc.b"].array.tolist() for run in runs] == [B, [3.0, -5.0, 7.0]]


def test_a_shape_or_the_number_of_a_layer_is_no_entry(tmp_path: Path) -> None:
    lines = ["w[1,2]: 0.25 0.5", "b[2]: 0.125 0.75", "", "p[0] 0.25 0.5 0.75", "p[1] 0.25 0.5"]
    (run,) = read_claims(_written(tmp_path / "a.txt", lines)).runs
    assert [claim.array.size for claim in run.values()] == [2, 2, 3, 2]


def test_rows_that_a_table_counts_are_no_places(tmp_path: Path) -> None:
    numbers = [(name[3], n) for name, n in ENTRIES]
    rows = [f"{name},{k},{n}" for k, (name, n) in enumerate(numbers)]
    path = _written(tmp_path / "a.csv", ["name,index,value", *rows])
    (run,) = read_claims(path).runs
    assert run["b"].array.tolist() == B


def test_the_name_of_entries_may_begin_with_a_letter_of_any_script(tmp_path: Path) -> None:
    lines = [f"ä.w[{i},{j}] = {W[i][j]}" for i in range(3) for j in range(2)]
    claims = read_claims(_written(tmp_path / "a.txt", lines))
    assert [{name: claim.array.tolist() for name, claim in run.items()} for run in claims.runs] == [
        {"ä.w": W}
    ]
