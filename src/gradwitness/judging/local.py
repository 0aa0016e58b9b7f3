"""The local check: every step of a tape by itself, from its recorded operands.

If every step holds, the whole holds, and a fault shows only at the step that made it.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._process_wide import ONE_BLAS_THREAD
from gradwitness._progress import progress
from gradwitness.engine.floats import unit_roundoff
from gradwitness.engine.forward import evaluate
from gradwitness.judging.causes.guilty import Guilty
from gradwitness.judging.comparing import large_steps
from gradwitness.judging.comparing.came_in import agreed, finite, forgiven
from gradwitness.judging.comparing.compare import Comparison, in_turn, settled_by, unjudged
from gradwitness.judging.comparing.records import Living, Records, largest
from gradwitness.judging.conclusion import (
    Seen,
    attempt,
    completed,
    conclusion,
    has_failed,
    without_steps,
)
from gradwitness.judging.custom.accused import Accused, settled, unmeasured
from gradwitness.judging.custom.functions import misnamed
from gradwitness.judging.custom.own_pass import OwnPasses
from gradwitness.judging.depth import FAST, FULL, known_depth
from gradwitness.judging.finding import Finding, Report, Step
from gradwitness.judging.graph_queries import behind
from gradwitness.judging.left_out import Drawn
from gradwitness.judging.looks.fast import Fast
from gradwitness.judging.looks.projecting import Projecting, elsewhere
from gradwitness.judging.pathology.panel import Panel
from gradwitness.judging.step_memory import StepMemory
from gradwitness.judging.sweep import SweepCheck
from gradwitness.judging.unshown import Unshown
from gradwitness.rules import find
from gradwitness.rules.graph_terms import LOGARITHMS, SOURCES, UNFILLED
from gradwitness.tape import COLLECTIVES, OUTSIDE, Kind
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradwitness.engine.replay import Replay
    from gradwitness.judging.custom.functions import Functions
    from gradwitness.tape import Call, Edge, LeafUpdate, NodeRun, Tape

# These read numbers once, and hold no memory on to write to.
_READS = tuple(f"{OUTSIDE}{name}" for name in ("item", "tolist", "__float__", "__int__"))

T = TypeVar("T")
# (An enumeration's members are looked up at a function's pace.)
_AGREES = Verdict.AGREES


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
    share : float
        The probability that a step is looked at.

    Attributes
    ----------
    drawn : Drawn
        The steps that were left out.
    steps : int
        How many there were so far.
    """

    def __init__(
        self,
        tape: Tape,
        functions: Functions | None = None,
        depth: str = FULL,
        share: float = 1.0,
    ) -> None:
        self.drawn = Drawn(share)
        self._memory = StepMemory(tape)
        self._tape = tape = self._memory.tape
        self._depth = known_depth(depth)
        self._functions = functions
        self._records = Records(tape)
        living = Living(self._memory.living, self._records)
        self._looks = (Fast if depth == FAST else Projecting)(self._memory.living, living)
        self._findings: list[Finding] = []
        self._sweeps: dict[int, SweepCheck] = {}
        self._panel = Panel(tape, self._records, thorough=depth == FULL)
        self._guilty = Guilty(tape, functions)
        self._own_passes = OwnPasses(functions)
        # Values not yet written to, which may hold anything, NaN included.
        self._empty: set[int | None] = set()
        # Values that contain some such numbers.
        self._unfilled: set[int | None] = set()
        self._unshown = Unshown(tape)
        self.steps = 0
        self.in_doubt = False
        # The pass that has a bar; those within it have none.
        self._shown: int | None = None
        self._bars = ExitStack()
        self._advance: Callable[[], object] = int
        self._so_far = (0, Verdict.AGREES)

    def called(self, number: int) -> None:
        """Judge a forward call."""
        with self._memory, np.errstate(all="ignore"):
            call = self._tape.calls[number]
            found = attempt(self._result, self._doubts, call)
            findings = self._unshown.told(call, found)
            self._note(findings)
            self._panel.called(call, findings)
            self.steps += 1

    def _note(self, findings: Sequence[Finding]) -> None:
        self._findings += findings
        for f in findings:
            c = f.comparison
            if c.verdict is not _AGREES or f.grade or c.hides:
                self.in_doubt = True

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
            findings = [] if self.drawn.leaves_out_call(call) else self._results(call)
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
                self._tape, self._records, sweep, roots, limited_to, self._functions, self._looks
            )
        if self._shown is None:
            nodes = [edge.node for edge, _ in roots]
            shown = progress(
                "judging", lambda: len(behind(self._tape, nodes)), "nodes", self.so_far
            )
            self._advance = self._bars.enter_context(shown)
            self._shown = sweep

    def node_ran(
        self, sweep: int, node_run: NodeRun, update: LeafUpdate | None
    ) -> Sequence[tuple[int, int]]:
        """Judge one node run of a backward pass; return where all that was sent is added up."""
        check = self._sweeps[sweep]
        with self._memory, np.errstate(all="ignore"):
            node = self._tape.nodes[node_run.node]
            added = check.note(node, node_run)
            findings: list[Finding] = []
            if self.drawn.leaves_out_node(node, sweep):
                check.leave_out(node_run, update)
            else:
                findings = attempt(check.judge_node, check.give_up, node, node_run, update)
            self._note(findings)
            if node.kind == Kind.CUSTOM:
                self._guilty.note(node.id, findings)
                self._own_passes.note(node, findings)
            self._panel.node_ran(sweep, node_run, update, findings)
            self.steps += 1
        if sweep == self._shown:
            self._advance()
        return added

    def ends(self, sweep: int, captured: Sequence[tuple[Edge, int | None]]) -> None:
        """Judge the gradients that a backward pass returned."""
        if sweep == self._shown:
            self._bars.close()
            self._shown = None
        with self._memory, np.errstate(all="ignore"):
            self._sweeps[sweep].finish(captured)

    def so_far(self) -> str:
        """Say what the steps until now come to; what waits for slopes is open."""
        count, verdict = self._so_far
        new = [_until_now(f) for f in self._findings[count:]]
        self._so_far = (len(self._findings), worst([verdict, *new]))
        return f"{self._so_far[1].value} so far"

    def report(self, tape: Tape, replayed: Replay | None = None) -> Report:
        """Return the judgement of everything reported.

        Parameters
        ----------
        tape : Tape
            The tape that the steps were reported from, now complete.
        replayed : Replay, optional
            Its float64 replay, if the caller already has it.
        """
        return self._reported(tape, partial(conclusion, settle=settled, replayed=replayed))

    def conclude(self, tape: Tape) -> tuple[Report, Callable[[], Report] | None]:
        """Return the judgement of everything reported, and what completes it if it is not whole.

        Where every step of torch's own agrees, neither the float64 replay, which tells how many
        digits are right, nor any note changes the verdict. So they can wait until somebody asks.
        """
        thorough = self._depth == FULL
        if not self.in_doubt and (tape.replayable or not thorough) and not tape.failures:
            first = self._reported(tape, partial(conclusion, settle=settled, waits=True))
            if first.verdict is Verdict.AGREES:
                self._records.forget()
                self._memory.settle(tape)
                return first, partial(completed, self._panel, tape, first, thorough=thorough)
            if has_failed(first):
                return first, None
        return self.report(tape), None

    def report_so_far(self, tape: Tape) -> Report:
        """Return the judgement of what was reported before an interrupt, without running more."""
        return self._reported(tape, partial(conclusion, settle=unmeasured))

    def _reported(self, tape: Tape, conclude: Callable[[Seen, Tape], Report]) -> Report:
        seen = Seen(
            tuple(self._findings),
            tuple(self._sweeps.values()),
            self._records,
            self._panel,
            self._guilty,
            self._own_passes,
            self.steps,
            self._depth,
        )
        with ONE_BLAS_THREAD.held():
            report = attempt(
                lambda: conclude(seen, tape),
                lambda why: without_steps((*tape.failures, why)),
            )
        notes = (*report.notes, *elsewhere(tape, self._looks.failure))
        notes += misnamed(self._functions, tape) if self._functions else ()
        return replace(self.drawn.completed(report), depth=self._depth, notes=notes)

    def _doubts(self, call: Call, reason: str) -> list[Finding]:
        """Mark a call's results as inconclusive."""
        arrays = [None if n is None else self._tape.values[n].array for n in call.outputs]
        return [
            _of_call(call, output_nr, unjudged(reason, array))
            for output_nr, array in enumerate(arrays or [None])
        ]

    def _results(self, call: Call) -> list[Finding]:
        looked = self._looks.results(call)
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


def _until_now(finding: Finding) -> Verdict:
    return Verdict.INCONCLUSIVE if isinstance(finding, Accused) else finding.verdict


def _of_call(call: Call, output_nr: int, comparison: Comparison) -> Finding:
    rule = find(call.base_op)
    title, text = f"{call.op} (call {call.id})", rule.text if rule else ""
    return Finding(
        Step.FORWARD, title, comparison, call.id, None, None, output_nr, call.source, text
    )
