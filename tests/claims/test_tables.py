"""Tables as pandas and people write them: CSV, and JSON with a record a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradwitness import FileFormatError
from gradwitness.claims.sources import read_claims

if TYPE_CHECKING:
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

    from gradwitness.claims.claim import Claims, Run

W = [[0.125, -0.25], [0.375, 0.5], [0.625, -0.75]]
B = [1.5, -2.5, 3.5]

# What pandas 3.0.6 wrote for W and B; the names say how. A cell of a list is its text, quoted.
WIDE = ",w,b\n0,0.125,1.5\n1,-0.25,-2.5\n2,0.375,3.5\n3,0.5,\n4,0.625,\n5,-0.75,\n"
LONG = """name,index,value
w,"(0, 0)",0.125
w,"(0, 1)",-0.25
w,"(1, 0)",0.375
w,"(1, 1)",0.5
w,"(2, 0)",0.625
w,"(2, 1)",-0.75
b,0,1.5
b,1,-2.5
b,2,3.5
"""
SHUFFLED = LONG.splitlines()[:1] + LONG.splitlines()[:0:-1]
CELLS = """,name,shape,dtype,grad
0,w,"(3, 2)",float64,"[[ 0.125 -0.25 ]
 [ 0.375  0.5  ]
 [ 0.625 -0.75 ]]"
1,b,"(3,)",float64,[ 1.5 -2.5  3.5]
"""
TORCH = """name,grad
w,"tensor([[ 0.1250, -0.2500],
        [ 0.3750,  0.5000],
        [ 0.6250, -0.7500]])"
b,"tensor([ 1.5000, -2.5000,  3.5000])"
"""
TABLES = {
    "wide.csv": WIDE,
    "wide without an index.csv": "w,b\n" + "\n".join(row[2:] for row in WIDE.splitlines()[1:]),
    "wide, filled up with NaN.csv": WIDE.replace(",\n", ",NaN\n"),
    "numbers in cells.csv": 'name,grad\nw,0.125 -0.25 0.375 0.5 0.625 -0.75\nb,"1.5, -2.5, 3.5"\n',
    "semicolons.csv": WIDE.replace(",", ";"),
    "tabs.tsv": WIDE.replace(",", "\t"),
    "long.csv": LONG,
    "long in another order.csv": "\n".join(SHUFFLED),
    "long, rows and columns.csv": "param,row,col,grad\n"
    + "".join(f"w,{i},{j},{W[i][j]}\n" for i in range(3) for j in range(2))
    + "".join(f"b,{i},,{B[i]}\n" for i in range(3)),
    "long, counted from 1.csv": "name,i,value\n" + "".join(f"b,{i + 1},{B[i]}\n" for i in range(3)),
    "long without an index.csv": "name,value\n"
    + "".join(f"{name},{x}\n" for name, t in (("w", np.ravel(W).tolist()), ("b", B)) for x in t),
    "a row each.csv": ",0,1,2,3,4,5\nw,0.125,-0.25,0.375,0.5,0.625,-0.75\nb,1.5,-2.5,3.5,,,\n",
    "arrays in cells.csv": CELLS,
    "tensors in cells.csv": TORCH,
    "arrays in one row.csv": f',w,b\n0,"{W}","{B}"\n',
    "records.jsonl": "\n".join(json.dumps({"name": n, "grad": t}) for n, t in (("w", W), ("b", B))),
    "trees.jsonl": json.dumps({"step": "first", "grads": {"w": W, "b": B}}) + "\n\n",
    "entries.jsonl": "\n".join(
        json.dumps({"name": "w", "index": [i, j], "value": W[i][j]})
        for i in range(3)
        for j in range(2)
    ),
    "Markdown, arrays.md": "Gradients:\n\n| name | value |\n|------|:-----:|\n"
    f"| `w` | `{W}` |\n| **b** | {B} |\n",
    "Markdown, entries.txt": "param|row|col|grad\n-|-|-|-\n"
    + "".join(f"w|{i}|{j}|{W[i][j]}\n" for i in range(3) for j in range(2))
    + "\nand in another table with these columns\n\n|param|row|col|grad|\n|-|-|-|-|\n"
    + "".join(f"|b|{i}||{B[i]}|\n" for i in range(3)),
    "records.json": json.dumps([{"name": "b", "index": i, "value": B[i]} for i in range(3)]),
}


def read(folder: Path, name: str, content: str) -> Claims:
    (folder / name).write_text(content, encoding="utf-8")
    return read_claims(folder / name)


def only(claims: Claims) -> Run:
    (run,) = claims.runs
    return run


@pytest.mark.parametrize("name", TABLES)
def test_a_table_holds_its_tensors(tmp_path: Path, name: str) -> None:
    run = only(read(tmp_path, name, TABLES[name]))
    expected = {"w": np.array(W), "b": np.array(B)}
    assert run
    for full, claim in run.items():
        right = expected[full.removeprefix("grads.")]
        assert np.array_equal(claim.array.reshape(-1), right.reshape(-1)), full
        if claim.array.ndim > 1:
            assert claim.array.shape == right.shape
    # A table with indices, or arrays, keeps the shape.
    if name in ("long.csv", "long, rows and columns.csv", "arrays in cells.csv", "records.jsonl"):
        assert run["w"].array.shape == (3, 2)


ROWS = {
    "entries": [f"w,{n}" for row in W for n in row] + [f"b,{n}" for n in B],
    "rows": [f"w,{row[0]},{row[1]}" for row in W] + ["b," + ",".join(map(str, B))],
    "indices": [f"w,{i},{j},{W[i][j]}" for i in range(3) for j in range(2)]
    + [f"b,{i},{B[i]}" for i in range(3)],
    "indices in one cell": [f'w,"({i}, {j})",{W[i][j]}' for i in range(3) for j in range(2)]
    + [f"b,{i},{B[i]}" for i in range(3)],
}


@pytest.mark.parametrize("form", ROWS)
def test_a_row_of_numbers_is_no_header(tmp_path: Path, form: str) -> None:
    run = only(read(tmp_path, "a.csv", "\n".join(ROWS[form])))
    assert list(run) == ["w", "b"]
    assert run["w"].array.reshape(-1).tolist() == [n for row in W for n in row]
    assert run["b"].array.tolist() == B
    if "indices" in form:
        assert run["w"].array.shape == (3, 2)


def test_whole_numbers_alone_are_no_indices(tmp_path: Path) -> None:
    run = only(read(tmp_path, "a.csv", "w,2,4,6\nb,1,3,5\n"))
    assert [claim.array.tolist() for claim in run.values()] == [[2, 4, 6], [1, 3, 5]]


@pytest.mark.parametrize("header", ["name,0,1,2", "name,1,2,3", ",0,1,2", "name,value"])
def test_a_header_may_number_its_columns(tmp_path: Path, header: str) -> None:
    row = "b," + ",".join(map(str, B[: header.count(",")]))
    run = only(read(tmp_path, "a.csv", f"{header}\n{row}\n"))
    assert list(run) == ["b"]


def test_a_matrix_is_named_as_its_file(tmp_path: Path) -> None:
    matrix = ",0,1\n0,0.125,-0.25\n1,0.375,0.5\n2,0.625,-0.75\n"
    plain = "0.125,-0.25\n0.375,0.5\n0.625,-0.75\n"
    for content in (matrix, plain):
        claim = only(read(tmp_path, "fc.weight.csv", content))["fc.weight"]
        assert claim.array.tolist() == W


def test_digits_in_a_table_are_what_they_are(tmp_path: Path) -> None:
    run = only(read(tmp_path, "a.csv", "w,v\n0.1234,1.5e-03\n0.5000,0.0e+00\n0.0000,2.5e-03\n"))
    assert run["w"].rounding == 5e-5
    assert run["v"].rounding == 5e-5


def test_what_numpy_left_out_of_a_cell_is_left_out(tmp_path: Path) -> None:
    claim = only(read(tmp_path, "a.csv", f'name,grad\nw,"{np.linspace(0, 1, 2000)}"\n'))["w"]
    assert claim.gaps == (3,)


def test_runs_of_a_table(tmp_path: Path) -> None:
    rows = [(run, i, B[i] + run) for run in (1, 2) for i in range(3)]
    told = "".join(f"{run},b,{i},{x}\n" for run, i, x in rows)
    untold = "".join(f"b,{i},{x}\n" for _, i, x in rows)
    lines = "\n".join(json.dumps({"b": [x + run for x in B]}) for run in (1, 2))
    for name, content in (
        ("a.csv", f"step,name,index,value\n{told}"),
        ("b.csv", f"name,index,value\n{untold}"),
        ("c.jsonl", lines),
    ):
        runs = read(tmp_path, name, content).runs
        assert [run["b"].array.tolist() for run in runs] == [[2.5, -1.5, 4.5], [3.5, -0.5, 5.5]]


def test_two_columns_of_values_have_two_names(tmp_path: Path) -> None:
    content = "name,index,numerical,analytical\nb,0,1.5,1.5\nb,1,-2.5,2.5\n"
    run = only(read(tmp_path, "a.csv", content))
    assert {name: claim.array.tolist() for name, claim in run.items()} == {
        "b.numerical": [1.5, -2.5],
        "b.analytical": [1.5, 2.5],
    }


def test_tables_of_a_text_are_all_that_is_read_of_it(tmp_path: Path) -> None:
    content = """
norm = 0.25

| name | a\\|b |
|------|------|
| fc\\_w | 0.5 |

| name | c |
|------|---|
| v | 2 |
"""
    claims = read(tmp_path, "a.md", content)
    assert [{n: c.array.item() for n, c in run.items()} for run in claims.runs] == [
        {"fc_w": 0.5},
        {"v": 2.0},
    ]
    assert claims.notes == ("2 Markdown tables are read, and no other text",)
    with pytest.raises(FileFormatError, match="a row of 3 cells below 2 names"):
        read(tmp_path, "b.md", "|name|value|\n|---|---|\n|w|1.5|2.5|\n")


def test_bars_alone_are_no_table(tmp_path: Path) -> None:
    run = only(read(tmp_path, "a.txt", "|w| = [0.5, 1.5]\n|b| = [2.5]\n"))
    assert [claim.array.tolist() for claim in run.values()] == [[0.5, 1.5], [2.5]]


def test_nan_that_was_taken_for_filling_is_told(tmp_path: Path) -> None:
    claims = read(tmp_path, "a.csv", "a,b,c\n1,2,3\n4,nan,\n5,nan,\n")
    assert only(claims)["b"].array.tolist() == 2
    assert claims.notes == ("b: NaN at its end (in 2 cells) was taken for filling",)


def test_an_empty_cell_within_is_nan(tmp_path: Path) -> None:
    claim = only(read(tmp_path, "a.csv", "b,c\n1.5,1\n,2\n3.5,3\n,4\n"))["b"]
    assert np.array_equal(claim.array, [1.5, np.nan, 3.5], equal_nan=True)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "a,b\n",
        "a,b\n1,2,3\n",
        "0.5,1.5\n2.5\n",
        "0.5,1.5\n2.5,x\n",
        "w,b\n1,x\n2,3\n",
        "name,index,value\nw,0,1\nw,2,3\n",
        "name,index,value\nw,0,1\nw,,3\n",
        'name,index,value\nw,"(0, 0)",1\nw,1,3\n',
        "name,index,value\nw,0,1\nw,999999999,3\n",
        "name,text\nw,x\n",
        'name,grad\nw,"[[1, 2], [3]]"\n',
        'name,grad\nw,"[1, 2\n',
    ],
)
def test_what_is_no_table_is_named(
    tmp_path: Path, content: str, snapshot: SnapshotAssertion
) -> None:
    with pytest.raises(FileFormatError) as error:
        read(tmp_path, "a.csv", content)
    assert str(error.value).removeprefix(f"{tmp_path}/") == snapshot


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"a\.jsonl, line 3, column 8: not JSON"):
        read(tmp_path, "a.jsonl", '{"w": 1}\n\n{"w": 1')


@pytest.mark.parametrize("text", ["0,1\n1.5,2.5\n", ",0,1\n0,1.5,2.5\n"])
def test_one_row_below_counted_columns(tmp_path: Path, text: str) -> None:
    (tmp_path / "w.csv").write_text(text)
    (run,) = read_claims(tmp_path / "w.csv").runs
    assert run["w"].array.tolist() == [[1.5, 2.5]]


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        ("csv", "\u0661,\u0662\n\u0663,\u0664\n"),
        ("csv", "a,b\n\u0661,\u0662\n"),
        ("md", "|name|value|\n|-|-|\n|w|\u0661|\n"),
    ],
)
def test_digits_of_other_scripts_are_no_numbers(tmp_path: Path, ending: str, text: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileFormatError, match="no numbers found"):
        read_claims(path)


@pytest.mark.parametrize(
    "indices",
    [("0", "-2", "-1"), ("[1]", "[-1]"), ("[1, 0]", "[-1, 0]"), ("(0, - 1)", "(0, 0)")],
    ids=str,
)
def test_negative_indices_are_refused(tmp_path: Path, indices: tuple[str, ...]) -> None:
    # -1 is no 1: the entries would come in another order.
    rows = "".join(f'w,"{index}",{n}.5\n' for n, index in enumerate(indices))
    with pytest.raises(FileFormatError, match="an entry with a negative index"):
        read(tmp_path, "a.csv", f"name,index,value\n{rows}")


def test_a_dash_between_indices_is_no_sign(tmp_path: Path) -> None:
    text = "name,index,value\nw,0-1,1.5\nw,0-0,0.5\n"
    assert only(read(tmp_path, "a.csv", text))["w"].array.tolist() == [[0.5, 1.5]]
