"""Cells of tables that should be numbers and are none, or may be several: none is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradwitness import FileFormatError
from gradwitness.claims.sources import read_claims

if TYPE_CHECKING:
    from pathlib import Path

    from gradwitness.claims.claim import Claims


def read(tmp_path: Path, content: str) -> Claims:
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8")
    return read_claims(path)


NO_NUMBERS = ["abc", "1.5%", "1e5e5", "0x10", "#N/A", "--", "1d5", "1.5e", "\u0661"]


@pytest.mark.parametrize("cell", NO_NUMBERS)
@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("name,index,value\nw,0,0.5\nb,0,{}\n", 3),
        ("name,value\nw,0.5\nb,{}\nc,0.25\n", 3),
        ("w,0.5\nb,{}\nc,0.25\n", 2),
    ],
)
def test_a_cell_that_is_no_number_is_named(tmp_path: Path, table: str, row: int, cell: str) -> None:
    with pytest.raises(FileFormatError) as error:
        read(tmp_path, table.format(cell))
    assert f"a.csv, row {row}," in str(error.value)
    told = "Write NaN where" if cell in ("#N/A", "--") else "Write decimals with a point"
    assert f"expected a number, found {cell!r}. {told}" in str(error.value)


@pytest.mark.parametrize("cell", ["--", "-", "None", "null", "N/A", "#N/A", "?"])
@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.csv", "name,value\nw,0.5\nb,{}\n", "a.csv, row 3, value: expected a number"),
        ("a.csv", "1,2,3\n4,{},6\n", "a.csv, row 2: expected 3 numbers"),
        ("a.csv", "1,{},3\n4,5,6\n", "a.csv, row 1: expected a number in cell 2"),
        ("a.md", "|name|value|\n|-|-|\n|w|0.5|\n|b|{}|\n", "a.md, row 2, value: expected a number"),
        ("a.json", '{{"w": [1, "{}"]}}', "a.json: expected only numbers in 'w'"),
        ("a.txt", "w\n1 2 3\n4 {} 6\n", "a.txt, line 3, column 3: expected a number, ',' or ']'"),
        ("a.txt", "w = [[1, 2], [{}, 3]]\n", "a.txt, line 1, column 15: expected a number"),
    ],
)
def test_what_to_write_where_there_is_no_number(
    tmp_path: Path, name: str, content: str, place: str, cell: str
) -> None:
    path = tmp_path / name
    path.write_text(content.format(cell))
    with pytest.raises(FileFormatError) as error:
        read_claims(path)
    text = str(error.value)
    assert text.startswith(f"{tmp_path}/{place}")
    assert f"found {cell!r}." in text
    assert "nan where there is no number." in text.lower()


@pytest.mark.parametrize(
    "cell",
    ["1,5", "0,5 0,25", "1,5e3", "1,234", "1,234.5", "1 000.5", "100 200 300", "1.234,5"],
)
@pytest.mark.parametrize(
    "table",
    ['name,value\nw,0.5\nb,"{}"\n', 'name,value\nb,"{}"\n', "name;value\nw;0.5\nb;{}\n"],
)
def test_a_cell_that_may_be_one_number_or_several_is_refused(
    tmp_path: Path, table: str, cell: str
) -> None:
    with pytest.raises(FileFormatError, match=r"a\.csv, row \d, .*: .* may be one number or two"):
        read(tmp_path, table.format(cell))


@pytest.mark.parametrize("cell", ["[1, 5]", "[1,5]", "1, 5", "1 5", "1,5,7", "0.5,1.5", "1.5 2.5"])
def test_lists_in_cells_are_lists(tmp_path: Path, cell: str) -> None:
    (run,) = read(tmp_path, f'name,value\nw,0.5\nb,"{cell}"\n').runs
    words = cell.strip("[]").replace(",", " ").split()
    assert run["b"].array.tolist() == [float(word) for word in words]


def test_indices_names_and_shapes_may_look_like_decimals(tmp_path: Path) -> None:
    table = 'name,index,shape,value\n"1,5","0,1","1,2",0.25\n"1,5","0,0","1,2",0.5\n'
    (run,) = read(tmp_path, table).runs
    assert run["1,5"].array.tolist() == [[0.5, 0.25]]


def test_remarks_beside_numbers_are_no_numbers(tmp_path: Path) -> None:
    (run,) = read(tmp_path, "name,value,remark\nw,0.5,\nb,1.5,odd\n").runs
    assert [claim.array.tolist() for claim in run.values()] == [0.5, 1.5]


def test_a_name_without_any_number_is_told(tmp_path: Path) -> None:
    claims = read(tmp_path, "name,index,value\nw,0,0.5\nb,0,\n")
    assert [[*run] for run in claims.runs] == [["w"]]
    assert claims.notes == ("b: its cells are empty, and it was left out",)
