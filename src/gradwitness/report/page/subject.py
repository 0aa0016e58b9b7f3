"""What a page is about, and what it must leave out."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gradwitness.tape import Source

if TYPE_CHECKING:
    from typing import TypeAlias

    from rich.console import RenderableType

    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.finding import Finding, Report, Row
    from gradwitness.tape import Tape
    from gradwitness.verdict import Verdict

    Sections: TypeAlias = "tuple[tuple[str, RenderableType], ...]"


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
    sections : tuple of (str, RenderableType)
        Headings, and what terminals show of what else was judged: claims, probes.
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
    sections: Sections = field(default=())
    is_live: bool = True
    is_redacted: bool = False


@dataclass(frozen=True)
class Texts:
    """Judgements about no program: their verdict, and what terminals show under headings."""

    verdict: Verdict
    sections: Sections


def redacted(subject: Subject) -> Subject:
    """Return a subject without source lines and without any number of the program's tensors."""
    tape, report = subject.tape, subject.report
    lines = _lines(tape, report)
    return replace(
        subject,
        tape=replace(
            tape,
            values=[replace(value, array=None) for value in tape.values],
            calls=[replace(call, source=Source(call.source.module)) for call in tape.calls],
        ),
        report=replace(
            report,
            findings=tuple(_without_line(f, lines) for f in report.findings),
            rows=tuple(replace(r, comparison=_without_numbers(r, lines)) for r in report.rows),
            notes=tuple(
                replace(
                    note,
                    text=lines.sub(_LEFT_OUT, note.text),
                    source=note.source and Source(note.source.module),
                )
                for note in report.notes
            ),
        ),
        command="",
        sections=(),
        is_live=False,
        is_redacted=True,
    )


_LEFT_OUT = "(left out)"


def _lines(tape: Tape, report: Report) -> re.Pattern[str]:
    """Return what finds the program's lines in a sentence: hooks, where a step ended, advice.

    Lines that are known are found whole, whatever is in their folders' names; others, and
    functions of files (``train.py:step``), by their form.
    """
    sources = [call.source for call in tape.calls]
    sources += [f.source for f in report.findings if f.source is not None]
    sources += [note.source for note in report.notes if note.source is not None]
    known = {source.line for source in sources if source.line}
    longest_first = sorted(map(re.escape, known), key=len, reverse=True)
    return re.compile("|".join([*longest_first, r"[^\s\"'(]+\.py:[^\s\"',;)]+"]))


def _without_line(finding: Finding, lines: re.Pattern[str]) -> Finding:
    return replace(
        finding,
        title=lines.sub(_LEFT_OUT, finding.title),
        source=finding.source and Source(finding.source.module),
        grade=lines.sub(_LEFT_OUT, finding.grade),
        advice=lines.sub(_LEFT_OUT, finding.advice),
        # Its text, with names of the program's variables, goes with the lines.
        symbol="",
        file="",
        called="",
        forward=(),
        why=lines.sub(_LEFT_OUT, finding.why),
        fuzz="",
        remedy="",
        comparison=_without_numbers(finding, lines),
    )


def _without_numbers(judged: Finding | Row, lines: re.Pattern[str]) -> Comparison:
    c = judged.comparison
    reason = lines.sub(_LEFT_OUT, c.reason)
    return replace(c, reason=reason, recorded=math.nan, expected=math.nan, index=None)
