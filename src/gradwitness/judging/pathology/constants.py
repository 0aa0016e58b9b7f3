"""Gradients that `autograd.grad` returned without a graph, and that a loss then took for numbers.

Many programs want that: adversarial examples, first-order meta-learning, weights of losses. There
the gradient moves what it is the gradient of, goes through the network again, or multiplies. Noted
is one that is added to, or compared with, numbers of the parameters that it depends on itself: a
penalty, a residual. So is one that has a graph of its own for nothing: it was detached on its way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.judging.graph_queries import leaves_behind
from gradwitness.judging.note import Note, place
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.judging.sight import leaves, made
from gradwitness.tape import Kind, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.tape import Call, Sweep, Tape

_WITHOUT = (
    "autograd.grad without create_graph=True returns numbers without a graph, but {} them with the "
    "loss, where they are constants: no parameter learns from this term. Say create_graph=True, or "
    ".detach() if it is meant."
)
_DETACHED = (
    "create_graph=True made a graph of the gradient, but no backward pass goes through it: {} its "
    "numbers with the loss after detach(), .data or no_grad, where they are constants: no "
    "parameter learns from this term. Take that out, or create_graph=True if it is meant."
)
_ADDS = frozenset(f"aten.{n}" for n in ("add", "huber_loss", "mse_loss", "smooth_l1_loss", "sub"))


class Constants(Detector):
    """Follows the gradients that a pass returned into the losses of later passes."""

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        graph = _Graph(tape)
        notes: dict[str, Note] = {}
        for number, sweep in enumerate(tape.sweeps[:-1]):
            if not sweep.captured:
                continue
            later = tape.sweeps[number + 1 :]
            ran = {run.node for one in later for run in one.node_runs}
            created = _is_seen(tape, sweep)
            if created and not _is_unused(_own(tape, number), sweep, ran):
                continue
            call = _Flow(graph, sweep, ran, detached=created).joined()
            if call is not None:
                joins = f"{call.op} (call {call.id}) at {place(call.source)} joins"
                text = (_DETACHED if created else _WITHOUT).format(joins)
                source = Source(call.source.module, _line(tape, sweep) or call.source.line)
                notes.setdefault(
                    source.line, Note("gradient without a graph", text, source, call.id, call.node)
                )
        return list(notes.values())


def _is_seen(tape: Tape, sweep: Sweep) -> bool:
    """Whether each operation of a pass was seen, as where it makes a graph of itself."""
    kinds = [(tape.nodes[run.node].kind, run.seen) for run in sweep.node_runs]
    return all(seen for kind, seen in kinds if kind == Kind.OPERATION)


def _is_unused(calls: Sequence[Call], sweep: Sweep, ran: set[int]) -> bool:
    """Whether a pass made a graph of what it returned, and no later pass goes through it."""
    captured = {n for _, n in sweep.captured if n is not None}
    made_here = [call for call in calls if call.during is not None]
    # Backward steps leave calls where they make a graph; what checkpoints compute is no gradient.
    graph = any(not captured.isdisjoint(made(call)) for call in made_here)
    return graph and not any(call.node in ran for call in made_here)


def _own(tape: Tape, number: int) -> Sequence[Call]:
    """Return the calls from the begin of a pass to that of the next one."""
    after = [sweep.after for sweep in tape.sweeps[number : number + 2]]
    return tape.calls[after[0] : after[1]]


def _line(tape: Tape, sweep: Sweep) -> str:
    """Return where the program began a pass: autograd makes the ones that it begins with there."""
    roots = {tape.nodes[edge.node].outputs[edge.index] for edge, _ in sweep.roots}
    for call in tape.calls[max(0, sweep.after - 1) : sweep.after + 1]:
        if call.base_op == "aten.ones_like" and not roots.isdisjoint(call.operands):
            return call.source.line
    return ""


class _Graph:
    """What autograd knows of each value: the node that made it, and the leaves behind that."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.nodes = {n: node.id for node in tape.nodes for n in node.outputs if n is not None}
        self.leaves = {value.id for _, value in tape.leaves()}


class _Flow:
    """The gradients that one pass returned, on their way through later calls."""

    def __init__(self, graph: _Graph, sweep: Sweep, ran: set[int], *, detached: bool) -> None:
        self._graph = graph
        # Whether detaching is what is looked for, not what says that it is meant.
        self._detached = detached
        self._ran = ran
        self._calls = graph.tape.calls[sweep.after :]
        nodes = graph.tape.nodes
        inputs = {nodes[edge.node].outputs[edge.index] for edge, _ in sweep.captured}
        self._inputs = {n for n in inputs if n is not None}
        # Of parameters, only a penalty on their size is meant to have a graph.
        self._scalars_only = not self._inputs.isdisjoint(graph.tape.parameters)
        self._shared = leaves_behind(graph.tape, (edge.node for edge, _ in sweep.roots))
        self._shared -= set() if self._scalars_only else self._inputs
        # Made of the gradients alone, or with what autograd sees, or by going through layers.
        self._plain = {n for _, n in sweep.captured if n is not None}
        self._mixed: set[int] = set()
        self._through: set[int] = set()
        self._leaves = self._inputs | graph.leaves

    def joined(self) -> Call | None:
        """Return the first call that joins them with what their own parameters made."""
        for call in self._calls:
            if call.during is not None:
                continue
            operands, outputs = {*call.operands}, made(call)
            if (call.is_view or call.base_op == "aten._to_copy") and operands <= self._leaves:
                self._leaves |= outputs
            elif not operands.isdisjoint(self._through):
                self._through |= outputs
            elif operands.isdisjoint(self._plain | self._mixed) or (
                leaves(call) and not self._detached
            ):
                continue
            elif not operands.isdisjoint(self._leaves):
                self._through |= outputs
            elif call.node not in self._ran:
                self._plain |= outputs
            elif self._joins(call, operands):
                return call
            else:
                self._mixed |= outputs
        return None

    def _joins(self, call: Call, operands: set[int]) -> bool:
        others = [self._graph.nodes[n] for n in operands - self._plain if n in self._graph.nodes]
        if call.base_op not in _ADDS or operands.isdisjoint(self._plain) or not others:
            return False
        if self._scalars_only and any(self._graph.tape.values[n].shape for n in operands):
            return False
        return not self._shared.isdisjoint(leaves_behind(self._graph.tape, others))
