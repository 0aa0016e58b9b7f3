"""The local check: every step of a tape alone, from its recorded operands.

If every step holds, the whole holds; and a fault shows at the step that makes it, nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.check.compare import Comparison, unjudged
from gradwitness.check.finding import Finding, Report, Step
from gradwitness.check.lineage import Lineage
from gradwitness.check.recorded import against
from gradwitness.check.sweep import SweepCheck
from gradwitness.engine.binding import Unjudgeable, recorded
from gradwitness.engine.forward import evaluate
from gradwitness.engine.replay import Replay, replay
from gradwitness.rules import find
from gradwitness.rules.structure import SOURCES
from gradwitness.tape import references

if TYPE_CHECKING:
    from gradwitness.tape import Tape


def judge(tape: Tape, replayed: Replay | None = None) -> Report:
    """Check every forward call, every backward node and every gradient of a tape.

    Parameters
    ----------
    tape : Tape
    replayed : Replay, optional
        The float64 replay of the same tape, where the caller has it already.

    Returns
    -------
    Report
    """
    empty = _uninitialised(tape)
    findings = [
        finding
        for call in tape.calls
        if empty.isdisjoint(call.outputs)
        for finding in _forward(tape, call.id)
    ]
    judged = []
    for number in range(len(tape.sweeps)):
        sweep = SweepCheck(tape, number)
        sweep.run()
        findings += sweep.findings
        judged.append(sweep)
    lineage = Lineage(tape, findings)
    replayed = replayed or replay(tape)
    rows = [row for sweep in judged for row in sweep.rows(lineage, replayed)]
    return Report(tuple(findings), tuple(rows))


def _uninitialised(tape: Tape) -> set[int | None]:
    """Return the values that nobody has written yet: what lies there may even be NaN."""
    found: set[int | None] = set()
    for call in tape.calls:
        operands = {n for argument in call.arguments.values() for n in references(argument)}
        if "empty" in call.base_op or (call.is_view and operands & found):
            found.update(call.outputs)
    return found


def _forward(tape: Tape, number: int) -> list[Finding]:
    call = tape.calls[number]
    if call.base_op in SOURCES:
        return []
    found = find(call.base_op)
    title = f"{call.op} (call {number})"

    def finding(slot: int, comparison: Comparison) -> Finding:
        return Finding(
            Step.FORWARD,
            title,
            comparison,
            call=number,
            node=call.node,
            slot=slot,
            source=call.source,
            formula=found.text if found else "",
        )

    try:
        results = evaluate(tape, call, recorded(tape), bounded=True)
    except Unjudgeable as reason:
        arrays = [None if n is None else tape.values[n].array for n in call.outputs]
        return [finding(slot, unjudged(str(reason), array)) for slot, array in enumerate(arrays)]
    made = []
    for slot, (output, result) in enumerate(zip(call.outputs, results, strict=True)):
        # A rule gives None for what a kernel keeps for itself.
        if output is not None and result is not None:
            made.append(finding(slot, against(tape, output, result)))
    # Outputs without elements (what batch norm does not save in evaluation) have nothing to judge,
    # as long as another output of the call has.
    return [f for f in made if f.comparison.size] or made
