"""A function that runs again: slopes at its inputs decide about steps that are not its record's.

A custom function, or a hook, may send what is not the derivative of the recorded forward, and the
gradients that the program receives be right all the same: a hook that solves for the equilibrium of
a layer, two functions that undo each other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gradwitness._errors import Unjudgeable
from gradwitness._printable import listed
from gradwitness.engine.binding import recorded
from gradwitness.engine.floats import wide
from gradwitness.engine.replay import replay
from gradwitness.judging.custom.slopes import between, measure
from gradwitness.judging.gradients.whole_record import is_the_programs
from gradwitness.judging.note import Note
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gradwitness.judging.comparing.compare import Comparison
    from gradwitness.judging.custom.slopes import Claim, Runs
    from gradwitness.judging.finding import Finding, Report, Row
    from gradwitness.judging.probe_results import Probe


_RIGHT = (
    "not the derivative of the recorded forward; the gradients it leads to are right, by slopes of "
    "the whole step"
)


class AtLeaves(NamedTuple):
    """What slopes say of the gradients in question.

    Attributes
    ----------
    verdict : Verdict
    refuted : dict of str to Comparison
        Those that slopes exclude, by the leaf's name.
    """

    verdict: Verdict
    refuted: dict[str, Comparison]


_UNTOLD = AtLeaves(Verdict.INCONCLUSIVE, {})


def at_leaves(functions: Runs, claims: Mapping[str, Claim], found: Probe) -> AtLeaves:
    """Judge the gradients that a custom function or a hook put in question.

    Parameters
    ----------
    functions : Runs
        The whole program.
    claims : mapping of str to Claim
        Its gradients, by the name of the leaf; those of the recording are taken instead.
    found : Probe

    Returns
    -------
    AtLeaves
        AGREES if slopes support each of them, and exclude the derivative of the record along the
        direction in which the two differ most. DISAGREES if they exclude one. INCONCLUSIVE if they
        cannot tell, or if anything else is in question.
    """
    tape, report = found.tape, found.report
    steps = [f for f in report.findings if f.verdict is not Verdict.AGREES]
    known = {f.title for f in steps}
    probed = {f.title for p in found.passes for f in (*p.wrong, *p.doubts)}
    if not all(is_the_programs(tape, f) for f in steps) or probed - known:
        return _UNTOLD
    by_record = replay(tape)
    verdicts, refuted = {Verdict.AGREES}, {}
    for row in (row for row in report.rows if row.verdict is not Verdict.AGREES):
        other = by_record.gradient(row.sweep, row.node, row.input_nr)
        if row.name not in claims or row.value is None or other is None:
            return _UNTOLD
        sent = wide(recorded(tape)(row.value))
        claim = replace(claims[row.name], sent=sent, dtype=row.dtype)
        slopes = measure(functions, claim)
        told = {slopes.verdict, between(functions, claim, other)}
        verdicts |= told
        if slopes.verdict is Verdict.DISAGREES:
            refuted[row.name] = slopes
    return AtLeaves(worst([*verdicts]), refuted)


def with_slopes(found: Probe, step: Callable[[], Any]) -> Report:
    """Return a step's report in which slopes, where they can tell, decide what is in question.

    Parameters
    ----------
    found : Probe
        The step as it ran once, and put back.
    step : callable
        Runs again some hundred times, up to its first backward pass.
    """
    from gradwitness.capture.again.whole import Whole

    report = found.report
    sweeps = {row.sweep for row in report.rows if row.verdict is not Verdict.AGREES}
    if sweeps != {0}:
        return report
    whole = Whole(step)
    try:
        told = at_leaves(whole, whole.claims(found.tape), found)
    except Unjudgeable:
        return report
    if told.verdict is Verdict.AGREES:
        wrong = [f for f in report.findings if f.verdict is not Verdict.AGREES]
        findings, right, note = _acquitted(report.findings, report.rows, wrong)
        notes = (note, *report.notes)
        return replace(report, findings=tuple(findings), rows=tuple(right), notes=notes)
    rows = tuple(_refuted(row, told.refuted) for row in report.rows)
    return replace(report, rows=rows)


def _refuted(row: Row, refuted: Mapping[str, Comparison]) -> Row:
    if row.verdict is not Verdict.INCONCLUSIVE or row.name not in refuted:
        return row
    comparison = replace(refuted[row.name], index=())
    reason = "the slopes of the whole step refute it"
    return replace(
        row, verdict=Verdict.DISAGREES, reason=reason, inherited=False, comparison=comparison
    )


def _acquitted(
    findings: Iterable[Finding], rows: Iterable[Row], wrong: Sequence[Finding]
) -> tuple[list[Finding], list[Row], Note]:
    """Return findings and rows in which some steps agree, and all gradients of their passes.

    Parameters
    ----------
    findings, rows : iterable
    wrong : sequence of Finding
    """
    agreed: dict[str, Any] = {"verdict": Verdict.AGREES, "refuted": 0, "probable_ratio": 0.0}
    ids, passes = {id(f) for f in wrong}, {f.sweep for f in wrong}
    found = [
        replace(f, comparison=replace(f.comparison, reason=_RIGHT, **agreed), advice="")
        if id(f) in ids
        else f
        for f in findings
    ]
    of_passes = [
        replace(row, verdict=Verdict.AGREES, reason="", inherited=False, apart=None)
        if row.sweep in passes and row.verdict is not Verdict.AGREES
        else row
        for row in rows
    ]
    first = wrong[0]
    note = Note(
        "right as a whole",
        f"{listed([f.title for f in wrong])}: not the derivative of the recorded forward. But each "
        "gradient that it leads to is right, by slopes of the whole step.",
        source=first.source,
        node=first.node,
        sweep=first.sweep,
    )
    return found, of_passes, note
