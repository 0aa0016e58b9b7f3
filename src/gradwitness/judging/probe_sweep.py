"""The backward steps of a pass in which a probe replaces what arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradwitness.judging.sweep import SweepCheck
from gradwitness.tape import Kind

if TYPE_CHECKING:
    from gradwitness.judging.finding import Finding
    from gradwitness.tape import LeafUpdate, Node, NodeRun


class StepsCheck(SweepCheck):
    """Judges only what each node sends for what arrived there.

    The probe sets what arrives, so neither fan-ins nor the gradients at the leaves are judged.
    """

    def judge_node(self, node: Node, node_run: NodeRun, update: LeafUpdate | None) -> list[Finding]:
        """Judge one node run."""
        del update
        self._begin(node)
        if node.kind != Kind.ACCUMULATE:
            with np.errstate(all="ignore"):
                self._backward(node, node_run)
        return self._findings
