"""The backward steps of a pass alone: for a pass in which a probe replaces what arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness.judging.sweep import SweepCheck
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import Firing, LeafUpdate, Node


class StepsCheck(SweepCheck):
    """Judges what each node sends, from what arrived there, and nothing else.

    What arrives is the probe's own doing, so it neither belongs to what other nodes sent, nor do
    the gradients at the ends belong to the program.
    """

    def fire(self, firing: Firing, update: LeafUpdate | None) -> list[Finding]:
        """Judge one firing."""
        del update
        self._found = []
        node = self.tape.nodes[firing.node]
        if node.kind != Kind.ACCUMULATE:
            self._backward(node, firing)
        return self._found

    def _carry_on(self, node: Node, firing: Firing, expected: tuple[Any, ...]) -> None:
        """Carry nothing: no row asks for it."""

    def _carry(self, node: Node, slot: int, result: Any) -> None:
        """Carry nothing."""
