"""The verdict table and what is said of a fault."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

import gradwitness as gw
from capture.handmade import ARRIVING, FORWARD, LEFT, SENT, tape
from capture.programs import leaf, weighted
from gradwitness.report.console import WIDTH, Screen, as_text
from gradwitness.report.names import Names
from gradwitness.report.tables.folded_rows import folded
from gradwitness.report.tables.terminal import FittingTable, summary, told

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gradwitness.tape import Tape


def shown(given: Tape) -> str:
    return as_text(summary(gw.judge(given), given))


def test_one_line_for_each_gradient() -> None:
    lines = shown(tape()).splitlines()
    header = lines[0]
    for column in ("gradient of", "shape", "verdict", "worst error", "at", "x bound", "ulps",
                   "bound", "detects (relative)", "norm", "digits"):  # fmt: skip
        assert column in header
    # norm of dx = [15, 0, 35] is 38.08, of dw = [5, 12, 21] 24.7, of db = [5, 6, 7] 10.49.
    assert [re.split(r"\s\s+", line.strip()) for line in lines[1:4]] == [
        ["x", "3", "AGREES", "0", "[0]", "0", "0", norm_bound(lines[1]), sees(lines[1]), "38.1",
         "all"],
        ["w", "3", "AGREES", "0", "[0]", "0", "0", norm_bound(lines[2]), sees(lines[2]), "24.7",
         "all"],
        ["b", "3", "AGREES", "0", "[0]", "0", "0", norm_bound(lines[3]), sees(lines[3]), "10.5",
         "all"],
    ]  # fmt: skip
    assert lines[-1] == "verdict   AGREES"
    assert max(map(len, lines)) <= WIDTH


def on(columns: int, *parts: RenderableType) -> list[str]:
    """Return the lines that a terminal of so many columns shows."""
    file = io.StringIO()
    screen = Screen(file=file, width=columns, color_system=None)
    for part in parts:
        screen.print(part)
    lines = file.getvalue().split("\n")
    assert max(map(cell_len, lines)) <= columns
    return lines


def test_a_table_without_room_is_a_list() -> None:
    given = tape("d6.1")
    shown = summary(gw.judge(given), given)
    wide, narrow = on(WIDTH, shown), on(40, shown)
    names = re.split(r"\s\s+", wide[0])
    at = narrow.index(wide[1].split()[0])
    # Whatever the table says of a gradient, each on a line of its own, and nothing else.
    said = [re.split(r"\s\s+", line.strip()) for line in narrow[at + 1 : at + len(names)]]
    assert said == [list(pair) for pair in zip(names, re.split(r"\s\s+", wide[1]), strict=True)][1:]
    assert "\u2026" not in "".join(narrow)
    # Columns are left out only as long as a row is still told by them.
    assert "wider terminal" in "".join(on(80, shown))
    assert "wider terminal" not in "".join(narrow)


@pytest.mark.parametrize("columns", [24, 40, 60, 80, 120])
def test_what_goes_on_stands_below_its_begin(columns: int) -> None:
    words = " ".join(["and so on"] * 30)
    texts = [f"judged    {words}", f"  wrong in {words}", f"gradients {words}", f"    {words}"]
    insets = [10, 11, 10, 4]
    for text, inset in zip([*texts, words], [*insets, 2], strict=True):
        first, *others = on(columns, Text(text))[:-1]
        assert text.startswith(first)
        assert {len(line) - len(line.lstrip()) for line in others} == {inset}
        assert " ".join([first, *others]).split() == text.split()


def test_lines_end_in_no_blanks() -> None:
    table = Table("probe", "what", box=None)
    table.add_row("random", "a long text " * 20)
    table.add_row("zero", "")
    for shown in (table, Text("a  \n b   \n"), FittingTable([{"a": Text("b ")}], ("a",), ())):
        for columns in (30, 60, WIDTH):
            lines = on(columns, shown)
            assert [line.rstrip() for line in lines] == lines
    assert on(60, table)[2].startswith("        ")


def norm_bound(line: str) -> str:
    return line.split()[7]


def sees(line: str) -> str:
    """Return the smallest relative change that is seen: a few roundings of a float32."""
    number = line.split()[8]
    assert 2.0**-24 < float(number) < 2.0**-20
    return number


def test_totals_by_hand() -> None:
    text = shown(tape())
    assert (
        "steps     forward 7 agree; fan-in 10 agree; backward 10 agree; accumulate 3 agree\n"
        in text
    )
    assert "forward calls 7 of 7; backward nodes 7 of 7; gradients 3 of 3; elements " in text


def test_a_fault_says_what_where_how_far_and_how_far_allowed() -> None:
    text = shown(tape("d6.1", 2))
    (found,) = re.findall(r"(?ms)^DISAGREES  .*?^steps", text)
    for piece in (
        "DISAGREES  backward: MulBackward0 #6, gradient of b",
        "net.py:1 in module net",
        "db = g * a",
        "worst    [2]: torch has 121, the witness 21",
        "error    100, ",
        "that rounding allows",
        "extent   1 of 3 elements",
        "next     ",
    ):
        assert piece in found
    assert "first wrong step: MulBackward0 #6, gradient of b" in text
    assert text.endswith("verdict   DISAGREES\n")


@pytest.mark.parametrize("wrong", [*FORWARD, *SENT, *ARRIVING, *LEFT])
def test_every_fault_is_described_once(wrong: str) -> None:
    text = shown(tape(wrong))
    assert len(re.findall(r"(?m)^DISAGREES  ", text)) == 1
    assert len(re.findall(r"(?m)^  next     ", text)) == 1
    assert "1 DISAGREE" in text


def test_inherited_faults_are_marked() -> None:
    table = shown(tape("y")).splitlines()[1:4]
    assert all(re.search(r"DISAGREES inherited", line) for line in table)


def test_doubt_is_counted_with_its_reasons() -> None:
    given = tape()
    calls = list(given.calls)
    calls[4] = replace(calls[4], op="aten.mystery.default")
    text = shown(replace(given, calls=tuple(calls)))
    assert "forward 6 agree, 1 inconclusive" in text
    assert "forward calls 6 of 7; backward nodes 6 of 7; gradients 0 of 3" in text
    assert "inconclusive (1): no rule for aten.mystery.default\n" in text
    assert "(1): no rule for aten.mystery.default; not measured: slopes need the program" in text
    assert text.endswith("verdict   INCONCLUSIVE\n")


def test_many_faults_are_counted_not_listed() -> None:
    given = tape()
    values = [
        replace(v, array=v.array + 50) if v.array is not None and v.id > 3 else v
        for v in given.values
    ]
    text = shown(replace(given, values=tuple(values)))
    assert len(re.findall(r"(?m)^DISAGREES  ", text)) == 8
    assert re.search(r"\.\.\. and \d+ more steps disagree\.", text)


def test_several_passes_are_told_apart() -> None:
    a = leaf(2)
    with gw.watch(names={"a": a}) as witness:
        y = weighted(a.sin())
        y.backward(retain_graph=True)
        y.backward()
    lines = str(witness).splitlines()
    assert lines[1].startswith("a (pass 1) ")
    assert lines[2].startswith("a (pass 2) ")


def test_a_result_of_several_is_named() -> None:
    net = torch.nn.Linear(3, 2)
    with gw.watch(net) as witness:
        net(torch.rand(4, 3)).max(0).values.sum().backward()
        torch.optim.SGD(net.parameters(), 0.1, fused=True).step()
    names, worst = Names(witness.tape), []
    for finding in witness.report.findings:
        if re.match("aten.(max|_fused)", finding.title):
            wrong = replace(finding, comparison=replace(finding.comparison, index=(1,)))
            worst.append(dict(told(wrong, witness.tape, names)[0])["worst"].partition(":")[0])
    assert worst == ["x3[1]", "x4[1]", "weight[1]", "bias[1]", "x8[1]", "x9[1]"]


def test_no_gradient_at_all() -> None:
    with gw.watch() as witness:
        torch.ones(2) * 2
    said = " ".join(str(witness).split())
    assert said.startswith(
        "No gradient was recorded: nothing ran backward. Call loss.backward() in the block, or the "
        "function; --probe (gradwitness.probe) calls it on what the function returns."
    )
    with pytest.raises(ValueError, match="early"), gw.watch() as witness:  # noqa: PT012
        torch.ones(2) * 2
        raise ValueError("early")
    assert "Call loss.backward()" not in str(witness)  # it may have been about to


def rows_of(steps: int) -> list[list[str]]:
    w, v = (torch.linspace(1, 2, 3).requires_grad_() for _ in range(2))
    with gw.watch(names={"w": w, "v": v}) as witness:
        for step in range(steps):
            (w.square().sum() + (v * step).sum()).backward()  # type: ignore[no-untyped-call]
    lines = as_text(summary(witness.report, witness.tape)).splitlines()
    rows = [re.split(r"\s\s+", line.strip()) for line in lines[1:] if " AGREES" in line]
    return [row for row in rows if row[0] != "verdict"]


def test_few_passes_have_a_line_each() -> None:
    assert [row[0] for row in rows_of(2)] == [
        "w (pass 1)", "v (pass 1)", "w (pass 2)", "v (pass 2)",
    ]  # fmt: skip


def test_one_leaf_in_many_passes_is_one_line_with_the_worst_of_them() -> None:
    lines = rows_of(12)
    assert [row[:3] for row in lines] == [
        ["w (passes 1 to 12)", "3", "AGREES"],
        ["v (passes 1 to 12)", "3", "AGREES"],
    ]
    # 2 w in every pass.
    assert lines[0][-2:] == ["5.39", "all"]


def test_a_folded_line_shows_the_worst_figures_and_keeps_verdicts_apart() -> None:
    report = gw.judge(tape())
    (row, *_) = report.rows
    wrong = replace(row.comparison, verdict=gw.Verdict.DISAGREES, relative_error=0.5)
    rows = [replace(row, sweep=n, digits=7.0 - n) for n in range(6)]
    rows[3] = replace(rows[3], verdict=gw.Verdict.DISAGREES, comparison=wrong)
    rows[4] = replace(
        rows[4], comparison=replace(row.comparison, ratio=0.75, detects_relative=0.01)
    )
    (first, shown), (second, _) = folded(rows)
    assert (first, second) == ("x (5 of passes 1 to 6)", "x (pass 4)")
    assert shown.comparison.ratio == 0.75
    assert shown.comparison.detects_relative == 0.01
    assert shown.digits == 2.0
