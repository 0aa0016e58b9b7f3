"""Text in which something is amiss: nothing that looks like numbers is left out in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradwitness._errors import FileFormatError
from gradwitness.claims.sources import read_claims

if TYPE_CHECKING:
    from pathlib import Path

    from gradwitness.claims.claim import Claims


def read(tmp_path: Path, name: str, content: str | bytes) -> Claims:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_claims(path)


@pytest.mark.parametrize(
    ("name", "content", "where", "found"),
    [
        ("a.txt", "1,2\n3,x\n", "line 2, column 3", "'x'"),
        ("a.txt", "1 2\n3 4\n5 x\n", "line 3, column 3", "'x'"),
        ("a.txt", "1 2\n3 4 # the end\n", "line 2, column 5", "'#'"),
        ("a.txt", b"1 2\n" * 2000 + b"3 \0004\n", "line 2001, column 3", r"'\x004'"),
        ("a.txt", b"1 2\n3 \xe9\n", "line 2, column 3", "'\ufffd'"),
        ("a.txt", "a,b\n1,2\n3,x\n", "line 3, column 3", "'x'"),
        ("a.txt", "1,234.5 2,345.5\n", "line 1, column 1", "'1,234.5'"),
        ("a.txt", "0,5 0,25\n0,75 0,125\n", "line 1, column 1", "'0,5'"),
        ("a.txt", "w: [0,5 0,25]", "line 1, column 5", "'0,5'"),
        ("a.txt", "1,2\n3,,4\n", "line 2, column 2", "nothing between two commas"),
        ("a.txt", "w: [1, , 3]", "line 1, column 6", "nothing between two commas"),
        ("a.csv", "1,2\n3,x\n", "row 2", "expected 2 numbers"),
        ("a.csv", "1 2\n3 x\n", "line 2, column 3", "'x'"),
        ("a.csv", "0,5 0,25\n0,75 0,125\n", "row 1", "'5 0'"),
        ("a.csv", "0,5;0,25\n0,75;0,125\n", "row 1", "'5;0'"),
        ("a.csv", '"1,234.5","2,345.5"\n"3,456.5","4,567.5"\n', "row 1", "'1,234.5'"),
        ("a.csv", 'name,grad\nw,"1,234.5"\n', "", "'1,234.5' may be one number or two"),
        ("a.csv", "1.2.3\n4\n", "row 1", "'1.2.3'"),
        ("a.csv", "50%,25%\n1,2\n", "row 1", "'50%'"),
        ("a.csv", "1,,2\n3,,4\n", "row 1", "cell 2, found ''"),
        ("a.csv", "1,2,\n3,4,5\n", "row 2", "expected 2 numbers"),
    ],
)
def test_what_is_no_number_is_named(
    tmp_path: Path, name: str, content: str | bytes, where: str, found: str
) -> None:
    with pytest.raises(FileFormatError) as error:
        read(tmp_path, name, content)
    assert where in str(error.value)
    assert found in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("a.txt", "1 x\n3 4\n", "a.txt:1 was read as text: '1 x'"),
        ("a.txt", "1e2e3 4\n5 6\n", "a.txt:1 was read as text: '1e2e3 4'"),
        ("a.txt", "b 0.5 0.25\n\nof w 1 2 3\n", "a.txt:3 was read as text: 'of w 1 2 3'"),
        ("a.csv", "1,2 # first\n3,4\n", "its first row was read as names: '1' and '2 # first'"),
        ("a.csv", "0,1\n2,3\n", "its first row was read as names: '0' and '1'"),
        ("a.csv", "0\n1.5\n", "its first row was read as names: '0'"),
        ("a.csv", "a,0,1\nb,0,4\n", "its first row was read as names: 'a', '0' and '1'"),
        ("a.csv", "1 NA\n3 4\n", "a.csv:1 was read as text: '1 NA'"),
    ],
)
def test_numbers_that_may_be_names_are_told(
    tmp_path: Path, name: str, content: str, note: str
) -> None:
    assert note in read(tmp_path, name, content).notes


MATRIX = [[1.5, 2.5], [-3.5, 4.5]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "1.5 2.5\n-3.5 4.5\n"),
        ("a.csv", "1.5,2.5,\n-3.5,4.5,\n"),
        ("a.csv", "1.5,2.5,,\r\n-3.5,4.5,,"),
        ("a.csv", '"1.5","2.5",\n"-3.5","4.5",\n'),
        ("a.csv", "1.5,2.5\n\n\r\n-3.5,4.5\n\n"),
        ("a.csv", "\n1.5,2.5\n-3.5,4.5\n"),
        ("a.csv", "# a\n1.5,2.5\n-3.5,4.5\n"),
        ("a.csv", "# of one step\n# a\n1.5;2.5\n-3.5;4.5\n"),
        ("a.csv", "# a\n1.5 2.5\n-3.5 4.5\n"),
        ("a.csv", "1.5,2.5\r-3.5,4.5\r"),
        ("a.csv", b"\xef\xbb\xbf1.5,2.5\n-3.5,4.5\n"),
        ("a.txt", "1.5 2.5\r-3.5 4.5\r"),
        ("a.txt", "1.5,2.5\n-3.5,4.5,\n"),
        ("a.txt", "1.5, 2.5\n-3.5, 4.5\n"),
    ],
)
def test_nothing_is_lost(tmp_path: Path, name: str, content: str | bytes) -> None:
    claims = read(tmp_path, name, content)
    (run,) = claims.runs
    assert {name: claim.array.tolist() for name, claim in run.items()} == {"a": MATRIX}
    assert not claims.notes


@pytest.mark.parametrize("separator", [" ", ", ", ","])
@pytest.mark.parametrize("label", ["", "w: ", "# w\n", "layer w\n"])
def test_long_lines_are_read_whole(tmp_path: Path, separator: str, label: str) -> None:
    # The letters of each of these lines beyond which no name is looked for split another number.
    rng = np.random.default_rng(0)
    for width in range(1000, 1012):
        numbers = rng.standard_normal(width).round(6) - 1
        row = separator.join(f"{x:.6e}" for x in numbers)
        (run,) = read(tmp_path, "a.txt", f"{label}{'  ' * (width % 5)}{row}\n").runs
        (claim,) = run.values()
        assert claim.array.tolist() == [float(f"{x:.6e}") for x in numbers]


def test_columns_of_numbers_are_read_as_their_cells_are(tmp_path: Path) -> None:
    rows = [f"{n / 8},{n}.0e-1,{-n}\n" for n in range(1, 300)]
    (plain,) = read(tmp_path, "a.csv", "x,y,z\n" + "".join(rows)).runs
    # A quote is not for the fast way.
    (quoted,) = read(tmp_path, "a.csv", "x,y,z\n" + '"0.125"' + "".join(rows)[5:]).runs
    assert [*plain] == [*quoted] == ["x", "y", "z"]
    assert plain["x"].array.tolist() == [n / 8 for n in range(1, 300)]
    assert plain["y"].array.tolist() == [float(f"{n}.0e-1") for n in range(1, 300)]
    for name, claim in plain.items():
        assert np.array_equal(claim.array, quoted[name].array)
        assert np.array_equal(claim.rounding, quoted[name].rounding)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "w[-2] = 2\nw[-1] = 1\n"),
        ("a.txt", "w[0,1] = 2\nw[0, -1] = 1\n"),
        ("a.csv", "w,0,1.5\nw,-1,2.5\n"),
        ("a.csv", "w,-1,1.5\nw,0,2.5\n"),
        ("a.csv", "w,0,0,1.5\nw,0,-1,2\n"),
    ],
)
def test_negative_indices_are_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(FileFormatError, match="an entry with a negative index"):
        read_claims(tmp_path / name)


def test_rows_of_whole_numbers_may_hold_negative_ones(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("w,-1,2,0.5\nb,3,-4,1.5\n")
    (run,) = read_claims(tmp_path / "a.csv").runs
    assert run["w"].array.tolist() == [-1, 2, 0.5]


def test_a_first_row_of_a_name_and_numbers_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("w,1,2,3\nv,4,5,6\n")
    (run,) = read_claims(tmp_path / "a.csv").runs
    assert {name: claim.array.tolist() for name, claim in run.items()} == {
        "w": [1, 2, 3],
        "v": [4, 5, 6],
    }


@pytest.mark.parametrize("content", ["w: 1,234.5\n", "1,234.5\n2,345.5\n", "w0: 1,234.5\n" * 20])
def test_thousands_set_apart_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(FileFormatError, match=r"line 1, .*'1,234.5' may be one number or two"):
        read_claims(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text(content.replace(",", ", "))
    assert read_claims(tmp_path / "b.txt").runs


@pytest.mark.parametrize("content", ["w: 1,234\n", "-12,345,678\n", "w0: 1,234\n" * 20])
def test_thousands_of_whole_numbers_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(FileFormatError, match=r"line 1, .* may be one number or two"):
        read_claims(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "line", ["1, 234", "[1,234]", "1 234", "0,234", "1,23", "1,2345", "1234,567", "1,234,5"]
)
def test_lists_that_are_no_thousands_are_read(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.txt").write_text(f"w: {line}\n")
    (run,) = read_claims(tmp_path / "a.txt").runs
    words = line.strip("[]").replace(",", " ").split()
    assert run["w"].array.tolist() == [float(word) for word in words]


@pytest.mark.parametrize(
    "content", ["0,1\n2.5,3\n", ",0,1\n0,2,3\n", "name,0,1\nw,2,3\n", "w,b\n2,3\n"]
)
def test_names_of_columns_that_are_plainly_names_are_not_told(tmp_path: Path, content: str) -> None:
    assert not read(tmp_path, "a.csv", content).notes


def test_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (run,) = read(tmp_path, "a.csv", "w,b,w,w\n0.5,1.5,2.5,3.5\n").runs
    assert {name: claim.array.tolist() for name, claim in run.items()} == {
        "w": 0.5,
        "b": 1.5,
        "w.2": 2.5,
        "w.3": 3.5,
    }
