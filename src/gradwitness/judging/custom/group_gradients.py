"""Gradients along Lie groups: judged by the rules, and followed to where they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients
from gradwitness.engine.custom_forwards import edge_value
from gradwitness.engine.floats import Arithmetic, unit_roundoff
from gradwitness.judging.comparing.records import largest
from gradwitness.judging.custom.lie_groups import conventions
from gradwitness.judging.custom.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.judging.comparing.records import Records
    from gradwitness.judging.custom.lie_groups import Retract
    from gradwitness.tape import Node, NodeRun, Tape


def along_groups(
    tape: Tape,
    records: Records,
    run: tuple[Node, NodeRun, int],
    sent: list[int],
    retracts: tuple[Retract | None, Retract | None],
    against: Callable[[Any, float], Comparison],
) -> Outcome | None:
    """Judge what a custom function sent to an operand as a gradient along a group, by the rules.

    Parameters
    ----------
    tape : Tape
    records : Records
    run : tuple
        The node, its run, and the input that stands for the operand.
    sent : list of int
        All that was sent to it.
    retracts : tuple of (callable or None)
        What was declared to move the operand, and the results.
    against : callable
        Compares what was sent with an expected gradient, and with what is allowed beyond its bound.

    Returns
    -------
    Outcome or None
        By the convention that explains it best; None if there is none, or no rule.
    """
    node, node_run, input_nr = run
    outcomes = []
    try:
        operand = edge_value(tape, node.edges[input_nr], node)
        if operand is None or not sent:
            return None
        pairs = [
            None if g is None or y is None else (records(y), records(g))
            for y, g in zip(node.outputs, node_run.incoming, strict=False)
        ]
        at, total = records(operand), np.sum([records(n) for n in sent], axis=0)
        numbers = [operand, *sent, *node_run.incoming]
        unit = unit_roundoff(records.coarsest(numbers))
        inner = [n for call in node.inner for n in tape.calls[call].outputs]
        arithmetic = Arithmetic.stepwise(records.coarsest([*numbers, *inner]))
        others = [
            (records(value), records(g))
            for edge, g in zip(node.edges, node_run.outgoing, strict=False)
            if g is not None and (value := edge_value(tape, edge, node)) not in (None, operand)
        ]
        for convention in conventions((at, total), pairs, unit, retracts, others):
            incoming: list[Any] = [
                None if n is None else records.exact(n, arithmetic) for n in node_run.incoming
            ]
            for output_nr, chart in convention.results.items():
                incoming[output_nr] = chart.to_numbers(incoming[output_nr])
            expected = gradients(tape, node, incoming, records, arithmetic)[input_nr]
            if expected is None:
                continue
            if convention.operand is not None:
                expected = convention.operand.to_tangent(expected)
            kinds = convention.kinds
            beside = convention.beside * largest(expected.value)
            outcomes.append(Outcome(against(expected, beside), f"normwise, {kinds}", kinds))
    except Unjudgeable:
        pass  # The slopes may know.
    return min(outcomes, key=_far, default=None)


def _far(outcome: Outcome) -> tuple[int, float]:
    comparison = outcome.comparison
    return comparison.verdict.severity, comparison.relative_error
