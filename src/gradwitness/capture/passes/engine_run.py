"""Which run of torch's engine a hook is called in."""

from __future__ import annotations

from threading import RLock, get_ident
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class EngineRun:
    """Tells one pass from others that run the same nodes.

    All graphs over a leaf share its accumulator, with the hooks on it. Torch numbers the runs of
    its engine, and tells the number only within one. A run begins at a root, in the thread that
    called backward; on a thread of torch's own if the root is on a device, or other passes run
    around it.

    Attributes
    ----------
    shared : set of int
        Nodes that a run reached which was not recorded.
    reading : RLock
        Hold it while a leaf's gradients are read, so that no such run changes them meanwhile.
        Never around code of the program's: it may wait for the other run.
    """

    def __init__(self) -> None:
        self.shared: set[int] = set()
        self.reading = RLock()
        self._thread = get_ident()
        self._number: int | None = None
        self._starts: Collection[int] = ()

    def begin(self, roots: Iterable[torch.Tensor], starts: Collection[int]) -> None:
        """Learn where the run begins, just before it does."""
        within = torch._C._current_graph_task_id() >= 0
        if within or any(root.device.type != "cpu" for root in roots):
            self._starts = starts

    def reaches(self, node: int) -> bool:
        """Whether it is this run that has reached a node, in its hook."""
        number = torch._C._current_graph_task_id()
        if self._number is None and (get_ident() == self._thread or node in self._starts):
            self._number = number
        return number == self._number

    def shares(self, node: int) -> None:
        """Note that a run which was not recorded has reached a node."""
        with self.reading:
            self.shared.add(node)
