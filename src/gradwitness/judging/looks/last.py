"""What the last step on a gradient's way said of it: a look has no bounds to carry on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradwitness.judging.finding import Step
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from gradwitness.judging.comparison import Comparison
    from gradwitness.tape import Edge, Node


class Last:
    """The last comparisons of gradients on their way to the inputs of nodes."""

    def __init__(self) -> None:
        self._at: dict[tuple[int, int], Comparison] = {}

    def add(self, step: Step, place: Edge | None, terms: int, comparison: Comparison) -> None:
        """Remember what a step said of a gradient; not that one alone arrived as it was sent."""
        passed_on = step is Step.FAN_IN and terms == 1 and comparison.verdict is Verdict.AGREES
        if place is not None and step is not Step.ACCUMULATE and not passed_on:
            self._at[place.node, place.index] = comparison

    def hand_on(self, node: Node, looked: dict[int, Comparison]) -> None:
        """Remember of what a node only moved what the step before it said."""
        arrived = self._at.get((node.id, 0))
        for input_nr, comparison in looked.items():
            edge = node.edges[input_nr]
            moved = comparison.bound == 0 and not comparison.reason
            if edge is not None and arrived is not None and moved:
                self._at[edge.node, edge.index] = replace(arrived, norm=comparison.norm)

    def at(self, place: tuple[int, int]) -> Comparison | None:
        """Return the last comparison of a gradient."""
        return self._at.get(place)
