"""Guilty and inherited: the worst finding among the steps that a gradient depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.finding import Finding, Step
from gradwitness.tape import references
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradwitness.judging.comparing.compare import Comparison
    from gradwitness.tape import Call, Sweep, Tape

NodeInput = tuple[int, int]


class Lineage:
    """Traces each gradient back to the roots of its backward pass and to the forward calls.

    Parameters
    ----------
    tape : Tape
    findings : list of Finding
        All of them.
    """

    def __init__(self, tape: Tape, findings: list[Finding]) -> None:
        self._tape = tape
        self._forward = {f.call: f for f in _worst_last(findings, Step.FORWARD)}
        self._backward: dict[tuple[int, int, int, Step], Finding] = {}
        for f in findings:
            if f.sweep is not None and f.node is not None:
                self._backward[f.sweep, f.node, f.tensor_nr, f.step] = f
        agree = all(f.verdict is Verdict.AGREES for f in findings)
        self._worst = [
            {} if agree else self._trace(n, sweep) for n, sweep in enumerate(tape.sweeps)
        ]

    def verdict(
        self, sweep: int, input_nr: NodeInput, own: Comparison
    ) -> tuple[Verdict, str, bool]:
        """Return a gradient's verdict, its reason, and whether an earlier step is to blame."""
        if own.verdict is Verdict.DISAGREES:
            return own.verdict, own.reason, False
        worst = self._worse(
            self._worst[sweep].get(input_nr),
            self._backward.get((sweep, *input_nr, Step.ACCUMULATE)),
        )
        if worst is not None and worst.verdict is Verdict.DISAGREES:
            return Verdict.DISAGREES, f"inherits from {worst.title}", True
        if own.verdict is Verdict.INCONCLUSIVE:
            return own.verdict, own.reason, False
        if worst is not None and worst.verdict is Verdict.INCONCLUSIVE:
            reason = f"{worst.title}: {worst.comparison.reason}"
            return Verdict.INCONCLUSIVE, reason, True
        return Verdict.AGREES, "", False

    def _trace(self, number: int, sweep: Sweep) -> dict[NodeInput, Finding | None]:
        """Carry the worst finding along the backward pass, from input to input."""
        start = self._worst_forward(sweep)
        worst_at: dict[NodeInput, Finding | None] = {
            (e.node, e.index): start for e, _ in sweep.roots
        }
        for node_run in sweep.node_runs:
            node = node_run.node
            worst: Finding | None = start
            for index in range(len(node_run.incoming)):
                arriving = self._backward.get((number, node, index, Step.FAN_IN))
                worst_at[node, index] = self._worse(worst_at.get((node, index)), arriving)
                worst = self._worse(worst, worst_at[node, index])
            for input_nr, edge in enumerate(self._tape.nodes[node].edges):
                if edge is None:
                    continue
                own = self._backward.get((number, node, input_nr, Step.BACKWARD))
                target = (edge.node, edge.index)
                worst_at[target] = self._worse(worst_at.get(target), self._worse(worst, own))
        return worst_at

    def _worst_forward(self, sweep: Sweep) -> Finding | None:
        worst: Finding | None = None
        for call in self._ancestors(sweep):
            worst = self._worse(worst, self._forward.get(call.id))
        return worst

    def _ancestors(self, sweep: Sweep) -> Iterable[Call]:
        """Yield the calls that the roots of a pass depend on, including those by shared memory."""
        tape = self._tape
        values: set[int] = set()
        for edge, _ in sweep.roots:
            output = tape.nodes[edge.node].outputs[edge.index]
            values |= {output} if output is not None else set()
        storages: set[int] = set()

        def need(numbers: Iterable[int]) -> None:
            for number in numbers:
                values.add(number)
                layout = tape.values[number].layout
                if layout is not None:
                    storages.add(layout.storage)

        need(list(values))
        for call in reversed(tape.calls):
            outputs = [n for n in call.outputs if n is not None]
            layouts = [tape.values[n].layout for n in outputs]
            touched = any(layout is not None and layout.storage in storages for layout in layouts)
            if touched or values.intersection(outputs):
                yield call
                for argument in call.arguments.values():
                    need(references(argument))

    @staticmethod
    def _worse(a: Finding | None, b: Finding | None) -> Finding | None:
        """Return the more severe of two findings; the earlier one if they are equal."""
        if a is None or b is None:
            return b if a is None else a
        return b if b.verdict.severity > a.verdict.severity else a


def _worst_last(findings: list[Finding], step: Step) -> list[Finding]:
    """Return the findings of one kind of step, ordered by severity, the worst last."""
    of_step = [f for f in findings if f.step is step]
    return sorted(of_step, key=lambda f: f.verdict.severity)
