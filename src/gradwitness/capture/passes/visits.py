"""The recorder's hooks on one node, for one pass."""

from __future__ import annotations

from typing import Any, Protocol


class Pass(Protocol):
    """Is told of the nodes that it runs, by number."""

    def arrive(self, number: int, gradients: Any) -> None:
        """Take the gradients that come in."""

    def leave(self, number: int, outgoing: Any) -> None:
        """Take those that go out."""


class Visit:
    """Tells a pass before and after a node runs.

    A pass has one for each node: so it is one small object, and what torch returns to remove a hook
    is not kept. All that lives through a block costs a look of Python's collector at the program.
    """

    __slots__ = ("_after", "_after_key", "_before", "_before_key", "_number", "_sweep")

    def __init__(self, number: int, sweep: Pass) -> None:
        self._number = number
        self._sweep = sweep
        self._before: dict[int, Any] = {}
        self._after: dict[int, Any] = {}
        self._before_key = self._after_key = -1

    def begin(self, node: Any) -> tuple[Any, Any]:
        """Put the hooks on a node; return their handles."""
        arrival = node.register_prehook(self._arrives)
        self._before, self._before_key = arrival.hooks_dict_ref(), arrival.id
        leaving = node.register_hook(self._leaves)
        self._after, self._after_key = leaving.hooks_dict_ref(), leaving.id
        return arrival, leaving

    def remove(self) -> None:
        """Remove the hooks."""
        self._before.pop(self._before_key, None)
        self._after.pop(self._after_key, None)

    def _arrives(self, gradients: Any) -> None:
        self._sweep.arrive(self._number, gradients)

    def _leaves(self, outgoing: Any, _: Any) -> None:
        self._sweep.leave(self._number, outgoing)
