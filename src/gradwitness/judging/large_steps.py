"""Large steps, judged piece by piece (see `engine.tiling`) to save memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import vjp
from gradwitness.engine.binding import unrecorded
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.forward import evaluate
from gradwitness.engine.in_pieces import call_of, gradient_cuts, operand_of
from gradwitness.engine.tiling import cuts, small_step
from gradwitness.judging.compare import Comparing
from gradwitness.judging.piecewise import Pieces
from gradwitness.rules import find
from gradwitness.rules.registry import ADDED, ELEMENTWISE
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    from gradwitness.engine.floats import Arithmetic
    from gradwitness.engine.tiling import Cut, Index, Shape
    from gradwitness.judging.compare import Comparison
    from gradwitness.judging.records import Records
    from gradwitness.tape import Call, Edge, Node, Tape


def results(tape: Tape, call: Call, records: Records) -> list[tuple[int, Comparison]] | None:
    """Compare a large call's results, by output; None if it is small or cannot be cut.

    Raises
    ------
    Unjudgeable
        If there is nothing to compare with, or the rule does not cover this form.
    """
    pieces = cuts(tape, call)
    if not pieces:
        return None
    comparing: dict[int, Comparing] = {}
    for cut in pieces:
        small = small_step(tape, call, cut, records)
        small_results = evaluate(small.tape, small.call, small.lookup, bounded=True)
        for output_nr, (number, result) in enumerate(zip(call.outputs, small_results, strict=True)):
            # A rule returns None for a kernel's internal outputs.
            if number is None or result is None:
                continue
            value = tape.values[number]
            if value.array is None:
                raise Unjudgeable(unrecorded(value))
            if output_nr not in comparing:
                comparing[output_nr] = Comparing(value.array, value.dtype)
            comparing[output_nr].take(result, cut.result(output_nr, value.shape))
    return [(output_nr, c.result()) for output_nr, c in comparing.items()]


def in_large_pieces(
    tape: Tape,
    node: Node,
    incoming: Sequence[int | None],
    records: Records,
    arithmetic: Arithmetic | None,
    keep: Callable[[Edge], bool],
) -> dict[int, Pieces]:
    """Return the gradients of a node, by input, that are too large to be computed at once.

    Parameters
    ----------
    tape : Tape
    node : Node
    incoming : sequence of (int or None)
        The values that arrived.
    records : Records
    arithmetic : Arithmetic or None
        The step's; None if nothing arrived.
    keep : callable
        Whether the whole gradient sent through an edge will be needed.
    """
    arrived = [None if n is None else tape.values[n].shape for n in incoming]
    call = call_of(tape, node)
    if call is None or arithmetic is None:
        return {}
    gradients = {}
    for input_nr, (name, shape, pieces) in gradient_cuts(tape, node, arrived).items():
        step, edge = (
            _LargeStep(tape, node, call, input_nr, name, shape, pieces),
            node.edges[input_nr],
        )
        gradients[input_nr] = Pieces(
            shape,
            partial(step.compute, incoming, records, arithmetic),
            keep=edge is not None and keep(edge),
        )
    return gradients


@dataclass(frozen=True)
class _LargeStep:
    """One gradient that a node sends, and how it is cut."""

    tape: Tape
    node: Node
    call: Call
    input_nr: int
    name: str
    shape: Shape
    pieces: list[Cut]

    def compute(
        self, incoming: Sequence[int | None], records: Records, arithmetic: Arithmetic
    ) -> Iterator[tuple[Index, Bounded]]:
        needed = [k == self.input_nr for k in range(len(self.node.edges))]
        for cut in self.pieces:
            small = small_step(self.tape, self.call, cut, records)
            arrived = [
                None
                if number is None
                else Bounded(
                    records.part(number, cut.result(k, self.tape.values[number].shape)),
                    arithmetic,
                )
                for k, number in enumerate(incoming)
            ]
            sent = vjp(small.tape, small.call, arrived, small.lookup, arithmetic, needed)
            yield cut.operand(self.name, self.shape), sent[self.input_nr]


class Reach:
    """Whether a leaf, or a gradient that is taken, lies beyond an edge and no rounding between.

    The answer of a node is that of the nodes behind it, so each is asked once.

    Parameters
    ----------
    tape : Tape
    taken : container of (node, input)
        Where a pass gives gradients out besides the leaves.
    """

    def __init__(self, tape: Tape, taken: Container[tuple[int, int]]) -> None:
        self._tape = tape
        self._taken = taken
        self._onward: dict[int, list[Edge]] = {}
        self._known: dict[int, bool] = {}

    def __call__(self, edge: Edge) -> bool:
        """Answer for an edge."""
        waiting = [edge.node]
        while waiting:
            onward = self._beyond(waiting[-1])
            unknown = [e.node for e in onward if e.node not in self._known]
            waiting += unknown
            if not unknown:
                number = waiting.pop()
                is_leaf = self._tape.nodes[number].kind == Kind.ACCUMULATE
                self._known[number] = is_leaf or any(map(self._answer, onward))
        return self._answer(edge)

    def _answer(self, edge: Edge) -> bool:
        return (edge.node, edge.index) in self._taken or self._known[edge.node]

    def _beyond(self, number: int) -> list[Edge]:
        """Return the edges of a node that may round nothing."""
        if number not in self._onward:
            node = self._tape.nodes[number]
            self._onward[number] = [
                edge
                for input_nr, edge in enumerate(node.edges)
                if edge is not None and not surely_rounds(self._tape, node, input_nr)
            ]
        return self._onward[number]


def surely_rounds(tape: Tape, node: Node, input_nr: int) -> bool:
    """Whether a node surely sends a product or a sum through an edge, not a mere copy."""
    call = call_of(tape, node)
    rule = None if call is None else find(call.base_op)
    if call is None or rule is None or rule.moves or rule.apart in ("", ELEMENTWISE):
        return False
    name, value = operand_of(tape, call, input_nr)
    if value is None or call.outputs[0] is None:
        return False
    sizes = [math.prod(tape.values[n].shape) for n in (value, call.outputs[0])]
    return name != ADDED or sizes[0] < sizes[1]
