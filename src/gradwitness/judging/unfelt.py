"""Wrong steps that no gradient feels: their error reaches no leaf, or is multiplied by zeros.

A function that writes into scratch memory may send it anything, if nobody asks for the gradient of
that memory. Such a step is wrong, and the gradients that the user receives are right.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients
from gradwitness.engine.binding import recorded
from gradwitness.engine.floats import is_inexact, unit_roundoff
from gradwitness.engine.replay import Steps, backward_pass
from gradwitness.judging.accused import ALONG
from gradwitness.judging.finding import Finding, Step
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import listed
from gradwitness.tape import Kind
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from gradwitness.engine.binding import Lookup
    from gradwitness.tape import Node, Tape

UNFELT = "wrong, but no gradient that was asked for depends on it"
# What is left where numbers cancel: so many roundings of the gradient, and so small a part of what
# another error of the same size would leave.
_ROUNDINGS = 64
_CANCELLED = 2.0**-14
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
            # Nothing of the change that is followed is known beyond it.
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
    wrong = [
        f
        for f in findings
        if f.step is Step.BACKWARD and (f.verdict is Verdict.DISAGREES or f.grade.startswith(ALONG))
    ]
    unfelt = {id(f): f for f in wrong[:_MOST] if not _is_felt(tape, f, trusted)}
    agreed = {"verdict": Verdict.AGREES, "reason": UNFELT, "refuted": 0, "probable_ratio": 0.0}
    kept = [
        replace(f, comparison=replace(f.comparison, **agreed)) if id(f) in unfelt else f
        for f in findings
    ]
    noted = [f for f in unfelt.values() if f.verdict is Verdict.DISAGREES]
    return kept, [_note(noted)] if noted else []


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
    numbers = _asked(tape, finding.sweep)

    def reaches(change: NDArray[Any]) -> float:
        sent = [change if k == finding.tensor_nr else None for k in range(len(node.edges))]
        instead = {node.id: lambda _: sent}
        arriving, unknown = backward_pass(tape, finding.sweep or 0, {}, instead, Trusting(trusted))
        if unknown:
            return math.inf
        return max((_size(tape, arriving[n], g) for n, g in numbers if n in arriving), default=0.0)

    felt = reaches(error)
    if 0 < felt <= _ROUNDINGS:
        # Numbers that cancel leave their rounding; an error as small as that leaves itself.
        signs = np.random.default_rng(0).choice([-1.0, 1.0], error.shape)
        felt = 0.0 if felt <= _CANCELLED * reaches(np.sqrt(np.mean(error**2)) * signs) else felt
    return felt > 0


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


def _asked(tape: Tape, sweep: int) -> list[tuple[tuple[int, int], int | None]]:
    """Return where a pass gave a gradient to the program, and which."""
    found: list[tuple[tuple[int, int], int | None]] = [
        ((node_run.node, 0), node_run.incoming[0])
        for node_run in tape.sweeps[sweep].node_runs
        if tape.nodes[node_run.node].kind == Kind.ACCUMULATE
    ]
    captured = tape.sweeps[sweep].captured
    return [*found, *(((edge.node, edge.index), number) for edge, number in captured)]


def _size(tape: Tape, change: NDArray[Any], number: int | None) -> float:
    """Return the size of a gradient's change, in roundings of its largest number."""
    largest = float(np.max(np.abs(change), initial=0.0))
    if not largest or number is None or not is_inexact(tape.values[number].dtype):
        return math.inf if largest else 0.0
    try:
        size = float(np.max(np.abs(recorded(tape)(number)), initial=0.0))
    except Unjudgeable:
        return math.inf
    return largest / (unit_roundoff(tape.values[number].dtype) * size) if size else math.inf
