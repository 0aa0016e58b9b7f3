"""Annotations on GitHub: one for each root cause, at the line of the program that has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness._printable import one_line, printable
from gradwitness.report.findings import place
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradwitness.verdict import Fault

# GitHub shows ten of one kind for each step of a workflow, and drops the others without a word.
SHOWN = 10


def commands(faults: Iterable[Fault]) -> list[str]:
    """Return workflow commands, one a line: errors for faults, warnings for doubts.

    A fault that is there twice, at one line, is told once. What is more than GitHub shows is
    counted in the last one.
    """
    by_place = {(f.verdict, f.title, f.line): f for f in faults}
    lines: list[str] = []
    for verdict, level in _LEVELS.items():
        found = [f for f in by_place.values() if f.verdict is verdict]
        fits = len(found) <= SHOWN
        shown = found if fits else found[: SHOWN - 1]
        lines += [annotation(level, f"gradwitness: {f.title}", f.text, f.line) for f in shown]
        if not fits:
            rest = (
                f"{len(found) - len(shown)} more in the log: GitHub shows only {SHOWN} annotations"
            )
            lines.append(annotation(level, "gradwitness: more", rest))
    return lines


def annotation(level: str, title: str, text: str, line: str = "") -> str:
    """Return one workflow command; what has a meaning to GitHub is escaped.

    The level is ``error``, ``warning`` or ``notice``; the line is ``file:line``, or empty.
    """
    file, number = place(one_line(line))
    where = {"file": file, "line": f"{number}"} if file else {}
    fields = ",".join(
        f"{key}={_property(value)}" for key, value in {**where, "title": one_line(title)}.items()
    )
    return f"::{level} {fields}::{_data(printable(text))}"


_LEVELS = {Verdict.DISAGREES: "error", Verdict.INCONCLUSIVE: "warning"}


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
