"""The autograd graph of a judged tape as a picture's plain records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.finding import Report, Step
from gradwitness.judging.numbers import short, subscript
from gradwitness.report.names import Names
from gradwitness.report.picture.picture import Arrow, Box, Flow, Picture, Role
from gradwitness.rules import find_node
from gradwitness.tape import Kind
from gradwitness.verdict import Verdict, worst

if TYPE_CHECKING:
    from gradwitness.judging.finding import Finding
    from gradwitness.rules import Rule, Term
    from gradwitness.tape import Edge, Node, Tape

_LEGEND = (
    "Arrows point backward, from the result to the leaves: the way the gradients flow.",
    "In a box: the autograd node and its number; the value that its forward operation returned;",
    "shapes in and out; the module; the gradients that it sends, g being the one that arrives.",
    "W, b: weight and bias, numbered by layer; ^T: transposed; d in front of a name: its gradient.",
    "x bound: the worst error of the step as a multiple of what rounding allows.",
)


def draw(tape: Tape, report: Report, *, title: str, subtitle: str = "") -> Picture:
    """Draw every node that the backward passes went through, coloured by its verdict."""
    return _Drawing(tape, report).picture(title, subtitle)


class _Drawing:
    def __init__(self, tape: Tape, report: Report) -> None:
        self._tape = tape
        self._names = Names(tape)
        self._findings: dict[int, list[Finding]] = {}
        self._forward: dict[int, list[Finding]] = {}
        for finding in report.findings:
            if finding.step is Step.FORWARD:
                self._forward.setdefault(finding.call or 0, []).append(finding)
            elif finding.node is not None:
                self._findings.setdefault(finding.node, []).append(finding)

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
            labels = self._labels(node)
            for input_nr, target in enumerate(node.edges):
                if target is not None:
                    label = labels[input_nr] if input_nr < len(labels) else ""
                    arrows.append(Arrow(f"n{node.id}", f"n{target.node}", Flow.GRADIENT, label))
            for name, value in node.saved:
                key = f"s{node.id}.{name}"
                boxes.append(self._saved(key, name, value))
                arrows.append(Arrow(f"n{node.id}", key, Flow.SAVED))
        legend = (*_LEGEND, *self._definitions())
        return Picture(title, subtitle, tuple(boxes), tuple(arrows), legend)

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
        )

    def _box(self, node: Node) -> Box:
        role = {Kind.ACCUMULATE: Role.LEAF, Kind.CUSTOM: Role.CUSTOM}.get(node.kind, Role.OPERATION)
        entry = _entry(node)
        verdict, text = self._verdict(node)
        lines = self._leaf(node) if role is Role.LEAF else self._operation(node)
        return Box(
            key=f"n{node.id}",
            role=role,
            title=f"{node.name} #{node.id}",
            lines=tuple(lines),
            verdict=verdict,
            verdict_text=text,
            note="" if entry is None else entry.definition(node.name),
        )

    def _leaf(self, node: Node) -> list[str]:
        if node.leaf is None:
            return []
        value = self._tape.values[node.leaf]
        symbol = self._names.of(node.leaf)
        equation = f"{symbol} = {value.name}" if value.name and value.name != symbol else symbol
        return [equation, f"shape {_shape(value.shape)} {value.dtype}", f"{symbol}.grad += g"]

    def _operation(self, node: Node) -> list[str]:
        lines = []
        numbers = node.inner if node.call is None else (node.call,)
        calls = [self._tape.calls[number] for number in numbers]
        lines += [self._names.equation(call) for call in calls[:6]]
        if len(calls) > 6:
            lines.append(f"... {len(calls) - 6} more operations")
        incoming = [_edge_shape(self._tape, edge.node, edge.index) for edge in node.edges if edge]
        outgoing = [_shape(self._tape.values[n].shape) for n in node.outputs if n is not None]
        lines.append(f"in {' '.join(incoming) or '-'} -> out {' '.join(outgoing) or '-'}")
        module = next((call.source.module for call in calls if call.source.module), "")
        if module:
            lines.append(f"module {module}")
        if node.kind == Kind.CUSTOM:
            lines.append("backward: user-defined")
        elif calls:
            pairs = self._names.gradients(calls[0])
            present = [edge is not None for edge in node.edges]
            for (symbol, formula), is_present in zip(pairs, present, strict=False):
                if is_present:
                    lines.append(f"d{symbol} = {formula}")
        return lines

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


def _entry(node: Node) -> Rule | Term | None:
    """Return the rule or term that defines a node's kind."""
    return find_node("CustomFunction" if node.kind == Kind.CUSTOM else node.name)


def _shape(shape: tuple[int, ...]) -> str:
    return f"({','.join(map(str, shape))})"


def _edge_shape(tape: Tape, node: int, index: int) -> str:
    outputs = tape.nodes[node].outputs
    value = outputs[index] if index < len(outputs) else None
    return "(?)" if value is None else _shape(tape.values[value].shape)
