"""Text with an entry of a tensor in each line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from claims.told import told
from gradwitness import FileFormatError, Verdict, diff
from gradwitness.claims import text
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


NAMES = ["w", "fc.b", "a_1", "nan", "x y", "e", "shape", "layer.0.w", "ü"]
INDICES = ["0", "1", "2", "0,1", "0, 0", "1,0", "1,1", "01", "0,", "", "9999999999", "-1", "1 1"]
NUMBERS = ["0.5", "-1.25e-3", "3", "nan", "1.5 2.5", "x", "", "1,5", "inf", "1e5 # no"]
ODD_LINES = [
    "",
    " ",
    "text",
    "w: 1.5",
    "w[0][1] = 2",
    "w (0) = 1",
    "1.5",
    "[1, 2]",
    "1e-2 *",
    "- w[1]: 2",
]


@st.composite
def entries(draw: st.DrawFn) -> str:
    """Draw lines with entries of tensors that are mostly whole."""
    names = draw(st.lists(st.sampled_from(NAMES[:3]), min_size=1, max_size=3, unique=True))
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    begin = draw(st.integers(0, 1))
    sign = draw(st.sampled_from([" = ", ": ", "=", " ", "\t", " :  "]))
    between = draw(st.sampled_from([",", ", "]))
    places = [between.join(str(n + begin) for n in at) for at in np.ndindex(*shape)]
    cells = [[name, place] for name in names for place in places]
    if draw(st.booleans()):
        cells = draw(st.permutations(cells))
    numbers = draw(st.lists(st.sampled_from(NUMBERS[:4]), min_size=1, max_size=3))
    rows = [[*cell, numbers[n % len(numbers)]] for n, cell in enumerate(cells)]
    if draw(st.booleans()):
        odd = draw(st.sampled_from(rows))
        at = draw(st.integers(0, 2))
        odd[at] = draw(st.sampled_from([NAMES, INDICES, NUMBERS][at]))
    lines = [f"{name}[{place}]{sign}{number}" for name, place, number in rows]
    if draw(st.booleans()):
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(ODD_LINES)))
    newline = draw(st.sampled_from(["\n", "\n", "\r\n", "\n\n", " \n"]))
    return newline.join(lines) + draw(st.sampled_from(["", "\n"]))


@given(content=entries())
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_entries_read_at_once_are_those_read_one_by_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(content, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "read_entries", lambda *_: None)
        one_by_one = told(path)
    assert told(path) == one_by_one


def test_entries_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "Records", None)  # it is not needed
    lines = [f"w[{i},{j}] = {W[i][j]}" for i in range(3) for j in range(2)]
    (run,) = read_claims(_written(tmp_path / "a.txt", lines)).runs
    assert run["w"].array.tolist() == W
