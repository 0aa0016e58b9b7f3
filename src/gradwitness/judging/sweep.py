"""One backward pass under examination."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients
from gradwitness.engine.step_arithmetic import backward_arithmetic
from gradwitness.judging.comparing.came_in import forgiven, given_to
from gradwitness.judging.comparing.compare import (
    Comparison,
    in_turn,
    mismatch,
    settled_by,
    unjudged,
)
from gradwitness.judging.comparing.fan_in import arrived_in_turn, arriving
from gradwitness.judging.comparing.large_steps import in_large_pieces
from gradwitness.judging.comparing.piecewise import Pieces
from gradwitness.judging.comparing.records import largest
from gradwitness.judging.comparing.second_look import SecondLook
from gradwitness.judging.custom.accused import Accused
from gradwitness.judging.custom.backward import CustomCheck
from gradwitness.judging.finding import Finding, Row, Step
from gradwitness.judging.gradients.doubts import Doubts
from gradwitness.judging.gradients.left_open import hidden
from gradwitness.judging.gradients.rows import absent, row_of
from gradwitness.judging.graph_queries import ancestors, operand_names, same_operand, source_of
from gradwitness.judging.left_out import LEFT_OUT
from gradwitness.judging.looks.last import Last
from gradwitness.judging.looks.running import AT_ONCE, RunningSum
from gradwitness.tape import Edge, Kind
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.custom.accused import Case
    from gradwitness.judging.custom.functions import Functions
    from gradwitness.judging.custom.outcome import Outcome
    from gradwitness.judging.looks.whole import Whole
    from gradwitness.tape import Call, LeafUpdate, Node, NodeRun, Source, Tape


NodeInput = tuple[int, int]  # node, input of the node
# (An enumeration's members are looked up at a function's pace.)
_BACKWARD, _FAN_IN, _AGREES = Step.BACKWARD, Step.FAN_IN, Verdict.AGREES


class SweepCheck:
    """Judges the node runs of a pass one by one, and the gradients that it returns.

    The tape holds the nodes that the pass can reach; roots and limits are as in `Sweep`.
    """

    def __init__(
        self,
        tape: Tape,
        records: Records,
        number: int,
        roots: Sequence[tuple[Edge, int | None]],
        limited_to: Sequence[Edge] | None,
        functions: Functions | None,
        looks: Whole,
    ) -> None:
        self.tape = tape
        self.records = records
        self.number = number
        self._looks = looks
        self._last = Last(tape)
        self._doubts = Doubts(tape, records)
        self._custom = CustomCheck(tape, records, functions)
        # Of the node that runs: what was found, its title, its call, and where that was made.
        self._findings: list[Finding] = []
        self._title = ""
        self._call: Call | None = None
        self._source: Source | None = None
        self._rows: list[Row] = []
        self._seeds: dict[NodeInput, list[int | None]] = {}
        for edge, seed in roots:
            self._seeds.setdefault((edge.node, edge.index), []).append(seed)
        # For each input of each node: the recorded gradients that were sent there, ...
        self.sent: dict[NodeInput, list[int]] = {
            input_nr: [seed for seed in seeds if seed is not None]
            for input_nr, seeds in self._seeds.items()
        }
        # What adds them up where there are many.
        self._running: dict[NodeInput, RunningSum] = {}
        # How far declared gradients are off, where that hides under their largest number.
        self.off: dict[tuple[int, int, int], NDArray[Any]] = {}
        # Inputs to which a node that ran sent nothing; its own step is judged for that.
        self._left_out: set[NodeInput] = set()
        self._needed = None if limited_to is None else ancestors(tape, {e.node for e in limited_to})

    def note(self, node: Node, node_run: NodeRun) -> list[NodeInput]:
        """Record what a node sent; return where all that was sent so far has been added up."""
        added = []
        for edge, sent in zip(node.edges, node_run.outgoing, strict=False):
            if edge is not None and sent is not None:
                place = (edge.node, edge.index)
                terms = self.sent.setdefault(place, [])
                terms.append(sent)
                if len(terms) >= AT_ONCE and self._adds_up(place, terms):
                    added.append(place)
            elif edge is not None:
                self._left_out.add((edge.node, edge.index))
        return added

    def _adds_up(self, place: NodeInput, terms: list[int]) -> bool:
        """Add up what was sent to a place, some at a time."""
        running = self._running.get(place)
        rest = terms[running.count if running else 0 :]
        if len(rest) < AT_ONCE or place in self._seeds:
            return False
        running = self._running.setdefault(place, running or RunningSum())
        return running.add([self.tape.values[number] for number in rest])

    def judge_node(self, node: Node, node_run: NodeRun, update: LeafUpdate | None) -> list[Finding]:
        """Judge one node run, and the ``.grad`` that it accumulated to."""
        self._begin(node)
        self._fan_in(node, node_run)
        if node.kind == Kind.ACCUMULATE:
            self._accumulate(node, node_run, update)
            if update is not None:
                self._rows.append(self._row(Edge(node.id, 0), node_run.incoming[0]))
        else:
            self._doubts.carry(node, node_run)
            self._backward(node, node_run)
        return self._findings

    def give_up(
        self, node: Node, node_run: NodeRun, update: LeafUpdate | None, reason: str
    ) -> list[Finding]:
        """Mark a node run as inconclusive; what it sent is used as recorded."""
        self._begin(node)
        doubt = unjudged(reason, None)
        for input_nr, edge in enumerate(node.edges):
            if edge is not None:
                self._finding(_BACKWARD, node, input_nr, f"gradient of input {input_nr}", doubt)
        if update is not None:
            self._finding(Step.ACCUMULATE, node, 0, "`.grad` afterwards", doubt)
            self._rows.append(self._row(Edge(node.id, 0), node_run.incoming[0], doubt))
        return self._findings

    def _begin(self, node: Node) -> None:
        self._findings, self._title = [], f"{node.name} #{node.id}, "
        self._call = call = None if node.call is None else self.tape.calls[node.call]
        self._source = source_of(self.tape, node) if call is None else call.source

    def leave_out(self, node_run: NodeRun, update: LeafUpdate | None) -> None:
        """Take a node run as recorded; if it gave out a gradient, that was not looked at."""
        if update is not None:
            place = Edge(node_run.node, 0)
            self._rows.append(self._row(place, node_run.incoming[0], unjudged(LEFT_OUT)))

    def finish(self, captured: Sequence[tuple[Edge, int | None]]) -> None:
        """Judge the gradients that the pass returned."""
        self._rows += [self._row(edge, value) for edge, value in captured]

    def rows(self) -> list[Row]:
        """Return one row for each gradient returned, judged on its own.

        They are in the order in which the forward pass met the leaves.
        """
        nodes = self.tape.nodes
        return sorted(self._rows, key=lambda row: nodes[row.node].outputs[row.input_nr] or 0)

    def _finding(
        self,
        step: Step,
        node: Node,
        input_nr: int,
        what: str,
        comparison: Comparison,
        formula: str = "",
        grade: str = "",
        advice: str = "",
        case: Case | Outcome | None = None,
    ) -> None:
        edge = node.edges[input_nr] if step is _BACKWARD else None
        place = (node.id, input_nr) if edge is None else (edge.node, edge.index)
        if edge is not None or step is not _BACKWARD:
            if comparison.reason:
                self._doubts.add(place, comparison)
            # (What one node alone sent arrives as it was sent, of which no more is said.)
            alone = step is _FAN_IN and len(self.sent.get(place, ())) == 1
            if not alone or comparison.verdict is not _AGREES:
                self._last.add(step, place, comparison)
        told = (
            *(step, self._title + what, comparison, node.call, node.id),
            *(self.number, input_nr, self._source, formula, grade, advice),
        )
        self._findings.append(Finding(*told) if case is None else Accused(*told, case=case))

    def _fan_in(self, node: Node, node_run: NodeRun) -> None:
        for index, arrived in enumerate(node_run.incoming):
            place = node.id, index
            terms = self.sent.get(place, [])
            implicit = self._seeds[place].count(None) if place in self._seeds else 0
            if arrived is None and not terms and not implicit:
                continue
            what = f"gradient arriving at input {index}"
            if arrived is None or not (terms or implicit):
                number = arrived if arrived is not None else terms[0]
                sent = "a gradient was sent but none arrived"
                said = sent if arrived is None else "a gradient arrived that no node sent"
                comparison = mismatch(said, self.tape.values[number].array)
            else:
                comparison = self._arrived(place, arrived, terms, implicit)
            self._finding(_FAN_IN, node, index, what, comparison, "g = sum of the gradients sent")

    def _arrived(
        self, place: NodeInput, arrived: int, terms: list[int], implicit: int
    ) -> Comparison:
        running = self._running.pop(place, None)
        if running is None or not running.count or implicit:
            return self._against_total(arrived, terms, implicit, arrived)
        value, *sent = map(self.tape.values.__getitem__, (arrived, *terms))
        looked = running.compared(value, sent[running.count :])
        if looked is not None:
            return looked
        if running.count == len(terms) and any(one.array is None for one in sent):
            expected, size = running.bounded(value)
            return settled_by(self.records.against(arrived, expected), lambda: size)
        return self._added(arrived, terms, implicit, arrived)

    def _against_total(self, number: int, terms: list[int], ones: int, arrived: int) -> Comparison:
        looked = self._looks.total(terms, ones, number)
        return looked or self._added(number, terms, ones, arrived)

    def _added(self, number: int, terms: list[int], ones: int, arrived: int) -> Comparison:
        try:
            expected = arriving(self.tape, self.records, terms, ones, arrived)
        except Unjudgeable as reason:
            return unjudged(str(reason), self.tape.values[number].array)
        comparison = settled_by(
            self.records.against(number, expected),
            lambda: sum(map(largest, map(self.records, terms))) + ones,
        )
        again = partial(arrived_in_turn, self.tape, self.records, terms, number)
        return comparison if ones else in_turn(comparison, again, expected)[0]

    def _backward(self, node: Node, node_run: NodeRun) -> None:
        names = operand_names(self.tape, node, self._custom.functions)
        if node.kind == Kind.CUSTOM:
            self._custom_backward(node, node_run, names)
            return
        looked = self._looks.sent(node, self._call, node_run)
        for input_nr, comparison in looked.items():
            self._backward_finding(node, input_nr, names, comparison)
        self._last.hand_on(node, self._call, node_run, looked)
        if looked and len(looked) == len(node.edges):
            return
        edges = [None if k in looked else edge for k, edge in enumerate(node.edges)]
        if not looked or edges.count(None) < len(edges):
            self._in_full(replace(node, edges=tuple(edges)), node_run, names)

    def _in_full(self, node: Node, node_run: NodeRun, names: list[tuple[str, str]]) -> None:
        try:
            expected = self._expected(node, node_run)
        except Unjudgeable as reason:
            for input_nr, sent in enumerate(node_run.outgoing):
                if sent is not None and node.edges[input_nr] is not None:
                    c = self._custom.without_rule(node, node_run, input_nr, reason)
                    self._backward_finding(node, input_nr, names, c.comparison, case=c.case)
            return
        found: dict[int, Comparison] = {}
        again = SecondLook(self.tape, self.records, node, node_run, self._expected)
        for input_nr, edge in enumerate(node.edges):
            sent = node_run.outgoing[input_nr] if input_nr < len(node_run.outgoing) else None
            if edge is None or (sent is None and not self._is_needed(edge)):
                continue
            size = partial(again.size, input_nr)
            comparison = self._outgoing(node_run, sent, expected[input_nr], size)
            if comparison is None:
                continue
            if sent is not None:
                looked = partial(again.in_turn, input_nr, sent)
                comparison, _ = in_turn(comparison, looked, expected[input_nr])
            self._backward_finding(node, input_nr, names, comparison)
            found[input_nr] = comparison
        self._last.hand_on(node, self._call, node_run, found)

    def _custom_backward(self, node: Node, node_run: NodeRun, names: list[tuple[str, str]]) -> None:
        expected: tuple[Any, ...] | Unjudgeable
        try:
            expected = self._custom.expected(node, node_run)
        except Unjudgeable as reason:
            expected = reason
        measured = set()
        by_rules = {} if isinstance(expected, Unjudgeable) else dict(enumerate(expected))
        for judged in self._custom.judge(node, node_run, expected, self._is_needed):
            c, k = judged.comparison, judged.input_nr
            if judged.reference is not None:
                by_rules[k] = judged.reference
            self._backward_finding(node, k, names, c, judged.grade, judged.advice, judged.case)
            off = hidden(judged, node_run.outgoing[k], by_rules.get(k), self.records)
            if off is not None:
                self.off[self.number, node.id, k] = off
            if judged.case is not None or not judged.by_rules:
                # For all inputs that one operand enters by.
                measured.update(same_operand(self.tape, node, judged.input_nr))
        for input_nr in measured:
            self._last.forget(node.edges[input_nr])

    def _backward_finding(
        self,
        node: Node,
        input_nr: int,
        names: list[tuple[str, str]],
        comparison: Comparison,
        grade: str = "",
        advice: str = "",
        case: Case | Outcome | None = None,
    ) -> None:
        name, text = names[input_nr] if input_nr < len(names) else (str(input_nr), "")
        what = f"gradient of {name}"
        self._finding(_BACKWARD, node, input_nr, what, comparison, text, grade, advice, case)

    def _expected(self, node: Node, node_run: NodeRun, threads: int = 0) -> tuple[Any, ...]:
        arithmetic = backward_arithmetic(self.tape, node, node_run)
        if arithmetic is not None:
            arithmetic = replace(arithmetic, stretches=threads)
        in_pieces = in_large_pieces(self.tape, node, node_run.incoming, self.records, arithmetic)
        if in_pieces:
            edges = tuple(None if k in in_pieces else edge for k, edge in enumerate(node.edges))
            if not any(edges):
                return tuple(map(in_pieces.get, range(len(edges))))
            node = replace(node, edges=edges)
        incoming = [
            None if number is None else self.records.exact(number, arithmetic)
            for number in node_run.incoming
        ]
        results = gradients(self.tape, node, incoming, self.records, arithmetic)
        return tuple(in_pieces.get(input_nr, result) for input_nr, result in enumerate(results))

    def _is_needed(self, edge: Edge) -> bool:
        """Whether the program asked for a gradient beyond an edge."""
        return self._needed is None or edge.node in self._needed

    def _outgoing(
        self,
        node_run: NodeRun,
        sent: int | None,
        expected: Any,
        size: Callable[[], float],
    ) -> Comparison | None:
        if sent is None:
            # An undefined gradient stands for zeros.
            if expected is None:
                return None
            if isinstance(expected, Pieces):
                expected = expected.whole()
            if expected is None or not np.any(expected.value):
                return None
            value = np.asarray(expected.value)
            return mismatch("no gradient where a non-zero one is expected", value)
        if expected is None:
            return self.records.against(sent, np.zeros(self.tape.values[sent].shape))
        comparison = self.records.against(sent, expected)
        if self._call is not None:
            given = given_to(self._call, node_run)
            comparison = forgiven(comparison, self.records, sent, expected, given, self._call)
        return settled_by(comparison, size)

    def _accumulate(self, node: Node, node_run: NodeRun, update: LeafUpdate | None) -> None:
        arrived = node_run.incoming[0]
        if update is None or arrived is None:
            return
        if update.after is None:
            array = self.tape.values[arrived].array
            comparison = mismatch("a gradient arrived but `.grad` is None", array)
        else:
            terms = [arrived] if update.before is None else [update.before, arrived]
            comparison = self._against_total(update.after, terms, 0, arrived)
        self._finding(
            Step.ACCUMULATE, node, 0, "`.grad` afterwards", comparison, "after = before + g"
        )

    def _as_it_is(self, number: int) -> Comparison:
        """Return the comparison of a gradient of which no step says anything but by its doubt."""
        return self.records.against(number, self.tape.values[number].array)

    def _row(self, edge: Edge, number: int | None, doubt: Comparison | None = None) -> Row:
        place = (edge.node, edge.index)
        own = doubt or self._last.at(place)
        if doubt is None and number is None:
            own = absent(self.tape, self.sent.get(place, ()), left_out=place in self._left_out)
        own = own or self._as_it_is(number or 0)
        doubts = self._doubts.relative_at(place, number)
        return row_of(self.tape, self.number, edge, number, own, doubts)
