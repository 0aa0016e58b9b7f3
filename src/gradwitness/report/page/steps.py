"""Every step and every gradient of a report as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.judging.comparing.comparison import unjudged
from gradwitness.judging.finding import Step
from gradwitness.judging.numbers import subscript
from gradwitness.report.page.columns import Columns
from gradwitness.report.tables.terminal import relative, remedied
from gradwitness.tape import Kind
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.finding import Finding, Report
    from gradwitness.tape import Node, Tape

STEPS = tuple(Step)
VERDICTS = tuple(Verdict)
# For a power of two, where errors were not counted in ulps.
_NO_ULPS = 9999


def step_columns(tape: Tape, report: Report) -> Columns:
    """Return one line for each comparison, in the order of execution."""
    findings = report.findings
    columns = Columns(steps=[step.value for step in STEPS], verdicts=[v.value for v in VERDICTS])
    columns.numbers("step", [STEPS.index(f.step) for f in findings], np.uint8)
    comparisons = [f.comparison for f in findings]
    columns.numbers("verdict", [VERDICTS.index(f.verdict) for f in findings], np.uint8)
    columns.numbers("size", [c.size for c in comparisons], np.float64)
    _figures(columns, comparisons)
    _further_figures(columns, comparisons)
    columns.numbers("node", [_or_none(f.node) for f in findings], np.int32)
    columns.numbers("sweep", [_or_none(f.sweep) for f in findings], np.int32)
    columns.texts("title", (f.title for f in findings))
    columns.texts("operation", (_operation(tape, f) for f in findings))
    columns.texts("module", (f.source.module if f.source else "" for f in findings))
    columns.texts("line", (relative(f.source.line) if f.source else "" for f in findings))
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
    # Most have the figures of the step that sent them: it is named instead.
    known = {_figured(f.comparison): number for number, f in enumerate(report.findings)}
    like = [known.get(_figured(row.comparison), -1) for row in rows]
    columns.numbers("like", like, np.int32)
    own = zip(like, rows, strict=True)
    _figures(columns, [unjudged("") if step >= 0 else row.comparison for step, row in own])
    columns.numbers("verdict", [VERDICTS.index(row.verdict) for row in rows], np.uint8)
    columns.numbers("size", [row.comparison.size for row in rows], np.float64)
    columns.numbers("node", [row.node for row in rows], np.int32)
    columns.numbers("sweep", [row.sweep for row in rows], np.int32)
    columns.figures("digits", [row.digits for row in rows], digits=2)
    columns.numbers("inherited", [row.inherited for row in rows], np.uint8)
    columns.texts("name", (row.name for row in rows))
    columns.texts("shape", (shaped(row.shape) for row in rows))
    columns.texts("dtype", (row.dtype for row in rows))
    columns.texts("reason", (row.grounds for row in rows))
    columns.numbers("absent", [row.value is None for row in rows], np.uint8)
    return columns


def _figured(c: Comparison) -> tuple[float, ...]:
    return c.error, c.bound, c.ratio, c.norm


def _figures(columns: Columns, comparisons: list[Comparison]) -> None:
    error, bound, ratio, norm = np.array([_figured(c) for c in comparisons]).reshape(-1, 4).T
    columns.figures("bound", bound)
    columns.figures("ratio", ratio)
    columns.figures("norm", norm, recurring=True)
    # The page's script multiplies: an error that is another one is kept.
    with np.errstate(all="ignore"):
        is_product = np.isclose(error, np.where(ratio == 0, 0, ratio * bound), rtol=1e-6, atol=0)
    columns.figures("error", np.where(is_product, np.nan, error))


def _further_figures(columns: Columns, comparisons: list[Comparison]) -> None:
    columns.numbers("refuted", [c.refuted for c in comparisons], np.float64)
    columns.figures("detects", [c.detects_relative for c in comparisons], digits=2)
    # An ulp is a power of two.
    error, ulps = (np.array([getattr(c, name) for c in comparisons]) for name in ("error", "ulps"))
    with np.errstate(all="ignore"):
        powers = np.where(error > 0, np.rint(np.log2(ulps / error)), 0)
    powers = np.where(np.isnan(ulps), _NO_ULPS, np.clip(powers, -_NO_ULPS, _NO_ULPS))
    columns.numbers("ulp", powers, np.int32, apart=0)
    columns.texts("at", (subscript(c.index) for c in comparisons))
    columns.texts("recorded", (_number(c.recorded) for c in comparisons))
    columns.texts("expected", (_number(c.expected) for c in comparisons))


def shaped(shape: tuple[int, ...]) -> str:
    """Return a shape as 8x4."""
    return "x".join(map(str, shape)) or "scalar"


class Parameters:
    """Finds the parameters that a node sends gradients to, at once or through views of them."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def of(self, node: Node) -> str:
        """Return their names in a line."""
        sent_to = [self._tape.nodes[edge.node] for edge in node.edges if edge is not None]
        names = [self._leaf(node), *(self._leaf(self._behind_views(each)) for each in sent_to)]
        return ", ".join(dict.fromkeys(filter(None, names)))

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
