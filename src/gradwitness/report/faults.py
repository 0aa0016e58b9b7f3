"""Root causes as data, for annotations, test reports and exceptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.finding import Step
from gradwitness.judging.left_out import LEFT_OUT
from gradwitness.judging.numbers import short, subscript
from gradwitness.report.findings import comparison_record
from gradwitness.report.names import Names
from gradwitness.report.tables.terminal import described, next_of
from gradwitness.tape import Kind
from gradwitness.verdict import Fault, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.judging.claimed.judge import ClaimReport
    from gradwitness.judging.finding import Finding, Report
    from gradwitness.judging.probe_results import Probe
    from gradwitness.tape import Tape


def faults_of(report: Report, tape: Tape) -> tuple[Fault, ...]:
    """Return the guilty steps of a judgement; if there is none, a doubt per reason and line."""
    names = Names(tape)
    faults = [_fault(f, tape, names) for f in report.wrong if _counts(f, report.digits)]
    return tuple(faults or _doubts(report, tape))


def probe_faults(probe: Probe) -> tuple[Fault, ...]:
    """Return the guilty steps of a probed program, including those that only probes show."""
    own = faults_of(probe.report, probe.tape)
    by_title = {fault.title: fault for fault in own if fault.verdict is Verdict.DISAGREES}
    for probe_pass in probe.passes:
        names = Names(probe_pass.tape)
        for finding in probe_pass.wrong:
            if finding.title not in by_title and _counts(finding, probe.report.digits):
                by_title[finding.title] = _fault(finding, probe_pass.tape, names)
    # Doubts do not matter next to a fault.
    return tuple(by_title.values()) or own


def claim_faults(report: ClaimReport) -> tuple[Fault, ...]:
    """Return the causes of wrong claims, and wrong claims without one; else the doubts."""
    wrong = {r.name for r in report.wrong if r.verdict_to(report.digits) is Verdict.DISAGREES}
    faults = [
        Fault(
            Verdict.DISAGREES,
            f"{', '.join(cause.guilty or cause.explains)}: {cause.cause}",
            f"{cause.text}\n{cause.place}".strip(),
            kind="wrong claim",
            symbol=", ".join(cause.guilty or cause.explains),
            cause=cause.cause,
            remedy=cause.experiment,
        )
        for cause in report.causes
        if not cause.explains or wrong.intersection(cause.explains)
    ]
    explained = {name for cause in report.causes for name in cause.explains}
    for row in report.wrong:
        if row.name in wrong - explained:
            c = row.comparison
            text = row.reason or (
                f"worst {subscript(c.index)}: claimed {c.recorded:.9g}, expected {c.expected:.9g}; "
                f"error {short(c.error)}, allowed {short(c.bound)}"
            )
            faults.append(
                Fault(
                    Verdict.DISAGREES,
                    f"{row.name}: a wrong claim",
                    text,
                    kind="wrong claim",
                    symbol=row.name,
                    numbers=comparison_record(c),
                )
            )
    if faults:
        return tuple(faults)
    doubts = [row for row in report.rows if row.verdict is Verdict.INCONCLUSIVE]
    return tuple(
        [
            Fault(
                Verdict.INCONCLUSIVE,
                f"{row.name}: inconclusive",
                row.reason,
                kind="unjudged claim",
                symbol=row.name,
                numbers=comparison_record(row.comparison),
            )
            for row in doubts
        ]
        + [
            Fault(
                Verdict.INCONCLUSIVE,
                f"{name}: not claimed",
                f"{source} does not contain it",
                kind="missing claim",
                symbol=name,
            )
            for name, source in report.missing
        ]
    )


def _counts(finding: Finding, digits: float | None) -> bool:
    return finding.comparison.verdict_to(digits) is Verdict.DISAGREES


def _fault(finding: Finding, tape: Tape, names: Names) -> Fault:
    return Fault(
        Verdict.DISAGREES,
        finding.title,
        described(finding, tape, names),
        _line(finding, tape),
        kind=f"wrong {finding.step.value}",
        symbol=finding.symbol or _symbol(finding, tape),
        cause=finding.cause,
        remedy=finding.remedy or next_of(finding),
        numbers=comparison_record(finding.comparison),
    )


def _doubts(report: Report, tape: Tape) -> Iterator[Fault]:
    seen = set()
    for finding in report.findings:
        if finding.comparison.reason == LEFT_OUT:
            continue
        key = (finding.comparison.reason, _line(finding, tape))
        if finding.verdict is Verdict.INCONCLUSIVE and key not in seen:
            seen.add(key)
            text = f"{finding.title}: {finding.comparison.reason}"
            yield Fault(
                Verdict.INCONCLUSIVE,
                finding.comparison.reason,
                text,
                key[1],
                kind=f"unjudged {finding.step.value}",
                symbol=_symbol(finding, tape),
                numbers=comparison_record(finding.comparison),
            )


def _line(finding: Finding, tape: Tape) -> str:
    """Return the line of a step; for a backward step, its own, or that of its node's forward."""
    if finding.file:
        return f"{finding.file}:{finding.line}"
    if finding.source is not None and finding.source.line:
        return finding.source.line
    if finding.node is None:
        return ""
    node = tape.nodes[finding.node]
    calls = [*node.inner, *([] if node.call is None else [node.call])]
    return next((line for n in calls if (line := tape.calls[n].source.line)), "")


def _symbol(finding: Finding, tape: Tape) -> str:
    """Return what a step ran, as the program names it: a function's method, or an operator."""
    if finding.node is None:
        return "" if finding.call is None else tape.calls[finding.call].op
    node = tape.nodes[finding.node]
    if node.kind == Kind.CUSTOM and finding.step is Step.BACKWARD:
        return f"{node.name.removesuffix('Backward')}.backward"
    return node.name
