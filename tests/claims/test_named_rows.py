"""Lines of a name and its numbers say the same, whether many or one are read at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from claims.told import told
from gradwitness.claims import text
from gradwitness.claims.sources import read_claims

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["w", "fc.weight", "a_1", "_b", "e", "layer1.0.w", "W", "lr", "w."]
ODD_NAMES = [
    "nan", "inf", "step", "layer.step", "epoch", "size", "x.shape", "two words", "", "ü", "1",
    "'w'",
    "w[2]", "w[0]", "tensor(", "1e-3 *", "Columns 1 to 2", "#", "-", "w:w", "run 1, w", "___",
]  # fmt: skip
NUMBERS = ["0.5", "-1.25e-3", "3", "0", "7.0", "1e0", "-0.0", "+2", ".5", "123456.789"]
ODD_NUMBERS = [
    "nan",
    "inf",
    "-",
    "1.2.3",
    "x",
    "1,5",
    "",
    "1 2",
    "[1, 2]",
    "1;2",
    "0x1",
    "\x0b1",
    "1e",
    "1/2",
]
ODD_LINES = [
    "",
    " ",
    "1.5 2.5",
    "0.5",
    "text",
    "[ CPUFloatType{2} ]",
    "w",
    "Epoch 2",
    "1e-2 *",
    "\t",
    ",",
    "b 1.5",
]


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Draw lines that are mostly in order, and a little odd."""
    count = draw(st.integers(1, 30))
    between = draw(st.sampled_from([" ", ", ", ",", "\t", "  "]))
    after = draw(st.sampled_from([": ", " = ", ":", "=", "\t:\t"]))
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4))
    numbers = draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=7))
    is_numbered = draw(st.booleans())
    lines, at = [], 0
    for n in range(count):
        size = sizes[n % len(sizes)]
        row = [numbers[(at + k) % len(numbers)] for k in range(size)]
        at += size
        lines.append((names[n % len(names)] + str(n) * is_numbered, after, row))
    if draw(st.booleans()):
        place = draw(st.integers(0, count - 1))
        name, sign, row = lines[place]
        if draw(st.booleans()):
            name = draw(st.sampled_from(ODD_NAMES))
        else:
            row = [*row[:-1], draw(st.sampled_from(ODD_NUMBERS))]
        lines[place] = name, sign, row
    shown = [name + sign + between.join(row) for name, sign, row in lines]
    if draw(st.booleans()):
        shown.insert(draw(st.integers(0, count)), draw(st.sampled_from(ODD_LINES)))
    newline = draw(st.sampled_from(["\n", "\n", "\r\n", "\n\n", ",\n", " \n"]))
    return newline.join(shown) + draw(st.sampled_from(["", "\n"]))


@given(content=texts())
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_many_lines_say_what_each_says(tmp_path: Path, content: str) -> None:
    _check(tmp_path / "a.txt", content)


def _check(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "named_rows", lambda _, begin: ([], begin))
        by_line = told(path)
    assert told(path) == by_line


@pytest.mark.parametrize("line", [*ODD_LINES, *(f"w: {x}" for x in ODD_NUMBERS)])
@pytest.mark.parametrize("number", ["0.5", "3"])
def test_odd_lines_among_others(tmp_path: Path, line: str, number: str) -> None:
    _check(tmp_path / "a.txt", f"a: {number}\n" * 12 + line + f"\nb: {number}" * 12)


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("number", ["0.5", "3"])
@pytest.mark.parametrize("sign", [": ", " = "])
def test_odd_names_among_others(tmp_path: Path, name: str, number: str, sign: str) -> None:
    lines = [f"w{n}{sign}{number}" for n in range(20)]
    _check(tmp_path / "a.txt", "\n".join([*lines, name + sign + number, *lines]))


def test_many_lines_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise the above would compare one way of reading with itself.
    path = tmp_path / "a.txt"
    path.write_text("".join(f"w{n}: {n}.5, {n}.25\n" for n in range(40)))
    one_by_one: list[str] = []
    rows = text._Reader._rows

    def counted(reader: Any, name: str, at: int) -> None:
        one_by_one.append(name)
        rows(reader, name, at)

    monkeypatch.setattr(text._Reader, "_rows", counted)
    (run,) = read_claims(path).runs
    assert one_by_one == ["w39"]
    assert [claim.array.tolist() for claim in run.values()] == [
        [n + 0.5, n + 0.25] for n in range(40)
    ]
