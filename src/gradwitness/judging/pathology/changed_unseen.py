"""Numbers of the graph that were changed in place where autograd did not see it.

``with torch.no_grad(): h.mul_(3)`` and ``h.data.mul_(3)`` change what later operations take, while
their gradient goes on as if the change had added a constant. Of a leaf that is an update.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._printable import listed
from gradwitness.engine.custom_forwards import storages
from gradwitness.engine.floats import is_inexact
from gradwitness.judging.graph_queries import leaves_behind
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.judging.pathology.overwritten import named
from gradwitness.judging.sight import SIGNS, made, needed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.judging.comparing.records import Records
    from gradwitness.tape import Call, Edge, NodeRun, Tape

KIND = "changed out of autograd's sight"
# These pass numbers on as they are; of `copy_` only its source.
_SAME = frozenset(f"aten.{n}" for n in ("_to_copy", "alias", "clone", "copy", "detach"))
# Steps without a slope: a straight-through estimator is meant to go past them.
_STEPS = frozenset(
    f"aten.{name}"
    for name in (
        "bernoulli",
        "ceil",
        "fake_quantize_per_channel_affine_cachemask",
        "fake_quantize_per_tensor_affine_cachemask",
        "floor",
        "heaviside",
        "round",
        "sgn",
        "sign",
        "trunc",
    )
)


class ChangedUnseen(Detector):
    """Looks for operations that took other numbers than those whose gradient they send.

    Silent are changes that cost no gradient: where none arrives (scores masked with -inf), of
    constants that are added, of straight-through estimators, whose steps have no slope, or which
    copy other numbers over. So are parts of a buffer that the program created and fills.
    """

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        graph = _Graph(tape, self.records)
        notes: dict[str, Note] = {}
        for number, sweep in enumerate(tape.sweeps):
            for run in sweep.node_runs:
                for change in graph.changes(run):
                    writer, call = change.writer, tape.calls[change.taker]
                    source = (writer or call).source
                    text = _text(tape, change)
                    note = Note(KIND, text, source, writer.id if writer else None, sweep=number)
                    notes.setdefault(source.line, note)
        return list(notes.values())


class _Change(NamedTuple):
    """An operation's input that was changed unseen: its edge, which call did it, and which took it.

    No call is known to have written what came through memory shared with NumPy.
    """

    edge: Edge
    writer: Call | None
    taker: int


def _text(tape: Tape, change: _Change) -> str:
    leaves = sorted(leaves_behind(tape, [change.edge.node]))
    names = listed(list(dict.fromkeys(tape.values[n].name or f"value {n}" for n in leaves)))
    writer, taker = change.writer, tape.calls[change.taker]
    return (
        f"{names}: part of the gradient is missing. {named(writer)} changed numbers of the "
        f"graph where autograd did not see it; {taker.op} (call {taker.id}) takes the new ones, "
        "and its gradient goes on as if the change had only added constants. Change them with "
        "gradients on, without .data and detach(), unless the gradient is meant to pass it by."
    )


class _Graph:
    """What each operation took, and what autograd has for it."""

    def __init__(self, tape: Tape, records: Records) -> None:
        self._tape = tape
        self._records = records
        self._leaves = {value.id for _, value in tape.leaves()}
        self._own = storages(tape, self._leaves)

    def changes(self, run: NodeRun) -> Iterator[_Change]:
        """Yield what a node took in other numbers than those whose gradients it sends."""
        tape = self._tape
        node = tape.nodes[run.node]
        calls = [tape.calls[n] for n in node.inner or (node.call,) if n is not None]
        taken = [n for call in calls for n in call.operands]
        for position, (edge, arrived) in enumerate(zip(node.edges, run.outgoing, strict=False)):
            outputs = () if edge is None else tape.nodes[edge.node].outputs
            before = outputs[edge.index] if edge and edge.index < len(outputs) else None
            if not calls or edge is None or before is None or arrived is None or before in taken:
                continue
            at = taken[position] if len(taken) == len(node.edges) else None
            after = self._changed(before, taken, at)
            if after is None or not self._costs(before, after, arrived):
                continue
            for writer in self._writer(before, after, calls[0].id):
                yield _Change(edge, writer, calls[0].id)

    def _changed(self, before: int, taken: list[int], at: int | None) -> int | None:
        """Return what stands where a value stood: in its memory, or given to it by ``.data =``."""
        values = self._tape.values
        value = values[before]
        # An update of a leaf goes through all that shows it.
        if before in self._leaves or not self._own.isdisjoint(storages(self._tape, [before])):
            return None
        for number in dict.fromkeys(taken):
            other = values[number]
            there = number == at or (other.layout is not None and other.layout == value.layout)
            if there and (other.shape, other.dtype) == (value.shape, value.dtype):
                return None if number in self._leaves else number
        return None

    def _costs(self, before: int, after: int, arrived: int) -> bool:
        """Whether a gradient arrives at a number that was changed."""
        try:
            one, other, gradient = map(self._records, (before, after, arrived))
        except Unjudgeable:
            return False
        if not one.shape == other.shape == gradient.shape:
            return False
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        return bool(np.any(~same & (gradient != 0)))

    def _writer(self, before: int, after: int, taker: int) -> list[Call | None]:
        """Return the call that changed a value, if a slope is missing; None if it left no call."""
        tape = self._tape
        memory = storages(tape, [before])
        first = next((c for c in tape.calls if memory & storages(tape, made(c))), None)
        if first is None or needed(tape, {*made(first)}).isdisjoint(self._leaves):
            # A buffer that the program made, and fills: what was changed may be of no leaf.
            return []
        makers = [call.id for call in tape.calls[:taker] if before in made(call)]
        since = [c for c in tape.calls[max(makers, default=0) : taker] if before not in made(c)]
        behind = _between(since, before, after)
        if not any(after in made(call) for call in behind):
            return [None] if storages(tape, [after]) == memory else []
        if any(call.base_op in _STEPS for call in behind):
            return []
        reached, learned = {before}, needed(tape, {before}) & self._leaves
        found: list[Call] = []
        for call in behind:
            inputs = _passed_on(call)
            if reached.isdisjoint(inputs):
                continue
            others = needed(tape, {n for n in inputs if n not in reached})
            first_only = inputs[0] in reached and reached.isdisjoint(inputs[1:])
            adds = call.base_op in SIGNS and first_only and others.isdisjoint(learned)
            if not (adds or call.is_view or call.base_op in _SAME):
                found.append(call)
            reached |= {n for n in made(call) if is_inexact(tape.values[n].dtype)}
        if not found or after not in reached:
            return []
        wrote = [call for call in behind if call.writes and call.id >= found[0].id]
        return [*(wrote[:1] or found[-1:])]


def _passed_on(call: Call) -> list[int]:
    """Return the values of which a call makes its result; what is copied over is none."""
    return call.operands[1:] if call.base_op == "aten.copy" and call.base is None else call.operands


def _between(calls: list[Call], before: int, after: int) -> list[Call]:
    """Return the calls that made one value, back to another."""
    wanted = {after}
    found: list[Call] = []
    for call in reversed(calls):
        if not wanted.isdisjoint(made(call)):
            found.append(call)
            wanted.update(n for n in _passed_on(call) if n != before)
    return found[::-1]
