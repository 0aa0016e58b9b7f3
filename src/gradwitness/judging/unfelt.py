"""Wrong steps that no gradient feels: their error reaches no leaf, or is multiplied by zeros.

A function that writes into scratch memory may send it anything, if nobody asks for the gradient of
that memory. Such a step is wrong, and the gradients that the user receives are right.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients
from gradwitness.engine.binding import recorded
from gradwitness.engine.floats import is_inexact, unit_roundoff
from gradwitness.engine.replay import Steps, backward_pass
from gradwitness.judging.finding import Finding, Step
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import listed
from gradwitness.tape import Kind
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from gradwitness.engine.binding import Lookup
    from gradwitness.tape import Node, Tape

UNFELT = "wrong, but no gradient that was asked for depends on it"
# What is left where float64 numbers cancel, relative to the gradient that they belong to.
_CANCELLED = 2.0**-44
# A pass is run for each wrong step: beyond so many, the rest counts as felt.
_MOST = 64


class Trusting(Steps):
    """The steps of a replay that takes what some nodes sent as recorded."""

    def __init__(self, nodes: Collection[int | None]) -> None:
        self._nodes = nodes

    def backward(
        self, tape: Tape, node: Node, incoming: list[Any], lookup: Lookup
    ) -> tuple[Any, ...]:
        """Compute the gradients that a node sends."""
        if node.id in self._nodes:
            raise Unjudgeable(f"the gradient of {node.name} is judged by slopes")
        return super().backward(tape, node, incoming, lookup)


def without_unfelt(
    tape: Tape, findings: Sequence[Finding], trusted: Collection[int | None]
) -> tuple[list[Finding], list[Note]]:
    """Return findings in which a wrong step that no gradient feels agrees, and a note about them.

    Parameters
    ----------
    tape : Tape
    findings : sequence of Finding
    trusted : collection of int
        Nodes whose recorded forward does not show what they send.
    """
    wrong = [f for f in findings if f.verdict is Verdict.DISAGREES and f.step is Step.BACKWARD]
    unfelt = {id(f): f for f in wrong[:_MOST] if not _is_felt(tape, f, trusted)}
    agreed = {"verdict": Verdict.AGREES, "reason": UNFELT, "refuted": 0, "probable_ratio": 0.0}
    kept = [
        replace(f, comparison=replace(f.comparison, **agreed)) if id(f) in unfelt else f
        for f in findings
    ]
    return kept, [_note(list(unfelt.values()))] if unfelt else []


def _note(unfelt: list[Finding]) -> Note:
    first = unfelt[0]
    return Note(
        "wrong step without effect",
        f"{listed([f.title for f in unfelt])}: not the derivative of the recorded forward. But the "
        "error reaches no gradient that was asked for, or is multiplied by zeros.",
        source=first.source,
        node=first.node,
        sweep=first.sweep,
    )


def _is_felt(tape: Tape, finding: Finding, trusted: Collection[int | None]) -> bool:
    """Whether the error of a step reaches a gradient that the program asked for."""
    if finding.node is None or finding.sweep is None:
        return True
    node = tape.nodes[finding.node]
    try:
        error = _error(tape, finding.sweep, node, finding.tensor_nr)
    except Unjudgeable:
        return True
    if not np.max(np.abs(error), initial=0.0) >= finding.comparison.error / 2:
        # The numbers on the tape have changed since: something other than torch writes to them.
        return True
    sent = [error if k == finding.tensor_nr else None for k in range(len(node.edges))]
    arriving, unknown = backward_pass(
        tape, finding.sweep, {}, {node.id: lambda _: sent}, Trusting(trusted)
    )
    if unknown:
        return True
    return any(
        _shows(tape, arriving[input_nr], number)
        for input_nr, number in _asked(tape, finding.sweep)
        if input_nr in arriving
    )


def _error(tape: Tape, sweep: int, node: Node, input_nr: int) -> NDArray[Any]:
    """Return by how much a node sent too much to one of its inputs."""
    lookup = recorded(tape)
    node_run = next(run for run in tape.sweeps[sweep].node_runs if run.node == node.id)
    incoming = [None if n is None else lookup(n) for n in node_run.incoming]
    expected = gradients(tape, node, incoming, lookup, None)[input_nr]
    number = node_run.outgoing[input_nr] if input_nr < len(node_run.outgoing) else None
    sent = 0.0 if number is None else lookup(number)
    with np.errstate(invalid="ignore"):
        error = np.asarray(sent - (0.0 if expected is None else expected))
    if not np.isfinite(error).all() or node.edges.count(node.edges[input_nr]) > 1:
        raise Unjudgeable("not finite, or only part of a sum")
    return error


def _asked(tape: Tape, sweep: int) -> Iterator[tuple[tuple[int, int], int | None]]:
    """Yield where a pass gave a gradient to the program, and which."""
    for node_run in tape.sweeps[sweep].node_runs:
        if tape.nodes[node_run.node].kind == Kind.ACCUMULATE:
            yield (node_run.node, 0), node_run.incoming[0]
    for edge, number in tape.sweeps[sweep].captured:
        yield (edge.node, edge.index), number


def _shows(tape: Tape, change: NDArray[Any], number: int | None) -> bool:
    """Whether a change of a gradient is more than its format could hold."""
    if number is None or not is_inexact(tape.values[number].dtype):
        return bool(np.any(change))
    try:
        size = np.abs(recorded(tape)(number))
    except Unjudgeable:
        return bool(np.any(change))
    allowed = unit_roundoff(tape.values[number].dtype) * size
    allowed = allowed + _CANCELLED * float(np.max(size, initial=0.0))
    return not bool(np.all(np.abs(change) <= allowed))
