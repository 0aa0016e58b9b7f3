"""Observers, told of each step while its numbers are at hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from gradwitness._process_wide import ONE_BLAS_THREAD
from gradwitness.capture.memory.devices import computing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradwitness.tape import Edge, LeafUpdate, NodeRun

T = TypeVar("T")


class Observer(Protocol):
    """Is told of a program's steps; numbers are on the tape until a method returns.

    Attributes
    ----------
    in_doubt : bool
        Whether a step does not agree, or does for other reasons than the rules.
    """

    in_doubt: bool

    def called(self, number: int) -> None:
        """Observe a call that has just run."""

    def begins(
        self,
        sweep: int,
        roots: Sequence[tuple[Edge, int | None]],
        limited_to: Sequence[Edge] | None,
    ) -> None:
        """Observe that a backward pass is about to run; its nodes are on the tape."""

    def node_ran(
        self, sweep: int, node_run: NodeRun, update: LeafUpdate | None
    ) -> Sequence[tuple[int, int]]:
        """Observe that a node has run.

        Returns the inputs, of nodes by number, at which it needs nothing more of what was sent so
        far.
        """

    def ends(self, sweep: int, captured: Sequence[tuple[Edge, int | None]]) -> None:
        """Observe that a backward pass has ended, and the gradients that it returned."""


class Audience:
    """Passes steps on to an observer, if there is one.

    Attributes
    ----------
    seconds : float
        Time spent in the observer.
    """

    def __init__(self) -> None:
        self.observer: Observer | None = None
        self.seconds = 0.0

    def is_in_doubt(self) -> bool:
        """Whether the observer doubts a step."""
        return self.observer is not None and self.observer.in_doubt

    def tell(self, step: Callable[[Observer], T]) -> T | None:
        """Tell the observer of one step; return what it says, None if there is none."""
        if self.observer is None:
            return None
        begun = time.perf_counter()
        # (As its context does, which takes as long again to make, at each step of a program.)
        held = ONE_BLAS_THREAD.hold()
        try:
            with computing():
                return step(self.observer)
        finally:
            if held:
                ONE_BLAS_THREAD.release()
            self.seconds += time.perf_counter() - begun
