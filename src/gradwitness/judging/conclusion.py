"""What follows from all steps together: the verdicts of the gradients, causes, notes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import filterfalse
from typing import TYPE_CHECKING, Any, TypeVar

from gradwitness._errors import JudgingInterrupted, Unjudgeable
from gradwitness._failure import FAILED, failure
from gradwitness._printable import several
from gradwitness.engine.replay import Replay, replay, replayed_gradients, steps_of
from gradwitness.judging.comparing.comparison import EMPTY, unjudged
from gradwitness.judging.custom.accused import unmeasured
from gradwitness.judging.depth import FULL
from gradwitness.judging.finding import Finding, Report, Row, Step
from gradwitness.judging.fuzz.guilty import fuzzed
from gradwitness.judging.gradients.doubts import without_faint
from gradwitness.judging.gradients.left_open import with_left_open
from gradwitness.judging.gradients.lost import with_losses
from gradwitness.judging.gradients.meant_hooks import as_meant, judged_hooks, unknown_hooks
from gradwitness.judging.gradients.mixed_gradients import followed
from gradwitness.judging.gradients.reached import with_approximations
from gradwitness.judging.gradients.rows import finished, with_digits
from gradwitness.judging.gradients.second_derivatives import without_cut
from gradwitness.judging.gradients.unfelt import Trusting, without_unfelt
from gradwitness.judging.gradients.unseen import cut_short, doubted, with_doubts
from gradwitness.judging.gradients.whole_record import by_whole_record
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Judgement
from gradwitness.rules.declarations import is_allowed
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradwitness.judging.causes.guilty import Guilty
    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.custom.outcome import Settled
    from gradwitness.judging.custom.own_pass import OwnPasses
    from gradwitness.judging.pathology.panel import Panel
    from gradwitness.judging.sweep import SweepCheck
    from gradwitness.tape import Tape

T = TypeVar("T")


def attempt(judge: Callable[..., T], otherwise: Callable[..., T], *given: Any) -> T:
    """Judge what is given; if that fails, return `otherwise(*given, reason)`: all goes on."""
    try:
        return judge(*given)
    except Unjudgeable as reason:
        return otherwise(*given, str(reason))
    except Exception as error:  # noqa: BLE001 (the report says so)
        return otherwise(*given, failure(error))


@dataclass(frozen=True)
class Seen:
    """What a judge has seen of a program, step by step."""

    findings: Sequence[Finding]
    sweeps: Sequence[SweepCheck]
    records: Records
    panel: Panel
    guilty: Guilty
    own_passes: OwnPasses
    steps: int
    depth: str


def conclusion(
    seen: Seen,
    tape: Tape,
    *,
    settle: Callable[..., Settled],
    replayed: Replay | None = None,
    waits: bool = False,
) -> Report:
    """Return what follows from all steps.

    Parameters
    ----------
    seen : Seen
    tape : Tape
        Complete.
    settle : callable
        Judges what was accused, see `judging.accused`.
    replayed : Replay, optional
        The float64 replay of the tape, if it is there already.
    waits : bool
        Whether the replay, and what rests on it, is left for `completed`.
    """
    if tape.failures and not tape.calls:
        # Nothing was recorded, so there are no findings to report.
        return without_steps(tape.failures)
    # Accused functions run again here.
    findings, trusted, told = seen.own_passes.judged(tape, settle(seen.findings))
    interrupted = settle is unmeasured
    # The node of a forward call was not known when it ran.
    findings = [
        f.at_node(tape.calls[f.call].node) if f.step is Step.FORWARD and f.call is not None else f
        for f in findings
    ]
    findings = with_doubts(tape, findings)
    unknown = unknown_hooks(tape, findings, seen.records)
    hooks = {**unknown, **judged_hooks(tape, seen.records)}
    findings = [as_meant(f, hooks) for f in findings] if hooks else findings
    told = {k: c for k, c in told.items() if (*k[:2], Step.BACKWARD, k[2]) not in hooks}
    findings, along = followed(tape, findings)
    apart = _Apart(findings)
    odd, unfelt = without_unfelt(tape, apart.odd, trusted)
    # A tensor without elements has no number that could be wrong or pass on a fault.
    judged = [f for f in odd if f.comparison.reason != EMPTY]
    thorough = seen.depth == FULL and not interrupted
    again = None if replayed else partial(replay, tape, steps=Trusting(trusted))
    failures: list[Note] = []
    if thorough and replayed is None and not waits:
        replayed, failures = _replayed(tape, findings, Trusting(trusted))
    given = (row for sweep in seen.sweeps for row in sweep.rows())
    rows = finished(given, tape, judged, seen.records, replayed, hooks, told)
    if not rows or any(row.comparison.reason != EMPTY for row in rows):
        apart.keep(odd, judged)
        odd, rows = judged, _without_empty(rows)
    odd, rows = by_whole_record(tape, odd, rows, seen.records)
    odd = seen.guilty.explained(tape, seen.records, without_faint(tape, odd, rows))
    odd = fuzzed(odd, seen.findings) if thorough else odd
    rows, grown = with_approximations(tape, odd, doubted(tape, rows), trusted)
    # What may hide under the largest number of a step is followed to the gradients.
    off = {at: error for sweep in seen.sweeps for at, error in sweep.off.items()}
    rows, hidden = with_left_open(tape, odd, rows, seen.records, off) if thorough else (rows, [])
    rows, cut, more = without_cut(tape, rows)
    told_of: tuple[Note, ...] = ()
    if not waits:
        all_of = apart.whole(odd)
        told_of = _notes(seen.panel, Judgement(tape, all_of, rows, replayed, again))
    notes = (*unfelt, *along.notes(rows), *more, *told_of, *failures)
    doubts = (*grown, *hidden, *cut, *_incomplete(tape.failures), *cut_short(tape, rows))
    doubts += _interrupted(seen.steps, steps_of(tape)) if interrupted else ()
    odd, rows = with_losses(odd, rows)
    return _final((*apart.whole(odd), *doubts), tuple(rows), notes)


class _Apart:
    """The findings, and which of them say more than that a step agrees: few, and apart from these.

    Attributes
    ----------
    odd : list of Finding
        These, in order. What becomes of them stands in the same order.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        self._all = list(findings)
        self._places = [k for k, f in enumerate(self._all) if not f.agrees_plainly]
        self._left_out: set[int] = set()
        self.odd = [self._all[k] for k in self._places]

    def keep(self, odd: Sequence[Finding], kept: Sequence[Finding]) -> None:
        """Leave out those that are not kept, of what has become of the odd ones."""
        ids = {id(f) for f in kept}
        stays = [k for k, f in zip(self._places, odd, strict=True) if id(f) in ids]
        self._left_out.update({*self._places}.difference(stays))
        self._places = stays

    def whole(self, odd: Sequence[Finding]) -> list[Finding]:
        """Return all findings, with what has become of the odd ones."""
        become = dict(zip(self._places, odd, strict=True))
        return [become.get(k, f) for k, f in enumerate(self._all) if k not in self._left_out]


def _untold(kind: str, what: str, reason: str) -> tuple[Note, ...]:
    """Return notes on what no verdict depends on, and why it is missing."""
    note = Note(kind, f"{what}: {reason}.")
    return (note, _PLEASE) if reason.startswith(FAILED) else (note,)


_no_digits = partial(_untold, "no digits", "The float64 replay, which tells how many are right")
_no_notes = partial(_untold, "no notes", "All others")


def completed(panel: Panel, tape: Tape, first: Report, *, thorough: bool) -> Report:
    """Return a report in which everything agrees with its notes and, if that is to be made, digits.

    What judged the steps is not needed any more, and may go.

    Parameters
    ----------
    panel : Panel
    tape : Tape
    first : Report
    thorough : bool
        Whether to make the float64 replay.

    Raises
    ------
    JudgingInterrupted
        If a Ctrl-C comes in between: with what was known before.
    """

    def whole() -> Report:
        replayed: Replay | None = None
        failures: list[Note] = []
        if thorough:
            replayed, failures = _replayed(tape, first.findings, Trusting(()))
        rows = tuple(with_digits(first.rows, tape, replayed))
        judged = Judgement(tape, first.findings, rows, replayed, partial(replay, tape))
        return replace(first, rows=rows, notes=(*first.notes, *_notes(panel, judged), *failures))

    def without(reason: str) -> Report:
        untold = _no_digits(reason) if thorough else _no_notes(reason)
        return replace(first, notes=(*first.notes, *untold))

    try:
        return attempt(whole, without)
    except KeyboardInterrupt:
        raise JudgingInterrupted(without("interrupted before it was over")) from None


def _replayed(
    tape: Tape, findings: Sequence[Finding], steps: Trusting
) -> tuple[Replay | None, list[Note]]:
    """Replay what can be replayed; return a note if a rule fails that did not at its own step."""
    if not tape.replayable or tape.failures:
        return None, []
    reasons: list[str] = []
    replayed = attempt(partial(replayed_gradients, tape, steps), reasons.append)
    reported = {finding.comparison.reason for finding in findings}
    untold = [reason for reason in reasons if reason not in reported]
    return replayed, [note for reason in untold for note in _no_digits(reason)]


def _notes(panel: Panel, judgement: Judgement) -> tuple[Note, ...]:
    notes = attempt(lambda: panel.notes(judgement), _no_notes)
    return tuple(filterfalse(_is_meant, notes))


def without_steps(failures: Sequence[str]) -> Report:
    """Return the report of a program of which nothing could be recorded, or judged."""
    return _final(_incomplete(failures))


def _is_meant(note: Note) -> bool:
    """Whether a note is about numbers that were allowed to leave autograd's sight."""
    is_about = any(word in note.kind for word in ("sight", "detach", "branch on"))
    return is_about and note.source is not None and is_allowed(note.source.line)


def _incomplete(failures: Sequence[str]) -> tuple[Finding, ...]:
    """Return findings for a recording or report that could not be completed."""
    return tuple(
        Finding(Step.FORWARD, "the recording, or its report", unjudged(reason, None))
        for reason in failures
    )


def _interrupted(done: int, steps: int) -> tuple[Finding, ...]:
    """Return the doubt about steps, or what comes after them, that an interrupt left unjudged."""
    left = "" if done < steps else ": what slopes and the float64 replay would say is not known"
    reason = f"interrupted after {done} of {several(steps, 'step', 'steps')}{left}"
    return (Finding(Step.FORWARD, "the judgement", unjudged(reason)),)


def _without_empty(rows: Sequence[Row]) -> list[Row]:
    """Let gradients without elements agree: next to one with numbers they leave nothing open."""
    return [
        replace(row, verdict=Verdict.AGREES, apart=None) if row.comparison.reason == EMPTY else row
        for row in rows
    ]


def _final(
    findings: tuple[Finding, ...], rows: tuple[Row, ...] = (), notes: tuple[Note, ...] = ()
) -> Report:
    """Return a report; if gradwitness itself failed, with a note that asks for a bug report."""
    report = Report(findings, rows, notes)
    return replace(report, notes=(*notes, _PLEASE)) if has_failed(report) else report


def has_failed(report: Report) -> bool:
    """Whether gradwitness itself failed at a step, or afterwards."""
    return any(finding.comparison.reason.startswith(FAILED) for finding in report.findings)


_PLEASE = Note(
    "gradwitness failed",
    "The affected steps are inconclusive; the program itself was not disturbed. Please report "
    "this, with the line given and, if possible, the program.",
)
