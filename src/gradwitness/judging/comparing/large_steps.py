"""Large steps, judged piece by piece (see `engine.tiling`) to save memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import vjp
from gradwitness.engine.binding import unrecorded
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.forward import evaluate
from gradwitness.engine.in_pieces import call_of, gradient_cuts
from gradwitness.engine.tiling import cuts, small_steps
from gradwitness.judging.comparing.compare import Comparing
from gradwitness.judging.comparing.piecewise import Pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.engine.floats import Arithmetic
    from gradwitness.engine.tiling import Cut, Index, Shape
    from gradwitness.judging.comparing.compare import Comparison
    from gradwitness.judging.comparing.records import Records
    from gradwitness.tape import Call, Node, Tape


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
    for cut, small in small_steps(tape, call, pieces, records):
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
    """
    arrived = [None if n is None else tape.values[n].shape for n in incoming]
    call = call_of(tape, node)
    if call is None or arithmetic is None:
        return {}
    gradients = {}
    for input_nr, (name, shape, pieces) in gradient_cuts(tape, node, arrived).items():
        step = _LargeStep(tape, node, call, input_nr, name, shape, pieces)
        gradients[input_nr] = Pieces(shape, partial(step.compute, incoming, records, arithmetic))
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
        for cut, small in small_steps(self.tape, self.call, self.pieces, records):
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
