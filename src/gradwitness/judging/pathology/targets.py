"""Targets of losses through which gradients flow, as they do not through data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness._printable import listed
from gradwitness.engine.custom_forwards import storages
from gradwitness.judging.graph_queries import leaves_behind
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.judging.pathology.sight import LOSSES
from gradwitness.judging.sight import made, needed
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from gradwitness.tape import Call, Tape

_DATA = (
    "is a tensor of data that requires grad: a gradient is computed for it, and whatever uses it "
    "next has a graph. Leave requires_grad off, or .detach() it."
)
_BOOTSTRAPPED = (
    "{} is made of data and of what the prediction's own parameters computed ({}), and gradients "
    "flow through it, too: they pull the target towards the prediction. Compute it under "
    "torch.no_grad(), or .detach() it."
)
_TEACHER = (
    "{} comes from another network for the same input, and gradients flow through it: {} learn "
    "from nothing but being a target. Compute it under torch.no_grad(), or .detach() it."
)


class Targets(Detector):
    """Looks at what the target of a loss is made of, if the loss sends it a gradient.

    Both sides of a loss may learn. Noted is a target that is a tensor of data; one that is data
    plus a share of what the prediction's own parameters computed, as in temporal differences; and
    one of another network for the same input, which learns from nothing else.
    """

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        graph = _Graph(tape)
        notes: dict[str, Note] = {}
        for call in tape.calls:
            why = graph.why(call) if call.base_op in LOSSES else ""
            if why:
                note = Note("target requires grad", why, call.source, call.id, call.node)
                notes.setdefault(call.source.line, note)
        return list(notes.values())


class _Graph:
    """Who made each value, and what gradients reach."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._makers = {n: call for call in tape.calls for n in made(call)}
        self._roots = [
            (sweep.roots[0][0], {run.node for run in sweep.node_runs})
            for sweep in tape.sweeps
            if len(sweep.roots) == 1
        ]
        self._leaves = {value.id for _, value in tape.leaves()}
        written = {n for call in tape.calls if call.writes for n in call.outputs if n is not None}
        self._written = storages(tape, written)

    def why(self, call: Call) -> str:
        """Return what is wrong with the target of a loss; empty for nothing."""
        target, node = call.arguments.get("target"), call.node
        root = next((edge for edge, ran in self._roots if node in ran), None)
        sides = () if node is None else self._tape.nodes[node].edges[:2]
        if root is None or not isinstance(target, Ref) or len(sides) != 2 or not all(sides):
            return ""
        number, title = target.value, f"the target of {call.op} (call {call.id})"
        if number in self._leaves:
            return "" if self._is_learned(number) else f"{title}, {self._names({number})}, {_DATA}"
        prediction, own = (leaves_behind(self._tape, [edge.node]) for edge in sides if edge)
        if not prediction.isdisjoint(own):
            names = self._names(prediction & own)
            return _BOOTSTRAPPED.format(title, names) if self._is_bootstrapped(number) else ""
        inputs = needed(self._tape, {call.operands[0]}) & needed(self._tape, {number})
        shared = any(self._tape.values[n].shape for n in inputs - self._leaves)
        alone = own.isdisjoint(leaves_behind(self._tape, [root.node], without=sides[1]))
        return _TEACHER.format(title, self._names(own)) if shared and alone else ""

    def _names(self, leaves: set[int]) -> str:
        values = [self._tape.values[n] for n in sorted(leaves)]
        return listed([value.name or f"value {value.id}" for value in values])

    def _is_learned(self, number: int) -> bool:
        layout = self._tape.values[number].layout
        written = layout is not None and layout.storage in self._written
        return written or number in self._tape.parameters

    def _is_bootstrapped(self, number: int) -> bool:
        """Whether a value is a tensor of data, plus or minus something else."""
        call = self._makers.get(number)
        while call is not None and (call.is_view or call.base_op == "aten._to_copy"):
            call = self._makers.get(call.operands[0])
        if call is None or call.base_op not in ("aten.add", "aten.sub"):
            return False
        return any(self._is_data(n) for n in call.operands)

    def _is_data(self, number: int) -> bool:
        """Whether a value is made of no parameter, and is no number alone."""
        behind = needed(self._tape, {number})
        return bool(self._tape.values[number].shape) and behind.isdisjoint(self._leaves)
