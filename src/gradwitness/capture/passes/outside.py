"""What goes on in a backward pass outside of what hooks and modes can see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.capture.ranks import Wrappers, sent
from gradwitness.tape import REDUCED, Unseen

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

SEEDED = "the pass began from a gradient that another rank sent"


class Outside:
    """Notes in which passes other processes took part, but for those that nodes talked to.

    Groups count their collectives themselves, even those that C++ issues.

    Attributes
    ----------
    unseen : list of Unseen
    """

    def __init__(self) -> None:
        self.unseen: list[Unseen] = []
        self._wrappers = Wrappers()
        # By pass and by node: how many collectives were nobody's when it began.
        self._passes: dict[int, int] = {}
        self._nodes: dict[int, int] = {}
        # Those that were some node's.
        self._in_nodes = 0

    def begins(self, sweep: int, *, received: bool) -> None:
        """Note that a pass begins, perhaps with gradients that other ranks sent."""
        self._passes[sweep] = self._nobodys()
        if received:
            self.unseen.append(Unseen(SEEDED, None, sweep))

    def node_begins(self, node: int) -> None:
        """Note that a custom function's backward begins."""
        self._nodes[node] = self._nobodys()

    def node_ran(self, node: int) -> None:
        """Note that a node has run, whose calls show what it talked about."""
        if node in self._nodes:
            self._in_nodes += self._nobodys() - self._nodes.pop(node)

    def ends(self, sweep: int, leaves: Iterable[torch.Tensor]) -> None:
        """Note that a pass has ended, which added to the gradients of these leaves."""
        talked = sweep in self._passes and self._nobodys() > self._passes.pop(sweep)
        if talked or self._wrappers.reduce(leaves):
            self.unseen.append(Unseen(REDUCED, None, sweep))

    def met(self, root: torch.nn.Module) -> None:
        """Note a model that may reduce its gradients."""
        self._wrappers.add(root)

    def about(self) -> dict[str, str]:
        """Return what spreads the program over ranks."""
        names = self._wrappers.names
        return {"distributed": ", ".join(names)} if names else {}

    def _nobodys(self) -> int:
        return sent() - self._in_nodes
