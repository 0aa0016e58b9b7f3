"""What is wrong at a guilty step: where its gradient was made, why it is wrong, what to write.

The step's own recorded numbers are all that is used, after the block.
"""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._failure import failure
from gradwitness._printable import one_line
from gradwitness.diagnose.hypotheses.drawn_again import OTHER_NUMBERS
from gradwitness.diagnose.rank import diagnose
from gradwitness.diagnose.registry import AT_A_STEP
from gradwitness.diagnose.single_step import Sent, step_case
from gradwitness.engine.custom_forwards import edge_value
from gradwitness.judging.causes.derivative_words import formula
from gradwitness.judging.causes.forward_lines import forward_lines
from gradwitness.judging.causes.recomputed import RANDOM, REMEDY, of_checkpoint
from gradwitness.judging.causes.remedies import Returned, remedy
from gradwitness.judging.custom.accused import Accused
from gradwitness.judging.custom.backward import CustomCheck
from gradwitness.judging.finding import Step
from gradwitness.judging.graph_queries import same_operand
from gradwitness.tape import Kind, Ref
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradwitness.diagnose.rank import Cause
    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.custom.functions import Functions, Method
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Argument, Node, NodeRun, Tape

# Numbers that the forwards of guilty functions made, in all: beyond it, trying costs seconds.
_NUMBERS = 2**20
# Operations of one forward.
_CALLS = 300
# Steps for which causes are sought: a program with more has one cause for many of them.
_MOST = 8


@dataclass(frozen=True)
class _Written:
    """How the program wrote a function, and called it."""

    method: Method | None
    names: Sequence[str]
    arguments: Mapping[str, Argument]


class Guilty:
    """Notes the custom functions that are refuted, and explains what is wrong with them afterwards.

    Parameters
    ----------
    tape : Tape
        May still be growing.
    functions : Functions or None
        Knows the program's text, until the block ends.
    """

    def __init__(self, tape: Tape, functions: Functions | None) -> None:
        self._tape = tape
        self._functions = functions
        self._written: dict[int, _Written] = {}

    def note(self, node: int, findings: Sequence[Finding]) -> None:
        """Note how a custom function's node is written, if it is refuted or may be."""
        functions = self._functions
        if functions is None:
            return
        if not any(f.verdict is Verdict.DISAGREES or isinstance(f, Accused) for f in findings):
            return
        # No verdict depends on it: without the program's text the place is not told.
        with suppress(Exception):
            names = functions.input_names(node)
            arguments = functions.arguments(node) if names else {}
            self._written[node] = _Written(functions.method(node), names, arguments)

    def explained(self, tape: Tape, records: Records, findings: Sequence[Finding]) -> list[Finding]:
        """Return findings, those of wrong custom functions with their place and cause."""
        guilty: dict[tuple[int, int], list[int]] = defaultdict(list)
        for k, f in enumerate(findings):
            wrong = f.verdict is Verdict.DISAGREES and f.step is Step.BACKWARD
            if wrong and f.node is not None and f.sweep is not None:
                guilty[f.sweep, f.node].append(k)
        said, room = list(findings), _NUMBERS
        for count, ((sweep, number), at) in enumerate(guilty.items()):
            node = tape.nodes[number]
            room -= _numbers(tape, node)
            node_run = next(run for run in tape.sweeps[sweep].node_runs if run.node == number)
            step = _GuiltyStep(
                tape, records, self._written.get(number, _NOT_WRITTEN), node, node_run
            )
            try:
                told = step.explained([said[k] for k in at], sought=count < _MOST and room >= 0)
            except Exception as error:  # noqa: BLE001 (no verdict depends on it)
                why = f"no cause was sought: {failure(error)}"
                told = [replace(said[k], why=why) for k in at]
            for k, finding in zip(at, told, strict=True):
                said[k] = _printed(finding)
        return said


def _printed(finding: Finding) -> Finding:
    """Return a finding in which names of the program, which may hold anything, can be printed."""
    names = ("symbol", "file", "called", "cause", "why", "runner_up", "remedy")
    texts: dict[str, Any] = {name: one_line(getattr(finding, name)) for name in names}
    return replace(finding, **texts, forward=tuple(map(one_line, finding.forward)))


def _numbers(tape: Tape, node: Node) -> int:
    """Return how many numbers a node's forward made."""
    outputs = (n for c in node.inner for n in tape.calls[c].outputs if n is not None)
    return sum(math.prod(tape.values[n].shape) for n in outputs)


@dataclass(frozen=True)
class _GuiltyStep:
    """A node's run that sent something wrong."""

    tape: Tape
    records: Records
    written: _Written
    node: Node
    node_run: NodeRun

    def explained(self, findings: Sequence[Finding], *, sought: bool) -> list[Finding]:
        """Return its wrong findings with their place and, if ``sought``, their causes."""
        if self.node.kind != Kind.CUSTOM:
            given = self.tape, self.records
            return [of_checkpoint(*given, f, self.node, self.node_run) for f in findings]
        placed = [self._placed(f) for f in findings]
        if not sought or any(f.grade.startswith("declared") for f in findings):
            return placed
        try:
            sent = self._sent({f.tensor_nr: f.comparison.detects for f in findings})
            causes = self._causes(sent)
        except Unjudgeable:
            return placed
        by_input = {s.input_nr: s for s in sent}
        return [
            self._with(f, causes.get(by_input[f.tensor_nr].name), by_input[f.tensor_nr])
            if f.tensor_nr in by_input
            else f
            for f in placed
        ]

    def _placed(self, finding: Finding) -> Finding:
        """Return a finding with the method that sent its gradient, and the line that made it."""
        method, number = self.written.method, self._value(finding.tensor_nr)
        if number is not None and self.written.names:
            lines = forward_lines(self.tape, self.node, self._names(), number)
            finding = replace(finding, forward=lines)
        if method is None:
            return finding
        made = [step.line for step in self.node_run.steps if finding.tensor_nr in step.sent]
        known = made and method.has(made[-1])
        line = int(made[-1].rpartition(":")[2]) if known else method.line
        return replace(
            finding, symbol=method.symbol, file=method.file, line=line, called=method.called
        )

    def _value(self, input_nr: int) -> int | None:
        try:
            return edge_value(self.tape, self.node.edges[input_nr], self.node)
        except Unjudgeable:
            return None

    def _names(self) -> dict[int, str]:
        """Return the names of the inputs, by their numbers."""
        pairs = [(self._value(k), name) for k, name in enumerate(self.written.names)]
        names = {number: name for number, name in pairs if number is not None}
        arguments = self.written.arguments.items()
        return {a.value: name for name, a in arguments if isinstance(a, Ref)} | names

    def _causes(self, sent: Sequence[Sent]) -> dict[str, Cause]:
        """Return the causes, by the names of the inputs that they explain."""
        tape, node = self.tape, self.node
        if len(node.inner) > _CALLS:
            return {}
        numbers = {
            name: float(number)
            for name, number in self.written.arguments.items()
            if isinstance(number, int | float) and not isinstance(number, bool)
        }
        causes = diagnose(step_case(tape, node, self.node_run, sent, numbers), AT_A_STEP)
        return {name: cause for cause in reversed(causes) for name in cause.explains}

    def _sent(self, wrong: Mapping[int, float]) -> list[Sent]:
        """Return what it sent to each tensor, and what the rules say that it should have.

        What is wrong was refuted with errors of a size that shows, by narrower bounds than these if
        the function is in 16 bits outside and in float32 inside. A cause must fit as narrowly.
        """
        tape, node, names = self.tape, self.node, self.written.names
        expected = CustomCheck(tape, self.records, None).expected(node, self.node_run)
        sent = []
        for input_nr, right in enumerate(expected):
            inputs = same_operand(tape, node, input_nr)
            if node.edges[input_nr] is None or inputs[0] != input_nr:
                continue
            numbers = [n for k in inputs if (n := self.node_run.outgoing[k]) is not None]
            if right is None and not numbers:
                continue
            claims = [self.records(n) for n in numbers]
            value = np.zeros(claims[0].shape) if right is None else np.asarray(right.value)
            bound = np.zeros(value.shape) if right is None else right.rigorous
            shows = wrong.get(input_nr, math.nan)
            bound = np.minimum(bound, shows) if math.isfinite(shows) and shows > 0 else bound
            claim = np.sum(claims, axis=0) if claims else np.zeros(value.shape)
            if claim.dtype.kind == "c" or value.dtype.kind == "c":
                raise Unjudgeable("mistakes over complex numbers are not known")
            name = names[input_nr] if names else f"input {input_nr}"
            sent.append(Sent(name, input_nr, claim, value, bound, input_nr in wrong))
        return sent

    def _with(self, finding: Finding, cause: Cause | None, sent: Sent) -> Finding:
        """Return a finding with its cause, and what to write instead."""
        if finding.advice and not sent.right.any():
            # What a step function sends is meant, or made up: no mistake of a formula.
            return finding
        anew = cause is not None and cause.cause == OTHER_NUMBERS
        finding = replace(finding, remedy=self._formula(finding, sent, anew=anew))
        if cause is None:
            return finding
        if anew and self.node.name.startswith("CheckpointFunction"):
            return replace(finding, cause=RANDOM, why=cause.text, remedy=REMEDY)
        returned = Returned(self.written.method, finding.line, [*self.written.arguments])
        arrived = [self.records(n) for n in self.node_run.incoming if n is not None]
        number = self.node_run.outgoing[finding.tensor_nr]
        dtype = "" if number is None else self.tape.values[number].dtype
        mended = remedy(cause, sent, returned, arrived, dtype)
        return replace(
            finding,
            cause=cause.cause,
            why=cause.text,
            runner_up=cause.runner_up,
            remedy=mended or finding.remedy,
        )

    def _formula(self, finding: Finding, sent: Sent, *, anew: bool) -> str:
        """Return the right gradient as a line of code, if it is a short one."""
        number = self._value(finding.tensor_nr)
        returned = Returned(self.written.method, finding.line, [*self.written.arguments])
        if number is None or not returned.arrived or not self.written.names:
            return ""
        text = formula(self.tape, self.node, self._names(), returned.arrived, number)
        is_one = text and sent.name.isidentifier()
        return returned.gradient(sent.name, text, anew=anew) if is_one else ""


_NOT_WRITTEN = _Written(None, (), {})
