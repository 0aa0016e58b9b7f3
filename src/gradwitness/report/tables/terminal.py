"""The verdict table, for terminals and for report.txt."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from gradwitness._cells import is_cell
from gradwitness._printable import printable, several
from gradwitness.judging.comparing.compare import ALL_ZERO, CANCELS, COARSE
from gradwitness.judging.comparing.comparison import BASES, IN_TURN, NEAR, OWN, PROBABLE
from gradwitness.judging.depth import FULL
from gradwitness.judging.finding import GRADIENTS, Step
from gradwitness.judging.gradients.lost import LOST
from gradwitness.judging.numbers import digits_right, short, subscript
from gradwitness.report.names import Names
from gradwitness.report.tables.depth import looked_at
from gradwitness.report.tables.folded_rows import folded
from gradwitness.report.tables.required import required
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import ConsoleOptions, RenderableType, RenderResult

    from gradwitness.judging.comparing.compare import Comparison
    from gradwitness.judging.finding import Finding, Report, Row
    from gradwitness.judging.note import Note
    from gradwitness.tape import Tape

_STYLES = {
    Verdict.AGREES: "green",
    Verdict.DISAGREES: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
}
_LEAVE_OUT = "; judge='gradients' (--judge gradients) leaves it out of the verdict\n"
# A disagreement below this share of the largest number, and its colour.
_SMALL, _MILD = 0.1, "dark_orange"
_RELEASED = (
    "\nnote      values were freed after judging to save memory: digits are not known, and the "
    "recording cannot be saved (watch(..., keep=None) keeps everything)"
)
_LEFT_OUT = (
    "\nnote      intermediate values were freed after judging to save memory: the recording cannot "
    "be saved (watch(..., keep=None) keeps everything)"
)
# Further faults than this are counted, not listed.
_LISTED = 8


def styled(verdict: Verdict, relative_error: float = math.inf) -> Text:
    """Return a verdict in its colour: a small disagreement is not as red as one without digits."""
    small = verdict is Verdict.DISAGREES and relative_error < _SMALL
    return Text(verdict.value, style=_MILD if small else _STYLES[verdict])


_CALL_BACKWARD = (
    "Call loss.backward() in the block, or the function; --probe (gradwitness.probe) calls it on "
    "what the function returns."
)


def summary(report: Report, tape: Tape) -> RenderableType:
    """Return the whole judgement: the table of gradients, the faults, totals and coverage."""
    parts: list[RenderableType] = []
    if report.rows:
        parts.append(gradient_table(report.rows, report.depth))
    else:
        why = "a backward pass began, but produced none" if tape.sweeps else "nothing ran backward"
        parts.append(Text(f"No gradient was recorded: {why}."))
        # What an exception ended may have been about to.
        if not tape.calls and tape.ended is None:
            parts.append(Text("No operation was recorded either; other threads are not watched."))
        elif not tape.sweeps and tape.ended is None:
            parts.append(Text(_CALL_BACKWARD))
    if report.wrong:
        names = Names(tape)
        told: set[str] = set()
        for finding in report.wrong[:_LISTED]:
            seen, _, _ = finding.advice.partition("\n\n")
            again = finding.advice and finding.advice in told
            told.add(finding.advice)
            shown = replace(finding, advice=f"{seen} the declaration above") if again else finding
            parts.append(describe(shown, tape, names))
    if len(report.wrong) > _LISTED:
        parts.append(Text(f"... and {len(report.wrong) - _LISTED} more steps disagree."))
    parts += [noted(note) for note in report.notes]
    if not tape.complete:
        parts.append(Text(_LEFT_OUT if tape.replayable else _RELEASED))
    parts.append(totals(report))
    return Group(*parts)


class FittingTable:
    """A table that leaves out its less telling columns, in order, where the terminal is narrow.

    Each line has its cells by column; all columns but those on the left are set flush right.
    """

    def __init__(
        self,
        lines: Sequence[dict[str, Text]],
        left: tuple[str, ...],
        less_telling: tuple[str, ...],
    ) -> None:
        self._lines = lines
        self._left = left
        self._less_telling = less_telling

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left_out: list[str] = []
        table = self._table(left_out)
        endless = options.update(max_width=10_000)
        for column in self._less_telling:
            if Measurement.get(console, endless, table).maximum <= options.max_width:
                break
            if column in self._lines[0]:
                left_out.append(column)
            table = self._table(left_out)
        if Measurement.get(console, endless, table).maximum > options.max_width:
            # A list of everything takes no more width.
            left_out, table = [], self.whole()
        yield table
        if left_out:
            yield Text(f"(a wider terminal also shows {', '.join(left_out)})", style="dim")

    def whole(self) -> Table:
        """Return the table with all of its columns."""
        return self._table([])

    def _table(self, left_out: list[str]) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        shown = [name for name in self._lines[0] if name not in left_out]
        for name in shown:
            justify: Literal["left", "right"] = "left" if name in self._left else "right"
            table.add_column(name, justify=justify, no_wrap=True)
        for line in self._lines:
            table.add_row(*(line[name] for name in shown))
        return table


def gradient_table(rows: tuple[Row, ...], depth: str = FULL) -> FittingTable:
    """Return one line for each gradient, or for one gradient in many passes."""
    verdict = "verdict" if depth == FULL else f"verdict ({depth})"
    lines = [_cells(name, row, verdict) for name, row in folded(rows)]
    if all(row.verdict is not Verdict.DISAGREES for row in rows):
        lines = [{k: v for k, v in cells.items() if k != "relative"} for cells in lines]
    return FittingTable(lines, ("gradient of", verdict, "at"), _LESS_TELLING)


# Left out of a narrow table, in this order.
_LESS_TELLING = ("ulps", "norm", "shape", "bound", "at", "detects (relative)")


def _cells(name: str, row: Row, verdict_column: str) -> dict[str, Text]:
    """Return what a row shows, by column."""
    c = row.comparison
    verdict = styled(row.verdict, row.relative_error)
    if row.inherited:
        verdict.append(" inherited")
    elif row.basis:
        verdict.append(f" {row.basis}")
    cells: dict[str, str | Text] = {
        "gradient of": name,
        "shape": "x".join(map(str, row.shape)) or "scalar",
        verdict_column: verdict,
        "relative": short(row.relative_error, 2),
        "worst error": short(c.error),
        "at": subscript(c.index),
        "x bound": short(c.ratio),
        "ulps": short(c.ulps),
        "bound": short(c.bound),
        "detects (relative)": short(c.detects_relative, 2),
        "norm": short(c.norm),
        "digits": digits_right(row.digits),
    }
    return {column: Text(cell) if isinstance(cell, str) else cell for column, cell in cells.items()}


def describe(finding: Finding, tape: Tape, names: Names) -> RenderableType:
    """Return what is wrong at one step: what, where, how far, how far allowed, what next."""
    return Group(*_described(finding, tape, names))


def described(finding: Finding, tape: Tape, names: Names) -> str:
    """Return what `describe` shows as plain text, in which no line is wrapped."""
    return printable("\n".join(part.plain for part in _described(finding, tape, names))).strip()


def _described(finding: Finding, tape: Tape, names: Names) -> list[Text]:
    facts, code = told(finding, tape, names)
    lines = Text("\n")
    lines.append(styled(Verdict.DISAGREES, finding.comparison.relative_error))
    lines.append(f"  {finding.step.value}: {finding.title}")
    for label, text in facts:
        lines.append(f"\n  {label:<8} {text}")
    if not code:
        return [lines]
    # Lines to copy are not wrapped.
    return [lines, Text(), Text(textwrap.indent(code, "    "), no_wrap=True, overflow="ignore")]


def told(finding: Finding, tape: Tape, names: Names) -> tuple[list[tuple[str, str]], str]:
    """Return what `describe` says as labelled facts, and the declaration to paste, or nothing."""
    c = finding.comparison
    facts = []
    inside = finding.source.module if finding.source else ""
    module = f" in module {inside}" if inside else ""
    if finding.symbol:
        wrong_in = f"{finding.symbol}, {relative(f'{finding.file}:{finding.line}')}"
        called = f" (called from {relative(finding.called)}{module})" if finding.called else module
        facts.append(("wrong in", f"{wrong_in}{called}"))
    elif finding.source is not None and (finding.source.line or finding.source.module):
        facts.append(("at", f"{relative(finding.source.line)}{module}"))
    facts += [("forward", written) for written in _forward(finding, tape, names)]
    if finding.formula:
        facts.append(("rule", finding.formula))
    if c.reason:
        facts.append(("what", c.reason))
    if c.index is not None:
        where = names.result(finding) + subscript(c.index) or "the number"
        facts.append(
            ("worst", f"{where}: torch has {c.recorded:.9g}, the witness {c.expected:.9g}")
        )
        facts.append(("error", f"{short(c.error)}, {_allowed(c)}"))
    of_largest = ""
    if math.isfinite(c.relative_error):
        of_largest = f"{short(c.relative_error)} of the largest number expected, "
    facts.append(("relative", f"{of_largest}{c.right_digits:.1f} digits right"))
    facts.append(("extent", f"{c.refuted} of {c.size} elements"))
    if finding.grade:
        facts.append(("evidence", finding.grade))
    seen, _, code = finding.advice.partition("\n\n")
    facts += remedied(finding)
    if seen or not finding.cause:
        facts.append(("next", next_of(finding)))
    return facts, code


def next_of(finding: Finding) -> str:
    """Return what to do about a wrong step."""
    return finding.advice.partition("\n\n")[0] or _NEXT[finding.step]


def remedied(finding: Finding) -> Iterator[tuple[str, str]]:
    """Yield the cause of what is wrong, when only it is, and what to write instead."""
    if finding.cause:
        yield "cause", finding.cause
    if finding.why:
        yield "why", finding.why
    if finding.runner_up:
        yield "or", f"{finding.runner_up}: it fits as well"
    if finding.fuzz:
        yield "fuzz", finding.fuzz
    if finding.remedy:
        yield "write", finding.remedy


def _allowed(c: Comparison) -> str:
    if c.bound == 0:
        return "where rounding allows none"
    return f"{short(c.ratio)} times the {short(c.bound)} that rounding allows"


def noted(note: Note) -> RenderableType:
    """Return a pathology in two or three lines."""
    lines = Text("\nNOTE", style="bold magenta")
    lines.append(f"       {note.kind}\n", style="not bold default")
    if note.source is not None and note.source.line:
        module = f" in module {note.source.module}" if note.source.module else ""
        where = f"  at       {relative(note.source.line)}{module}\n"
        lines.append(where, style="not bold default")
    lines.append(f"  what     {note.text}", style="not bold default")
    return lines


_NEXT = {
    Step.FORWARD: "compute this operation by hand from the operands that --explain prints",
    Step.FAN_IN: "look for a hook on this tensor, or a gradient changed in place",
    Step.BACKWARD: "derive this step's forward by hand; later backward steps inherit its error",
    Step.ACCUMULATE: "look for a hook that changes .grad, or a .grad that was not cleared",
}


def _forward(finding: Finding, tape: Tape, names: Names) -> list[str]:
    """Return what the step's forward made, as expressions."""
    if finding.forward:
        return list(finding.forward)
    numbers: list[int] = [] if finding.call is None else [finding.call]
    if finding.node is not None:
        numbers += tape.nodes[finding.node].inner
    return [names.equation(tape.calls[number]) for number in numbers[:_LISTED]]


def relative(line: str) -> str:
    """Return file:line as seen from the working folder, where that is shorter."""
    return _relative(line, Path.cwd())


@cache
def _relative(line: str, folder: Path) -> str:
    path, _, number = line.rpartition(":")
    if is_cell(path):
        return f"{path}, line {number}"
    try:
        return f"{Path(path).relative_to(folder)}:{number}"
    except ValueError:
        return line


def totals(report: Report) -> RenderableType:
    """Return the closing lines: counts, coverage, reasons for doubt, the verdict."""
    lines = Text("\n")
    kinds = []
    for step in Step:
        wrong, doubt = (report.count(v, step) for v in (Verdict.DISAGREES, Verdict.INCONCLUSIVE))
        kinds.append(
            f"{step.value} {report.count(Verdict.AGREES, step)} agree"
            + (f", {wrong} DISAGREE" if wrong else "")
            + (f", {doubt} inconclusive" if doubt else "")
        )
    lines.append("steps     " + "; ".join(kinds) + "\n")
    shares = [f"{name} {c.judged} of {c.total}" for name, c in report.coverage().items()]
    lines.append("judged    " + "; ".join(shares) + "\n")
    looked = looked_at(report)
    if looked:
        lines.append(f"depth     {report.depth}: {looked}\n")
    for reason, count in report.reasons().most_common(_LISTED):
        lines.append(f"inconclusive ({count}): {reason}\n", style=_STYLES[Verdict.INCONCLUSIVE])
        if reason.startswith((COARSE, ALL_ZERO, LOST)):
            titles = [f.title for f in report.findings if f.comparison.reason == reason]
            more = f" and {len(titles) - _LISTED} more" if len(titles) > _LISTED else ""
            lines.append(f"          {'; '.join(titles[:_LISTED])}{more}\n")
    lines.append("".join(f"{line}\n" for line in _remarks(report)))
    first = report.first_wrong
    if first is not None:
        lines.append(f"first wrong step: {first.title}\n", style=_STYLES[Verdict.DISAGREES])
    apart = report.judge == GRADIENTS
    undecided = report.forward is Verdict.INCONCLUSIVE
    if undecided and (apart or report.gradients is not Verdict.INCONCLUSIVE):
        lines.append("forward   ")
        lines.append(styled(report.forward))
        lines.append("; the verdict does not rest on it\n" if apart else _LEAVE_OUT)
        lines.append("gradients ")
        lines.append(styled(report.gradients))
        lines.append("\n")
    lines.append("verdict   ")
    farthest = max((f.comparison.relative_error for f in report.wrong), default=math.inf)
    lines.append(styled(report.verdict, farthest))
    lines.append(required(report.digits, report.verdict, report.required))
    return lines


_BUT = {
    PROBABLE: "the worst case is too wide",
    NEAR: "within a twentieth of float64's largest number, where their bounds are wider",
    IN_TURN: "in 16 bits, term after term",
    OWN: "run again in float64, within a twentieth of the largest number",
}


def _remarks(report: Report) -> Iterator[str]:
    """Yield what there is to say of what agrees."""
    near = Counter(row.reason for row in report.rows if row.verdict is Verdict.AGREES)
    yield from (f"approximate ({count}): {reason}" for reason, count in near.items() if reason)
    comparisons = [finding.comparison for finding in report.findings]
    suspicious = sum(c.suspicious for c in comparisons)
    if suspicious:
        steps = several(suspicious, "step is", "steps are")
        yield f"note      {steps} within the rigorous bound, but beyond the probable one"
    for reason in _BUT:
        basis = BASES[reason]
        resting = sum(c.reason == reason and bool(c.basis) for c in comparisons)
        if resting:
            steps = several(resting, "step agrees", "steps agree")
            yield f"note      {steps} {basis}: {_BUT[reason]}"
    zeros = sum(c.reason == CANCELS for c in comparisons)
    if zeros:
        zero = "zero within rounding:"
        one, many = f"result is {zero} its terms", f"results are {zero} their terms"
        yield f"note      {several(zeros, one, many)} cancel"
    declared = sum(finding.grade.startswith("declared") for finding in report.findings)
    if declared:
        steps = several(declared, "step was", "steps were")
        yield f"note      {steps} judged against declared gradients"
