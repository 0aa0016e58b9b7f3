"""Doubts as magnitudes: how far what could not be told from rounding may have moved a gradient.

Where a step's bound is so wide that it shows too little, an error of twice that bound is found all
the same. What may hide below it is carried on to the leaves by the rules, in the worst case, and
added to the smallest error that a leaf's row detects. Many doubts come to nothing there: those of a
gradient that has vanished after a hundred steps, or of a branch that adds little.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, is_inexact
from gradwitness.engine.tiling import is_large
from gradwitness.judging.comparing.comparison import ALL_ZERO, COARSE, NEAR, SHARE, TOO_LITTLE
from gradwitness.judging.comparing.records import largest
from gradwitness.judging.finding import Finding, Row, Step
from gradwitness.judging.gradients.unfelt import is_seen
from gradwitness.judging.graph_queries import ancestors
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.comparing.records import Records
    from gradwitness.tape import Node, NodeRun, Tape

FAINT = "too little signal, but too small to matter: it is counted in what its gradients detect"
# Carrying a doubt on rounds as little as the witness does.
_WITNESS = Arithmetic.stepwise("float64")
# Of all reasons few stand for a doubt of some size.
_COUNTED = frozenset([TOO_LITTLE, COARSE, ALL_ZERO, NEAR])


class Doubts:
    """What is in doubt of the gradients on their way to the inputs of nodes.

    Parameters
    ----------
    tape : Tape
    records : Records
    """

    def __init__(self, tape: Tape, records: Records) -> None:
        self._tape = tape
        self._records = records
        self._at: dict[tuple[int, int], Any] = {}

    def add(self, place: tuple[int, int], comparison: Comparison) -> None:
        """Count what may hide in a gradient that was compared."""
        if comparison.reason not in _COUNTED:
            return
        if is_magnitude(comparison) or _is_underflow(comparison):
            self._count(place, comparison.detects)

    def _count(self, place: tuple[int, int], size: Any) -> None:
        self._at[place] = self._at.get(place, 0.0) + size

    def carry(self, node: Node, node_run: NodeRun) -> None:
        """Carry what is in doubt of a node's cotangents on to what it sends."""
        if not self._at:
            return
        arriving = [self._at.pop((node.id, k), None) for k in range(len(node_run.incoming))]
        if all(doubt is None for doubt in arriving):
            return
        sizes: Sequence[Any]
        try:
            sizes = self._sent(node, node_run, arriving)
        except Unjudgeable:
            sizes = [math.inf] * len(node.edges)
        for edge, size in zip(node.edges, sizes, strict=True):
            if edge is not None and size is not None:
                self._count((edge.node, edge.index), size)

    def _sent(self, node: Node, node_run: NodeRun, arriving: Sequence[Any]) -> list[Any]:
        call = None if node.call is None else self._tape.calls[node.call]
        if call is not None and is_large(self._tape, call):
            raise Unjudgeable("too large to be computed at once")
        incoming: list[Any] = []
        for number, doubt in zip(node_run.incoming, arriving, strict=True):
            if number is None:
                incoming.append(None)
                continue
            g = self._records(number)
            error = None if doubt is None else np.broadcast_to(doubt, g.shape).astype(float)
            if error is not None and not np.isfinite(error).all():
                raise Unjudgeable("in doubt altogether")
            incoming.append(Bounded(g, _WITNESS, error, error))
        sent = gradients(self._tape, node, incoming, self._records, _WITNESS)
        return [g.rigorous if isinstance(g, Bounded) else None for g in sent]

    def relative_at(self, place: tuple[int, int], number: int | None) -> float:
        """Return what is in doubt of a gradient, over its largest number."""
        doubt = float(np.max(self._at.get(place, 0.0), initial=0.0))
        if not doubt or number is None or not is_inexact(self._tape.values[number].dtype):
            return math.inf if doubt else 0.0
        try:
            size = largest(self._records(number))
        except Unjudgeable:
            return math.inf
        return doubt / size if size and not math.isnan(doubt) else math.inf


def is_magnitude(comparison: Comparison) -> bool:
    """Whether a comparison is in doubt for its bound alone, which says by how much."""
    in_doubt = comparison.verdict is Verdict.INCONCLUSIVE and math.isfinite(comparison.detects)
    return in_doubt and comparison.reason in (TOO_LITTLE, COARSE, ALL_ZERO)


def _is_underflow(comparison: Comparison) -> bool:
    """Whether it agrees since the format holds nothing smaller: that, too, may grow on its way."""
    return comparison.reason == NEAR and comparison.detects_relative == 0


def is_carried(tape: Tape, finding: Finding) -> bool:
    """Whether a finding is a doubt that was carried to the gradients as a magnitude."""
    carried = finding.sweep is not None and is_magnitude(finding.comparison)
    return carried and not is_seen(tape, finding.sweep or 0)


def shows(row: Row) -> bool:
    """Whether the doubts that reach a gradient might hide an error of a tenth of it.

    A tenth of what the row would not have seen anyway makes no difference.
    """
    own = row.comparison.detects_relative
    return row.doubt > 0 and not (own + row.doubt <= SHARE or row.doubt <= SHARE * own < math.inf)


def counted(row: Row) -> Comparison:
    """Return a row's comparison, with what is in doubt in the smallest error that it detects."""
    comparison = row.comparison
    own = comparison.detects_relative
    if not row.doubt or not 0 < own < math.inf:
        return comparison
    grown = 1 + row.doubt / own
    return replace(comparison, detects=comparison.detects * grown, detects_relative=own * grown)


def without_faint(tape: Tape, findings: Sequence[Finding], rows: Sequence[Row]) -> list[Finding]:
    """Return findings in which doubts that no gradient shows agree."""
    if not any(is_carried(tape, f) for f in findings):
        return [*findings]
    showing: dict[int, set[int]] = {}
    for row in rows:
        showing.setdefault(row.sweep, set()).update({row.node} if shows(row) else ())
    reached = {sweep: ancestors(tape, nodes) for sweep, nodes in showing.items()}

    def is_faint(finding: Finding) -> bool:
        if finding.sweep not in reached or not is_carried(tape, finding):
            return False
        number = finding.node or 0
        edge = (
            tape.nodes[number].edges[finding.tensor_nr] if finding.step is Step.BACKWARD else None
        )
        return (edge.node if edge else number) not in reached[finding.sweep]

    return [
        replace(f, comparison=replace(f.comparison, verdict=Verdict.AGREES, reason=FAINT))
        if is_faint(f)
        else f
        for f in findings
    ]
