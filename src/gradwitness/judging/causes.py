"""What is wrong at a guilty step: where its gradient was made, why it is wrong, what to write.

The step's own recorded numbers are all that is used, after the block.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.diagnose.hypotheses.drawn_again import OTHER_NUMBERS
from gradwitness.diagnose.rank import diagnose
from gradwitness.diagnose.registry import AT_A_STEP
from gradwitness.diagnose.single_step import Sent, step_case
from gradwitness.judging.accused import Accused
from gradwitness.judging.custom_functions import CustomCheck
from gradwitness.judging.finding import Step
from gradwitness.judging.graph_queries import same_operand
from gradwitness.judging.recomputed import RANDOM, REMEDY, of_checkpoint
from gradwitness.tape import Kind
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradwitness.diagnose.rank import Cause
    from gradwitness.judging.finding import Finding
    from gradwitness.judging.functions import Functions, Method
    from gradwitness.judging.records import Records
    from gradwitness.tape import Argument, Node, NodeRun, Tape

# Numbers in all that a function's forward made: beyond it, trying costs seconds.
_LARGEST = 2**22
# Steps for which causes are sought; a program with more has one cause for many of them.
_MOST = 24


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
        """Note how a node's function is written, if it is refuted or may be."""
        functions = self._functions
        wrong = any(f.verdict is Verdict.DISAGREES or isinstance(f, Accused) for f in findings)
        if functions is None or not wrong or self._tape.nodes[node].kind != Kind.CUSTOM:
            return
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
        said = list(findings)
        for count, ((sweep, number), at) in enumerate(guilty.items()):
            node = tape.nodes[number]
            node_run = next(run for run in tape.sweeps[sweep].node_runs if run.node == number)
            if node.kind != Kind.CUSTOM:
                for k in at if count < _MOST else ():
                    said[k] = of_checkpoint(tape, records, said[k], node, node_run)
                continue
            written = self._written.get(number, _NOT_WRITTEN)
            for k in at:
                said[k] = _placed(written.method, node_run, said[k])
            if count >= _MOST or any(said[k].grade.startswith("declared") for k in at):
                continue
            inputs = {said[k].tensor_nr for k in at}
            try:
                causes = _causes(tape, records, written, node, node_run, inputs)
            except Unjudgeable:
                continue
            for k in at:
                said[k] = _explained(said[k], causes.get(said[k].tensor_nr))
                if said[k].cause == OTHER_NUMBERS and node.name.startswith("CheckpointFunction"):
                    said[k] = replace(said[k], cause=RANDOM, remedy=REMEDY)
        return said


_NOT_WRITTEN = _Written(None, (), {})


def _placed(method: Method | None, node_run: NodeRun, finding: Finding) -> Finding:
    """Return a finding with the method that sent its gradient, and the line that made it."""
    if method is None:
        return finding
    made = [step.line for step in node_run.steps if finding.tensor_nr in step.sent]
    known = made and method.has(made[-1])
    line = int(made[-1].rpartition(":")[2]) if known else method.line
    return replace(finding, symbol=method.symbol, file=method.file, line=line, called=method.called)


def _causes(
    tape: Tape,
    records: Records,
    written: _Written,
    node: Node,
    node_run: NodeRun,
    wrong: set[int],
) -> dict[int, Cause]:
    """Return the cause of each wrong gradient that has one, by input."""
    sizes = (tape.values[n] for c in node.inner for n in tape.calls[c].outputs if n is not None)
    if sum(int(np.prod(value.shape)) for value in sizes) > _LARGEST:
        return {}
    sent = _sent(tape, records, written, node, node_run, wrong)
    numbers = {
        name: float(number)
        for name, number in written.arguments.items()
        if isinstance(number, (int, float)) and not isinstance(number, bool)
    }
    causes = diagnose(step_case(tape, node, node_run, sent, numbers), AT_A_STEP)
    by_name = {name: cause for cause in reversed(causes) for name in cause.explains}
    return {s.input_nr: by_name[s.name] for s in sent if s.name in by_name}


def _sent(
    tape: Tape,
    records: Records,
    written: _Written,
    node: Node,
    node_run: NodeRun,
    wrong: set[int],
) -> list[Sent]:
    """Return what a node sent to each tensor, and what the rules say that it should have."""
    expected = CustomCheck(tape, records, None).expected(node, node_run)
    sent = []
    for input_nr, right in enumerate(expected):
        inputs = same_operand(tape, node, input_nr)
        if node.edges[input_nr] is None or inputs[0] != input_nr:
            continue
        numbers = [n for k in inputs if (n := node_run.outgoing[k]) is not None]
        if right is None and not numbers:
            continue
        claims = [records(n) for n in numbers]
        value = np.zeros(claims[0].shape) if right is None else np.asarray(right.value)
        bound = np.zeros(value.shape) if right is None else right.rigorous
        claim = np.sum(claims, axis=0) if claims else np.zeros(value.shape)
        if claim.dtype.kind == "c" or value.dtype.kind == "c":
            raise Unjudgeable("mistakes over complex numbers are not known")
        name = written.names[input_nr] if written.names else f"input {input_nr}"
        sent.append(Sent(name, input_nr, claim, value, bound, input_nr in wrong))
    return sent


def _explained(finding: Finding, cause: Cause | None) -> Finding:
    if cause is None:
        return finding
    return replace(finding, cause=cause.cause, why=cause.text, runner_up=cause.runner_up)
