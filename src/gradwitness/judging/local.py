"""The local check: every step of a tape alone, from its recorded operands.

If every step holds, the whole holds; and a fault shows at the step that makes it, nowhere else.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from gradwitness._errors import Unjudgeable
from gradwitness._failure import FAILED, failure
from gradwitness.engine.forward import evaluate
from gradwitness.engine.replay import Replay, replay
from gradwitness.judging import large_steps
from gradwitness.judging.compare import EMPTY, Comparison, settled_by, unjudged
from gradwitness.judging.finding import Finding, Report, Step
from gradwitness.judging.lineage import Lineage
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.panel import Panel
from gradwitness.judging.records import Records, largest
from gradwitness.judging.sweep import SweepCheck
from gradwitness.rules import find
from gradwitness.rules.graph_terms import SOURCES
from gradwitness.tape import OUTSIDE, references
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradwitness.judging.finding import Row
    from gradwitness.judging.slopes import Functions
    from gradwitness.tape import Call, Edge, LeafUpdate, NodeRun, Tape


T = TypeVar("T")


def judge(tape: Tape, replayed: Replay | None = None) -> Report:
    """Judge every forward call, backward node and gradient of a recording.

    Parameters
    ----------
    tape : Tape
    replayed : Replay, optional
        The float64 replay of the same recording, if the caller already has it.

    Returns
    -------
    Report
        What `watch` would have said, without PyTorch and without running the program.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> import gradwitness
    >>> w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> with gradwitness.watch(names={"w": w}) as witness:
    ...     w.square().sum().backward()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     gradwitness.save_tape(witness.tape, f"{folder}/tape.npz")
    ...     tape = gradwitness.load_tape(f"{folder}/tape.npz")
    >>> report = gradwitness.judge(tape)
    >>> report.verdict
    <Verdict.AGREES: 'AGREES'>
    >>> [(row.name, row.comparison.error) for row in report.rows]
    [('w', 0.0)]
    """
    made = Judge(tape)
    done = 0

    def call_up_to(count: int) -> None:
        nonlocal done
        for call in range(done, count):
            made.called(call)
        done = max(done, count)

    for number, sweep in enumerate(tape.sweeps):
        call_up_to(sweep.after)
        made.begins(number, sweep.roots, sweep.limited_to)
        updates = {update.node: update for update in sweep.leaves}
        for node_run in sweep.node_runs:
            call_up_to(node_run.after)
            made.node_ran(number, node_run, updates.get(node_run.node))
        made.ends(number, sweep.captured)
    call_up_to(len(tape.calls))
    return made.report(tape, replayed)


class Judge:
    """Judges a program step by step, while it runs or afterwards.

    A rule, or the judge itself, that fails leaves its step in doubt and stops nobody.

    Parameters
    ----------
    tape : Tape
        May still be growing; a step's numbers are needed when the step is reported, not later.
    functions : Functions, optional
        Runs the program's custom functions again, while it is there: for those without rules.
    """

    def __init__(self, tape: Tape, functions: Functions | None = None) -> None:
        self._tape = tape
        self._functions = functions
        self._records = Records(tape)
        self._findings: list[Finding] = []
        self._sweeps: dict[int, SweepCheck] = {}
        self._panel = Panel(tape, self._records)
        # Values that nobody has written yet: what lies there may even be NaN.
        self._empty: set[int | None] = set()
        # Values that hold some such numbers among others.
        self._unfilled: set[int | None] = set()

    def called(self, number: int) -> None:
        """Judge a forward call."""
        call = self._tape.calls[number]
        found = self._attempt(lambda: self._result(call), lambda why: self._doubts(call, why))
        self._findings += found
        self._panel.called(call, found)

    @staticmethod
    def _attempt(judge: Callable[[], T], otherwise: Callable[[str], T]) -> T:
        """Judge; where that fails, return something else, which is told why."""
        try:
            return judge()
        except Unjudgeable as reason:
            return otherwise(str(reason))
        except Exception as error:  # noqa: BLE001 (the program goes on, and the report tells of it)
            return otherwise(failure(error))

    def _result(self, call: Call) -> list[Finding]:
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
        nothing = not call.outputs or call.base_op in SOURCES
        if self._empty.isdisjoint(call.outputs) and not nothing:
            found = self._results(call)
        if unfilled or not operands:
            # To hand on what was never written is right, whatever it is; so is a NaN asked for.
            found = [f for f in found if not f.comparison.reason.startswith("NaN")]
        return found

    def begins(
        self,
        sweep: int,
        roots: Sequence[tuple[Edge, int | None]],
        limited_to: Sequence[Edge] | None,
    ) -> None:
        """Take note of a backward pass."""
        self._sweeps[sweep] = SweepCheck(
            self._tape, self._records, sweep, roots, limited_to, self._functions
        )

    def node_ran(self, sweep: int, node_run: NodeRun, update: LeafUpdate | None) -> None:
        """Judge one node's turn in a backward pass."""
        check = self._sweeps[sweep]
        check.note(node_run)
        found = self._attempt(
            lambda: check.judge_node(node_run, update),
            lambda why: check.give_up(node_run, update, why),
        )
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
        return self._attempt(
            lambda: self._report(tape, replayed),
            lambda why: _told(_broken_off((*tape.failures, why))),
        )

    def _report(self, tape: Tape, replayed: Replay | None) -> Report:
        if tape.failures and not tape.calls:
            # It could not be written, so that nothing can be told of what was found.
            return _told(_broken_off(tape.failures))
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
        failures = list(tape.failures)
        if replayed is None and tape.complete and not failures:
            replayed = self._attempt(lambda: replay(tape), failures.append)
            # A rule that fails there has failed at its own step, and is told of there.
            told = {finding.comparison.reason for finding in findings}
            failures = [reason for reason in failures if reason not in told]

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
        return _told((*findings, *_broken_off(failures)), tuple(rows), notes)

    def _doubts(self, call: Call, reason: str) -> list[Finding]:
        """Leave a call's results in doubt."""
        arrays = [None if n is None else self._tape.values[n].array for n in call.outputs]
        return [
            _of_call(call, output_nr, unjudged(reason, array))
            for output_nr, array in enumerate(arrays or [None])
        ]

    def _results(self, call: Call) -> list[Finding]:
        made = [
            _of_call(call, output_nr, settled_by(comparison, partial(self._size, call, output_nr)))
            for output_nr, comparison in self._compared(call)
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
            # A rule gives None for what a kernel keeps for itself.
            if output is not None and result is not None
        ]

    def _size(self, call: Call, output_nr: int) -> float:
        """Return how large a call's result is where all operands have one sign."""
        try:
            results = evaluate(self._tape, call, self._records.size, bounded=False)
        except Unjudgeable:
            return 0.0
        return largest(results[output_nr])


def _of_call(call: Call, output_nr: int, comparison: Comparison) -> Finding:
    found = find(call.base_op)
    return Finding(
        Step.FORWARD,
        f"{call.op} (call {call.id})",
        comparison,
        call=call.id,
        tensor_nr=output_nr,
        source=call.source,
        formula=found.text if found else "",
    )


def _broken_off(failures: Sequence[str]) -> tuple[Finding, ...]:
    """Return what is left to say of what could not be recorded, or reported, to its end."""
    return tuple(
        Finding(Step.FORWARD, "the record, or the report of it", unjudged(reason, None))
        for reason in failures
    )


def _told(
    findings: tuple[Finding, ...], rows: tuple[Row, ...] = (), notes: tuple[Note, ...] = ()
) -> Report:
    """Return a report, which asks for one in turn where gradwitness itself has failed."""
    if any(finding.comparison.reason.startswith(FAILED) for finding in findings):
        notes = (*notes, _PLEASE)
    return Report(findings, rows, notes)


_PLEASE = Note(
    "gradwitness failed",
    "The steps that name it are in doubt; the program itself was not disturbed. Please report "
    "this, with the line that is named and, if you can, the program.",
)
