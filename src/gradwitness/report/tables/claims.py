"""Judged claims, for terminals, and as JSON: schema `gradwitness-claims`, see docs/claims.md."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gradwitness._printable import listed
from gradwitness.judging.comparing.compare import CANCELS
from gradwitness.judging.numbers import short, subscript
from gradwitness.report.faults import claim_faults
from gradwitness.report.findings import comparison_record, finding_records
from gradwitness.report.record import report_record
from gradwitness.report.tables.required import required
from gradwitness.report.tables.terminal import FittingTable, styled
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from gradwitness.diagnose.rank import Cause
    from gradwitness.judging.claimed.judge import ClaimReport, ClaimRow
    from gradwitness.judging.finding import Report
    from gradwitness.tape import Tape

SCHEMA = "gradwitness-claims"
VERSION = 1

_LEFT = ("gradient of", "claimed as", "verdict", "at")
# Left out of a narrow table, in this order.
_LESS_TELLING = ("shape", "expected", "claimed", "allowed", "at", "claimed as")
# More names than this are counted, not listed.
_LISTED = 8


def claims(reports: Sequence[ClaimReport]) -> RenderableType:
    """Return the judgement of one or more runs of claims, and what they come to together."""
    several = _in_several(reports)
    parts = [_one(report, several) for report in reports]
    parts += [_told_once(shared) for shared in several.values()]
    if len(reports) > 1:
        lines = Text("\n")
        # Of several runs against one, or one against several, the other side tells them apart.
        is_told = len({report.source for report in reports}) == len(reports)
        for report in reports:
            lines.append(report.source if is_told else f"{report.source} against {report.against}")
            lines.append("  ")
            lines.append(styled(report.verdict))
            lines.append(f"  {_count(report)}\n")
        lines.append("verdict   ")
        verdict = worst([report.verdict for report in reports])
        lines.append(styled(verdict))
        met = worst([report.required for report in reports])
        lines.append(required(reports[0].digits, verdict, met))
        parts.append(lines)
    return Group(*parts)


def claims_record(
    reports: Sequence[ClaimReport], program: Report | None, tape: Tape | None
) -> dict[str, Any]:
    """Return judged claims as plain data, with the judgement of the program if there is one."""
    parts: list[ClaimReport | Report] = [*reports, *([] if program is None else [program])]
    own = None if program is None or tape is None else report_record(program, tape)
    told = finding_records(fault for report in reports for fault in claim_faults(report))
    verdict = worst([part.verdict for part in parts])
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "verdict": verdict,
        "exit_code": worst([part.required for part in parts]).exit_code,
        "required_digits": reports[0].digits if reports else None,
        "findings": [*(own["findings"] if own else ()), *told],
        "runs": [_record(report) for report in reports],
        "program": own,
    }


_Shared: TypeAlias = "dict[tuple[str, str, str], list[tuple[ClaimReport, Cause]]]"


def _in_several(reports: Sequence[ClaimReport]) -> _Shared:
    """Return the causes that several runs have in common, with these runs."""
    shared: _Shared = {}
    for report in reports:
        for cause in report.causes:
            shared.setdefault(_kind(cause), []).append((report, cause))
    return {kind: runs for kind, runs in shared.items() if len(runs) > 1}


def _kind(cause: Cause) -> tuple[str, str, str]:
    return cause.cause, cause.place, f"{cause.coefficient:.3g}"


def _told_once(runs: Sequence[tuple[ClaimReport, Cause]]) -> RenderableType:
    """Return a cause of several runs, in the words of the run where it explains most."""
    cause = max((cause for _, cause in runs), key=lambda cause: len(cause.explains))
    counts = [_wrong_numbers(report, cause) for report, cause in runs]
    wrong, total = (sum(part) for part in zip(*counts, strict=True))
    return cause_shown(cause, f"{len(runs)} runs: {wrong:,} of {total:,} numbers are wrong")


def _wrong_numbers(report: ClaimReport, cause: Cause) -> tuple[int, int]:
    """Return how many numbers are wrong in the gradients that a cause explains, and of how many."""
    rows = [row for row in report.rows if row.name in cause.explains]
    return sum(row.comparison.refuted for row in rows), sum(row.coverage.total for row in rows)


def _one(report: ClaimReport, several: _Shared) -> RenderableType:
    title = Text("\nclaims    ", style="bold")
    title.append(f"{report.source}\n", style="not bold default")
    title.append(f"against   {report.against}\n", style="not bold default")
    title.append(f"allowed   {report.dtype}, {report.grade}", style="not bold default")
    parts: list[RenderableType] = [title]
    if report.rows:
        lines = [_cells(row) for row in report.rows]
        if all(row.name == row.claimed_as for row in report.rows):
            lines = [{k: v for k, v in cells.items() if k != "claimed as"} for cells in lines]
        parts.append(FittingTable(lines, _LEFT, _LESS_TELLING))
    else:
        parts.append(Text("No claim matches any gradient."))
    for cause in report.causes:
        if _kind(cause) in several:
            parts.append(Text(f"\nCAUSE      {cause.cause}: as in other runs, told below"))
        else:
            wrong, total = _wrong_numbers(report, cause)
            parts.append(cause_shown(cause, f"{wrong:,} of {total:,} numbers are wrong"))
    parts.append(_closing(report))
    return Group(*parts)


def _cells(row: ClaimRow) -> dict[str, Text]:
    c = row.comparison
    verdict = styled(row.verdict, c.relative_error)
    if row.inherited:
        verdict.append(" inherited")
    cells: dict[str, str | Text] = {
        "gradient of": row.name,
        "claimed as": row.claimed_as,
        "shape": "x".join(map(str, row.shape)) or "scalar",
        "verdict": verdict,
        "worst error": short(c.error),
        "at": subscript(c.index),
        "claimed": short(c.recorded, 6),
        "expected": short(c.expected, 6),
        "x allowed": short(c.ratio),
        "allowed": short(c.bound),
        "digits": _digits(row.digits),
        "confirmed": f"{row.coverage.judged}/{row.coverage.total}",
    }
    return {name: Text(cell) if isinstance(cell, str) else cell for name, cell in cells.items()}


def _digits(digits: float) -> str:
    if math.isinf(digits):
        return "all"
    return "-" if math.isnan(digits) else f"{abs(digits):.1f}"


def cause_shown(cause: Cause, count: str = "") -> RenderableType:
    """Return one cause with its evidence; ``count`` says how much is wrong."""
    title = Text("\nCAUSE", style="bold red")
    title.append(f"      {cause.cause}", style="not bold default")
    fitted = "" if math.isnan(cause.coefficient) else f"{cause.coefficient:.9g}"
    facts = {
        "what": cause.text,
        "at": cause.place,
        "in": listed(cause.guilty, _LISTED),
        "inherit": listed(cause.inherited, _LISTED),
        "count": count,
        "fitted": fitted,
        "evidence": f"with it, the claims are within {short(cause.residual)} of what is allowed; "
        f"odds of a coincidence: 2^-{cause.bits:.0f}",
        "also fits": cause.runner_up,
        "decide": cause.experiment,
    }
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts.items():
        if text:
            table.add_row(Text(f"  {name}"), Text(text))
    return Group(title, table)


def _closing(report: ClaimReport) -> Text:
    lines = Text("\n")
    first = report.first_wrong
    if first is not None:
        lines.append(
            f"first wrong, in backward order: {first.name}{_neighbour(report, first)}\n",
            style="bold red",
        )
        if not report.causes:
            lines.append("cause     no known mistake explains what is wrong\n")
    for row in report.rows:
        if row.reason not in ("", CANCELS):
            style = "yellow" if row.verdict is Verdict.INCONCLUSIVE else "default"
            lines.append(f"{row.name}: {row.reason}\n", style=style)
    if report.is_mutual:
        for source in dict.fromkeys(source for _, source in report.missing):
            names = [name for name, lacks in report.missing if lacks == source]
            lines.append(f"missing   {listed(names, _LISTED)}: not in {source}\n", style="yellow")
    elif report.unclaimed:
        lines.append(f"unclaimed {listed(report.unclaimed, _LISTED)}\n", style="yellow")
    if report.unknown and not report.is_mutual:
        lines.append(f"unknown   {listed(report.unknown, _LISTED)}: not matched to a gradient\n")
    for note in report.notes:
        lines.append(f"note      {note}\n")
    lines.append(f"claims    {_count(report)}\n")
    lines.append("verdict   ")
    lines.append(styled(report.verdict))
    lines.append(required(report.digits, report.verdict, report.required))
    return lines


def _neighbour(report: ClaimReport, first: ClaimRow) -> str:
    """Say what is right on the way from the loss to the first wrong gradient."""
    later = report.rows[report.rows.index(first) + 1 :]
    right = next((row for row in later if row.verdict is Verdict.AGREES), None)
    return f" ({right.name}, nearer to the loss, is right)" if right else ""


def _count(report: ClaimReport) -> str:
    counts = [(v, sum(row.verdict is v for row in report.rows)) for v in Verdict]
    said = {Verdict.AGREES: "agree", Verdict.DISAGREES: "DISAGREE"}
    text = ", ".join(f"{n} {said.get(v, 'inconclusive')}" for v, n in counts if n)
    how = "in one source only" if report.is_mutual else "not claimed"
    missing = f"; {len(report.missing)} {how}" if report.missing else ""
    return (text or "none judged") + missing


def _record(report: ClaimReport) -> dict[str, Any]:
    first = report.first_wrong
    return {
        "source": report.source,
        "against": report.against,
        "dtype": report.dtype,
        "grade": report.grade,
        "verdict": report.verdict,
        "first_wrong": None if first is None else first.name,
        "gradients": [_row_record(row) for row in report.rows],
        "unclaimed": report.unclaimed,
        "unknown": report.unknown,
        "notes": report.notes,
        "causes": [asdict(cause) for cause in report.causes],
    }


def _row_record(row: ClaimRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "claimed_as": row.claimed_as,
        "shape": row.shape,
        "verdict": row.verdict,
        "inherited": row.inherited,
        "reason": row.reason,
        "digits": row.digits,
        "confirming": row.coverage.judged,
        "elements": row.coverage.total,
        **comparison_record(row.comparison),
    }
