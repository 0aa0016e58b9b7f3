"""What probes found, for terminals and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gradwitness.judging.numbers import seconds_shown
from gradwitness.judging.probe_results import AGAIN, CORNERS, KINDS
from gradwitness.report.names import Names
from gradwitness.report.record import finding_record, note_record
from gradwitness.report.tables.required import required
from gradwitness.report.tables.terminal import describe, noted, styled
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gradwitness.judging.finding import Finding
    from gradwitness.judging.probe_results import Probe, ProbePass

# Further faults than this are counted, not listed.
_LISTED = 8


def probes(probe: Probe) -> RenderableType:
    """Return what the probes add to the judgement of the program's own pass."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("probe", "verdict", "steps", "wrong", "no signal", "inconclusive"):
        table.add_column(
            name, justify="left" if name in ("probe", "verdict") else "right", no_wrap=True
        )
    table.add_column("what", overflow="fold")
    for one in probe.passes:
        table.add_row(*_cells(one))
    parts: list[RenderableType] = [Text(), table]
    parts += [Text(f"no probes for a backward pass: {why}", "yellow") for why in probe.skipped]
    hidden = probe.hidden
    for title, kinds in list(hidden.items())[:_LISTED]:
        one, finding = _first(probe, title)
        parts.append(describe(finding, one.tape, Names(one.tape)))
        parts.append(Text(f"  hidden   {_hidden(kinds)}", style="bold"))
    if len(hidden) > _LISTED:
        parts.append(Text(f"... and {len(hidden) - _LISTED} more steps fail only under probes."))
    parts += [noted(note) for note in probe.notes]
    parts.append(_closing(probe, hidden))
    return Group(*parts)


def probe_record(probe: Probe) -> dict[str, Any]:
    """Return what the probes found as plain data."""
    return {
        "verdict": probe.verdict,
        "exit_code": probe.required.exit_code,
        "hidden": {title: list(kinds) for title, kinds in probe.hidden.items()},
        "skipped": list(probe.skipped),
        "seconds": probe.seconds,
        "passes": [
            {
                "kind": one.kind,
                "what": KINDS[one.kind],
                "sent": one.sent,
                "verdict": one.verdict if one.sent else None,
                "error": one.error,
                "judged": len(one.findings) - len(one.silent) - len(one.doubts),
                "no_signal": len(one.silent),
                "wrong": [finding_record(finding) for finding in one.wrong],
                "in_doubt": [finding_record(finding) for finding in one.doubts],
                "notes": [note_record(note) for note in one.notes],
            }
            for one in probe.passes
        ],
    }


def _cells(one: ProbePass) -> list[Text]:
    counts = [len(one.findings), len(one.wrong), len(one.silent), len(one.doubts)]
    shown = [f"{count}" if count else "" for count in counts]
    what = KINDS[one.kind]
    if not one.sent:
        verdict = Text("not sent", style="dim")
        why = "only torch's own nodes" if one.kind in CORNERS else "no backward pass to repeat"
        return [Text(one.kind), verdict, *map(Text, shown), Text(why)]
    if one.kind == AGAIN and one.notes:
        what = "different bits (see the note)"
    elif one.error:
        what = f"the backward failed: {one.error}"
    elif one.doubts:
        reasons = list(dict.fromkeys(f.comparison.reason for f in one.doubts))
        what = f"inconclusive: {reasons[0]}" + (
            f" and {len(reasons) - 1} more" * (len(reasons) > 1)
        )
    return [Text(one.kind), styled(one.verdict), *map(Text, shown), Text(what)]


def _first(probe: Probe, title: str) -> tuple[ProbePass, Finding]:
    """Return the first place where a fault shows."""
    return next((p, f) for p in probe.passes for f in p.wrong if f.title == title)


def _hidden(kinds: tuple[str, ...]) -> str:
    return f"fails with {'; '.join(kinds)}, but not in the program's own pass"


def _closing(probe: Probe, hidden: dict[str, tuple[str, ...]]) -> Text:
    lines = Text("\n")
    if hidden:
        steps = f"{len(hidden)} step{'s' * (len(hidden) > 1)}"
        lines.append(f"only probes show that {steps} of this program {_is(hidden)} wrong\n")
    elif probe.report.verdict is not Verdict.DISAGREES:
        lines.append("no probe found a fault that the program's own pass hides\n")
    took = seconds_shown(probe.seconds)
    lines.append(f"probed    in {took}; the program's state was restored\n")
    lines.append("verdict   ")
    lines.append(styled(probe.verdict))
    lines.append(" with probes")
    lines.append(required(probe.report.digits, probe.verdict, probe.required))
    return lines


def _is(hidden: dict[str, tuple[str, ...]]) -> str:
    return "is" if len(hidden) == 1 else "are"
