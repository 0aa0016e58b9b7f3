"""The local check: every step of a tape by itself, from its recorded operands.

If every step holds, the whole holds, and a fault shows only at the step that made it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gradwitness.engine.binding import Unjudgeable
from gradwitness.engine.forward import evaluate
from gradwitness.engine.replay import Replay, replay
from gradwitness.judging import large_steps
from gradwitness.judging.compare import EMPTY, Comparison, settled_by, unjudged
from gradwitness.judging.finding import Finding, Report, Step
from gradwitness.judging.lineage import Lineage
from gradwitness.judging.pathology.panel import Panel
from gradwitness.judging.records import Records, largest
from gradwitness.judging.sweep import SweepCheck
from gradwitness.rules import find
from gradwitness.rules.graph_terms import SOURCES
from gradwitness.tape import OUTSIDE, references
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.finding import Row
    from gradwitness.judging.slopes import Functions
    from gradwitness.tape import Call, Edge, LeafUpdate, NodeRun, Tape


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
    judging = Judge(tape)
    done = 0

    def call_up_to(count: int) -> None:
        nonlocal done
        for call in range(done, count):
            judging.called(call)
        done = max(done, count)

    for number, sweep in enumerate(tape.sweeps):
        call_up_to(sweep.after)
        judging.begins(number, sweep.roots, sweep.limited_to)
        updates = {update.node: update for update in sweep.leaves}
        for node_run in sweep.node_runs:
            call_up_to(node_run.after)
            judging.node_ran(number, node_run, updates.get(node_run.node))
        judging.ends(number, sweep.captured)
    call_up_to(len(tape.calls))
    return judging.report(tape, replayed)


class Judge:
    """Judges a program step by step, while it runs or afterwards.

    Parameters
    ----------
    tape : Tape
        May still be growing; a step's numbers are needed when the step is reported, not later.
    functions : Functions, optional
        Reruns the program's custom functions, for those without rules.
    """

    def __init__(self, tape: Tape, functions: Functions | None = None) -> None:
        self._tape = tape
        self._functions = functions
        self._records = Records(tape)
        self._findings: list[Finding] = []
        self._sweeps: dict[int, SweepCheck] = {}
        self._panel = Panel(tape, self._records)
        # Values not yet written to, which may hold anything, NaN included.
        self._empty: set[int | None] = set()
        # Values that contain some such numbers.
        self._unfilled: set[int | None] = set()

    def called(self, number: int) -> None:
        """Judge a forward call."""
        call = self._tape.calls[number]
        operands = {n for argument in call.arguments.values() for n in references(argument)}
        if "empty" in call.base_op or (call.is_view and operands & self._empty):
            self._empty.update(call.outputs)
        moves = call.is_view or call.base_op == "aten.copy"
        unfilled = moves and bool(operands & (self._empty | self._unfilled))
        if unfilled:
            self._unfilled.update((*call.outputs, call.base))
        if call.op.startswith(OUTSIDE):
            for operand in operands:
                self._records.expose(operand)
        found = []
        if self._empty.isdisjoint(call.outputs) and call.base_op not in SOURCES:
            found = self._results(number)
        if unfilled or not operands:
            # To hand on what was never written is right, whatever it is; so is a NaN asked for.
            found = [f for f in found if not f.comparison.reason.startswith("NaN")]
        self._findings += found
        self._panel.called(call, found)

    def begins(
        self,
        sweep: int,
        roots: Sequence[tuple[Edge, int | None]],
        limited_to: Sequence[Edge] | None,
    ) -> None:
        """Begin a backward pass."""
        self._sweeps[sweep] = SweepCheck(
            self._tape, self._records, sweep, roots, limited_to, self._functions
        )

    def node_ran(self, sweep: int, node_run: NodeRun, update: LeafUpdate | None) -> None:
        """Judge one node's turn in a backward pass."""
        found = self._sweeps[sweep].judge_node(node_run, update)
        self._findings += found
        self._panel.node_ran(sweep, node_run, update, found)

    def ends(self, sweep: int, captured: Sequence[tuple[Edge, int | None]]) -> None:
        """Judge the gradients that a backward pass returned."""
        self._sweeps[sweep].finish(captured)

    def report(self, tape: Tape, replayed: Replay | None = None) -> Report:
        """Return everything that was found.

        Parameters
        ----------
        tape : Tape
            The one that the steps were reported of, which grows no more.
        replayed : Replay, optional
            Its float64 replay, where the caller has it already.
        """
        # Which node a forward call left behind was not known when it ran.
        findings = [
            replace(f, node=tape.calls[f.call].node)
            if f.step is Step.FORWARD and f.call is not None
            else f
            for f in self._findings
        ]
        # A tensor without elements has no number that could be wrong, nor hand on what is wrong.
        judged = [f for f in findings if f.comparison.reason != EMPTY]
        lineage = Lineage(tape, judged)
        if replayed is None and tape.complete:
            replayed = replay(tape)

        def finished(row: Row) -> Row:
            input_nr = (row.node, row.input_nr)
            verdict, reason, inherited = lineage.verdict(row.sweep, input_nr, row.comparison)
            digits = row.digits
            if replayed is not None and row.value is not None:
                digits = replayed.digits(row.sweep, input_nr, tape.values[row.value].array)
            return replace(row, verdict=verdict, reason=reason, inherited=inherited, digits=digits)

        rows = [finished(row) for sweep in self._sweeps.values() for row in sweep.rows()]
        if not rows or any(row.comparison.reason != EMPTY for row in rows):
            # Beside a gradient that has numbers, one that has none leaves nothing open.
            findings = judged
            rows = [
                replace(row, verdict=Verdict.AGREES) if row.comparison.reason == EMPTY else row
                for row in rows
            ]
        notes = self._panel.notes(tape, findings, rows, replayed)
        return Report(tuple(findings), tuple(rows), notes)

    def _results(self, number: int) -> list[Finding]:
        tape = self._tape
        call = tape.calls[number]
        found = find(call.base_op)
        title = f"{call.op} (call {number})"

        def finding(output_nr: int, comparison: Comparison) -> Finding:
            return Finding(
                Step.FORWARD,
                title,
                comparison,
                call=number,
                tensor_nr=output_nr,
                source=call.source,
                formula=found.text if found else "",
            )

        try:
            comparisons = self._compared(call)
        except Unjudgeable as reason:
            arrays = [None if n is None else tape.values[n].array for n in call.outputs]
            return [
                finding(output_nr, unjudged(str(reason), a)) for output_nr, a in enumerate(arrays)
            ]
        made = [
            finding(output_nr, settled_by(comparison, partial(self._size, call, output_nr)))
            for output_nr, comparison in comparisons
        ]
        # Outputs without elements (what batch norm does not save in evaluation) have nothing to
        # judge, as long as another output of the call has.
        return [f for f in made if f.comparison.size] or made

    def _compared(self, call: Call) -> list[tuple[int, Comparison]]:
        """Compare each result of a call with the witness's."""
        of_pieces = large_steps.results(self._tape, call, self._records)
        if of_pieces is not None:
            return of_pieces
        results = evaluate(self._tape, call, self._records, bounded=True)
        return [
            (output_nr, self._records.against(output, result))
            for output_nr, (output, result) in enumerate(zip(call.outputs, results, strict=True))
            # A rule returns None for a kernel's internal outputs.
            if output is not None and result is not None
        ]

    def _size(self, call: Call, output_nr: int) -> float:
        """Return how large a call's result is if all operands have the same sign."""
        try:
            results = evaluate(self._tape, call, self._records.magnitudes, bounded=False)
        except Unjudgeable:
            return 0.0
        return largest(results[output_nr])
