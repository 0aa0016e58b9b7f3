"""The derivation itself: forward and backward, in symbols and in this run's numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._printable import one_line
from gradwitness.judging.finding import Step
from gradwitness.judging.numbers import short
from gradwitness.report.expressions import expression
from gradwitness.report.names import Names
from gradwitness.report.words import explained
from gradwitness.rules import find_node
from gradwitness.rules.graph_terms import SOURCES
from gradwitness.tape import Kind, Ref

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gradwitness.judging.finding import Report
    from gradwitness.tape import Argument, Call, Node, NodeRun, Tape


def explain(tape: Tape, report: Report) -> str:
    """Write the whole derivation, forward and then backward, one step after another.

    Each step has its formula, the formula with numbers (long arrays are shortened), and, in the
    backward pass, what torch's autograd sent, with the verdict.
    """
    lines = list(_Derivation(tape, report).lines())
    words = explained(line for line in lines if " = " in line)
    legend = ["NAMES", *(f"  {sentence}" for sentence in words), ""] if words else []
    return "\n".join([*legend, *lines]) + "\n"


class _Derivation:
    def __init__(self, tape: Tape, report: Report) -> None:
        self._tape = tape
        self._names = Names(tape)
        self._verdicts = {
            (f.sweep, f.node, f.tensor_nr): f for f in report.findings if f.step is Step.BACKWARD
        }

    def lines(self) -> Iterator[str]:
        """Yield the derivation."""
        yield "FORWARD"
        module = None
        for call in self._relevant():
            if call.source.module != module:
                module = call.source.module
                yield ""
                yield f"[{module or 'outside modules'}]"
            yield from self._forward(call)
        for number, sweep in enumerate(self._tape.sweeps):
            yield ""
            yield f"BACKWARD (pass {number + 1})"
            seeded = any(seed is not None for _, seed in sweep.roots)
            start = "given by the program" if seeded else "1"
            yield f"g is the gradient that arrives at a node; at the result it is {start}."
            for node_run in sweep.node_runs:
                yield ""
                yield from self._backward(number, node_run)

    def _relevant(self) -> list[Call]:
        """Return the forward calls with an autograd node, and those that they depend on."""
        needed: set[int | None] = set()
        relevant = []
        for call in reversed(self._tape.calls):
            forward = call.during is None and call.base_op not in SOURCES
            if forward and (call.node is not None or needed.intersection(call.outputs)):
                relevant.append(call)
                needed.update(call.operands)
        return relevant[::-1]

    def _forward(self, call: Call) -> Iterator[str]:
        equation = self._names.equation(call)
        yield f"  {equation}"
        numbers = self._with_numbers(call)
        symbol = equation.partition(" = ")[0]
        results = ", ".join(self._shown(n) for n in call.outputs if n is not None)
        yield f"  {' ' * len(symbol)} = {numbers}"
        if numbers != results:
            yield f"  {' ' * len(symbol)} = {results}"

    def _with_numbers(self, call: Call) -> str:
        bound = self._names.bound(call)
        if bound is None:
            return "(no rule)"
        pairs = list(zip(bound.rule.operands, bound.arguments, strict=True))
        names = {name: self._argument(a) for name, a in pairs if isinstance(a, (Ref, tuple))}
        plain = {name: a for name, a in pairs if not isinstance(a, (Ref, tuple))}
        settings = bound.rule.defaults | bound.parameters | plain
        return expression(bound.rule.text, names, settings)

    def _argument(self, argument: Argument) -> str:
        if isinstance(argument, tuple):
            return "(" + ", ".join(map(self._argument, argument)) + ")"
        return self._shown(argument.value) if isinstance(argument, Ref) else one_line(str(argument))

    def _shown(self, number: int) -> str:
        array = self._tape.values[number].array
        return "?" if array is None else shortened(array)

    def _backward(self, sweep: int, node_run: NodeRun) -> Iterator[str]:
        node = self._tape.nodes[node_run.node]
        entry = find_node("CustomFunction" if node.kind == Kind.CUSTOM else node.name)
        yield f"#{node.id} " + (entry.definition(node.name) if entry else node.name)
        for arrived in node_run.incoming:
            if arrived is not None:
                yield f"  g = {self._shown(arrived)}"
        if node.kind == Kind.ACCUMULATE and node.leaf is not None:
            yield f"  {self._names.of(node.leaf)}.grad += g"
            return
        for input_nr, formula in enumerate(self._formulas(node)):
            sent = node_run.outgoing[input_nr] if input_nr < len(node_run.outgoing) else None
            if sent is None:
                continue
            finding = self._verdicts.get((sweep, node.id, input_nr))
            verdict = ""
            if finding is not None:
                ratio = short(finding.comparison.ratio)
                said = " ".join(filter(None, (finding.verdict.value, finding.comparison.basis)))
                verdict = f"   [{said}, {ratio} x bound]"
            yield f"  {formula}"
            yield f"    torch: {self._shown(sent)}{verdict}"

    def _formulas(self, node: Node) -> list[str]:
        if node.call is None:
            return [f"input {n}: by a user-defined backward" for n in range(len(node.edges))]
        pairs = self._names.gradients(self._tape.calls[node.call])
        return [f"d{symbol} = {formula}" for symbol, formula in pairs]


def shortened(array: NDArray[Any], most: int = 4) -> str:
    """Return an array as text: its first ``most`` numbers, and its shape if there are more."""
    numbers = np.asarray(array, dtype=np.float64) if array.dtype.kind in "fV" else array
    flat = numbers.ravel()
    if numbers.dtype.kind == "c":
        text = " ".join(f"{number:.4g}" for number in flat[:most])
    elif numbers.ndim == 0:
        return short(float(flat[0]), 6)
    else:
        text = " ".join(short(float(number), 4) for number in flat[:most])
    if flat.size <= most:
        return f"[{text}]"
    return f"[{text} ... ]({'x'.join(map(str, array.shape))})"
