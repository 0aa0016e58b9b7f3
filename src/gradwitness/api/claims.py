"""Gradients from elsewhere: judged against a recorded program, or against each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradwitness._errors import GradientDisagreement, InputError
from gradwitness.claims.selection import by_column, named
from gradwitness.claims.sources import read_claims
from gradwitness.judging.claimed.between_sources import compare_runs
from gradwitness.judging.claimed.references import Judged
from gradwitness.report.console import as_text
from gradwitness.report.faults import claim_faults, faults_of
from gradwitness.report.page.subject import Subject, Texts
from gradwitness.report.save import save
from gradwitness.report.tables.claims import claims as claims_table
from gradwitness.report.tables.claims import claims_record
from gradwitness.report.tables.terminal import summary
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from os import PathLike

    from rich.console import RenderableType

    from gradwitness.judging.claimed.judge import ClaimReport
    from gradwitness.judging.finding import Report
    from gradwitness.report.save import Materials
    from gradwitness.tape import Tape
    from gradwitness.verdict import Fault


@dataclass(frozen=True)
class ClaimCheck:
    """The judgement of claimed gradients.

    Attributes
    ----------
    runs : tuple of ClaimReport
        One for each run in each source of claims.
    report : Report or None
        The judgement of the program itself, if one was recorded.
    tape : Tape or None
        The recording of that program.
    """

    runs: tuple[ClaimReport, ...]
    report: Report | None = None
    tape: Tape | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst verdict on any claim, or on the program itself."""
        program = [self.report.verdict] if self.report is not None else []
        return worst([run.verdict for run in self.runs] + program)

    @property
    def required(self) -> Verdict:
        """The verdict to which the required digits lead: what exit codes and `require` follow."""
        program = [self.report.required] if self.report is not None else []
        return worst([run.required for run in self.runs] + program)

    @property
    def exit_code(self) -> int:
        """The exit code of a command with this result."""
        return self.required.exit_code

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The root causes, those of the program itself first."""
        own: tuple[Fault, ...] = ()
        if self.report is not None and self.tape is not None:
            own = faults_of(self.report, self.tape)
        return (*own, *self.claim_faults)

    @property
    def claim_faults(self) -> tuple[Fault, ...]:
        """The root causes of what is wrong with the claims alone."""
        return tuple(fault for run in self.runs for fault in claim_faults(run))

    def parts(self) -> list[RenderableType]:
        """Return what a terminal shows: the program's judgement first, then the claims'."""
        own = self.report is not None and self.tape is not None
        shown = [summary(self.report, self.tape)] if own else []  # type: ignore[arg-type]
        return [*shown, claims_table(self.runs)]

    def record(self) -> dict[str, Any]:
        """Return everything as plain data: schema ``gradwitness-claims``."""
        return claims_record(self.runs, self.report, self.tape)

    def __str__(self) -> str:
        return as_text(*self.parts())

    def requiring(self, digits: float | None) -> ClaimCheck:
        """Return the same judgement, where so many right digits are enough; None: all of them.

        Raises
        ------
        InputError
            If ``digits`` is less than 1.
        """
        digits = at_least_one(digits)
        runs = tuple(replace(run, digits=digits) for run in self.runs)
        report = None if self.report is None else replace(self.report, digits=digits)
        return replace(self, runs=runs, report=report)

    def require(self, *, digits: float | None = None) -> None:
        """Raise unless every claim, and the program itself, agrees.

        Parameters
        ----------
        digits : float, optional
            Let a disagreement pass that has at least so many right digits; see `Witness.require`.

        Raises
        ------
        GradientDisagreement
            If something disagrees or could not be judged. The message is the report.
        InputError
            If ``digits`` is less than 1.
        """
        judged = self.requiring(digits)
        if judged.required is not Verdict.AGREES:
            raise GradientDisagreement(f"{judged.required.value}\n{judged}", judged.faults)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the judgement to a file.

        Parameters
        ----------
        path : str or path-like
            ``.txt`` for what the terminal shows, ``.json`` for every figure, ``.html`` for a page.

        Raises
        ------
        InputError
            If the extension is not supported, or the file cannot be written.
        """
        save(Path(path), self.materials())

    def materials(self) -> Materials:
        """Return what files about it are made of, see `gradwitness.report.save`."""
        return {"parts": self.parts, "record": self.record, "page": self._page}

    def _page(self) -> Subject | Texts:
        sections = (("Claims", claims_table(self.runs)),)
        if self.report is None or self.tape is None:
            return Texts(self.verdict, sections)
        return Subject(self.tape, self.report, self.verdict, sections=sections)


def at_least_one(digits: float | None) -> float | None:
    """Return how many digits are required.

    Raises
    ------
    InputError
        If that is less than 1: errors of more than a tenth would pass.
    """
    if digits is not None and not digits >= 1:
        raise InputError(
            f"digits={digits:g} would let errors of more than a tenth pass: require 1 or more"
        )
    return digits


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
    names = [row.name for row in report.rows]
    read = [part for source in sources for part in by_column(read_claims(source), names)]
    judged = Judged(tape, report)
    runs = [run for claims in read for run in judged.runs(claims, sweep=sweep, dtype=dtype)]
    return ClaimCheck(tuple(runs), report, tape)


def diff(
    a: Any, b: Any = None, *, dtype: str | None = None, names: tuple[str, str] | None = None
) -> ClaimCheck:
    """Compare gradients from two sources without the program that they belong to.

    How far apart two right gradients may lie depends on the program, so small differences are
    INCONCLUSIVE here. `check` runs the program and derives the bound.

    Parameters
    ----------
    a, b : mapping, path, callable or Claims
        The gradients, in any form that `check` takes. ``b`` is compared with ``a``. With ``names``,
        one source may hold both.
    dtype : str, optional
        The coarser of the two dtypes that they were computed in. By default the sources tell.
    names : pair of str, optional
        What is compared: a name in ``a``, and one in ``b``. ``("numerical", "analytical")`` are two
        tensors, two columns, or the tensors with that word in their names.

    Returns
    -------
    ClaimCheck

    Raises
    ------
    InputError
        If a source cannot be read, or has nothing of that name.

    Examples
    --------
    >>> import numpy as np
    >>> import gradwitness
    >>> right = {"w": np.array([1.0, 2.0, 3.0])}
    >>> flipped = {"w": np.array([-1.0, -2.0, -3.0])}
    >>> result = gradwitness.diff(right, flipped)
    >>> result.verdict
    <Verdict.DISAGREES: 'DISAGREES'>
    >>> result.runs[0].causes[0].cause
    'wrong sign'
    """
    if b is None and names is None:
        raise InputError("nothing to compare with: name a second source, or two names of the first")
    first = read_claims(a, is_verified=False)
    second = first if b is None else read_claims(b, is_verified=False)
    sources = first, second
    if names is not None:
        first, second = (
            named(claims, name, names[0])
            for claims, name in zip((first, second), names, strict=True)
        )
    found = ClaimCheck(compare_runs(first, second, dtype))
    if found.verdict is not Verdict.AGREES:
        # Numbers of two files that agree are not damaged; others may be, and then nobody is wrong.
        for source in sources:
            source.verify()
    return found
