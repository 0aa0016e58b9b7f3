"""Rows and tables that are read many lines at a time say what they say when read line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from claims.told import told
from gradwitness import FileFormatError
from gradwitness.claims import csv_file, text_brackets
from gradwitness.claims.sources import read_claims
from gradwitness.files import printed_numbers

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = np.random.default_rng(0).normal(size=(40, 7)) * 10.0 ** np.arange(-3, 4)
FORMS = ["%.4f", "%.8e", "%.17g", "%g"]


def rows(form: str, delimiter: str = " ", newline: str = "\n", end: str = "\n") -> str:
    lines = [delimiter.join(form % x for x in row) for row in NUMBERS.tolist()]
    return newline.join(lines) + end


TEXTS = {
    **{form: rows(form) for form in FORMS},
    "commas": rows("%.4f", ", "),
    "crlf": rows("%.4f", newline="\r\n"),
    "no end": rows("%.4f", end=""),
    "blank end": rows("%.4f", end="\n\n \n"),
    "named": "a\n" + rows("%.4f") + "\nb\n" + rows("%.6f"),
    "declared": rows("%.4f") + "[ CPUFloatType{40,7} ]\n" + rows("%.4f"),
    "blank line of spaces": rows("%.4f") + " \t\n" + rows("%.4f"),
    "name follows": rows("%.4f") + "b\n" + rows("%.4f"),
    "nan": rows("%.4f").replace("\n", "\nnan 1 2 3 4 5 -inf\n", 20),
    "one nan": rows("%.4f") + "1 2 3 nan 5 6 7\n" + rows("%.4f"),
    "short row": rows("%.4f") + "1.5 2.5\n" + rows("%.4f"),
    "long row": rows("%.4f", end="") + " 1.5\n",
    "no number": rows("%.4f") + "1 2 3 4 5 6 7-\n" + rows("%.4f"),
    "two points": rows("%.4f") + "1 2 3 4 5 6 7.5.\n",
    "bracket": rows("%.4f") + "[1, 2, 3]\n",
    "control": rows("%.4f") + "1 2 3 4 5 6\v7\n",
    "columns": "Columns 1 to 7\n" + rows("%.4f") + "Columns 8 to 14\n" + rows("%.4f"),
    "infinite": rows("%.4f") + "infinity nan 1 -inf 5 6 7\n" + rows("%.4f"),
    "name of e": rows("%.4f") + "E\n" + rows("%.4f"),
    "factor": "1e-3 *\n" + rows("%.4f"),
}
TABLES = {
    **{form: rows(form, ",") for form in FORMS},
    "tabs": rows("%.4f", "\t"),
    "semicolons": rows("%.4f", ";"),
    "spaces": rows("%.4f", " , "),
    "crlf": rows("%.4f", ",", "\r\n"),
    "cr": rows("%.4f", ",", "\r", "\r"),
    "no end": rows("%.4f", ",", end=""),
    "hash": "# " + rows("%.4f", ","),
    "quotes": rows("%.4f", ",") + '"1",2,3,4,5,6,7\n',
    "nan": rows("%.4f", ",") + "nan,2,3,4,5,6,-inf\n",
    "empty line": rows("%.4f", ",") + "\n" + rows("%.4f", ","),
}
WRONG_ROWS = {
    "empty cell": "1,,3,4,5,6,7",
    "two in a cell": "1 2,,3,4,5,6,7",
    "two in the last": ",1,2,3,4,5,6 7",
    "shifted": "1 2,3,4,5,6,7\n,1,2,3,4,5,6,7",
    "short row": "1,2",
    "wrapped": "1,2,3,4,5\n6,7",
    "uneven": "1,2,3,4,5,6,7,8\n1,2,3,4,5,6",
    "long row": "1,2,3,4,5,6,7,8,9,10,11,12,13,14",
    "no number": "1,2,3,4,5,6,7-",
}


@pytest.mark.parametrize("form", TEXTS)
def test_rows(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXTS[form].encode())
    monkeypatch.setattr(text_brackets, "_BY_LINE", 1 << 30)
    by_line = told(path)
    for size in (1, 100, 700, 10**5):
        monkeypatch.setattr(text_brackets, "_BY_LINE", 1)
        monkeypatch.setattr(text_brackets, "BLOCK", size)
        assert told(path) == by_line


@pytest.mark.parametrize("form", TABLES)
def test_tables(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ("a.tsv" if form == "tabs" else "a.csv")
    path.write_bytes(TABLES[form].encode())
    at_once = []
    for size in (100, 10**5):
        monkeypatch.setattr(printed_numbers, "BLOCK", size)
        at_once.append(told(path))
    monkeypatch.setattr(csv_file, "_plain_matrix", lambda *_: None)
    assert at_once == [told(path)] * 2


@pytest.mark.parametrize("form", WRONG_ROWS)
def test_tables_with_a_wrong_row(form: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(rows("%.4f", ",") + WRONG_ROWS[form] + "\n" + rows("%.4f", ","))
    assert told(path).startswith(f"{path}, row 41: expected 7 numbers")


def test_most_lines_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise the two above would compare one way of reading with itself.
    read = []

    def counted(text: bytes, also: bytes = b"") -> Any:
        printed = printed_numbers.read_printed(text, also)
        read.append(len(printed.ends))
        return printed

    for module, name in ((text_brackets, "a.txt"), (csv_file, "a.csv")):
        monkeypatch.setattr(module, "read_printed", counted)
        (tmp_path / name).write_text(rows("%.40f", "," if name.endswith("csv") else " "))
        read.clear()
        told(tmp_path / name)
        assert sum(read) == NUMBERS.size


def test_columns_are_counted_in_characters(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("w\u00df: [1, x]\n", encoding="utf-8")
    with pytest.raises(FileFormatError, match="line 1, column 9"):
        read_claims(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("end", "problem"), [("", "never closed"), ("x]", "found 'x'"), ("... 1]", "")]
)
def test_a_long_row_is_looked_through_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, problem: str
) -> None:
    looked: list[int] = []
    row = text_brackets._ROW

    class Row:
        @staticmethod
        def match(content: bytes, at: int) -> Any:
            looked.append(at)
            return row.match(content, at)

    monkeypatch.setattr(text_brackets, "_ROW", Row)
    (tmp_path / "a.txt").write_text("w: [" + "1.5 " * 1000 + end)
    if problem:
        with pytest.raises(FileFormatError, match=problem):
            read_claims(tmp_path / "a.txt")
    else:
        assert read_claims(tmp_path / "a.txt").runs[0]["w"].gaps == (1000,)
    assert len(looked) <= 2
