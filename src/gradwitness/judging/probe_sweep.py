"""The backward steps of a pass alone: for a pass in which a probe replaces what arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwitness.judging.sweep import SweepCheck
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import LeafUpdate, Node, NodeRun


class StepsCheck(SweepCheck):
    """Judges what each node sends, from what arrived there, and nothing else.

    What arrives is the probe's own doing, so it neither belongs to what other nodes sent, nor do
    the gradients at the ends belong to the program.
    """

    def judge_node(self, node_run: NodeRun, update: LeafUpdate | None) -> list[Finding]:
        """Judge one node run."""
        del update
        self._found = []
        node = self.tape.nodes[node_run.node]
        if node.kind != Kind.ACCUMULATE:
            self._backward(node, node_run)
        return self._found

    def _carry_on(self, node: Node, node_run: NodeRun, expected: tuple[Any, ...]) -> None:
        """Carry nothing: no row asks for it."""

    def _carry(self, node: Node, input_nr: int, result: Any) -> None:
        """Carry nothing."""
