"""What is known of live tensors, and of the history that they had."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch


@dataclass(slots=True, eq=False)
class Known:
    """What is known of a tensor object: its value, and how often its memory was written to before.

    It is held or, by a weak reference, watched: not both, since torch swaps no tensor that has one.
    """

    value: int
    epoch: int
    held: torch.Tensor | None
    watched: Callable[[], torch.Tensor | None] = lambda: None

    def tensor(self) -> torch.Tensor | None:
        """Return the tensor unless it is gone."""
        return self.watched() if self.held is None else self.held

    def let_go(self) -> None:
        """Hold the tensor no longer."""
        if self.held is not None:
            self.held, self.watched = None, weakref.ref(self.held)


class Past:
    """What nodes made before it was overwritten or let go: three lists, not many tuples."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._indices: list[int] = []
        self._values: list[int] = []

    def add(self, node: Any, index: int, value: int) -> None:
        """Note a node's output."""
        self._nodes.append(identity(node))
        self._indices.append(index)
        self._values.append(value)

    def __iter__(self) -> Iterator[tuple[Any, int, int]]:
        """Yield the node's identity, the output's number, and the value."""
        return zip(self._nodes, self._indices, self._values, strict=True)


def identity(node: Any) -> Any:
    """Return what a node is known by: itself, but for what torch makes when a view's base changes.

    Those are not to be held, either.
    """
    if not type(node).__name__.startswith("AsStrided"):
        return node
    layout = (tuple(node._saved_size), tuple(node._saved_stride), node._saved_storage_offset)
    return (node._sequence_nr(), *layout)


def history(tensor: torch.Tensor) -> Any:
    """Return the node that made a tensor, if torch tells."""
    try:
        return tensor.grad_fn
    except RuntimeError:
        # Torch refuses for a view made without grad mode whose base has changed since.
        return None
