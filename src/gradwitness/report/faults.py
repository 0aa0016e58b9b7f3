"""Root causes as data: what annotations, test reports and exceptions tell of a judgement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.numbers import place, short
from gradwitness.report.console import as_text
from gradwitness.report.names import Names
from gradwitness.report.tables.terminal import describe
from gradwitness.verdict import Fault, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.judging.claimed.judge import ClaimReport
    from gradwitness.judging.finding import Finding, Report
    from gradwitness.judging.probe_results import Probe
    from gradwitness.tape import Tape


def faults_of(report: Report, tape: Tape) -> tuple[Fault, ...]:
    """Return the guilty steps of a judgement; where none is, one doubt for each reason and line."""
    names = Names(tape)
    found = [_fault(finding, tape, names) for finding in report.wrong]
    return tuple(found or _doubts(report, tape))


def probe_faults(probe: Probe) -> tuple[Fault, ...]:
    """Return the guilty steps of a probed program, those that only probes show included."""
    own = faults_of(probe.report, probe.tape)
    found = {fault.title: fault for fault in own if fault.verdict is Verdict.DISAGREES}
    for one in probe.passes:
        names = Names(one.tape)
        for finding in one.wrong:
            if finding.title not in found:
                found[finding.title] = _fault(finding, one.tape, names)
    # A doubt is not worth a word beside a fault.
    return tuple(found.values()) or own


def claim_faults(report: ClaimReport) -> tuple[Fault, ...]:
    """Return why claims are wrong, and which claims are for reasons unknown; else the doubts."""
    found = [
        Fault(
            Verdict.DISAGREES,
            f"{', '.join(cause.guilty or cause.explains)}: {cause.cause}",
            f"{cause.text}\n{cause.place}".strip(),
        )
        for cause in report.causes
    ]
    explained = {name for cause in report.causes for name in cause.explains}
    for row in report.wrong:
        if row.name not in explained:
            c = row.comparison
            text = row.reason or (
                f"worst {place(c.index)}: claimed {c.recorded:.9g}, the witness "
                f"{c.expected:.9g}; error {short(c.error)}, allowed {short(c.bound)}"
            )
            found.append(Fault(Verdict.DISAGREES, f"{row.name}: a wrong claim", text))
    if found:
        return tuple(found)
    doubts = [row for row in report.rows if row.verdict is Verdict.INCONCLUSIVE]
    return tuple(
        [Fault(Verdict.INCONCLUSIVE, f"{row.name}: in doubt", row.reason) for row in doubts]
        + [
            Fault(Verdict.INCONCLUSIVE, f"{name}: not claimed", f"{report.source} does not have it")
            for name in report.unclaimed
        ]
    )


def _fault(finding: Finding, tape: Tape, names: Names) -> Fault:
    text = as_text(describe(finding, tape, names)).strip()
    return Fault(Verdict.DISAGREES, finding.title, text, _line(finding, tape))


def _doubts(report: Report, tape: Tape) -> Iterator[Fault]:
    seen = set()
    for finding in report.findings:
        key = (finding.comparison.reason, _line(finding, tape))
        if finding.verdict is Verdict.INCONCLUSIVE and key not in seen:
            seen.add(key)
            text = f"{finding.title}: {finding.comparison.reason}"
            yield Fault(Verdict.INCONCLUSIVE, finding.comparison.reason, text, key[1])


def _line(finding: Finding, tape: Tape) -> str:
    """Return where the program made a step: of a backward step, what its node's forward ran."""
    if finding.source is not None and finding.source.line:
        return finding.source.line
    if finding.node is None:
        return ""
    node = tape.nodes[finding.node]
    calls = [*node.inner, *([] if node.call is None else [node.call])]
    return next((line for n in calls if (line := tape.calls[n].source.line)), "")
