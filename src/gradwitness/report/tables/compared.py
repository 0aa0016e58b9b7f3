"""Two reports side by side, for terminals and as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gradwitness._printable import one_line
from gradwitness.judging.numbers import digits_right, short
from gradwitness.report.findings import finding_records
from gradwitness.report.tables.terminal import relative, styled
from gradwitness.verdict import Fault, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from gradwitness.report.compared import Change, Compared, Entry
    from gradwitness.report.save import Materials

SCHEMA = "gradwitness-compared"
VERSION = 1

_CLOSING = {
    Verdict.AGREES: "; nothing became worse",
    Verdict.DISAGREES: "",
    Verdict.INCONCLUSIVE: "; something is newly in doubt, or gone",
}


def compared_table(found: Compared) -> RenderableType:
    """Return what became worse first, then all else that is told otherwise."""
    gradients = [c for c in found.changes if c.entry.kind == "gradient"]
    others = [c for c in found.changes if c.entry.kind != "gradient"]
    parts: list[RenderableType] = []
    if gradients:
        parts += [_gradients(_ordered(gradients)), Text()]
    parts += [_told(change) for change in _ordered(others)]
    closing = Text("\n" * bool(others))
    closing.append(f"{found.same} gradients unchanged\nverdict   ")
    closing.append(styled(found.before.verdict)).append(" -> ")
    closing.append(styled(found.after.verdict))
    closing.append(_CLOSING[found.verdict])
    if found.are_strangers:
        closing.append("\nno gradient is in both: these are reports of different programs")
    return Group(*parts, closing)


def compared_materials(found: Compared) -> Materials:
    """Return what files about two reports are made of."""
    return {
        "parts": lambda: [compared_table(found)],
        "record": lambda: compared_record(found),
        "page": lambda: found,
    }


def _ordered(changes: Sequence[Change]) -> list[Change]:
    return sorted(changes, key=lambda change: not change.is_worse)


def _gradients(changes: Sequence[Change]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("gradient of", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for name in ("norm", "x bound", "digits"):
        table.add_column(name, justify="right", no_wrap=True)
    for change in changes:
        pair = change.before, change.after
        table.add_row(
            Text(one_line(change.entry.name)),
            _arrow(*pair),
            " -> ".join("absent" if e is None else short(e.norm) for e in pair),
            " -> ".join("absent" if e is None else short(e.ratio) for e in pair),
            " -> ".join("absent" if e is None else digits_right(e.digits) for e in pair),
        )
    return table


def _told(change: Change) -> Text:
    entry = change.entry
    line = _arrow(change.before, change.after)
    line.append(f"  {entry.kind}  {one_line(entry.name)}")
    return line.append(f"  at {one_line(relative(entry.line))}" if entry.line else "")


def _arrow(before: Entry | None, after: Entry | None) -> Text:
    return Text(" -> ").join([_standing(before), _standing(after)])


def _standing(entry: Entry | None) -> Text:
    if entry is None:
        return Text("absent", style="dim")
    return Text("there") if entry.verdict is None else styled(entry.verdict)


def compared_record(found: Compared) -> dict[str, Any]:
    """Return the comparison as plain data."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "verdict": found.verdict,
        "exit_code": found.verdict.exit_code,
        "findings": finding_records(_fault(c) for c in found.changes if c.is_worse),
        "before": found.before.verdict,
        "after": found.after.verdict,
        "same": found.same,
        "changes": [
            {
                "kind": change.entry.kind,
                "name": change.entry.name,
                "worse": change.is_worse,
                "before": _plain(change.before),
                "after": _plain(change.after),
            }
            for change in found.changes
        ],
    }


def _fault(change: Change) -> Fault:
    entry, before = change.entry, change.before
    was = before.verdict.value if before and before.verdict else "absent"
    now = change.after.verdict.value if change.after and change.after.verdict else "absent"
    return Fault(
        change.verdict,
        f"{entry.name}: {was} -> {now}",
        f"this {entry.kind} became worse",
        entry.line,
        kind=f"worse {entry.kind}",
        symbol=entry.name,
    )


def _plain(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {name: figure for name, figure in asdict(entry).items() if name not in ("kind", "name")}
