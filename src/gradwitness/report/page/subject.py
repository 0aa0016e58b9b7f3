"""What a page is about, and what it must leave out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gradwitness.tape import Source

if TYPE_CHECKING:
    from gradwitness.judging.comparison import Comparison
    from gradwitness.judging.finding import Finding, Report, Row
    from gradwitness.tape import Tape
    from gradwitness.verdict import Verdict


@dataclass(frozen=True)
class Subject:
    """A judged program, and what else its page says.

    Attributes
    ----------
    tape : Tape
    report : Report
    verdict : Verdict
        Of everything on the page; that of the report unless something besides was judged.
    command : str
        What reproduces it, or empty.
    seed : str
        Of its random numbers, or empty.
    sections : tuple of (str, str)
        Headings and texts of what else was judged: claims, probes.
    is_live : bool
        Whether the program ran here. The lines of a recording's program are not read: they may
        name any file of this machine.
    is_redacted : bool
        Whether source lines and values are left out.
    """

    tape: Tape
    report: Report
    verdict: Verdict
    command: str = ""
    seed: str = ""
    sections: tuple[tuple[str, str], ...] = field(default=())
    is_live: bool = True
    is_redacted: bool = False


@dataclass(frozen=True)
class Texts:
    """Judgements about no program: their verdict, and texts under headings."""

    verdict: Verdict
    sections: tuple[tuple[str, str], ...]


def redacted(subject: Subject) -> Subject:
    """Return a subject without source lines and without any number of the program's tensors."""
    tape, report = subject.tape, subject.report
    return replace(
        subject,
        tape=replace(
            tape,
            values=[replace(value, array=None) for value in tape.values],
            calls=[replace(call, source=Source(call.source.module)) for call in tape.calls],
        ),
        report=replace(
            report,
            findings=tuple(map(_without_line, report.findings)),
            rows=tuple(replace(r, comparison=_without_numbers(r)) for r in report.rows),
            notes=tuple(
                replace(note, source=note.source and Source(note.source.module))
                for note in report.notes
            ),
        ),
        command="",
        sections=(),
        is_live=False,
        is_redacted=True,
    )


def _without_line(finding: Finding) -> Finding:
    return replace(
        finding,
        source=finding.source and Source(finding.source.module),
        comparison=_without_numbers(finding),
    )


def _without_numbers(judged: Finding | Row) -> Comparison:
    return replace(judged.comparison, recorded=math.nan, expected=math.nan, index=None)
