"""What the last step that computes said of a gradient on its way to where it is given out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from gradwitness.judging.comparing.comparison import ALL_ZERO, CANCELS, COARSE, TOO_LITTLE
from gradwitness.judging.finding import Step
from gradwitness.judging.looks.moved import MOVES
from gradwitness.rules import find
from gradwitness.tape import Kind
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.comparing.comparison import Comparison
    from gradwitness.tape import Call, Edge, Node, NodeRun, Tape, Value


# (An enumeration's members are looked up at a function's pace.)
_AGREES, _DISAGREES, _INCONCLUSIVE = Verdict.AGREES, Verdict.DISAGREES, Verdict.INCONCLUSIVE
_FAN_IN, _ACCUMULATE = Step.FAN_IN, Step.ACCUMULATE


class _Way(NamedTuple):
    """How what a step said of a gradient was handed on: by which node, from which of its inputs."""

    node: Node
    call: Call
    node_run: NodeRun
    output_nr: int
    input_nr: int
    sent: Comparison


class Last:
    """The last comparisons of gradients on their way to the inputs of nodes.

    A doubt is that of the step which it is about: what could not be judged counts as recorded.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._at: dict[tuple[int, int], Comparison] = {}
        # Of those that were handed on, by place.
        self._ways: dict[tuple[int, int], _Way] = {}

    def add(self, step: Step, at: tuple[int, int], comparison: Comparison) -> None:
        """Remember what a step said of a gradient on its way."""
        if step is _ACCUMULATE:
            return
        before = self._at.get(at)
        if before is not None and before.verdict is _DISAGREES:
            # What is wrong in a part is wrong in the sum.
            return
        if comparison.reason:
            comparison = _plainly(step, comparison)
        self._ways.pop(at, None)
        if comparison.verdict is not _INCONCLUSIVE:
            self._at[at] = comparison
        else:
            self._at.pop(at, None)

    def forget(self, place: Edge | None) -> None:
        """Take a gradient that was sent somewhere as recorded."""
        if place is not None:
            self._at.pop((place.node, place.index), None)
            self._ways.pop((place.node, place.index), None)

    def hand_on(
        self, node: Node, call: Call | None, node_run: NodeRun, sent: dict[int, Comparison]
    ) -> None:
        """Remember of what a node only moved, by input, what the steps before it said."""
        if call is None or not self._moves(call):
            return
        arrived = {
            output_nr: self._at[node.id, output_nr]
            for output_nr, number in enumerate(node_run.incoming)
            if number is not None and (node.id, output_nr) in self._at
        }
        if not arrived:
            return
        # Of several parts one speaks for all: what is wrong or, failing that, least known.
        output_nr, said = max(
            arrived.items(),
            key=lambda part: (part[1].verdict is _DISAGREES, part[1].detects),
        )
        for input_nr, comparison in sent.items():
            edge = node.edges[input_nr]
            if edge is not None and comparison.bound == 0 == comparison.error:
                way = _Way(node, call, node_run, output_nr, input_nr, comparison)
                self._at[edge.node, edge.index], self._ways[edge.node, edge.index] = said, way

    @staticmethod
    def _moves(call: Call) -> bool:
        """Whether a call, and so its node, may move numbers and no more."""
        if call.is_view or call.base_op in MOVES:
            return True
        rule = find(call.base_op)
        return rule is not None and rule.moves

    def at(self, place: tuple[int, int]) -> Comparison | None:
        """Return the last comparison of a gradient."""
        said, ways = self._at.get(place), []
        while (way := self._ways.get(place)) is not None:
            ways.append(way)
            place = way.node.id, way.output_nr
        if said is None or not ways:
            return said
        index = said.index
        for way in reversed(ways):
            index = None if index is None else self._moved(way, index)
        return replace(said, index=index, size=ways[0].sent.size, norm=ways[0].sent.norm)

    def _moved(self, way: _Way, index: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return where a number that arrived lies in what was sent; None if not known."""
        call, node_run = way.call, way.node_run
        if way.node.kind != Kind.OPERATION:
            return None
        numbers = node_run.incoming[way.output_nr], node_run.outgoing[way.input_nr]
        if call.is_view:
            # As the view's numbers lie in its operand.
            numbers = dict(enumerate(call.outputs)).get(way.output_nr), call.operands[0]
        one, other = (None if n is None else self._tape.values[n] for n in numbers)
        if one is None or other is None:
            return None
        if call.base_op in MOVES and not call.is_view and one.shape == other.shape:
            # A copy, wherever it lies.
            return index
        return moved_index(one, index, other)


def _plainly(step: Step, comparison: Comparison) -> Comparison:
    """Return what a comparison says of a gradient on its way, where it is no mere agreement."""
    if step is _FAN_IN and comparison.reason == CANCELS:
        # That two terms cancel says nothing of what either has lost before.
        return replace(comparison, reason="")
    if comparison.reason in (TOO_LITTLE, COARSE, ALL_ZERO):
        # Within its bound, though that is wide: where terms cancel, as zero is.
        reason = CANCELS if comparison.reason == TOO_LITTLE else ""
        return replace(comparison, verdict=_AGREES, reason=reason)
    return comparison


def moved_index(source: Value, index: tuple[int, ...], target: Value) -> tuple[int, ...] | None:
    """Return the index in one value of a number of another that lies in the same memory."""
    one, other = source.layout, target.layout
    if one is None or other is None or (one.storage, source.dtype) != (other.storage, target.dtype):
        return None
    offset = one.offset - other.offset
    offset += sum(i * step for i, step in zip(index, one.strides, strict=True))
    found = [0] * len(target.shape)
    for axis in sorted(range(len(found)), key=lambda k: -other.strides[k]):
        if target.shape[axis] > 1 and other.strides[axis] > 0:
            found[axis], offset = divmod(offset, other.strides[axis])
    inside = all(0 <= i < n for i, n in zip(found, target.shape, strict=True))
    return tuple(found) if inside and offset == 0 else None
