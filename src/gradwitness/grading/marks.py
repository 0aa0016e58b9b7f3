"""Marks for each gradient, and why: never what the right numbers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwitness._errors import InputError
from gradwitness.grading.submission import take
from gradwitness.judging.claimed.references import Judged
from gradwitness.judging.numbers import subscript
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from gradwitness.diagnose.rank import Cause
    from gradwitness.grading.task import Task
    from gradwitness.judging.claimed.judge import ClaimReport, ClaimRow
    from gradwitness.judging.finding import Report
    from gradwitness.tape import Tape


@dataclass(frozen=True)
class Mark:
    """What one gradient earned."""

    name: str
    earned: float
    worth: float
    # `right`, `wrong`, `wrong by an earlier one`, `not handed in`, or `open`: then nobody
    # can tell, and a person has to look.
    standing: str
    why: str = ""  # in a student's words; empty if it is right


@dataclass(frozen=True)
class Marks:
    """A graded submission."""

    title: str
    submission: str
    marks: tuple[Mark, ...]  # in the order of the forward pass
    causes: tuple[Cause, ...]  # what was done wrong, the likeliest first
    failure: str  # why there was nothing to grade
    printed: str  # the end of what the submitted program printed
    notes: tuple[str, ...]  # how names were understood
    answers: dict[str, NDArray[np.float64]]  # the right gradients, for whoever may see them

    @property
    def earned(self) -> float:
        """Marks in all."""
        return sum(mark.earned for mark in self.marks)

    @property
    def worth(self) -> float:
        """Marks that there are."""
        return sum(mark.worth for mark in self.marks)

    @property
    def open(self) -> float:
        """Marks that a person has to give."""
        return sum(mark.worth for mark in self.marks if mark.standing == "open")

    @property
    def verdict(self) -> Verdict:
        """AGREES for all marks, INCONCLUSIVE if a person has to look, else DISAGREES."""
        if self.failure or any(m.standing not in ("right", "open") for m in self.marks):
            return Verdict.DISAGREES
        return Verdict.INCONCLUSIVE if self.open or not self.marks else Verdict.AGREES


def grade(task: Task, submission: Path, tape: Tape, report: Report) -> Marks:
    """Grade a submission: a ``.py`` file with the task's function, or a file of gradients.

    Raises `InputError` if the task itself is wrong: its program disagrees with the witness, or it
    names gradients that there are none of.
    """
    if report.verdict is Verdict.DISAGREES:
        raise InputError(
            f"{task.path}: the task's own program has wrong gradients; "
            f"gradwitness check {task.target} says which"
        )
    judged = Judged(tape, report)
    answers = judged.answers()
    unknown = sorted(set(task.marks) - set(answers))
    if unknown:
        raise InputError(
            f"{task.path}: marks for {', '.join(unknown)}, which have no gradient in the program; "
            f"it has {', '.join(answers)}"
        )
    handed_in = take(submission, task.submission)
    failure, found = handed_in.failure, None
    if handed_in.claims is not None:
        try:
            *_, found = judged.runs(handed_in.claims, dtype=task.submission.format)
        except InputError as error:
            failure = str(error)
    return Marks(
        title=task.title,
        submission=submission.name,
        marks=tuple(_mark(task, name, found) for name in answers),
        causes=found.causes if found else (),
        failure=failure,
        printed=handed_in.printed,
        notes=found.notes if found else (),
        answers=answers,
    )


def _mark(task: Task, name: str, found: ClaimReport | None) -> Mark:
    worth = task.worth(name)
    row = next((row for row in found.rows if row.name == name), None) if found else None
    if row is None:
        return Mark(name, 0.0, worth, "not handed in")
    if row.verdict is Verdict.AGREES:
        return Mark(name, worth, worth, "right")
    if row.verdict is Verdict.INCONCLUSIVE:
        return Mark(name, 0.0, worth, "open", row.reason)
    if row.inherited:
        share = task.carried_forward * worth
        return Mark(name, share, worth, "wrong by an earlier one", _extent(row))
    return Mark(name, 0.0, worth, "wrong", _extent(row))


def _extent(row: ClaimRow) -> str:
    """Say where a gradient is wrong, without a right number."""
    c = row.comparison
    if c.index is None:
        return row.reason
    return f"{c.refuted} of {c.size} entries, the worst at {subscript(c.index) or 'the number'}"
