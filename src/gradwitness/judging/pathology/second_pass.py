"""Backward passes of custom functions that are differentiated again, and use constants for numbers.

What a forward computed in between has no gradient, nor has what a backward detached: a second pass
lacks the part that goes through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.engine.floats import is_inexact
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.judging.sight import made
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.tape import Call, Edge, NodeRun, Sweep, Tape

KIND = "second derivative cut off"
# Constant in pieces, or taken off again where it shifts.
_FLAT = frozenset(
    f"aten.{name}" for name in ("floor", "ceil", "round", "trunc", "sign", "sgn", "amax", "max")
)
_DETACH = "aten.detach"


class SecondPass(Detector):
    """Looks for such numbers in the backward passes that a later pass went through."""

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        # Each training step has new nodes: a function is known by its name and line.
        notes: dict[tuple[str, str], Note] = {}
        for number, sweep in enumerate(tape.sweeps):
            for run in sweep.node_runs:
                node = tape.nodes[run.node]
                if node.kind != Kind.CUSTOM:
                    continue
                for call in _cut_off(tape, sweep, run):
                    text = (
                        f"the backward of {node.name} #{node.id} was differentiated again, but "
                        f"{call.op} (call {call.id}) takes numbers that its forward computed in "
                        "between, or that it detached. They are constants for the second pass, "
                        "which lacks the part through them: compute them in backward, from what "
                        "forward was given and returned."
                    )
                    note = Note(KIND, text, call.source, call.id, node.id, number)
                    notes.setdefault((node.name, call.source.line), note)
        return list(notes.values())


def _cut_off(tape: Tape, sweep: Sweep, run: NodeRun) -> Iterator[Call]:
    """Yield the calls of one run that take such numbers, and that a later pass went through."""
    later = {r.node for s in tape.sweeps if s.after >= run.after for r in s.node_runs}
    calls = [c for c in tape.calls[sweep.after : run.after] if c.during == run.node]
    if later.isdisjoint(call.node for call in calls):
        return
    node = tape.nodes[run.node]
    given = {n for edge in node.edges if edge is not None for n in _stands_for(tape, edge)}
    inner = [tape.calls[number] for number in node.inner]
    # Torch itself detaches a result to save it.
    results = _made_of({*node.outputs}, [c for c in tape.calls if c.base_op == _DETACH], tape)
    constants = _made_of(given, inner, tape) - given - results
    known = {*given, *constants, *run.incoming}
    for call in calls:
        if call.base_op == _DETACH and not known.isdisjoint(call.operands):
            constants |= made(call)
        elif call.node is None:
            constants |= _made_of(constants, [call], tape)
        elif call.node in later and not constants.isdisjoint(_untracked(tape, call)):
            yield call


def _untracked(tape: Tape, call: Call) -> set[int]:
    """Return the operands to which the node that a call left behind sends no gradient.

    What torch detached to keep it, it hands out again as what it was.
    """
    edges = tape.nodes[-1 if call.node is None else call.node].edges
    if len(edges) != len(call.operands):
        return {*call.operands} if None in edges else set()
    return {n for n, edge in zip(call.operands, edges, strict=True) if edge is None}


def _stands_for(tape: Tape, edge: Edge) -> tuple[int | None, ...]:
    """Return the value whose gradient an edge takes."""
    node = tape.nodes[edge.node]
    return (node.leaf,) if node.leaf is not None else node.outputs[edge.index : edge.index + 1]


def _made_of(sources: set[int | None], calls: list[Call], tape: Tape) -> set[int | None]:
    """Return some numbers, with those that calls made of them."""
    reached = sources - {None}
    for call in calls:
        if call.base_op not in _FLAT and not reached.isdisjoint(call.operands):
            reached |= {n for n in made(call) if is_inexact(tape.values[n].dtype)}
    return reached
