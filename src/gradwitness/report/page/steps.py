"""Every step and every gradient of a report as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.judging.finding import Step
from gradwitness.judging.numbers import subscript
from gradwitness.report.page.columns import Columns
from gradwitness.report.tables.terminal import relative, remedied
from gradwitness.tape import Kind
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.judging.comparison import Comparison
    from gradwitness.judging.finding import Finding, Report
    from gradwitness.tape import Node, Tape

STEPS = tuple(Step)
VERDICTS = tuple(Verdict)
# The figures of a comparison that a page shows.
_FIGURES: dict[str, Callable[[Comparison], float]] = {
    "error": lambda c: c.error,
    "bound": lambda c: c.bound,
    "ratio": lambda c: c.ratio,
    "relative": lambda c: c.relative_error,
    "ulps": lambda c: c.ulps,
    "detects": lambda c: c.detects_relative,
    "norm": lambda c: c.norm,
}


def step_columns(tape: Tape, report: Report) -> Columns:
    """Return one line for each comparison, in the order of execution."""
    findings = report.findings
    columns = Columns(steps=[step.value for step in STEPS], verdicts=[v.value for v in VERDICTS])
    columns.numbers("step", [STEPS.index(f.step) for f in findings], np.uint8)
    _figures(columns, [f.verdict for f in findings], [f.comparison for f in findings])
    columns.numbers("node", [_or_none(f.node) for f in findings], np.int32)
    columns.numbers("call", [_or_none(f.call) for f in findings], np.int32)
    columns.numbers("sweep", [_or_none(f.sweep) for f in findings], np.int32)
    parameters = _Parameters(tape)
    columns.texts("title", (f.title for f in findings))
    columns.texts("operation", (_operation(tape, f) for f in findings))
    columns.texts("module", (f.source.module if f.source else "" for f in findings))
    columns.texts("line", (relative(f.source.line) if f.source else "" for f in findings))
    columns.texts("parameter", (parameters.of(f.node) for f in findings))
    columns.texts("reason", (f.comparison.reason for f in findings))
    columns.texts("rule", (f.formula for f in findings))
    columns.texts("grade", (f.grade for f in findings))
    columns.texts("advice", map(_next, findings))
    return columns


def _next(finding: Finding) -> str:
    """Return the cause of what is wrong, what to write, and what a surrogate looks like."""
    facts = remedied(finding) if finding.verdict is Verdict.DISAGREES else ()
    return "\n".join([*(text for _, text in facts), *filter(None, [finding.advice])])


def gradient_columns(report: Report) -> Columns:
    """Return one line for each gradient that the program received."""
    rows = report.rows
    columns = Columns()
    _figures(columns, [row.verdict for row in rows], [row.comparison for row in rows])
    columns.numbers("node", [row.node for row in rows], np.int32)
    columns.numbers("sweep", [row.sweep for row in rows], np.int32)
    columns.numbers("digits", [row.digits for row in rows], np.float32)
    columns.numbers("inherited", [row.inherited for row in rows], np.uint8)
    columns.texts("name", (row.name for row in rows))
    columns.texts("shape", (shaped(row.shape) for row in rows))
    columns.texts("dtype", (row.dtype for row in rows))
    columns.texts("reason", (row.grounds for row in rows))
    columns.numbers("absent", [row.value is None for row in rows], np.uint8)
    return columns


def _figures(columns: Columns, verdicts: list[Verdict], comparisons: list[Comparison]) -> None:
    columns.numbers("verdict", [VERDICTS.index(verdict) for verdict in verdicts], np.uint8)
    columns.numbers("size", [c.size for c in comparisons], np.float64)
    columns.numbers("refuted", [c.refuted for c in comparisons], np.float64)
    for name, figure in _FIGURES.items():
        columns.figures(name, [figure(c) for c in comparisons])
    columns.texts("at", (subscript(c.index) for c in comparisons))
    columns.texts("recorded", (_number(c.recorded) for c in comparisons))
    columns.texts("expected", (_number(c.expected) for c in comparisons))


def shaped(shape: tuple[int, ...]) -> str:
    """Return a shape as 8x4."""
    return "x".join(map(str, shape)) or "scalar"


class _Parameters:
    """Finds the parameters that a node sends gradients to, at once or through views of them."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._known: dict[int, str] = {}

    def of(self, number: int | None) -> str:
        """Return their names in a line."""
        if number is None:
            return ""
        if number not in self._known:
            nodes = self._tape.nodes
            names = [self._leaf(nodes[number])] + [
                self._leaf(self._behind_views(nodes[edge.node]))
                for edge in nodes[number].edges
                if edge is not None
            ]
            self._known[number] = ", ".join(dict.fromkeys(filter(None, names)))
        return self._known[number]

    def _leaf(self, node: Node) -> str:
        if node.kind != Kind.ACCUMULATE or node.leaf is None:
            return ""
        return self._tape.values[node.leaf].name

    def _behind_views(self, node: Node) -> Node:
        while node.call is not None and self._tape.calls[node.call].is_view:
            edge = next(iter(node.edges), None)
            if edge is None:
                break
            node = self._tape.nodes[edge.node]
        return node


def _operation(tape: Tape, finding: Finding) -> str:
    if finding.call is not None:
        return tape.calls[finding.call].base_op
    node = None if finding.node is None else tape.nodes[finding.node]
    if node is None:
        return ""
    return node.name if node.call is None else tape.calls[node.call].base_op


def _number(number: complex) -> str:
    written = f"{number:.9g}"
    return "" if written == "nan" else written


def _or_none(number: int | None) -> Any:
    return -1 if number is None else number
