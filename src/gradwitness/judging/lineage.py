"""Guilty and inherited: the gravest finding among the steps that a gradient depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.finding import Finding, Step
from gradwitness.tape import references
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradwitness.judging.compare import Comparison
    from gradwitness.tape import Call, Sweep, Tape

Slot = tuple[int, int]


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
        self._forward = {f.call: f for f in _gravest_last(findings, Step.FORWARD)}
        self._backward: dict[tuple[int, int, int, Step], Finding] = {}
        for f in findings:
            if f.sweep is not None and f.node is not None:
                self._backward[f.sweep, f.node, f.slot, f.step] = f
        self._gravest = [self._trace(n, sweep) for n, sweep in enumerate(tape.sweeps)]

    def verdict(self, sweep: int, slot: Slot, own: Comparison) -> tuple[Verdict, str, bool]:
        """Return a gradient's verdict, its reason, and whether an earlier step is to blame."""
        if own.verdict is Verdict.DISAGREES:
            return own.verdict, own.reason, False
        gravest = self._worse(
            self._gravest[sweep].get(slot), self._backward.get((sweep, *slot, Step.ACCUMULATE))
        )
        if gravest is not None and gravest.verdict is Verdict.DISAGREES:
            return Verdict.DISAGREES, f"inherits from {gravest.title}", True
        if own.verdict is Verdict.INCONCLUSIVE:
            return own.verdict, own.reason, False
        if gravest is not None and gravest.verdict is Verdict.INCONCLUSIVE:
            reason = f"{gravest.title}: {gravest.comparison.reason}"
            return Verdict.INCONCLUSIVE, reason, True
        return Verdict.AGREES, "", False

    def _trace(self, number: int, sweep: Sweep) -> dict[Slot, Finding | None]:
        """Carry the gravest finding along the backward pass, from slot to slot."""
        start = self._gravest_forward(sweep)
        found: dict[Slot, Finding | None] = {(e.node, e.index): start for e, _ in sweep.roots}
        for firing in sweep.firings:
            node = firing.node
            gravest: Finding | None = start
            for index in range(len(firing.incoming)):
                arriving = self._backward.get((number, node, index, Step.FAN_IN))
                found[node, index] = self._worse(found.get((node, index)), arriving)
                gravest = self._worse(gravest, found[node, index])
            for slot, edge in enumerate(self._tape.nodes[node].edges):
                if edge is None:
                    continue
                own = self._backward.get((number, node, slot, Step.BACKWARD))
                target = (edge.node, edge.index)
                found[target] = self._worse(found.get(target), self._worse(gravest, own))
        return found

    def _gravest_forward(self, sweep: Sweep) -> Finding | None:
        gravest: Finding | None = None
        for call in self._ancestors(sweep):
            gravest = self._worse(gravest, self._forward.get(call.id))
        return gravest

    def _ancestors(self, sweep: Sweep) -> Iterable[Call]:
        """Yield the calls that the roots of a pass depend on, memory that they share included."""
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
            made = [n for n in call.outputs if n is not None]
            layouts = [tape.values[n].layout for n in made]
            touched = any(place is not None and place.storage in storages for place in layouts)
            if touched or values.intersection(made):
                yield call
                for argument in call.arguments.values():
                    need(references(argument))

    @staticmethod
    def _worse(a: Finding | None, b: Finding | None) -> Finding | None:
        """Return the graver of two findings; the earlier one of two that are alike."""
        if a is None or b is None:
            return b if a is None else a
        return b if b.verdict.gravity > a.verdict.gravity else a


def _gravest_last(findings: list[Finding], step: Step) -> list[Finding]:
    """Return the findings of one kind, so ordered that the gravest of a call comes last."""
    chosen = [f for f in findings if f.step is step]
    return sorted(chosen, key=lambda f: f.verdict.gravity)
