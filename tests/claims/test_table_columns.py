"""Tables that are read by columns say what they say when read cell by cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from claims.told import told
from gradwitness.claims import csv_file
from gradwitness.claims.sources import read_claims

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = ["0.5", "-1.25e-3", "3", "0", "7.0", "nan", "1e0", "-0.0", "+2", "inf", "123456.789"]
NAMES = [
    "w", "b", "fc.weight", "w1", "a.b", "nan", "x y", "1", "[2]", "ü", '"w"', "w ", " w",
    "w_1.weight",
    "w_2.weight", "w_1.weights",
]  # fmt: skip
INDICES = [
    "0",
    "1",
    "2",
    "3",
    "01",
    "+1",
    "1.0",
    "",
    '"(0, 1)"',
    '"(1, 0)"',
    '"(1,)"',
    "9999999999",
]
HEADERS = [
    "name", "param", "layer", "step", "run", "i", "row", "col", "index", "value", "grad", "torch",
    "", "Unnamed: 0", "dtype", "0", "1", "2", "w", "epoch",
]  # fmt: skip
ODD = [
    "", " ", " 1.5", "1 2", "1,2", '"1,000.5"', "x", '"[1, 2]"', "1.5\t", "1_0", "0x10", "\x0b",
    '"1.5"',
    '"', '""', ' "w"', '"w" ', 'a"b', '"a""b"', '"a\nb"', '"a\n\nb"', '"0,1"', "\x1f1", "1\xa0",
    "w\xa0", "1" * 20, "w" * 300, " " * 40 + "1", "nan(1)", "1.2.3", "1e5e3", "(0, 1)", "1\r2",
]  # fmt: skip


def cell_by_cell(path: Path) -> Any:
    """Return what it says if nothing is read at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_file, "_at_once", lambda *_: None)
        patch.setattr(csv_file, "_columns_by_name", lambda *_: None)
        return told(path)


@st.composite
def tables(draw: st.DrawFn) -> str:
    """Draw tables that are mostly in order, and a little odd."""
    headers = draw(st.lists(st.sampled_from(HEADERS), min_size=1, max_size=5, unique=True))
    count = draw(st.integers(0, 8))
    columns = []
    for header in headers:
        kind = INDICES if is_index(header) else NAMES if header in HEADERS[:3] else NUMBERS
        some = draw(st.lists(st.sampled_from(kind), min_size=1, max_size=3))
        if draw(st.booleans()) and kind is not NAMES:
            cells = [str(n) for n in range(count)]
        elif draw(st.booleans()):
            cells = [some[n * len(some) // max(count, 1)] for n in range(count)]
        else:
            cells = [some[n % len(some)] for n in range(count)]
        columns.append(cells)
    rows = [list(row) for row in zip(*columns, strict=True)]
    if rows and draw(st.integers(0, 3)) == 0:
        row = draw(st.sampled_from(rows))
        row[draw(st.integers(0, len(row) - 1))] = draw(st.sampled_from(ODD))
    lines = [",".join(row) for row in rows]
    if lines and draw(st.integers(0, 5)) == 0:
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(["", " ", ",", "1"])))
    if draw(st.integers(0, 3)):
        lines.insert(0, ",".join(headers))
    newline = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    return draw(st.sampled_from(["", "", "\ufeff"])) + newline.join(lines) + newline


def is_index(header: str) -> bool:
    return header in ("i", "row", "col", "index")


@given(content=tables())
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tables_read_by_columns(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8", newline="")
    assert told(path) == cell_by_cell(path)


ODD_TABLES = {
    "indices of two lengths": "name,row,col,value\nw,0,0,1.5\nw,1,,2.5\n",
    "rows of three and one": "name,value\nw,1.5,b\n2.5\n",
    "numbered names": "layer,value\n1,0.5\n2,1.5\n2,2.5\n",
    "names in turn": "name,value\n" + "".join(f"{'vwx'[n % 3]},{n}.5\n" for n in range(3000)),
    "null": "name,value\nw,1.5\n\0w,2.5\n",
    "no UTF-8": b"name,value\nw,1.5\nw\xe2\x82,2.5\n".decode("latin-1"),
    "one column": "name\nw\n",
    "twice": "name,index,value\nw,0,1.5\nw,1,2.5\nw,0,3.5\nw,1,4.5\n",
    "no index": "name,index,value\nw,,1.5\nw,,2.5\n",
    "huge index": "name,index,value\nw,999999999,1.5\nw,0,2.5\n",
    "runs that count rows": "step,name,i,value\n1,a,0,1\n1,b,1,2\n2,a,0,3\n2,b,1,4\n",
    "odd index beside no name": 'value,i\n0.5,"1,000.5"\n',
    "filled up": "name,a,b\nw,1.5,2.5\nw,3.5,\n",
}


@pytest.mark.parametrize("form", ODD_TABLES)
def test_odd_tables(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(ODD_TABLES[form], encoding="latin-1")
    assert told(path) == cell_by_cell(path)


W = np.random.default_rng(0).normal(size=(30, 20))
LONG = {
    "entries": ["name,row,col,value"]
    + [f"w{n},{i},{j},{x:.5e}" for n in "ab" for (i, j), x in np.ndenumerate(W)]
    + [f"bias,{i},,{x:.5e}" for i, x in enumerate(W[0])],
    "from 1": ["param,i,j,a,b"]
    + [f"w,{i + 1},{j + 1},{x},{-x}" for (i, j), x in np.ndenumerate(W)],
    "tuples": ["name,index,value"]
    + [f'w,"{at}",{x}' for at, x in np.ndenumerate(W)]
    + [f"b,{i},{x}" for i, x in enumerate(W[0])],
    "shuffled": ["name,i,value"] + [f"{'vw'[i % 2]},{i // 2},{x}" for i, x in enumerate(W.flat)],
    "runs": ["step,name,index,value"]
    + [f"{s},w,{i},{x * s}" for s in (1, 2) for i, x in enumerate(W.flat)],
    "rows by name": [f"w{n}," + ",".join(map(str, row)) for n, row in enumerate(W.tolist())],
    "counted rows": [",a,b"] + [f"{n},{row[0]},{row[1]}" for n, row in enumerate(W)],
    "side by side": [",0,1,2"] + [f"w{n // 2},{r[0]},{r[1]},{r[2]}" for n, r in enumerate(W)],
    "placed by name": [f"w,{i},{j},{x}" for (i, j), x in np.ndenumerate(W)],
}


@pytest.mark.parametrize("form", LONG)
def test_long_tables_are_read_by_columns(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(LONG[form]))
    slow = cell_by_cell(path)
    monkeypatch.setattr(csv_file, "Records", None)  # it is not needed
    assert told(path) == slow
    claims = read_claims(path)
    whole = [claim for claim in claims.runs[0].values() if claim.array.shape == W.shape]
    if form in ("entries", "from 1", "tuples", "placed by name"):
        assert np.allclose(whole[0].array, W, rtol=1e-5)
