"""Somebody else's gradients: judged against a recorded program, or against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradwitness._errors import GradientDisagreement, InputError
from gradwitness.claims.sources import read_claims
from gradwitness.files.atomic import write_atomically
from gradwitness.judging.claimed.between_sources import compare_runs
from gradwitness.judging.claimed.references import Judged
from gradwitness.report.faults import claim_faults, faults_of
from gradwitness.report.record import dumps
from gradwitness.report.tables.claims import claims as claims_table
from gradwitness.report.tables.claims import claims_record
from gradwitness.report.tables.terminal import as_text, summary
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from os import PathLike

    from rich.console import RenderableType

    from gradwitness.diagnose.rank import Cause
    from gradwitness.judging.claimed.judge import ClaimReport
    from gradwitness.judging.finding import Report
    from gradwitness.tape import Tape
    from gradwitness.verdict import Fault

# Endings that `ClaimCheck.save` knows.
TEXTS = (".txt", ".json")


@dataclass(frozen=True)
class ClaimCheck:
    """What came of judging claims.

    Attributes
    ----------
    runs : tuple of ClaimReport
        One for each run of each source.
    report : Report or None
        The judgement of the program itself, if there is one.
    tape : Tape or None
    """

    runs: tuple[ClaimReport, ...]
    report: Report | None = None
    tape: Tape | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all, that on the program included."""
        program = [self.report.verdict] if self.report is not None else []
        return worst([run.verdict for run in self.runs] + program)

    @property
    def exit_code(self) -> int:
        """Exit code of a command that found this."""
        return self.verdict.exit_code

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The root causes, those of the program itself first."""
        own: tuple[Fault, ...] = ()
        if self.report is not None and self.tape is not None:
            own = faults_of(self.report, self.tape)
        return (*own, *self.claim_faults)

    @property
    def claim_faults(self) -> tuple[Fault, ...]:
        """The root causes of what is wrong with the claims."""
        return tuple(fault for run in self.runs for fault in claim_faults(run))

    def parts(self) -> list[RenderableType]:
        """Return what a terminal shows: the program's judgement first, then the claims'."""
        own = self.report is not None and self.tape is not None
        shown = [summary(self.report, self.tape)] if own else []  # type: ignore[arg-type]
        return [*shown, claims_table(self.runs)]

    def record(self) -> dict[str, Any]:
        """Return everything as plain data: schema ``gradwitness-claims``."""
        return claims_record(self.runs, self.report)

    def __str__(self) -> str:
        return as_text(*self.parts())

    def require(self) -> None:
        """Raise unless every claim, and the program itself, agrees.

        Raises
        ------
        GradientDisagreement
            If something disagrees, or could not be judged; the message is the report.
        """
        if self.verdict is not Verdict.AGREES:
            raise GradientDisagreement(f"{self.verdict.value}\n{self}", self.faults)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the judgement: ``.txt`` as the terminal shows it, ``.json`` every figure.

        Raises
        ------
        InputError
            If the ending is another, or the file cannot be written.
        """
        target = Path(path)
        if target.suffix == ".txt":
            write_atomically(target, str(self))
        elif target.suffix == ".json":
            write_atomically(target, dumps(self.record()))
        else:
            raise InputError(f"{target}: the ending must be .txt or .json")


def judge_claims(
    tape: Tape,
    report: Report,
    *sources: Any,
    sweep: int | None = None,
    dtype: str | None = None,
) -> ClaimCheck:
    """Judge claims about a recorded program.

    Parameters
    ----------
    tape : Tape
    report : Report
        Its judgement.
    *sources
        Files, dicts of arrays or tensors by name, functions that return such a dict, or `Claims`.
    sweep : int, optional
        Which backward pass the claims are about, from 1. By default the one that fits best, or the
        sum of the passes so far if that fits better; the result says which.
    dtype : str, optional
        The format that the claims were computed in; by default as the sources tell.
    """
    read = [read_claims(source) for source in sources]
    judged = Judged(tape, report)
    runs = [run for claims in read for run in judged.runs(claims, sweep=sweep, dtype=dtype)]
    return ClaimCheck(tuple(runs), report, tape)


def own_causes(tape: Tape, report: Report) -> tuple[Cause, ...]:
    """Say why gradients that a program itself made are wrong; empty where no explanation fits.

    Parameters
    ----------
    tape : Tape
    report : Report
        Its judgement. The gradients of its first backward pass are explained.
    """
    known = {
        row.name: array
        for row in report.rows
        if row.sweep == 0 and row.value is not None
        if (array := tape.values[row.value].array) is not None
    }
    try:
        (run,) = Judged(tape, report).runs(read_claims(known), sweep=1)
    except InputError:
        return ()  # a format that claims cannot be in, or numbers that were let go
    return run.causes


def diff(a: Any, b: Any, *, dtype: str | None = None) -> ClaimCheck:
    """Compare the gradients of two sources, without the program that they belong to.

    How far right ones may lie apart is not known without it: see `check` for a derived bound.

    Parameters
    ----------
    a, b
        Files, dicts of arrays or tensors by name, or functions that return such a dict. ``a`` is
        the side that ``b`` is compared with.
    dtype : str, optional
        The coarser of the formats that they were computed in; by default as the sources tell.

    Returns
    -------
    ClaimCheck
    """
    return ClaimCheck(compare_runs(read_claims(a), read_claims(b), dtype))
