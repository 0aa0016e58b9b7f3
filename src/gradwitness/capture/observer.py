"""Who wants to know of each step while its numbers are at hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradwitness.tape import Edge, LeafUpdate, NodeRun


class Observer(Protocol):
    """Is told of a program's steps; numbers are on the tape as long as the telling lasts."""

    def called(self, number: int) -> None:
        """Hear of a call that has just run."""

    def begins(
        self,
        sweep: int,
        roots: Sequence[tuple[Edge, int | None]],
        limited_to: Sequence[Edge] | None,
    ) -> None:
        """Hear that a backward pass is about to run; its nodes are on the tape."""

    def node_ran(self, sweep: int, node_run: NodeRun, update: LeafUpdate | None) -> None:
        """Hear that a node has had its turn."""

    def ends(self, sweep: int, captured: Sequence[tuple[Edge, int | None]]) -> None:
        """Hear that a backward pass is over, and what it returned."""


class Audience:
    """Passes steps on to an observer, if there is one.

    Attributes
    ----------
    seconds : float
        Time that the observer has taken.
    """

    def __init__(self) -> None:
        self.observer: Observer | None = None
        self.seconds = 0.0

    def tell(self, step: Callable[[Observer], None]) -> None:
        """Let the observer hear of one step."""
        if self.observer is None:
            return
        begun = time.perf_counter()
        try:
            step(self.observer)
        finally:
            self.seconds += time.perf_counter() - begun
