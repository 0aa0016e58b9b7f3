"""The pieces of memory of a program, and which of them are one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from gradwitness.capture.memory.arrays import address
from gradwitness.capture.memory.places import Places
from gradwitness.capture.memory.sparse import version
from gradwitness.capture.memory.storages import Storage, drop, keep_copies

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradwitness.capture.memory.storages import Draft

    # Where a tensor lies in memory, and how its numbers lie there.
    Key: TypeAlias = tuple[Any, ...]


class Memories:
    """The pieces of memory in which a program's tensors lie.

    Attributes
    ----------
    in_order : list of Storage
        By number.
    once : callable
        Returns the one object that stands for a shape, or strides, given twice: a program has few,
        and Python's collector looks at each.
    """

    def __init__(self) -> None:
        self.in_order: list[Storage] = []
        self._by_address: dict[int, Storage] = {}
        self._without: Any = WeakTensorKeyDictionary()
        # Where memory lies that may be several storages', and all: as many as were asked about.
        self._common, self._places, self._placed = Places(), Places(), 0
        self._borrowed: list[Storage] = []
        lengths: dict[tuple[int, ...], tuple[int, ...]] = {}
        self.once = lengths.setdefault

    def of(self, tensor: torch.Tensor) -> Storage | None:
        """Return the storage of a tensor, if known, after a check for resizing."""
        try:
            at = -1 if tensor.is_nested else tensor.untyped_storage()._cdata
        except (NotImplementedError, RuntimeError):
            return None
        storage = self._by_address.get(at)
        if storage is not None and (storage.filling or storage.has_moved()):
            self.look(storage)
        return storage

    def new(self, tensor: torch.Tensor) -> Storage:
        """Return the storage of a tensor, which is not known."""
        storage = Storage(len(self.in_order))
        storage.take(tensor)
        self._by_address[storage.address] = storage
        self.in_order.append(storage)
        if storage.borrowed:
            self._borrowed.append(storage)
        self._compare(storage, is_common=storage.foreign)
        return storage

    def take(self, storage: Storage, tensor: torch.Tensor) -> None:
        """Hold memory again that was let go."""
        before = storage.extent
        storage.take(tensor)
        if storage.extent != before:
            self._compare(storage, is_common=True)

    def lend(self, tensor: torch.Tensor, *, within: bool) -> None:
        """Copy the values of a tensor's memory, now and later."""
        storage = self.of(tensor) or self.new(tensor)
        storage.lend(within=within)
        # Of memory without values nothing is held.
        storage.forget()

    def confirm(self) -> None:
        """Drop the values without a copy that were read, and whose numbers have changed."""
        self._borrowed = [storage for storage in self._borrowed if storage.is_alive()]
        for storage in self._borrowed:
            for draft in storage.drafts:
                if draft.whole:
                    draft.confirm()

    def look(self, storage: Storage) -> None:
        """Drop the values of a storage that the program has resized unseen."""
        if storage.filling:
            storage.settle()
        if storage.has_moved():
            drop(storage)
            storage.hold(storage.memory)
            self._compare(storage, is_common=True)

    def _compare(self, storage: Storage, *, is_common: bool) -> None:
        """Lend the storages of one memory: what is written to one changes the others unseen.

        Torch gives its own memory to one storage, unless it moves it (`share_memory_`).
        """
        others = self._common.over(storage)
        if is_common:
            for one in self.in_order[self._placed :]:
                self._places.add(one)
            self._placed = len(self.in_order)
            self._places.add(storage)
            self._common.add(storage)
            others = self._places.over(storage)
        for one in (storage, *others) if others else ():
            if one.borrowed or not one.lent:
                one.lend(within=False)

    def key(self, tensor: torch.Tensor, storage: Storage | None) -> Key:
        """Return what tensors share that are one value, until their memory is written to."""
        at = address(tensor) if storage is None else storage.address
        if at == -1:
            return (self._without.setdefault(tensor, object()),)
        once, first = self.once, tensor.storage_offset()
        shape, strides = tuple(tensor.shape), tensor.stride()
        shape, strides = once(shape, shape), once(strides, strides)
        return (at, first, strides, shape, tensor.dtype, tensor.is_conj(), tensor.is_neg())

    def epoch(self, tensor: torch.Tensor) -> int:
        """Return how often a tensor's memory was written to."""
        storage = self.of(tensor)
        return version(tensor) if storage is None else storage.epoch

    def shared(self) -> set[int]:
        """Return the storages that others hold, too: and may resize."""
        alive = [s for s in self.in_order if s.memory is not None]
        # One use is this store's.
        return {s.number for s in alive if torch._C._storage_Use_Count(s.memory._cdata) > 1}

    def own(self, storages: set[int], values: Iterable[Draft]) -> None:
        """Copy the values in some storages, including views."""
        lying: dict[int, list[Draft]] = {number: [] for number in storages}
        for draft in values:
            if draft.layout is not None and draft.layout.storage in storages:
                lying[draft.layout.storage].append(draft)
        for number, drafts in lying.items():
            self.look(self.in_order[number])
            self.in_order[number].confirm()
            keep_copies(drafts, self.in_order[number].bytes)
