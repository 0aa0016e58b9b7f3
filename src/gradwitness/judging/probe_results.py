"""Results of probes: one for each kind of cotangent, next to the program's own pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradwitness.judging.comparing.compare import TOO_LITTLE
from gradwitness.judging.custom.accused import ALONG, opened
from gradwitness.judging.finding import ALL, considered
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from gradwitness.judging.finding import Finding, Report, Step
    from gradwitness.judging.note import Note
    from gradwitness.tape import Tape

OWN = "own"
AGAIN = "again"
MOVED = "moved"
MOVED_RANDOM = "moved, random"
# Every kind, in the order in which they run, and what differs from the program's own pass.
KINDS = {
    AGAIN: "nothing changed: the same bits are expected",
    "random": "a random normal cotangent at every node",
    "strided": "cotangents in another memory order, not contiguous",
    "expanded": "cotangents that repeat one number in memory (stride 0)",
    "zero": "cotangents of zeros: every gradient must be exactly zero",
    "one-hot": "cotangents that are zero except in one place",
    "large": "random cotangents, very large",
    "small": "random cotangents, very small",
    MOVED: "parameters perturbed, the loss's own cotangents",
    MOVED_RANDOM: "parameters perturbed, random cotangents",
}
# Torch's own nodes are trusted with these: by default only custom functions get them, and the
# passes are not run where there are none.
CORNERS = ("zero", "one-hot", "large", "small")


@dataclass(frozen=True)
class ProbePass:
    """The results of one kind of probe.

    Attributes
    ----------
    kind : str
        A name of `KINDS`.
    findings : tuple of Finding
        Of ``moved``, every step. Of the others only the backward steps: the probe itself sets what
        arrives at a node, and the forward pass is the program's.
    tape : Tape
        The recording that the findings' numbers belong to.
    sent : bool
        Whether it ran at all.
    error : str
        The exception that ended the pass; the steps before it are judged.
    notes : tuple of Note
    """

    kind: str
    findings: tuple[Finding, ...]
    tape: Tape
    sent: bool = True
    error: str = ""
    notes: tuple[Note, ...] = ()

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """The steps that disagree."""
        return tuple(f for f in self.findings if f.verdict is Verdict.DISAGREES)

    @property
    def doubts(self) -> tuple[Finding, ...]:
        """The steps that could not be judged, without the `silent` ones."""
        return tuple(f for f in self.findings if f.verdict is Verdict.INCONCLUSIVE and _speaks(f))

    @property
    def silent(self) -> tuple[Finding, ...]:
        """The steps whose right answer to this cotangent is zero within rounding.

        A layer norm has no gradient for a cotangent that is constant along a row. That raises no
        doubt about the step, which the other probes test, and confirms nothing either.
        """
        return tuple(f for f in self.findings if not _speaks(f))

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of its steps; at best INCONCLUSIVE if the pass failed.

        ``again`` compares only bits, so a note leaves it INCONCLUSIVE.
        """
        return self.verdict_to(None)

    def verdict_to(self, digits: float | None, judge: str = ALL) -> Verdict:
        """Return the verdict with so many digits required, resting on so much; see `Report`."""
        if self.kind == AGAIN:
            same = not self.error and not self.notes
            return Verdict.AGREES if same else Verdict.INCONCLUSIVE
        failed = [Verdict.INCONCLUSIVE] if self.error else []
        findings = considered(self.findings, judge)
        steps = [f.comparison.verdict_to(digits) for f in findings if _speaks(f)]
        return worst(steps + failed)


@dataclass(frozen=True)
class Probe:
    """The judgement of a program, alone and under every probe.

    Attributes
    ----------
    tape : Tape
        The program's own recording, without the probes.
    report : Report
        Its judgement, as `watch` would have given it.
    passes : tuple of ProbePass
    skipped : tuple of str
        Passes of the program that were not probed, and why.
    seconds : float
        Wall time of everything.
    """

    tape: Tape
    report: Report
    passes: tuple[ProbePass, ...]
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all. Bits that differ within rounding are no disagreement."""
        return worst([self.report.verdict, *self._verdicts_to(None)])

    @property
    def required(self) -> Verdict:
        """The verdict to which the report's required digits lead."""
        return worst([self.report.required, *self._verdicts_to(self.report.digits)])

    def _verdicts_to(self, digits: float | None) -> list[Verdict]:
        sent = [p for p in self.passes if p.sent and (p.kind != AGAIN or p.error)]
        doubt = [Verdict.INCONCLUSIVE] if self.skipped else []
        return [p.verdict_to(digits, self.report.judge) for p in sent] + doubt

    @property
    def hidden(self) -> dict[str, tuple[str, ...]]:
        """Faults hidden from the program's own pass: title, and the probes that show it."""
        visible = {_key(f) for f in self.report.wrong}
        kinds: dict[str, dict[str, None]] = {}
        for probe in self.passes:
            for finding in probe.wrong:
                if _key(finding) not in visible:
                    kinds.setdefault(finding.title, {})[probe.kind] = None
        return {title: tuple(names) for title, names in kinds.items()}

    @property
    def notes(self) -> tuple[Note, ...]:
        """Notes of the passes: a backward that is not deterministic."""
        return tuple(note for probe in self.passes for note in probe.notes)


def off_its_directions(moved: ProbePass, report: Report) -> ProbePass:
    """Leave open what is right along some directions only, which a perturbed argument has left."""
    along = {_key(f): f.grade for f in report.findings if f.grade.startswith(ALONG)}

    def one(finding: Finding) -> Finding:
        grade = along.get(_key(finding))
        if grade is None or finding.verdict is not Verdict.DISAGREES:
            return finding
        reason = f"{grade}, and the probe has moved the argument off them"
        return replace(finding, comparison=opened(finding.comparison, reason), grade=grade)

    return replace(moved, findings=tuple(map(one, moved.findings)))


def _speaks(finding: Finding) -> bool:
    return finding.comparison.reason != TOO_LITTLE


def _key(finding: Finding) -> tuple[Step, str, int]:
    """Return what identifies a step in every pass."""
    return finding.step, finding.title, finding.tensor_nr
