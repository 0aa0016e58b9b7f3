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
from gradwitness.judging.pathology.detector import Judgement
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
        The float64 replay of the tape, if the caller has it already.

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
        findings = []
        if self._empty.isdisjoint(call.outputs) and call.base_op not in SOURCES:
            findings = self._results(number)
        if unfilled or not operands:
            # Passing on unwritten memory is right, whatever it holds; so is a NaN asked for.
            findings = [f for f in findings if not f.comparison.reason.startswith("NaN")]
        self._findings += findings
        self._panel.called(call, findings)

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
        """Judge one node run of a backward pass."""
        findings = self._sweeps[sweep].judge_node(node_run, update)
        self._findings += findings
        self._panel.node_ran(sweep, node_run, update, findings)

    def ends(self, sweep: int, captured: Sequence[tuple[Edge, int | None]]) -> None:
        """Judge the gradients that a backward pass returned."""
        self._sweeps[sweep].finish(captured)

    def report(self, tape: Tape, replayed: Replay | None = None) -> Report:
        """Return the judgement of everything reported.

        Parameters
        ----------
        tape : Tape
            The tape that the steps were reported from, now complete.
        replayed : Replay, optional
            Its float64 replay, if the caller has it already.
        """
        # The node of a forward call was not known when it ran.
        findings = [
            replace(f, node=tape.calls[f.call].node)
            if f.step is Step.FORWARD and f.call is not None
            else f
            for f in self._findings
        ]
        # A tensor without elements has no number that could be wrong or pass on a fault.
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
            # Next to a gradient with numbers, one without leaves nothing open.
            findings = judged
            rows = [
                replace(row, verdict=Verdict.AGREES) if row.comparison.reason == EMPTY else row
                for row in rows
            ]
        notes = self._panel.notes(Judgement(tape, findings, rows, replayed))
        return Report(tuple(findings), tuple(rows), notes)

    def _results(self, number: int) -> list[Finding]:
        tape = self._tape
        call = tape.calls[number]
        rule = find(call.base_op)
        title = f"{call.op} (call {number})"

        def finding(output_nr: int, comparison: Comparison) -> Finding:
            return Finding(
                Step.FORWARD,
                title,
                comparison,
                call=number,
                tensor_nr=output_nr,
                source=call.source,
                formula=rule.text if rule else "",
            )

        try:
            comparisons = self._compared(call)
        except Unjudgeable as reason:
            arrays = [None if n is None else tape.values[n].array for n in call.outputs]
            return [
                finding(output_nr, unjudged(str(reason), a)) for output_nr, a in enumerate(arrays)
            ]
        findings = [
            finding(output_nr, settled_by(comparison, partial(self._size, call, output_nr)))
            for output_nr, comparison in comparisons
        ]
        # Outputs without elements (as batch norm has in evaluation) count only if no other output
        # of the call has any.
        return [f for f in findings if f.comparison.size] or findings

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
