"""Targets of losses through which gradients flow, as they do not through data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness._printable import listed
from gradwitness.engine.custom_forwards import storages
from gradwitness.judging.comparing.records import largest
from gradwitness.judging.graph_queries import leaves_behind
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.judging.pathology.policies import chosen_by
from gradwitness.judging.pathology.sight import LOSSES
from gradwitness.judging.sight import SIGNS, is_sized, is_summed, made, needed, takers
from gradwitness.tape import Ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradwitness.judging.comparing.records import Records
    from gradwitness.tape import Call, Edge, Tape

# Discounts are not far from 1; the mean of two is no discount.
_SHARE = 0.8
# What `kl_div` makes of targets, and of their logarithms.
_DIVERGENCES = (
    ("aten.sub", "aten.xlogy", "aten.mul"),
    ("aten.mul", "aten.exp", "aten.sub"),
)
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

_ADVANTAGE = (
    "{} weighs logarithms of probabilities by data less what parameters computed, and gradients "
    "flow through that weight, too ({}): what estimates the data learns to make this loss small. "
    ".detach() the weight."
)
# What an advantage goes through before it weighs, its normalisation included.
_WEIGHS = ("aten.neg", "aten.div", "aten._to_copy")


class Targets(Detector):
    """Looks at what the target of a loss is made of, if the loss sends it a gradient.

    Both sides of a loss may learn. Noted is a target that is a tensor of data; one that is data
    plus a share of what the prediction's own parameters computed, as in temporal differences; and
    one of another network for the same input, which learns from nothing else. Both kinds of loss
    may be written out: squares of such differences, and what `kl_div` is made of. An
    advantage that weighs a policy's logarithms is a target, too.
    """

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        tape = judged.tape
        graph = _Graph(tape, self.records)
        notes: dict[str, Note] = {}
        for call in tape.calls:
            why = graph.why(call)
            if why:
                note = Note("target requires grad", why, call.source, call.id, call.node)
                notes.setdefault(call.source.line, note)
        return list(notes.values())


class _Sides(NamedTuple):
    """Prediction and target, and the edges to what made them."""

    prediction: int
    target: int
    learning: list[Edge]
    own: list[Edge]


def _sides(prediction: int, target: int, edges: Sequence[Edge | None]) -> _Sides:
    learning, own = ([e for e in part if e is not None] for part in (edges[:1], edges[1:]))
    return _Sides(prediction, target, learning, own)


class _Graph:
    """Who made each value, and what gradients reach."""

    def __init__(self, tape: Tape, records: Records) -> None:
        self._tape = tape
        self._records = records
        self._takers = takers(tape)
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
        root = next((edge for edge, ran in self._roots if call.node in ran), None)
        if root is not None and call.base_op == "aten.mul" and self._weighs_logarithms(call):
            behind = leaves_behind(self._tape, [e.node for e in self._edges(call) if e])
            return _ADVANTAGE.format(f"{call.op} (call {call.id})", self._names(behind))
        sides = None if root is None else self._sides(call)
        if root is None or sides is None or not (sides.learning and sides.own):
            return ""
        number, title = sides.target, f"the target of {call.op} (call {call.id})"
        if number in self._leaves:
            return "" if self._is_learned(number) else f"{title}, {self._names({number})}, {_DATA}"
        prediction, own = (
            leaves_behind(self._tape, [e.node for e in edges])
            for edges in (sides.learning, sides.own)
        )
        if not prediction.isdisjoint(own):
            names = self._names(prediction & own)
            return _BOOTSTRAPPED.format(title, names) if self._is_bootstrapped(number) else ""
        inputs = needed(self._tape, {sides.prediction}) & needed(self._tape, {number})
        shared = any(self._tape.values[n].shape for n in inputs - self._leaves)
        alone = own.isdisjoint(leaves_behind(self._tape, [root.node], without=sides.own))
        return _TEACHER.format(title, self._names(own)) if shared and alone else ""

    def _weighs_logarithms(self, call: Call) -> bool:
        """Whether a loss sums up logarithms of probabilities times data less what is learned."""
        if not all(self._edges(call)) or len(call.operands) != 2:
            return False
        found = any(self._weighs(*pair) for pair in (call.operands, call.operands[::-1]))
        return found and is_summed(
            self._tape, call, self._takers, self._tape.values[made(call).pop()].shape
        )

    def _weighs(self, chosen: int, weight: int) -> bool:
        """Whether a value is a logarithm of probabilities, and another one an advantage.

        A weight that is made of the same probabilities is part of the loss, as a focal loss has it.
        """
        own = chosen_by(self._tape, self._makers, chosen)
        if not own or not self._is_advantage(weight):
            return False
        return own.isdisjoint(needed(self._tape, {weight}))

    def _is_advantage(self, number: int) -> bool:
        """Whether a value is a sum in which data and what is taken from it are terms."""
        waiting, subtracted, data = {number: None}, False, False
        while waiting:
            one, _ = waiting.popitem()
            call = self._makers.get(one)
            if self._is_data(one):
                data |= not self._is_one(one)
            elif call is not None and (call.is_view or call.base_op in _WEIGHS):
                waiting[call.operands[0]] = None
            elif call is not None and call.base_op in SIGNS:
                subtracted |= call.base_op == "aten.sub"
                waiting |= dict.fromkeys(call.operands)
        return subtracted and data

    def _is_one(self, number: int) -> bool:
        """Whether a value is ones, from which a share of all is taken: no return of a game."""
        try:
            return bool(np.all(self._records(number) == 1))
        except Unjudgeable:
            return True

    def _sides(self, call: Call) -> _Sides | None:
        """Return both sides of a loss, or of what one is made of."""
        edges, operands = self._edges(call), call.operands
        if call.base_op in LOSSES:
            target = call.arguments.get("target")
            return _sides(operands[0], target.value, edges[:2]) if isinstance(target, Ref) else None
        if len(edges) != 2 or len(operands) != 2:
            return None
        if call.base_op == "aten.sub" and is_sized(self._tape, call, self._takers):
            for k in (1, 0):
                if self._is_bootstrapped(operands[k], discounted=True):
                    return _sides(operands[1 - k], operands[k], [edges[1 - k], edges[k]])
        # kl_div is t log t - t x, or exp(t) (t - x).
        first, second = (self._makers.get(n) for n in operands)
        if first is None or second is None:
            return None
        names = (call.base_op, first.base_op, second.base_op)
        if names not in _DIVERGENCES or {*first.operands} != {*second.operands[:1]}:
            return None
        own = [*self._edges(first), *self._edges(second)]
        return _sides(second.operands[1], first.operands[0], [own.pop(), *own])

    def _edges(self, call: Call) -> list[Edge | None]:
        return [] if call.node is None else [*self._tape.nodes[call.node].edges]

    def _names(self, leaves: set[int]) -> str:
        values = [self._tape.values[n] for n in sorted(leaves)]
        return listed([value.name or f"value {value.id}" for value in values])

    def _is_learned(self, number: int) -> bool:
        layout = self._tape.values[number].layout
        written = layout is not None and layout.storage in self._written
        return written or number in self._tape.parameters

    def _is_bootstrapped(self, number: int, *, discounted: bool = False) -> bool:
        """Whether a value is a tensor of data, plus or minus something else, or a share of it."""
        call = self._makers.get(number)
        while call is not None and (call.is_view or call.base_op == "aten._to_copy"):
            call = self._makers.get(call.operands[0])
        if call is None or call.base_op not in SIGNS:
            return False
        if not any(self._is_data(n) for n in call.operands):
            return False
        others = [n for n in call.operands if not self._is_data(n)]
        return not discounted or any(_SHARE <= self._share(n) < 1 for n in others)

    def _share(self, number: int) -> float:
        """Return by what numbers of no parameter a value was multiplied, at most."""
        call = self._makers.get(number)
        while call is not None and call.is_view:
            call = self._makers.get(call.operands[0])
        if call is None or call.base_op != "aten.mul" or len(call.operands) != 2:
            return 1.0
        learned = [n for n in call.operands if not needed(self._tape, {n}).isdisjoint(self._leaves)]
        fixed = [n for n in call.operands if n not in learned]
        try:
            return math.prod(largest(self._records(n)) for n in fixed) * self._share(learned[0])
        except Unjudgeable:
            return 1.0

    def _is_data(self, number: int) -> bool:
        """Whether a value is made of no parameter, and is no number alone."""
        behind = needed(self._tape, {number})
        return bool(self._tape.values[number].shape) and behind.isdisjoint(self._leaves)
