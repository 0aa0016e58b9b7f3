"""From live tensors to numbered values, whose numbers survive in-place writes."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakTensorKeyDictionary

from gradwitness.capture.arrays import (
    address,
    dtype_name,
    is_plain,
    shape_of,
    whereabouts,
)
from gradwitness.capture.balance import Balance
from gradwitness.capture.sparse import dense, is_sparse, version
from gradwitness.capture.storages import ALONE, Draft, Storage, drop, keep_copies, keep_copy
from gradwitness.tape import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gradwitness.tape import Value

    Held = Callable[[], torch.Tensor | None]


class ValueStore:
    """Numbers the tensors of a program.

    A tensor keeps its value until its memory is written to; then the old value keeps a copy of the
    old numbers. Tensors are held, so that no identity is reused; but not a view that was just
    changed in place: when torch's check of in-place changes fails, its text depends on whether
    something holds the history of that view.

    Arrays share the program's memory, which it may resize or free: numbers are copied before an
    operation that does so, and at once where the program has or asks for the storage object. Since
    code in C++ asks unseen, every access first checks that memory has not moved.
    """

    def __init__(self) -> None:
        self.balance = Balance(self._forget)
        self._drafts: list[Draft] = []
        self._storages: dict[int, Storage] = {}
        self._in_order: list[Storage] = []
        self._by_object: dict[int, tuple[Held, int, int]] = {}
        self._by_key: dict[tuple[Any, ...], tuple[int, int]] = {}
        self._names: dict[int, tuple[torch.Tensor, str]] = {}
        self._past: list[tuple[Any, int, int]] = []
        self._without_memory: Any = WeakTensorKeyDictionary()

    def name(self, tensor: torch.Tensor, name: str) -> None:
        """Give a tensor the user's name; the first name stays."""
        if id(tensor) in self._names:
            return
        self._names[id(tensor)] = (tensor, name)
        # A model built inside the block has values already.
        entry = self._by_object.get(id(tensor))
        if entry is not None and entry[0]() is tensor:
            self._drafts[entry[1]].name = name

    def leaf(self, tensor: torch.Tensor) -> int:
        """Return the number of a tensor that collects a gradient, and mark it as a leaf."""
        number = self.of(tensor)
        self._drafts[number].leaf = True
        return number

    def of(self, tensor: torch.Tensor) -> int:
        """Return the current number of a tensor; a new tensor gets one."""
        storage = self._storage(tensor)
        epoch = self._epoch(tensor) if storage is None else storage.epoch
        held, number, known = self._by_object.get(id(tensor), _NOWHERE)
        met = known == epoch and held() is tensor and self._lies(storage, number)
        if met and self._drafts[number].objects:
            return number
        if not met:
            number, known = self._by_key.get(self._key(tensor), (0, -1))
            if known != epoch:
                return self._new(tensor, made=False)
        self._meet(tensor, number, epoch)
        draft, named = self._drafts[number], self._names.get(id(tensor))
        if named is not None and not draft.name:
            # Its value was made through another tensor of the same memory: `.data`.
            draft.name = named[1]
        if draft.array is None:
            self._attach(draft, tensor)
        return number

    def _lies(self, storage: Storage | None, value: int) -> bool:
        """Whether a tensor still lies where its value did: ``.data`` may have changed."""
        layout = self._drafts[value].layout
        return layout is None or (storage is not None and layout.storage == storage.number)

    def made(self, tensor: torch.Tensor) -> int:
        """Give a new number to a tensor that a call has just made or changed."""
        return self._new(tensor, made=True)

    def before_write(self, tensor: torch.Tensor) -> None:
        """Copy the recorded values of a tensor's memory, which is about to be overwritten."""
        self.balance.verify_in(tensor)
        storage = self._storage(tensor)
        if storage is None:
            return
        self._remember(tensor._base if tensor._base is not None else tensor)
        for draft in storage.drafts:
            # What is written through ``.data`` leaves a tensor its history.
            for key in self._by_object.keys() & draft.objects:
                self._remember(self._by_object[key][0]())
            keep_copy(draft)
        storage.epoch += 1
        storage.waiting.clear()
        # Copies need no tracking.
        storage.drafts.clear()

    def lend(self, tensor: torch.Tensor) -> None:
        """Copy the values of a tensor's memory, now and later: it may be resized unseen."""
        if not is_plain(tensor):
            return
        storage = self._storage(tensor) or self._new_storage(tensor)
        storage.lent = True
        for draft in storage.drafts:
            keep_copy(draft)
        storage.drafts.clear()

    def in_flight(self, tensor: torch.Tensor, is_done: Callable[[], bool]) -> None:
        """Leave a tensor's value unread until what fills its memory is done."""
        draft, storage = self._drafts[self.of(tensor)], self._storage(tensor)
        if storage is None:
            return
        storage.filling.append(is_done)
        storage.drafts.clear()
        storage.wait(draft, tensor)

    def arrived(self, tensor: torch.Tensor) -> None:
        """Read a tensor's memory again: the program has waited for what fills it."""
        storage = self._storage(tensor)
        if storage is not None:
            storage.filled()

    def let_go(self, tensor: torch.Tensor) -> None:
        """Hold a tensor's memory only: torch copies a gradient that somebody else holds."""
        _, value, _ = self._by_object.pop(id(tensor))
        self._drafts[value].objects.remove(id(tensor))

    def hold(self, tensor: torch.Tensor) -> None:
        """Hold a tensor in any case: the program has put a hook on it."""
        number = self.of(tensor)
        self._by_object[id(tensor)] = (lambda: tensor, number, self._epoch(tensor))

    def release_tensors(self) -> set[int]:
        """Release the program's tensors; return the storages that something else holds.

        Those may be resized later, unseen.
        """
        self._by_object.clear()
        self._names.clear()
        self._past.clear()
        alive = [s for s in self._in_order if s.memory is not None]
        # One use is this store's.
        return {s.number for s in alive if torch._C._storage_Use_Count(s.memory._cdata) > 1}

    def __len__(self) -> int:
        return len(self._drafts)

    def release(self, numbers: Iterable[int]) -> None:
        """Free values' arrays and the tensors that hold them; the values stay known."""
        touched: dict[int, Storage] = {}
        for number in numbers:
            draft = self._drafts[number]
            draft.array = None
            draft.copied = False
            for key in draft.objects:
                entry = self._by_object.get(key)
                if entry is not None and entry[1] == number:
                    tensor = entry[0]()
                    self._remember(tensor)
                    if tensor is not None:
                        # The program may use it again. What is detached from it shares its key.
                        self._by_object[key] = (weakref.ref(tensor), number, entry[2])
            draft.objects.clear()
            if draft.layout is not None:
                touched[draft.layout.storage] = self._in_order[draft.layout.storage]
        for storage in touched.values():
            storage.drafts = [draft for draft in storage.drafts if draft.array is not None]
            if not storage.drafts:
                storage.let_go()

    def memory(self, number: int) -> tuple[object, int]:
        """Return a key for the memory that holds a value's array, and its bytes."""
        draft = self._drafts[number]
        if draft.array is None:
            return None, 0
        if draft.copied or draft.layout is None:
            return (number,), draft.array.nbytes
        storage = self._in_order[draft.layout.storage]
        return storage.number, 0 if storage.memory is None else int(storage.memory.nbytes())

    def foreign(self, values: set[int]) -> set[int]:
        """Return the storages that the program may change later.

        Those of the given values, and of all values that came from outside.
        """
        return {
            draft.layout.storage
            for number, draft in enumerate(self._drafts)
            if draft.layout is not None and (number in values or not draft.made)
        }

    def bytes_of(self, storages: set[int]) -> int:
        """Return the bytes of some storages."""
        memories = (self._in_order[number].memory for number in storages)
        return sum(int(memory.nbytes()) for memory in memories if memory is not None)

    def own(self, storages: set[int]) -> None:
        """Copy the values in some storages, including views."""
        lying: dict[int, list[Draft]] = {number: [] for number in storages}
        for draft in self._drafts:
            if draft.layout is not None and draft.layout.storage in storages:
                lying[draft.layout.storage].append(draft)
        for number, drafts in lying.items():
            self._look(self._in_order[number])
            keep_copies(drafts, self._in_order[number].bytes)

    def storage(self, value: int) -> int | None:
        """Return the number of a value's storage."""
        layout = self._drafts[value].layout
        return layout.storage if layout else None

    def tensors(self) -> Iterator[tuple[torch.Tensor, int]]:
        """Yield every known tensor that is unchanged, with its number."""
        for held, value, epoch in self._by_object.values():
            tensor = held()
            if tensor is not None and self._epoch(tensor) == epoch:
                yield tensor, value

    def histories(self) -> Iterator[tuple[Any, int, int]]:
        """Yield the outputs of nodes: the node's identity, output number, value."""
        yield from self._past
        for tensor, value in self.tensors():
            node = _history(tensor)
            if node is not None:
                yield identity(node), tensor.output_nr, value

    def taken(self, tensor: torch.Tensor) -> bool:
        """Note the node of a view that an operation takes after its base was written to.

        Torch has rebuilt its history for that operation; the next write replaces it again. Return
        whether it is such a view.
        """
        if tensor._base is None or not self._epoch(tensor):
            return False
        self._remember(tensor)
        return True

    def _remember(self, tensor: torch.Tensor | None) -> None:
        """Note the node of a tensor that is about to be overwritten or let go."""
        entry = None if tensor is None else self._by_object.get(id(tensor))
        if tensor is None or entry is None or entry[0]() is not tensor:
            return
        node = _history(tensor) if entry[2] == self._epoch(tensor) else None
        if node is not None:
            self._past.append((identity(node), tensor.output_nr, entry[1]))

    def is_overwritten(self, number: int) -> bool:
        """Whether a value's memory has been written to since."""
        draft = self._drafts[number]
        storage = None if draft.layout is None else self._in_order[draft.layout.storage]
        return storage is not None and storage.epoch != draft.epoch

    def value(self, number: int) -> Value:
        """Return a value as it is now."""
        d = self._drafts[number]
        if d.layout is not None and d.array is not None and not d.copied:
            self._look(self._in_order[d.layout.storage])
        return d.value(number)

    def _storage(self, tensor: torch.Tensor) -> Storage | None:
        """Return the storage of a tensor, if known, after a check for resizing."""
        storage = self._storages.get(address(tensor))
        if storage is not None:
            self._look(storage)
        return storage

    def _look(self, storage: Storage) -> None:
        """Drop the values of a storage that the program has resized unseen."""
        if storage.filling:
            storage.settle()
        if storage.extent is None or storage.memory is None:
            return
        if whereabouts(storage.memory) != storage.extent:
            drop(storage)
            storage.take(storage.memory)

    def _forget(self, tensor: torch.Tensor) -> None:
        """Drop the values of a tensor's memory, to which something has written unseen."""
        storage = self._storage(tensor)
        if storage is not None:
            drop(storage)

    def _new_storage(self, tensor: torch.Tensor) -> Storage:
        weak: Any = StorageWeakRef
        memory = tensor.untyped_storage()
        storage = Storage(len(self._in_order), weak(memory), lent=sys.getrefcount(memory) > ALONE)
        storage.take(memory)
        self._storages[memory._cdata] = storage
        self._in_order.append(storage)
        return storage

    def _epoch(self, tensor: torch.Tensor) -> int:
        if is_sparse(tensor):
            return version(tensor)
        storage = self._storage(tensor)
        return storage.epoch if storage else 0

    def _key(self, tensor: torch.Tensor) -> tuple[Any, ...]:
        at = address(tensor)
        if at == -1:
            return (self._without_memory.setdefault(tensor, object()),)
        layout = (tensor.storage_offset(), tensor.stride(), tensor.shape)
        return (at, *layout, tensor.dtype, tensor.is_conj(), tensor.is_neg())

    def _new(self, tensor: torch.Tensor, *, made: bool) -> int:
        number = len(self._drafts)
        named = self._names.get(id(tensor))
        draft = Draft(
            shape=shape_of(tensor),
            dtype=dtype_name(tensor),
            array=None,
            layout=None,
            made=made,
            # Inside the call that makes it, a tensor has no history yet, so only tensors from
            # outside are known to be leaves.
            leaf=not made and tensor.is_leaf and tensor.requires_grad,
            name=named[1] if named else "",
        )
        epoch = self._attach(draft, tensor)
        self._drafts.append(draft)
        self._meet(tensor, number, epoch)
        if made and tensor._base is not None:
            self._by_object[id(tensor)] = (weakref.ref(tensor), number, epoch)
        self._by_key[self._key(tensor)] = (number, epoch)
        return number

    def _meet(self, tensor: torch.Tensor, number: int, epoch: int) -> None:
        self._by_object[id(tensor)] = (lambda: tensor, number, epoch)
        self.balance.open(tensor)
        self._drafts[number].objects.append(id(tensor))

    def _attach(self, draft: Draft, tensor: torch.Tensor) -> int:
        """Give a value its array; return how often its memory has been written to."""
        if is_sparse(tensor):
            draft.array, draft.sparse = dense(tensor)
            draft.copied = True
            return version(tensor)
        if not is_plain(tensor):
            return 0
        storage = self._storage(tensor) or self._new_storage(tensor)
        if storage.memory is None:
            memory = tensor.untyped_storage()
            storage.lent = storage.lent or sys.getrefcount(memory) > ALONE
            storage.take(memory)
        draft.read(tensor, storage.bytes)
        draft.layout = Layout(storage.number, int(tensor.storage_offset()), tuple(tensor.stride()))
        draft.epoch = storage.epoch
        if storage.filling:
            storage.wait(draft, tensor)
        else:
            storage.keep(draft)
        return storage.epoch


def identity(node: Any) -> Any:
    """Return what a node is known by: itself, but for what torch makes when a view's base changes.

    Those are not to be held, either.
    """
    if not node.name().startswith("AsStrided"):
        return node
    layout = (tuple(node._saved_size), tuple(node._saved_stride), node._saved_storage_offset)
    return (node._sequence_nr(), *layout)


# What is known of a tensor that was never met.
_NOWHERE: tuple[Held, int, int] = (lambda: None, 0, -1)


def _history(tensor: torch.Tensor) -> Any:
    try:
        return tensor.grad_fn
    except RuntimeError:
        # Torch refuses for a view made without grad mode whose base has changed since.
        return None
