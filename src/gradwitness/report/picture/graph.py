"""The autograd graph of a judged tape as a picture's plain records."""

from __future__ import annotations

import math
from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from gradwitness.judging.finding import Report, Step
from gradwitness.judging.numbers import short, subscript
from gradwitness.report.names import Names
from gradwitness.report.picture.missing import missing_gradients, place_lines
from gradwitness.report.picture.picture import Arrow, Box, Flow, Picture, Role
from gradwitness.report.words import explained
from gradwitness.rules import find_node
from gradwitness.tape import Kind
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.judging.finding import Finding
    from gradwitness.rules import Rule, Term
    from gradwitness.tape import Call, Edge, Node, Tape

_LEGEND = (
    "Arrows point backward, from the result to the leaves: the way the gradients flow.",
    "In a box: the autograd node and its number; the value that its forward operation returned.",
    "Then shapes in and out, and the gradients that it sends, g being the one that arrives.",
    "On an arrow: whose gradient it carries, the gradient's shape, and its Euclidean norm.",
    "x bound: the worst error of the step as a multiple of what rounding allows.",
)
# The most equations, and the most gradients, that a box shows, and the longest line.
_MOST_LINES = 6
_LONGEST_LINE = 125


def draw(tape: Tape, report: Report, *, title: str, subtitle: str = "") -> Picture:
    """Draw every node that the backward passes went through, coloured by its verdict.

    And a box for each reason why parameters, or what the nodes used, get no gradient. `view` folds
    the picture so that it fits a page.
    """
    return _Drawing(tape, report).picture(title, subtitle)


class _Drawing:
    def __init__(self, tape: Tape, report: Report) -> None:
        self._tape = tape
        self._names = Names(tape)
        self._findings: dict[int, list[Finding]] = {}
        self._forward: dict[int, list[Finding]] = {}
        # Of the last backward pass through a node: the norms of what arrives and of what it sends.
        self._norms: dict[tuple[Step, int, int], float] = {}
        for finding in report.findings:
            if finding.step is Step.FORWARD:
                self._forward.setdefault(finding.call or 0, []).append(finding)
            elif finding.node is not None:
                self._findings.setdefault(finding.node, []).append(finding)
                place = finding.step, finding.node, finding.tensor_nr
                self._norms[place] = finding.comparison.norm
        self._arrivals = Counter(
            (edge.node, edge.index) for node in tape.nodes for edge in node.edges if edge
        )
        self._misled, self._wrong = _spread(tape, report)

    def picture(self, title: str, subtitle: str) -> Picture:
        """Return the records."""
        boxes: list[Box] = []
        arrows: list[Arrow] = []
        for number, sweep in enumerate(self._tape.sweeps):
            for edge, seed in sweep.roots:
                boxes.append(self._result(number, edge, seeded=seed is not None))
                label = "1" if seed is None else "given"
                arrows.append(Arrow(boxes[-1].key, f"n{edge.node}", Flow.GRADIENT, label))
        for node in self._tape.nodes:
            boxes.append(self._box(node))
            arrows += self._gradients(node)
            for name, value in node.saved:
                key = f"s{node.id}.{name}"
                boxes.append(self._saved(key, name, value))
                arrows.append(Arrow(f"n{node.id}", key, Flow.SAVED))
        missing, unsent = missing_gradients(self._tape, self._names)
        used = {arrow.target for arrow in unsent}
        unsent += [
            Arrow(boxes[0].key, box.key, Flow.MISSING)
            for box in missing
            if boxes and box.key not in used
        ]
        words = explained(line for box in boxes for line in box.lines)
        legend = (*_LEGEND, *words, *self._definitions())
        return Picture(title, subtitle, (*boxes, *missing), (*arrows, *unsent), legend)

    def _gradients(self, node: Node) -> Iterator[Arrow]:
        labels = self._labels(node)
        for input_nr, target in enumerate(node.edges):
            if target is not None:
                yield Arrow(
                    f"n{node.id}",
                    f"n{target.node}",
                    Flow.GRADIENT,
                    labels[input_nr] if input_nr < len(labels) else "",
                    shape=_edge_shape(self._tape, target.node, target.index),
                    norms=self._norm(Step.BACKWARD, node.id, input_nr),
                    wrong=(node.id, input_nr) in self._wrong,
                )

    def _definitions(self) -> list[str]:
        """Return one sentence for each kind of node in the picture."""
        entries = {node.name: _entry(node) for node in self._tape.nodes}
        return [entry.definition(name) for name, entry in sorted(entries.items()) if entry]

    def _result(self, sweep: int, edge: Edge, *, seeded: bool) -> Box:
        value = self._tape.nodes[edge.node].outputs[edge.index]
        symbol = self._names.of(value)
        lines = []
        if value is not None:
            recorded = self._tape.values[value]
            lines.append(f"shape {_shape(recorded.shape)} {recorded.dtype}")
            if recorded.array is not None and recorded.array.size == 1:
                lines.append(f"value {float(recorded.array.reshape(())):.9g}")
        return Box(
            key=f"r{sweep}.{edge.node}.{edge.index}",
            role=Role.RESULT,
            title=f"result {symbol}",
            lines=tuple(lines),
            note="The value that backward was called on; its gradient is "
            + ("given by the program." if seeded else "1."),
            short=f"result {symbol}",
        )

    def _box(self, node: Node) -> Box:
        role = {Kind.ACCUMULATE: Role.LEAF, Kind.CUSTOM: Role.CUSTOM}.get(node.kind, Role.OPERATION)
        entry = _entry(node)
        verdict, text = self._verdict(node)
        lines = self._leaf(node) if role is Role.LEAF else self._operation(node)
        calls = self._calls(node)
        module = next((call.source.module for call in calls if call.source.module), "")
        line = next((call.source.line for call in calls if call.source.line), "")
        outgoing = " ".join(self._shapes(node))
        return Box(
            key=f"n{node.id}",
            role=role,
            title=f"{node.name} #{node.id}",
            lines=(*lines, *place_lines(line, module)),
            verdict=verdict,
            verdict_text=text,
            note="" if entry is None else entry.definition(node.name),
            short=f"{node.name if node.leaf is None else self._names.of(node.leaf)} {outgoing}",
            path=tuple(module.split(".")) if module else (),
            line=line,
            when=calls[0].id if calls else None,
            is_view=bool(calls) and all(call.is_view for call in calls),
            inherits=node.id in self._misled,
            shape=outgoing if role is Role.LEAF else "",
            norms=self._norm(Step.FAN_IN, node.id, 0) if role is Role.LEAF else (),
        )

    def _calls(self, node: Node) -> list[Call]:
        numbers = node.inner if node.call is None else (node.call,)
        return [self._tape.calls[number] for number in numbers]

    def _shapes(self, node: Node) -> list[str]:
        return [_shape(self._tape.values[n].shape) for n in node.outputs if n is not None]

    def _leaf(self, node: Node) -> list[str]:
        if node.leaf is None:
            return []
        value = self._tape.values[node.leaf]
        symbol = self._names.of(node.leaf)
        equation = f"{symbol} = {value.name}" if value.name and value.name != symbol else symbol
        return [equation, f"shape {_shape(value.shape)} {value.dtype}", *self._names.sent(node)]

    def _operation(self, node: Node) -> list[str]:
        calls = self._calls(node)
        equations = [_cut(self._names.equation(call)) for call in calls]
        lines = [*self._whole(node, len(calls)), *_first(equations, "operations")]
        incoming = [_edge_shape(self._tape, edge.node, edge.index) for edge in node.edges if edge]
        outgoing = self._shapes(node)
        lines.append(f"in {_counted(incoming)} -> out {_counted(outgoing)}")
        lines += self._sums(node)
        if node.kind == Kind.CUSTOM:
            lines.append("backward: user-defined")
        elif calls:
            lines += _first(list(map(_cut, self._names.sent(node))), "gradients")
        return lines

    def _whole(self, node: Node, operations: int) -> list[str]:
        """Return what a function of several operations makes of what: no one of them says that."""
        if operations < 2:
            return []
        results = ", ".join(self._names.of(n) for n in node.outputs if n is not None)
        inputs = [
            number
            for e in node.edges
            if e
            for number in self._tape.nodes[e.node].outputs[e.index : e.index + 1]
        ]
        given = ", ".join(map(self._names.of, inputs))
        name = node.name.removesuffix("Backward")
        return [_cut(f"{results} = {name}({given}), {operations} operations")]

    def _sums(self, node: Node) -> Iterator[str]:
        """Yield what arrives where several gradients meet."""
        for index in range(len(node.outputs)):
            count = self._arrivals[node.id, index]
            if count > 1:
                norm = "".join(
                    f", norm {short(n)}" for n in self._norm(Step.FAN_IN, node.id, index)
                )
                yield f"g = sum of {count} gradients{norm}"

    def _norm(self, step: Step, node: int, index: int) -> tuple[float, ...]:
        norm = self._norms.get((step, node, index), math.nan)
        return () if math.isnan(norm) else (norm,)

    def _labels(self, node: Node) -> list[str]:
        """Return the labels of a node's arrows, if it sends more than one gradient."""
        if node.call is None or sum(edge is not None for edge in node.edges) < 2:
            return []
        return [f"d{symbol}" for symbol, _ in self._names.gradients(self._tape.calls[node.call])]

    def _saved(self, key: str, name: str, value: int | None) -> Box:
        lines = ["changed since, or not recorded"]
        if value is not None:
            recorded = self._tape.values[value]
            lines = [f"{self._names.of(value)} {_shape(recorded.shape)}"]
        return Box(
            key, Role.SAVED, f"saved {name}", tuple(lines), note="Kept from the forward pass."
        )

    def _verdict(self, node: Node) -> tuple[Verdict | None, str]:
        findings = list(self._findings.get(node.id, ()))
        for number in (node.call, *node.inner):
            findings += self._forward.get(number, []) if number is not None else []
        if not findings:
            return None, ""
        verdict = worst([finding.verdict for finding in findings])
        worst_finding = max(
            (f for f in findings if f.verdict is verdict),
            key=lambda f: f.comparison.ratio if f.comparison.ratio >= 0 else -1.0,
        )
        c = worst_finding.comparison
        if verdict is Verdict.INCONCLUSIVE:
            return verdict, f"{verdict.value}: {c.reason}"
        text = f"{verdict.value}, {short(c.ratio)} x bound"
        if verdict is Verdict.DISAGREES:
            text += f" ({worst_finding.step.value}{subscript(c.index)})"
        return verdict, text


def _spread(tape: Tape, report: Report) -> tuple[set[int], set[tuple[int, int]]]:
    """Follow the errors of wrong steps down: the nodes that they reach, and the wrong edges."""
    wrong = {
        (finding.node, input_nr)
        for finding in report.wrong
        if finding.node is not None and finding.step in (Step.BACKWARD, Step.FAN_IN)
        for input_nr in (
            [finding.tensor_nr]
            if finding.step is Step.BACKWARD
            else range(len(tape.nodes[finding.node].edges))
        )
    }
    reached: set[int] = set()
    open_edges = list(wrong)
    while open_edges:
        node, input_nr = open_edges.pop()
        target = (
            tape.nodes[node].edges[input_nr] if input_nr < len(tape.nodes[node].edges) else None
        )
        if target is None or target.node in reached:
            continue
        reached.add(target.node)
        beyond = {(target.node, n) for n in range(len(tape.nodes[target.node].edges))}
        open_edges += beyond - wrong
        wrong |= beyond
    return reached, wrong


def _entry(node: Node) -> Rule | Term | None:
    """Return the rule or term that defines a node's kind."""
    return find_node("CustomFunction" if node.kind == Kind.CUSTOM else node.name)


def _first(lines: list[str], what: str) -> list[str]:
    """Return a few lines, and how many more there are."""
    more = len(lines) - _MOST_LINES
    return lines if more < 2 else [*lines[:_MOST_LINES], f"... {more} more {what}"]


def _cut(line: str) -> str:
    """Return a line that a box has room for: a stack of 50 steps names them all."""
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 4]} ..."


def _counted(shapes: list[str]) -> str:
    """Return shapes in a line, equal ones in a row once."""
    runs = [(shape, sum(1 for _ in run)) for shape, run in groupby(shapes)]
    return (
        " ".join(f"{n} of {shape}" if n > 2 else " ".join(n * [shape]) for shape, n in runs) or "-"
    )


def _shape(shape: tuple[int, ...]) -> str:
    return f"({','.join(map(str, shape))})"


def _edge_shape(tape: Tape, node: int, index: int) -> str:
    outputs = tape.nodes[node].outputs
    value = outputs[index] if index < len(outputs) else None
    return "(?)" if value is None else _shape(tape.values[value].shape)
