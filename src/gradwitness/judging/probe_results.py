"""What probes found: one result for each kind of cotangent, beside the program's own pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwitness.judging.compare import TOO_LITTLE
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from gradwitness.judging.finding import Finding, Report, Step
    from gradwitness.judging.note import Note
    from gradwitness.tape import Tape

OWN = "own"
AGAIN = "again"
MOVED = "moved"
MOVED_RANDOM = "moved, random"
# Every kind, in the order in which they run, and what is other than in the program's own pass.
KINDS = {
    AGAIN: "nothing changed: the same bits are wanted",
    "random": "a random normal cotangent at every node",
    "strided": "cotangents that do not lie in one piece in memory, in another order",
    "expanded": "cotangents that repeat one number in memory (stride 0)",
    "zero": "cotangents of zeros: every gradient must be exactly zero",
    "one-hot": "cotangents that are zero except in one place",
    "large": "random cotangents, very large",
    "small": "random cotangents, very small",
    MOVED: "parameters moved off their values, the loss's own cotangents",
    MOVED_RANDOM: "parameters moved off their values, random cotangents",
}
# Torch's own nodes are not suspected of mistaking these, so that by default the program's own
# functions alone get them, and the passes are not run where there is none.
CORNERS = ("zero", "one-hot", "large", "small")


@dataclass(frozen=True)
class ProbePass:
    """What one kind of probe found.

    Attributes
    ----------
    kind : str
        A name of `KINDS`.
    findings : tuple of Finding
        Of ``moved``, every step. Of the others the backward steps: what arrives at a node is the
        probe's own doing, and the forward pass is that of the program.
    tape : Tape
        The recording that the findings' numbers belong to.
    sent : bool
        Whether it ran at all.
    error : str
        The exception with which the pass ended; what ran before it is judged.
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
        """The steps that are right to give no more than rounding for this cotangent.

        A layer norm has no gradient for a cotangent that is constant along a row. That is no doubt
        about the step, which the other probes try, but no confirmation either.
        """
        return tuple(f for f in self.findings if not _speaks(f))

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of its steps; at best INCONCLUSIVE if the pass failed.

        Of ``again`` nothing is judged but the bits, so that a note leaves it INCONCLUSIVE.
        """
        if self.kind == AGAIN:
            whole = not self.error and not self.notes
            return Verdict.AGREES if whole else Verdict.INCONCLUSIVE
        failed = [Verdict.INCONCLUSIVE] if self.error else []
        return worst([f.verdict for f in self.findings if _speaks(f)] + failed)


@dataclass(frozen=True)
class Probe:
    """The judgement of a program, and of it under every probe.

    Attributes
    ----------
    tape : Tape
        The program's own recording, without the probes.
    report : Report
        Its judgement: what `watch` would have said.
    passes : tuple of ProbePass
    skipped : tuple of str
        Passes of the program that got no probe, and why.
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
        judged = [p.verdict for p in self.passes if p.sent and (p.kind != AGAIN or p.error)]
        doubt = [Verdict.INCONCLUSIVE] if self.skipped else []
        return worst([self.report.verdict, *judged, *doubt])

    @property
    def hidden(self) -> dict[str, tuple[str, ...]]:
        """Faults that the program's own pass does not show: title, and the kinds that show it."""
        shown = {_key(f) for f in self.report.wrong}
        kinds: dict[str, dict[str, None]] = {}
        for one in self.passes:
            for finding in one.wrong:
                if _key(finding) not in shown:
                    kinds.setdefault(finding.title, {})[one.kind] = None
        return {title: tuple(found) for title, found in kinds.items()}

    @property
    def notes(self) -> tuple[Note, ...]:
        """What the passes noted: backward that is not deterministic."""
        return tuple(note for one in self.passes for note in one.notes)


def _speaks(finding: Finding) -> bool:
    return finding.comparison.reason != TOO_LITTLE


def _key(finding: Finding) -> tuple[Step, str, int]:
    """Return what a step is called by, whatever pass it was seen in."""
    return finding.step, finding.title, finding.tensor_nr
