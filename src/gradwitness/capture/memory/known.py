"""What is known of live tensors, and of the history that they had."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import torch

    from gradwitness.capture.memory.storages import Storage


@dataclass(slots=True, eq=False)
class Known:
    """What is known of a tensor object: its value, and how often its memory was written to before.

    It is held or, by a weak reference, watched: not both, since torch swaps no tensor that has one.
    ``at`` is the address of its first number in ``storage``, 0 if NumPy does not see it.
    """

    value: int
    epoch: int
    held: torch.Tensor | None
    storage: Storage | None = None
    at: int = 0
    watched: Callable[[], torch.Tensor | None] = lambda: None

    def tensor(self) -> torch.Tensor | None:
        """Return the tensor unless it is gone."""
        return self.watched() if self.held is None else self.held

    def is_same(self, tensor: torch.Tensor) -> bool:
        """Whether a held tensor lies where it did, and only recorded calls can have written there.

        What cannot be told so simply is not the same.
        """
        storage = self.storage
        if self.held is not tensor or not self.at or storage is None:
            return False
        if storage.epoch != self.epoch or storage.lent or storage.filling:
            return False
        try:
            # ``.data`` may have changed, or the program has resized its memory.
            return tensor.data_ptr() == self.at
        except RuntimeError:
            return False

    def let_go(self) -> None:
        """Hold the tensor no longer."""
        if self.held is not None:
            self.held, self.watched = None, weakref.ref(self.held)


class Histories:
    """Which node made which value: as live tensors tell, and as those told that were let go.

    Each tensor is asked once: so a backward pass costs what is new since the last, however long
    the block has run.

    Parameters
    ----------
    known : dict of int to Known
        By the identities of tensors; may still be growing.
    epoch : callable
        Returns how often a tensor's memory was written to.

    Attributes
    ----------
    fresh : dict of int to None
        The identities of tensors that were met since they were last asked.
    """

    def __init__(self, known: dict[int, Known], epoch: Callable[[torch.Tensor], int]) -> None:
        self.fresh: dict[int, None] = {}
        self._known = known
        self._epoch = epoch
        # By node: outputs and values before they were overwritten or let go; and live tensors.
        self._past: dict[Any, tuple[tuple[int, int], ...]] = {}
        self._live: dict[Any, tuple[int, ...]] = {}
        # The nodes of past histories since the last reading.
        self._added: dict[Any, None] = {}
        # By value: its nodes; and those that are not to be held, as of the last reading.
        self._owners: dict[int, tuple[Any, ...]] = {}
        self._passing: dict[int, Any] = {}

    def add(self, tensor: torch.Tensor, value: int) -> None:
        """Note a tensor's history, if it has one, before it is overwritten or let go."""
        node = history(tensor)
        if node is None:
            return
        node, output = identity(node), (tensor.output_nr, value)
        past = self._past.get(node, ())
        if output not in past:
            self._past[node] = (*past, output)
            self._added[node] = None
            self._own(value, node)

    def read(self, numbers: Mapping[Any, int], new: Iterable[Any]) -> list[tuple[Any, int, int]]:
        """Return the outputs of new nodes, and what is new of those that have numbers."""
        nodes = dict.fromkeys(map(identity, new))
        added, self._added = self._added, {}
        fresh, self.fresh = self.fresh, {}
        nodes |= added
        self._passing = {}
        for key in fresh:
            told = self._told(key)
            if told is None:
                continue
            node, _, value = told
            if self._known[key].held is None and node not in numbers:
                # To hold its node would be to hold its history.
                self.fresh[key] = None
                self._passing[value] = node
                continue
            nodes[node] = None
            live = self._live.get(node, ())
            if key not in live:
                self._live[node] = (*live, key)
            self._own(value, node)
        return [told for node in nodes if node in numbers for told in self._of(node)]

    def nodes_of(self, value: int | None) -> tuple[Any, ...]:
        """Return the nodes that a value belongs to, or belonged to before a write."""
        if value is None:
            return ()
        passing = (self._passing[value],) if value in self._passing else ()
        return (*self._owners.get(value, ()), *passing)

    def tensors_of(self, nodes: Iterable[Any]) -> list[torch.Tensor]:
        """Return the live tensors that nodes made, or add to, in the order of their values."""
        found: dict[int, torch.Tensor] = {}
        for node in nodes:
            adds = type(node).__name__ == "AccumulateGrad"
            for key in (id(node.variable),) if adds else self._live.get(identity(node), ()):
                tensor = self._unchanged(key)
                if tensor is not None:
                    found[key] = tensor
        return [found[key] for key in sorted(found, key=lambda key: self._known[key].value)]

    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield every known tensor that has a gradient and is unchanged."""
        return (t for t in map(self._unchanged, self._known) if t is not None)

    def __iter__(self) -> Iterator[tuple[Any, int, int]]:
        """Yield every output: the identity of its node, its number, and the value."""
        for node, outputs in self._past.items():
            for index, value in outputs:
                yield node, index, value
        yield from filter(None, map(self._told, self._known))

    def _of(self, node: Any) -> Iterator[tuple[Any, int, int]]:
        for index, value in self._past.get(node, ()):
            yield node, index, value
        for told in map(self._told, self._live.get(node, ())):
            if told is not None and told[0] == node:
                yield told

    def _own(self, value: int, node: Any) -> None:
        owners = self._owners.get(value, ())
        if node not in owners:
            self._owners[value] = (*owners, node)

    def _unchanged(self, key: int) -> torch.Tensor | None:
        known = self._known.get(key)
        tensor = None if known is None else known.tensor()
        if known is None or tensor is None or not tensor.requires_grad:
            return None
        return tensor if self._epoch(tensor) == known.epoch else None

    def _told(self, key: int) -> tuple[Any, int, int] | None:
        """Return the node that made a live tensor, the output's number, and the value."""
        tensor = self._unchanged(key)
        node = None if tensor is None else history(tensor)
        if tensor is None or node is None:
            return None
        return identity(node), tensor.output_nr, self._known[key].value


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
