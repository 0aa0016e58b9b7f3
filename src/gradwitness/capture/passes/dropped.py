"""Leaves that a custom backward made for a pass of its own, and has dropped.

Torch takes over a gradient that nobody else holds. What such a leaf's ``.grad`` was is sent on, as
by reentrant checkpoints; the recorder alone still holds the leaf, and would make torch copy it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradwitness.capture.memory.values import ValueStore
    from gradwitness.capture.passes.graph import GraphRecorder


class Dropped:
    """Empties the ``.grad`` of leaves that the program cannot reach any more."""

    def __init__(self, values: ValueStore, graph: GraphRecorder) -> None:
        self._values = values
        self._graph = graph
        self._accumulators: list[int] = []

    def note(self, accumulators: Iterable[int]) -> None:
        """Note the nodes that added to leaves in a pass within a custom function's backward."""
        self._accumulators += accumulators

    def let_go(self) -> None:
        """Empty the ``.grad`` of those leaves that are out of reach, when that backward is over."""
        accumulators, self._accumulators = self._accumulators, []
        for number in accumulators:
            leaf = self._graph.nodes[number].alive.variable
            if _owners(leaf) == (_ALONE[0], _ALONE[1] + self._values.holds(leaf)):
                leaf.grad = None
                self._values.balance.settle(leaf)


def _owners(leaf: torch.Tensor) -> tuple[int, int]:
    """Count what holds a tensor in C++, and in Python."""
    tensor: Any = leaf
    return tensor._use_count(), sys.getrefcount(leaf)


def _alone() -> tuple[int, int]:
    """Return the counts of a leaf that only its accumulator and a local variable hold."""
    node: Any = (torch.zeros((), requires_grad=True) * 1).grad_fn
    accumulator = node.next_functions[0][0]
    leaf = accumulator.variable
    return _owners(leaf)


_ALONE = _alone()
