"""What the last step that computes said of a gradient on its way to where it is given out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.judging.comparison import ALL_ZERO, CANCELS, COARSE, TOO_LITTLE
from gradwitness.judging.finding import Step
from gradwitness.judging.looks.moved import MOVES
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.judging.comparison import Comparison
    from gradwitness.tape import Edge, Node, NodeRun, Tape


class Last:
    """The last comparisons of gradients on their way to the inputs of nodes.

    A doubt is that of the step which it is about: what could not be judged counts as recorded.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._at: dict[tuple[int, int], Comparison] = {}

    def add(self, step: Step, place: Edge | None, terms: int, comparison: Comparison) -> None:
        """Remember what a step said of a gradient; not that one alone arrived as it was sent."""
        passed_on = step is Step.FAN_IN and terms == 1 and comparison.verdict is Verdict.AGREES
        if place is None or step is Step.ACCUMULATE or passed_on:
            return
        before = self._at.get((place.node, place.index))
        if before is not None and before.verdict is Verdict.DISAGREES:
            # What is wrong in a part is wrong in the sum.
            return
        if step is Step.FAN_IN and comparison.reason == CANCELS:
            # That two terms cancel says nothing of what either has lost before.
            comparison = replace(comparison, reason="")
        if comparison.reason in (TOO_LITTLE, COARSE, ALL_ZERO):
            # Within its bound, though that is wide: where terms cancel, as zero is.
            reason = CANCELS if comparison.reason == TOO_LITTLE else ""
            comparison = replace(comparison, verdict=Verdict.AGREES, reason=reason)
        if comparison.verdict is Verdict.INCONCLUSIVE:
            self.forget(place)
        else:
            self._at[place.node, place.index] = comparison

    def forget(self, place: Edge | None) -> None:
        """Take a gradient that was sent somewhere as recorded."""
        if place is not None:
            self._at.pop((place.node, place.index), None)

    def hand_on(self, node: Node, node_run: NodeRun, sent: dict[int, Comparison]) -> None:
        """Remember of what a node only moved, by input, what the step before it said."""
        call = None if node.call is None else self._tape.calls[node.call]
        arrived, number = self._at.get((node.id, 0)), node_run.incoming[0]
        if call is None or arrived is None or not (call.is_view or call.base_op in MOVES):
            return
        for input_nr, comparison in sent.items():
            edge, given = node.edges[input_nr], node_run.outgoing[input_nr]
            if edge is not None and comparison.bound == 0 == comparison.error:
                index = self._moved(arrived.index, number, given)
                handed = replace(arrived, index=index, size=comparison.size, norm=comparison.norm)
                self._at[edge.node, edge.index] = handed

    def at(self, place: tuple[int, int]) -> Comparison | None:
        """Return the last comparison of a gradient."""
        return self._at.get(place)

    def _moved(
        self, index: tuple[int, ...] | None, source: int | None, target: int | None
    ) -> tuple[int, ...] | None:
        """Return where a number lies in what was sent; None if that is not known."""
        if index is None or source is None or target is None:
            return None
        one, other = (self._tape.values[n].array for n in (source, target))
        return None if one is None or other is None else moved_index(one, index, other)


def moved_index(
    source: NDArray[Any], index: tuple[int, ...], target: NDArray[Any]
) -> tuple[int, ...] | None:
    """Return the index in one array of a number of another one that shares its memory.

    In a copy of the same shape it is the same.
    """
    if len(index) != source.ndim:
        return None
    if not np.may_share_memory(source, target):
        return index if source.shape == target.shape else None
    begun = source.__array_interface__["data"][0] - target.__array_interface__["data"][0]
    offset = begun + sum(i * step for i, step in zip(index, source.strides, strict=True))
    found = [0] * target.ndim
    for axis in sorted(range(target.ndim), key=lambda k: -abs(target.strides[k])):
        if target.shape[axis] > 1 and target.strides[axis] > 0:
            found[axis], offset = divmod(offset, target.strides[axis])
    inside = all(0 <= i < n for i, n in zip(found, target.shape, strict=True))
    return tuple(found) if inside and offset == 0 else None
