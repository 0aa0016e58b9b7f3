"""What a page shows before any script has run: the verdict, how it came about, how to repeat it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness._cells import line_of
from gradwitness._printable import one_line
from gradwitness.judging.finding import Step
from gradwitness.judging.numbers import digits_right, short
from gradwitness.report.page.steps import shaped
from gradwitness.report.page.subject import Texts
from gradwitness.report.page.texts import sections_of
from gradwitness.report.picture.looks import MARKS
from gradwitness.report.tables.depth import looked_at
from gradwitness.report.tables.required import required
from gradwitness.report.tables.terminal import relative, told
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.finding import Finding, Report, Row
    from gradwitness.report.names import Names
    from gradwitness.report.page.subject import Subject

# Of gradients, notes and reasons; the rest is in the script's tables.
_LISTED = 100
_SENTENCES = {
    Verdict.AGREES: "All that was judged agrees with the witness.",
    Verdict.DISAGREES: "At least one number is not what the witness derives.",
    Verdict.INCONCLUSIVE: "Nothing disagrees, but not everything could be judged.",
}


def first_screen(subject: Subject, names: Names) -> dict[str, Any]:
    """Return what the template needs, as plain data."""
    report = subject.report
    return {
        **text_screen(Texts(subject.verdict, subject.sections)),
        "is_program": True,
        "required": required(report.digits, report.verdict, report.required).removeprefix(", "),
        "counts": _counts(report),
        "coverage": list(report.coverage().items()),
        "depth": report.depth,
        "looked": looked_at(report),
        "reasons": report.reasons().most_common(_LISTED),
        "wrong": _wrong(subject, names),
        "more_wrong": max(len(report.wrong) - 1, 0),
        "notes": [_note(note) for note in report.notes[:_LISTED]],
        "gradients": [_gradient(row) for row in report.rows[:_LISTED]],
        "more_gradients": max(len(report.rows) - _LISTED, 0),
        "about": list(subject.tape.about.items()),
        "command": one_line(subject.command),
        "seed": subject.seed,
        "contains": _contains(subject),
        "left_out": ["source lines", "values", "the command"] if subject.is_redacted else [],
    }


def text_screen(texts: Texts) -> dict[str, Any]:
    """Return the same about texts alone."""
    return {
        "is_program": False,
        "sides": None,
        "verdict": look(texts.verdict),
        "sentence": _SENTENCES[texts.verdict],
        "required": "",
        "looked": "",
        "sections": sections_of(texts),
        "looks": {verdict.value: look(verdict) for verdict in Verdict},
    }


def look(verdict: Verdict) -> dict[str, str]:
    """Return the word, the kind and the mark of a verdict."""
    return {"word": verdict.value, "kind": verdict.name.lower(), "mark": MARKS[verdict]}


def _counts(report: Report) -> list[dict[str, Any]]:
    return [
        {"step": step.value, "counts": [(look(v), report.count(v, step)) for v in Verdict]}
        for step in Step
    ]


def _wrong(subject: Subject, names: Names) -> dict[str, Any] | None:
    first = subject.report.first_wrong
    if first is None:
        return None
    facts, code = told(first, subject.tape, names)
    return {
        "title": f"{first.step.value}: {first.title}",
        "node": first.node,
        "facts": facts,
        "code": code,
        "source": _source_line(first) if subject.is_live else "",
    }


def _source_line(finding: Finding) -> str:
    """Return the text of the line that made a step, as the file is now."""
    called = finding.source.line if finding.source else ""
    path, _, number = (f"{finding.file}:{finding.line}" if finding.file else called).rpartition(":")
    if not number.isdigit():
        return ""
    return one_line(line_of(path, int(number)))


def _note(note: Any) -> dict[str, str]:
    line = relative(note.source.line) if note.source else ""
    return {"kind": note.kind, "text": note.text, "line": line}


def _gradient(row: Row) -> dict[str, Any]:
    c = row.comparison
    return {
        "name": row.name,
        "shape": shaped(row.shape),
        "verdict": look(row.verdict),
        "inherited": row.inherited,
        "basis": row.basis,
        "node": row.node,
        "figures": [short(c.ratio), short(c.norm), digits_right(row.digits)],
    }


def _contains(subject: Subject) -> list[str]:
    """Return what is in the page, for whoever thinks of sending it."""
    held = [
        "names of modules, parameters, operations and autograd nodes",
        "formulas, shapes and options of operations",
        "norms, errors and bounds of every step",
    ]
    if subject.is_redacted:
        return held
    held.append("paths and numbers of source lines" + (", and one such line" * subject.is_live))
    held.append("two numbers of each step: the worst one, as torch and as the witness has it")
    held.append(
        "maps and histograms of the errors of backward steps, where their numbers were kept"
    )
    held.append(
        "of the worst entry of gradients, the numbers that it is made of, where they were kept"
    )
    held.append("numbers without dimensions, where formulas name them")
    held += [f"what stands under {heading!r}" for heading, _ in subject.sections]
    return held
