"""Laws and what they say of claims, for terminals and as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gradwitness.judging.numbers import short, subscript
from gradwitness.report.findings import finding_records
from gradwitness.report.page.subject import Texts
from gradwitness.report.tables.terminal import styled
from gradwitness.verdict import Fault, Verdict, worst

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from gradwitness.judging.claimed.laws import LawFinding
    from gradwitness.report.save import Materials

SCHEMA = "gradwitness-laws"
VERSION = 1


def verdict_of(findings: Sequence[LawFinding]) -> Verdict:
    """Return the worst verdict: never AGREES, which no law can say."""
    return worst([*(finding.verdict for finding in findings), Verdict.INCONCLUSIVE])


def laws_materials(findings: Sequence[LawFinding]) -> Materials:
    """Return what files about laws are made of, see `report.save`."""
    table = laws_table(findings)
    page = Texts(verdict_of(findings), (("Laws", table),))
    return {"parts": lambda: [table], "record": lambda: laws_record(findings), "page": lambda: page}


def laws_table(findings: Sequence[LawFinding]) -> RenderableType:
    """Return what each law says."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("law about", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("x allowed", justify="right", no_wrap=True)
    table.add_column("at", no_wrap=True)
    table.add_column("what", overflow="fold")
    for each in findings:
        table.add_row(
            Text(", ".join(each.tensors)),
            styled(each.verdict),
            short(each.residual),
            subscript(each.at) if each.at else "",
            Text(each.text),
        )
    closing = Text("\nverdict   ")
    closing.append(styled(verdict_of(findings)))
    if verdict_of(findings) is Verdict.INCONCLUSIVE:
        closing.append("  no law is broken, but laws can only refute")
    return Group(table, closing)


def laws_record(findings: Sequence[LawFinding]) -> dict[str, Any]:
    """Return what each law says as plain data."""
    verdict = verdict_of(findings)
    refuted = [each for each in findings if each.verdict is Verdict.DISAGREES]
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "verdict": verdict,
        "exit_code": verdict.exit_code,
        "findings": finding_records(map(_fault, refuted)),
        "laws": [
            {"law": type(each.law).__name__.lower(), "layers": asdict(each.law)}
            | {key: value for key, value in asdict(each).items() if key != "law"}
            for each in findings
        ],
    }


def _fault(finding: LawFinding) -> Fault:
    symbol = ", ".join(finding.tensors)
    title = f"{symbol}: a broken law"
    return Fault(finding.verdict, title, finding.text, kind="broken law", symbol=symbol)
