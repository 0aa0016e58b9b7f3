"""From live tensors to numbered values, whose numbers survive in-place writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwitness.capture.memory.arrays import dtype_name, is_plain, lying_in, shape_of
from gradwitness.capture.memory.balance import Balance
from gradwitness.capture.memory.known import Histories, Known
from gradwitness.capture.memory.memories import Memories
from gradwitness.capture.memory.sparse import dense, is_sparse, version
from gradwitness.capture.memory.storages import Draft, drop, keep_copy
from gradwitness.tape import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch

    from gradwitness.capture.memory.memories import Key
    from gradwitness.capture.memory.storages import Storage
    from gradwitness.tape import Value


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
        # By number, which is the position of a value on the tape.
        self.drafts: list[Draft] = []
        self._memories = Memories()
        self._in_order = self._memories.in_order
        self._by_object: dict[int, Known] = {}
        self._by_key: dict[Key, int] = {}
        self._names: dict[int, tuple[torch.Tensor, str]] = {}
        self.histories = Histories(self._by_object, self._memories.epoch)
        self._origins: dict[int, int] = {}

    def name(self, tensor: torch.Tensor, name: str) -> None:
        """Give a tensor the user's name; the first name stays."""
        if id(tensor) in self._names:
            return
        self._names[id(tensor)] = (tensor, name)
        # A model built inside the block has values already.
        known = self._by_object.get(id(tensor))
        if known is not None and known.tensor() is tensor:
            draft = self.drafts[known.value]
            draft.is_now(name, leaf=draft.leaf)

    def leaf(self, tensor: torch.Tensor) -> int:
        """Return the number of a tensor that collects a gradient, and mark it as a leaf."""
        number = self.of(tensor)
        draft = self.drafts[number]
        if not draft.leaf:
            draft.is_now(draft.name, leaf=True)
        return number

    def of(self, tensor: torch.Tensor, *, picks: bool = False) -> int:
        """Return the current number of a tensor, for an operation; a new tensor gets one."""
        known = self._by_object.get(id(tensor))
        if known is not None and known.is_same(tensor):
            draft = self.drafts[known.value]
            if draft.array is not None and draft.objects and draft.lies_as(tensor):
                return known.value
        storage = self._memories.of(tensor)
        epoch = version(tensor) if storage is None else storage.epoch
        met = False
        if (
            known is not None
            and known.epoch == epoch
            and (known.held is tensor or known.tensor() is tensor)
        ):
            number, draft = known.value, self.drafts[known.value]
            # Whether it still lies where its value did: ``.data`` may have changed.
            at = draft.layout
            is_there = storage is not None and at is not None and at.storage == storage.number
            met = at is None or (is_there and draft.lies_as(tensor))
        if not met:
            key = self._memories.key(tensor, storage)
            number = self._by_key.get(key, -1)
            if number < 0 or self.drafts[number].epoch != epoch:
                number = self._new(tensor, storage, key)
                self.drafts[number].whole = not picks
                return number
            draft = self.drafts[number]
        if storage is not None and storage.lent and draft.is_stale(tensor, picks=picks):
            return self._renew(tensor, storage, number)
        if met and draft.objects:
            return number
        self._meet(tensor, draft, number, storage)
        named = self._names.get(id(tensor))
        if named is not None and not draft.name:
            # Its value was made through another tensor of the same memory: `.data`.
            draft.is_now(named[1], leaf=draft.leaf)
        if draft.array is None:
            self._attach(draft, tensor, storage, self._memories.key(tensor, storage))
        return number

    def met(self, tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """Look at those tensors that are known, before something asks which values they hold."""
        self._memories.confirm()
        listed = [*tensors]
        for tensor in listed:
            if id(tensor) in self._by_object:
                self.of(tensor)
                self.histories.fresh[id(tensor)] = None
        return listed

    def ask_again(self, values: Iterable[int]) -> None:
        """Ask the tensors of some values for their history once more."""
        for value in values:
            self.histories.fresh.update(dict.fromkeys(self.drafts[value].objects))

    def origin(self, number: int) -> int:
        """Return the value that a call made, of one that was then written to unseen."""
        return self._origins.get(number, number)

    def made(self, tensor: torch.Tensor) -> int:
        """Give a new number to a tensor that a call has just made or changed."""
        return self._new(tensor, self._memories.of(tensor), None)

    def before_write(self, tensor: torch.Tensor, *, in_place: bool = False) -> None:
        """Copy the recorded values of a tensor's memory, which is about to be overwritten.

        If ``in_place``, only the tensor's own numbers are: values beside it stay where they are.
        """
        self.balance.verify_in(tensor)
        storage = self._memories.of(tensor)
        if storage is None:
            return
        storage.confirm()
        self._remember_of(tensor if tensor._base is None else tensor._base, storage)
        left = storage.beside(tensor) if in_place else ()
        for draft in storage.drafts:
            # What is written through ``.data`` leaves a tensor its history.
            for key in draft.objects:
                known = self._by_object.get(key)
                if known is not None:
                    self._remember(known, storage)
            if draft not in left:
                keep_copy(draft)
        storage.epoch += 1
        storage.waiting = ()
        # Copies need no tracking.
        storage.drafts = left

    def lend(self, tensor: torch.Tensor, *, within: bool = False) -> None:
        """Copy the values of a tensor's memory, now and later: it may change unseen."""
        if is_plain(tensor):
            self._memories.lend(tensor, within=within)

    def in_flight(self, tensor: torch.Tensor, is_done: Callable[[], bool]) -> None:
        """Leave a tensor's value unread until what fills its memory is done."""
        draft, storage = self.drafts[self.of(tensor)], self._memories.of(tensor)
        if storage is None:
            return
        storage.filling = (*storage.filling, is_done)
        storage.drafts = ()
        storage.wait(draft, tensor)

    def arrived(self, tensor: torch.Tensor) -> None:
        """Read a tensor's memory again: the program has waited for what fills it."""
        storage = self._memories.of(tensor)
        if storage is not None:
            storage.filled()

    def let_go(self, tensor: torch.Tensor) -> None:
        """Hold a tensor's memory only: torch copies a gradient that somebody else holds."""
        known = self._by_object.pop(id(tensor))
        draft = self.drafts[known.value]
        draft.objects = tuple([key for key in draft.objects if key != id(tensor)])

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor itself is held, not only watched."""
        known = self._by_object.get(id(tensor))
        return known is not None and known.held is tensor

    def hold(self, tensor: torch.Tensor) -> None:
        """Hold a tensor in any case: the program has put a hook on it."""
        self.of(tensor)
        self._by_object[id(tensor)].held = tensor

    def release_tensors(self) -> set[int]:
        """Release the program's tensors; return the storages that others hold: and may resize."""
        self._by_object.clear()
        self._names.clear()
        self.histories = Histories({}, self._memories.epoch)
        return self._memories.shared()

    def release(self, numbers: Iterable[int]) -> None:
        """Free values' arrays and the tensors that hold them; the values stay known."""
        touched: dict[int, Storage] = {}
        for number in numbers:
            draft, storage = self.drafts[number], None
            if draft.array is None and not draft.objects:
                # Released before.
                continue
            if draft.layout is not None:
                at = draft.layout.storage
                storage = touched[at] = self._in_order[at]
            draft.release()
            for key in draft.objects:
                known = self._by_object.get(key)
                if known is not None and known.value == number:
                    self._remember(known, storage)
                    # The program may use it again. What is detached from it shares its key.
                    known.let_go()
                    if known.tensor() is None:
                        del self._by_object[key]
            draft.objects = ()
        for storage in touched.values():
            storage.forget()

    def memory(self, number: int) -> tuple[object, int]:
        """Return a key for the memory that holds a value's array, and its bytes."""
        draft = self.drafts[number]
        if draft.array is None:
            return None, 0
        if draft.copied or draft.layout is None:
            return (number,), draft.array.nbytes
        storage = self._in_order[draft.layout.storage]
        return storage.number, storage.nbytes

    def foreign(self, values: set[int]) -> set[int]:
        """Return the storages that the program may change: of these values, and from outside."""
        return {
            draft.layout.storage
            for number, draft in enumerate(self.drafts)
            if draft.layout is not None and (number in values or not draft.made)
        }

    def bytes_of(self, storages: set[int]) -> int:
        """Return the bytes of some storages."""
        return sum(self._in_order[number].nbytes for number in storages)

    def own(self, storages: set[int]) -> None:
        """Copy the values in some storages, including views."""
        self._memories.own(storages, self.drafts)

    def storages(self, values: Iterable[int | None]) -> set[int]:
        """Return the numbers of some values' storages."""
        layouts = [self.drafts[value].layout for value in values if value is not None]
        return {layout.storage for layout in layouts if layout is not None}

    def taken(self, tensor: torch.Tensor) -> bool:
        """Note the node of a view that an operation takes; return whether its base was written to.

        Torch has then rebuilt its history for that operation; the next write replaces it again.
        """
        storage = self._memories.of(tensor)
        if not (version(tensor) if storage is None else storage.epoch):
            return False
        self._remember_of(tensor, storage)
        return True

    def _remember_of(self, tensor: torch.Tensor, storage: Storage | None) -> None:
        known = self._by_object.get(id(tensor))
        if known is not None and known.tensor() is tensor:
            self._remember(known, storage)

    def _remember(self, known: Known, storage: Storage | None) -> None:
        """Note the node of a tensor, which lies there, before it is overwritten or let go."""
        tensor = known.tensor()
        if tensor is None or not tensor.requires_grad:
            return
        epoch = version(tensor) if storage is None else storage.epoch
        if known.epoch == epoch:
            self.histories.add(tensor, known.value)

    def is_overwritten(self, number: int) -> bool:
        """Whether a value's memory has been written to since."""
        draft = self.drafts[number]
        layout = draft.layout
        written = layout is not None and self._in_order[layout.storage].epoch != draft.epoch
        return written or (draft.mark is not None and self.is_rewritten(number))

    def is_rewritten(self, number: int) -> bool:
        """Whether a value's memory, which others may change, held other numbers, by no call."""
        draft = self.drafts[number]
        return draft.overwritten or self._differs(draft)

    def _differs(self, draft: Draft) -> bool:
        """Whether a value's tensor, if there is one, has other numbers by now, by no call."""
        if draft.mark is None:
            return False
        known = (self._by_object.get(key) for key in draft.objects)
        tensors = (k.tensor() for k in known if k is not None and self.drafts[k.value] is draft)
        tensor = next((t for t in tensors if t is not None), None)
        if tensor is None or self._memories.epoch(tensor) != draft.epoch:
            return False
        return draft.is_stale(tensor)

    def value(self, number: int) -> Value:
        """Return a value as it is now."""
        draft = self.drafts[number]
        if draft.layout is not None and draft.array is not None and not draft.copied:
            storage = self._in_order[draft.layout.storage]
            if storage.filling or storage.has_moved():
                self._memories.look(storage)
        return draft.shown or draft.value(number)

    def _forget(self, tensor: torch.Tensor) -> int:
        """Drop the values of a tensor's memory, to which something has written unseen.

        Return the one that is there now.
        """
        storage = self._memories.of(tensor)
        if storage is not None:
            drop(storage)
        return self.of(tensor)

    def _new(self, tensor: torch.Tensor, storage: Storage | None, key: Key | None) -> int:
        """Give a number to a tensor that has none by its key, or that a call has just made."""
        made, number, named = key is None, len(self.drafts), self._names.get(id(tensor))
        # Inside the call that makes it, a tensor has no history yet, so only tensors from outside
        # are known to be leaves.
        leaf = not made and tensor.is_leaf and tensor.requires_grad
        name, shape = named[1] if named else "", shape_of(tensor)
        shape = self._memories.once(shape, shape)
        draft = Draft(shape, dtype_name(tensor), None, None, made, leaf, name)
        key = key or self._memories.key(tensor, storage)
        storage = self._attach(draft, tensor, storage, key)
        self.drafts.append(draft)
        known = self._meet(tensor, draft, number, storage)
        draft.epoch = known.epoch
        if made and tensor._base is not None:
            known.let_go()
        self._by_key[key] = number
        return number

    def _renew(self, tensor: torch.Tensor, storage: Storage, number: int) -> int:
        """Give a new number to a tensor whose memory may hold other numbers, by no call."""
        if not self.drafts[number].released:
            for draft in storage.drafts:
                draft.overwritten = self._differs(draft)
            if storage.within:
                # A function's forward has written to its result: that had no history before.
                storage.epoch += 1
                storage.within = False
            self.before_write(tensor)
        new = self._new(tensor, storage, self._memories.key(tensor, storage))
        self.drafts[new].whole = True
        self._origins[new] = self.origin(number)
        return new

    def _meet(
        self, tensor: torch.Tensor, draft: Draft, number: int, storage: Storage | None
    ) -> Known:
        epoch, at = version(tensor) if storage is None else storage.epoch, 0
        if storage is not None and storage.bytes is not None:
            at = tensor.data_ptr()
        known, key = Known(number, epoch, tensor, storage, at), id(tensor)
        self._by_object[key] = known
        self.histories.fresh[key] = None
        if tensor.requires_grad:
            self.balance.open(tensor)
        draft.objects = (*draft.objects, key)
        return known

    def _attach(
        self, draft: Draft, tensor: torch.Tensor, storage: Storage | None, key: Key
    ) -> Storage | None:
        """Give a value its array; return the storage that it lies in."""
        if not is_plain(tensor):
            if is_sparse(tensor):
                numbers, draft.sparse = dense(tensor)
                draft.put(numbers, copied=True)
            return storage
        storage = storage or self._memories.new(tensor)
        if storage.memory is None:
            self._memories.take(storage, tensor)
        _, first, strides, *_, conjugated, negative = key
        offset = int(first)
        draft.layout = Layout(storage.number, offset, strides)
        array = None
        if storage.bytes is not None and not (conjugated or negative):
            array = lying_in(storage.bytes, tensor.dtype, draft.shape, offset, strides)
        if array is None:
            draft.read(tensor)
        else:
            draft.put(array)
        draft.epoch = storage.epoch
        if storage.filling:
            storage.wait(draft, tensor)
        else:
            storage.keep(draft)
        return storage
