"""What only the whole recording tells of a gradient: lineage, digits, the verdict on its own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.engine.floats import is_inexact, limits
from gradwitness.judging.comparing.comparison import mismatch, nothing, unjudged
from gradwitness.judging.comparing.records import largest
from gradwitness.judging.finding import Row
from gradwitness.judging.gradients.doubts import counted, is_carried, shows
from gradwitness.judging.gradients.lineage import Lineage
from gradwitness.judging.gradients.meant_hooks import CHANGED, behind_hooks
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gradwitness.engine.replay import Replay
    from gradwitness.judging.comparing.compare import Comparison
    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.finding import Finding
    from gradwitness.judging.gradients.meant_hooks import Hooked
    from gradwitness.tape import Edge, Tape


def absent(tape: Tape, terms: Sequence[int], *, left_out: bool) -> Comparison:
    """Return the comparison of a gradient that did not arrive, of those that were sent."""
    if terms:
        array = tape.values[terms[0]].array
        return mismatch("no gradient arrived, though one was sent", array)
    if left_out:
        return nothing("no gradient: the result does not depend on it")
    return unjudged("torch returned None: the gradient does not depend on it")


def row_of(
    tape: Tape, sweep: int, edge: Edge, number: int | None, comparison: Comparison, doubt: float
) -> Row:
    """Return the row of a gradient that a pass gave out, judged on its own."""
    leaf = tape.nodes[edge.node].outputs[edge.index]
    value = None if leaf is None else tape.values[leaf]
    return Row(
        name=(value and value.name) or f"value {leaf}",
        shape=value.shape if value else (),
        dtype=value.dtype if value else "",
        verdict=comparison.verdict,
        reason=comparison.reason,
        inherited=False,
        comparison=comparison,
        digits=math.nan,
        node=edge.node,
        input_nr=edge.index,
        sweep=sweep,
        value=number,
        doubt=doubt,
    )


def finished(
    rows: Iterable[Row],
    tape: Tape,
    findings: list[Finding],
    records: Records,
    replayed: Replay | None,
    hooks: Hooked,
    told: Mapping[tuple[int | None, ...], Comparison],
) -> list[Row]:
    """Return rows with the verdicts that follow from all findings, and with their digits.

    What slopes said of what was sent (by pass, node, edge and value) counts for a leaf that
    received it.
    """
    received = {}
    for (sweep, node, edge_nr, value), comparison in told.items():
        edge = tape.nodes[node or 0].edges[edge_nr or 0]
        received[sweep, edge and (edge.node, edge.index), value] = comparison
    traced = _traced(tape, findings)
    certain = [f for f in findings if not f.is_forward_doubt]
    apart = _traced(tape, certain) if len(certain) < len(findings) else {}
    hooked = {sweep for sweep, *_ in hooks}
    # The replay takes as it is what was sent against a declaration, or refuted by slopes alone, and
    # does not know what hooks do that are not declared: its digits say nothing then.
    unknown = any(
        f.comparison.reason.startswith(CHANGED)
        or (f.verdict is Verdict.DISAGREES and f.grade.startswith(("declared", "numerical")))
        for f in findings
    )

    def finish(row: Row) -> Row:
        input_nr = (row.node, row.input_nr)
        place = row.sweep, input_nr, row.value
        row = replace(row, comparison=received.get(place, row.comparison))
        comparison = behind_hooks(row, records) if row.sweep in hooked else row.comparison
        if replayed is not None and _is_underflow(row, replayed, records):
            row = replace(row, doubt=0.0)
        doubtful = shows(row)
        comparison = comparison if doubtful else counted(replace(row, comparison=comparison))
        verdict, reason, inherited = traced[doubtful].verdict(row.sweep, input_nr, comparison)
        digits = _digits(row, tape, replayed)
        # A replay that went on from what torch has confirms nothing by being the same.
        taken = verdict is Verdict.INCONCLUSIVE and math.isinf(digits)
        return replace(
            row,
            comparison=comparison,
            verdict=verdict,
            reason=reason,
            inherited=inherited,
            digits=math.nan if inherited and (unknown or taken) else digits,
            apart=apart[doubtful].verdict(row.sweep, input_nr, comparison) if apart else None,
        )

    return [finish(row) for row in rows]


def with_digits(rows: Iterable[Row], tape: Tape, replayed: Replay | None) -> list[Row]:
    """Return rows with the digits that a replay confirms, if there is one."""
    return [replace(row, digits=_digits(row, tape, replayed)) for row in rows]


def _digits(row: Row, tape: Tape, replayed: Replay | None) -> float:
    if replayed is None or row.value is None:
        return row.digits
    return replayed.digits(row.sweep, (row.node, row.input_nr), tape.values[row.value].array)


def _is_underflow(row: Row, replayed: Replay, records: Records) -> bool:
    """Whether a gradient is 0 throughout, and float64's rounds to that in its format.

    Then no doubt about a step on the way matters.
    """
    expected = replayed.gradient(row.sweep, row.node, row.input_nr)
    if expected is None or row.value is None or not (row.doubt and is_inexact(row.dtype)):
        return False
    least = float(limits(row.dtype).smallest_subnormal)
    return largest(expected) < least / 2 and not np.any(records(row.value))


def _traced(tape: Tape, findings: list[Finding]) -> dict[bool, Lineage]:
    """Return the lineage with every doubt, and that without those that were carried to the rows.

    They count in the rows where they show.
    """
    firm = [f for f in findings if not is_carried(tape, f)]
    every = Lineage(tape, findings)
    return {True: every, False: Lineage(tape, firm) if len(firm) < len(findings) else every}
