"""The local check: every step of a tape by itself, from its recorded operands.

If every step holds, the whole holds, and a fault shows only at the step that made it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import filterfalse
from typing import TYPE_CHECKING, Any, TypeVar

from gradwitness._errors import Unjudgeable
from gradwitness._failure import FAILED, failure
from gradwitness._printable import several
from gradwitness.engine.floats import unit_roundoff
from gradwitness.engine.forward import evaluate
from gradwitness.engine.replay import Replay, replay, replayed_gradients, steps_of
from gradwitness.judging import large_steps
from gradwitness.judging.accused import settled, unmeasured
from gradwitness.judging.came_in import agreed, finite, forgiven
from gradwitness.judging.causes import Guilty
from gradwitness.judging.compare import EMPTY, Comparison, in_turn, settled_by, unjudged
from gradwitness.judging.depth import FAST, FULL, known_depth
from gradwitness.judging.doubts import without_faint
from gradwitness.judging.fast.look import Fast
from gradwitness.judging.finding import Finding, Report, Step
from gradwitness.judging.fuzz.guilty import fuzzed
from gradwitness.judging.left_open import with_left_open
from gradwitness.judging.lost import with_losses
from gradwitness.judging.meant_hooks import as_meant, judged_hooks, unknown_hooks
from gradwitness.judging.mixed_gradients import followed
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Judgement
from gradwitness.judging.pathology.panel import Panel
from gradwitness.judging.reached import with_approximations
from gradwitness.judging.records import Records, largest
from gradwitness.judging.rows import finished
from gradwitness.judging.second_derivatives import without_cut
from gradwitness.judging.step_memory import StepMemory
from gradwitness.judging.sweep import SweepCheck
from gradwitness.judging.unfelt import Trusting, without_unfelt
from gradwitness.judging.unseen import cut_short, doubted, with_doubts
from gradwitness.judging.whole_record import by_whole_record
from gradwitness.rules import find
from gradwitness.rules.declarations import is_allowed
from gradwitness.rules.graph_terms import LOGARITHMS, SOURCES, UNFILLED
from gradwitness.tape import COLLECTIVES, OUTSIDE
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradwitness.judging.finding import Row
    from gradwitness.judging.functions import Functions
    from gradwitness.judging.outcome import Settled
    from gradwitness.tape import Call, Edge, LeafUpdate, NodeRun, Tape

# These read numbers once, and hold no memory on to write to.
_READS = tuple(f"{OUTSIDE}{name}" for name in ("item", "tolist", "__float__", "__int__"))

T = TypeVar("T")


class Judge:
    """Judges a program step by step, while it runs or afterwards.

    If a rule, or the judge itself, fails, the step is INCONCLUSIVE and the program goes on.

    Parameters
    ----------
    tape : Tape
        May still be growing; a step's numbers are needed when the step is reported, not later.
    functions : Functions, optional
        Reruns the program's custom functions, for those without rules.
    depth : str
        How thoroughly to judge.
    """

    def __init__(self, tape: Tape, functions: Functions | None = None, depth: str = FULL) -> None:
        self._memory = StepMemory(tape)
        self._tape = tape = self._memory.tape
        self._depth = known_depth(depth)
        self._functions = functions
        self._fast = Fast(tape) if depth == FAST else None
        self._records = Records(tape)
        self._findings: list[Finding] = []
        self._sweeps: dict[int, SweepCheck] = {}
        self._panel = Panel(tape, self._records, thorough=depth == FULL)
        self._guilty = Guilty(tape, functions)
        # Values not yet written to, which may hold anything, NaN included.
        self._empty: set[int | None] = set()
        # Values that contain some such numbers.
        self._unfilled: set[int | None] = set()
        self._steps = 0

    def called(self, number: int) -> None:
        """Judge a forward call."""
        with self._memory:
            call = self._tape.calls[number]
            findings = self._attempt(
                lambda: self._result(call), lambda why: self._doubts(call, why)
            )
            self._findings += findings
            self._panel.called(call, findings)
            self._steps += 1

    @staticmethod
    def _attempt(judge: Callable[[], T], otherwise: Callable[[str], T]) -> T:
        """Judge; if that fails, return `otherwise(reason)`."""
        try:
            return judge()
        except Unjudgeable as reason:
            return otherwise(str(reason))
        except Exception as error:  # noqa: BLE001 (the program goes on; the report says so)
            return otherwise(failure(error))

    def _result(self, call: Call) -> list[Finding]:
        if call.op.startswith(COLLECTIVES):
            if not call.grad:
                return []
            raise Unjudgeable("what other ranks sent was not recorded")
        operands = {*call.operands}
        if call.base_op in UNFILLED or (call.is_view and operands & self._empty):
            self._empty.update(call.outputs)
        moves = call.is_view or call.base_op == "aten.copy"
        unfilled = moves and bool(operands & (self._empty | self._unfilled))
        if unfilled:
            self._unfilled.update((*call.outputs, call.base))
        if call.op.startswith(OUTSIDE) and call.op not in _READS:
            for operand in operands:
                self._records.expose(operand)
        findings = []
        skip = not call.outputs or call.base_op in SOURCES
        if self._empty.isdisjoint(call.outputs) and not skip:
            findings = self._results(call)
        if unfilled or not operands:
            # Passing on unwritten memory is right, whatever it holds; so is a NaN asked for.
            findings = [f for f in findings if not f.comparison.reason.startswith("NaN")]
        return findings

    def begins(
        self,
        sweep: int,
        roots: Sequence[tuple[Edge, int | None]],
        limited_to: Sequence[Edge] | None,
    ) -> None:
        """Begin a backward pass."""
        with self._memory:
            self._sweeps[sweep] = SweepCheck(
                self._tape, self._records, sweep, roots, limited_to, self._functions, self._fast
            )

    def node_ran(self, sweep: int, node_run: NodeRun, update: LeafUpdate | None) -> None:
        """Judge one node run of a backward pass."""
        check = self._sweeps[sweep]
        with self._memory:
            check.note(node_run)
            findings = self._attempt(
                lambda: check.judge_node(node_run, update),
                lambda why: check.give_up(node_run, update, why),
            )
            self._findings += findings
            self._guilty.note(node_run.node, findings)
            self._panel.node_ran(sweep, node_run, update, findings)
            self._steps += 1

    def ends(self, sweep: int, captured: Sequence[tuple[Edge, int | None]]) -> None:
        """Judge the gradients that a backward pass returned."""
        with self._memory:
            self._sweeps[sweep].finish(captured)

    def report(self, tape: Tape, replayed: Replay | None = None) -> Report:
        """Return the judgement of everything reported.

        Parameters
        ----------
        tape : Tape
            The tape that the steps were reported from, now complete.
        replayed : Replay, optional
            Its float64 replay, if the caller already has it.
        """
        return self._reported(tape, settled, replayed)

    def report_so_far(self, tape: Tape) -> Report:
        """Return the judgement of what was reported before an interrupt, without running more."""
        return self._reported(tape, unmeasured)

    def _reported(
        self, tape: Tape, settle: Callable[..., Settled], replayed: Replay | None = None
    ) -> Report:
        report = self._attempt(
            lambda: self._report(tape, settle, replayed),
            lambda why: _final(_incomplete((*tape.failures, why))),
        )
        return replace(report, depth=self._depth)

    def _report(
        self, tape: Tape, settle: Callable[..., Settled], replayed: Replay | None
    ) -> Report:
        if tape.failures and not tape.calls:
            # Nothing was recorded, so there are no findings to report.
            return _final(_incomplete(tape.failures))
        # Accused functions run again here.
        findings, trusted, told = settle(self._findings)
        interrupted = settle is unmeasured
        # The node of a forward call was not known when it ran.
        findings = [
            replace(f, node=tape.calls[f.call].node)
            if f.step is Step.FORWARD and f.call is not None
            else f
            for f in findings
        ]
        findings = with_doubts(tape, findings)
        unknown = unknown_hooks(tape, findings, self._records)
        hooks = {**unknown, **judged_hooks(tape, self._records)}
        findings = [as_meant(f, hooks) for f in findings]
        told = {k: c for k, c in told.items() if (*k[:2], Step.BACKWARD, k[2]) not in hooks}
        findings, along = followed(tape, findings)
        findings, unfelt = without_unfelt(tape, findings, trusted)
        # A tensor without elements has no number that could be wrong or pass on a fault.
        judged = [f for f in findings if f.comparison.reason != EMPTY]
        failures = list(tape.failures)
        wanted = self._depth == FULL and not interrupted
        again = None if replayed else partial(replay, tape, steps=Trusting(trusted))
        if wanted and replayed is None and tape.complete and not failures:
            only = partial(replayed_gradients, tape, Trusting(trusted))
            replayed = self._attempt(only, failures.append)
            # A rule that fails here also failed at its own step, which reports it.
            reported = {finding.comparison.reason for finding in findings}
            failures = [reason for reason in failures if reason not in reported]

        rows = finished(
            (row for sweep in self._sweeps.values() for row in sweep.rows()),
            tape,
            judged,
            self._records,
            replayed,
            hooks,
            told,
        )
        if not rows or any(row.comparison.reason != EMPTY for row in rows):
            findings, rows = judged, _without_empty(rows)
        findings, rows = by_whole_record(tape, findings, rows, self._records)
        faint = without_faint(tape, findings, rows)
        findings = self._explained(tape, faint, tried=wanted)
        rows, grown = with_approximations(tape, findings, doubted(tape, rows), trusted)
        rows, hidden = self._followed(tape, findings, rows) if wanted else (rows, [])
        rows, cut, more = without_cut(tape, rows)
        notes = self._panel.notes(Judgement(tape, findings, rows, replayed, again))
        notes = (*unfelt, *along.notes(rows), *more, *filterfalse(_is_meant, notes))
        doubts = (*grown, *hidden, *cut, *_incomplete(failures), *cut_short(tape, rows))
        doubts += _interrupted(self._steps, steps_of(tape)) if interrupted else ()
        findings, rows = with_losses(findings, rows)
        return _final((*findings, *doubts), tuple(rows), notes)

    def _followed(
        self, tape: Tape, findings: Sequence[Finding], rows: Sequence[Row]
    ) -> tuple[list[Row], list[Finding]]:
        """Follow what may hide under the largest number of a step to the gradients."""
        off = {at: error for sweep in self._sweeps.values() for at, error in sweep.off.items()}
        return with_left_open(tape, findings, rows, self._records, off)

    def _explained(self, tape: Tape, findings: Sequence[Finding], *, tried: bool) -> list[Finding]:
        """Return findings with causes and, if ``tried``, with when only a function is wrong."""
        explained = self._guilty.explained(tape, self._records, findings)
        return fuzzed(explained, self._findings) if tried else explained

    def _doubts(self, call: Call, reason: str) -> list[Finding]:
        """Mark a call's results as inconclusive."""
        arrays = [None if n is None else self._tape.values[n].array for n in call.outputs]
        return [
            _of_call(call, output_nr, unjudged(reason, array))
            for output_nr, array in enumerate(arrays or [None])
        ]

    def _results(self, call: Call) -> list[Finding]:
        looked = None if self._fast is None else self._fast.results(call)
        if looked is not None:
            return [_of_call(call, output_nr, comparison) for output_nr, comparison in looked]
        findings = []
        for output_nr, comparison in self._compared(call):
            settled = settled_by(comparison, partial(self._size, call, output_nr))
            settled, _ = in_turn(settled, partial(self._in_turn, call, output_nr), None)
            findings.append(_of_call(call, output_nr, settled))
        # Outputs without elements (as batch norm has in evaluation) count only if no other output
        # of the call has any.
        return [f for f in findings if f.comparison.size] or findings

    def _in_turn(self, call: Call, output_nr: int, threads: int) -> tuple[Comparison, Any]:
        """Compare a result with sums that are rounded as so many threads do."""
        results = evaluate(self._tape, call, self._records, bounded=True, stretches=threads)
        return self._records.against(call.outputs[output_nr] or 0, results[output_nr]), None

    def _compared(self, call: Call) -> list[tuple[int, Comparison]]:
        """Compare each result of a call with the witness's."""
        of_pieces = large_steps.results(self._tape, call, self._records)
        given = {*call.operands}
        if of_pieces is not None:
            wrong = any(c.verdict is Verdict.DISAGREES for _, c in of_pieces)
            if not wrong or finite(self._records, given):
                return of_pieces
        results = evaluate(self._tape, call, self._records, bounded=True)

        def judged(output: int, result: Any) -> Comparison:
            comparison = self._records.against(output, result)
            comparison = agreed(comparison, self._records, output, result, given)
            return forgiven(comparison, self._records, output, result, given, call)

        return [
            (output_nr, judged(output, result))
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
        size, output = largest(results[output_nr]), call.outputs[output_nr]
        if size or output is None:
            return size
        if call.base_op in LOGARITHMS:
            return 1.0
        # A zero of a function, as of the logarithm of gamma at 2: as if an operand were rounded.
        unit = unit_roundoff(self._tape.values[output].dtype)
        return unit * max((largest(self._records(n)) for n in call.operands), default=0.0)


def _is_meant(note: Note) -> bool:
    """Whether a note is about numbers that were allowed to leave autograd's sight."""
    is_about = any(word in note.kind for word in ("sight", "detach", "branch on"))
    return is_about and note.source is not None and is_allowed(note.source.line)


def _of_call(call: Call, output_nr: int, comparison: Comparison) -> Finding:
    rule = find(call.base_op)
    return Finding(
        Step.FORWARD,
        f"{call.op} (call {call.id})",
        comparison,
        call=call.id,
        tensor_nr=output_nr,
        source=call.source,
        formula=rule.text if rule else "",
    )


def _incomplete(failures: Sequence[str]) -> tuple[Finding, ...]:
    """Return findings for a recording or report that could not be completed."""
    return tuple(
        Finding(Step.FORWARD, "the recording, or its report", unjudged(reason, None))
        for reason in failures
    )


def _interrupted(done: int, steps: int) -> tuple[Finding, ...]:
    """Return the doubt about steps, or what comes after them, that an interrupt left unjudged."""
    left = "" if done < steps else ": what slopes and the float64 replay would say is not known"
    reason = f"interrupted after {done} of {several(steps, 'step', 'steps')}{left}"
    return (Finding(Step.FORWARD, "the judgement", unjudged(reason)),)


def _without_empty(rows: Sequence[Row]) -> list[Row]:
    """Let gradients without elements agree: next to one with numbers they leave nothing open."""
    return [
        replace(row, verdict=Verdict.AGREES, apart=None) if row.comparison.reason == EMPTY else row
        for row in rows
    ]


def _final(
    findings: tuple[Finding, ...], rows: tuple[Row, ...] = (), notes: tuple[Note, ...] = ()
) -> Report:
    """Return a report; if gradwitness itself failed, with a note that asks for a bug report."""
    if any(finding.comparison.reason.startswith(FAILED) for finding in findings):
        notes = (*notes, _PLEASE)
    return Report(findings, rows, notes)


_PLEASE = Note(
    "gradwitness failed",
    "The affected steps are inconclusive; the program itself was not disturbed. Please report "
    "this, with the line given and, if possible, the program.",
)
