"""Values and the memory that they lie in, while they are being recorded."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradwitness.capture.memory.arrays import bytes_at, is_mirrored, lying_in, whereabouts
from gradwitness.capture.memory.devices import checksum, copied, handed_over
from gradwitness.engine.distant import at_hand, is_distant
from gradwitness.engine.floats import is_inexact
from gradwitness.tape import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradwitness.tape import Layout

# Values of one memory that are compared with what is written; and the steps of one comparison, of
# which NumPy's types know none and all.
_FEW = 8
_WORK: Any = 1000
# More bytes of a value are not copied each time that others might change them.
_LARGE = 2**24
_FREE: Callable[[int], None] = torch.UntypedStorage._free_weak_ref


@dataclass(slots=True, eq=False)
class Draft:
    """A value while it is being recorded: its array may yet be replaced by a copy.

    What `value` returns is made once until something changes, which only `put`, `lose` and `is_now`
    do: so no array outlives its place in the record.
    """

    shape: tuple[int, ...]
    dtype: str
    array: NDArray[np.generic] | None
    layout: Layout | None
    made: bool
    leaf: bool
    name: str = ""
    epoch: int = 0
    copied: bool = False
    mirrored: bool = False
    freed: bool = False
    sparse: int = 0
    objects: tuple[int, ...] = ()  # the tensors that are held for it, by id
    shown: Value | None = None
    released: bool = False
    # The checksum of numbers whose memory others may change, and whether it was seen to differ.
    mark: int | None = None
    overwritten: bool = False
    # Whether more than a few of its numbers were read.
    whole: bool = False

    def put(self, array: NDArray[np.generic] | None, *, copied: bool = False) -> None:
        """Set the array, in memory that the program may overwrite or in its own."""
        self.array, self.copied, self.shown, self.released = array, copied, None, False

    def lies_as(self, tensor: torch.Tensor) -> bool:
        """Whether its numbers lie in their memory as a tensor's do."""
        at = self.layout
        return (
            at is not None
            and at.strides == tensor.stride()
            and at.offset == tensor.storage_offset()
            and self.shape == tensor.shape
        )

    def is_now(self, name: str, *, leaf: bool) -> None:
        """Set what it is called, and whether it collects a gradient."""
        self.name, self.leaf, self.shown = name, leaf, None

    def lose(self) -> None:
        """Be without an array: its memory changed before it could be read."""
        self.array, self.freed, self.shown, self.mark = None, True, None, None

    def release(self) -> None:
        """Be without an array that no step needs."""
        self.put(None)
        self.released = True

    def confirm(self) -> None:
        """Be without an array if, of memory without a copy, the numbers are others by now."""
        array = None if self.copied or self.mark is None else self.array
        if array is not None and _mark(array) != self.mark:
            self.lose()
            self.overwritten = self.released = True

    def is_stale(self, tensor: torch.Tensor, *, picks: bool = False) -> bool:
        """Whether a tensor's memory, which others may change, may hold other numbers by now.

        An operation that only ``picks`` some of very many numbers makes a value of its own.
        """
        if self.mark is None:
            return self.released
        if picks and not self.copied:
            return False
        self.whole = True
        now = handed_over(tensor)
        return now is not None and _mark(now) != self.mark

    def is_start(self, *, saved: bool, sent: bool) -> bool:
        """Whether a replay takes it from the record: it was made neither in the block nor a pass.

        Rules take lazy views and sparse tensors as recorded and, of what is ``saved``, integers.
        What underflowed of a gradient in float16 is told from its numbers.
        """
        if self.mirrored or self.sparse or (saved and not is_inexact(self.dtype)):
            return True
        return self.dtype == "float16" if sent else not self.made

    def read(self, tensor: torch.Tensor) -> None:
        """Take a tensor's numbers, from its memory or a copy."""
        array, self.freed = handed_over(tensor), False
        # The array of a lazy view is a copy: its memory holds other numbers.
        self.mirrored = is_mirrored(tensor)
        # So is what was brought to the host from elsewhere.
        self.put(array, copied=isinstance(array, np.ndarray) and not tensor.is_cpu)

    def value(self, number: int) -> Value:
        """Return it as it is now."""
        shown = self.shown
        if shown is None:
            at = None if self.mirrored else self.layout
            rest = self.name, self.leaf, self.freed, self.sparse
            shown = Value(number, self.shape, self.dtype, self.array, at, *rest)
            if is_distant(self.array):
                # Once its numbers have come to the host, they stay there as long as it lives.
                return at_hand(shown)
            self.shown = shown
        return shown


@dataclass(slots=True, eq=False)
class Storage:
    """One piece of memory; ``epoch`` counts the writes to it.

    ``memory`` keeps its content, unless the program resizes it: then its bytes lie elsewhere than
    at ``extent``. Once that is let go, a weak reference still keeps its address from being reused.
    The arrays of its values are parts of ``bytes``.
    """

    number: int
    address: int = -1
    memory: Any = None
    weak: int | None = None
    extent: tuple[int, int] | None = None
    bytes: NDArray[np.uint8] | None = None
    epoch: int = 0
    drafts: tuple[Draft, ...] = ()
    # Whether others may change it unseen; and whether the forward of a custom function let them.
    lent: bool = False
    within: bool = False
    # Whether it is not torch's own, so that it may be another storage's; and whether none but who
    # gave it to torch is known to have it.
    foreign: bool = False
    borrowed: bool = False
    # For each collective that fills it: whether it is done; and the values not read before.
    filling: tuple[Callable[[], bool], ...] = ()
    waiting: tuple[tuple[Draft, torch.Tensor], ...] = ()

    def take(self, tensor: torch.Tensor) -> None:
        """Hold a tensor's memory, where it lies now."""
        memory = tensor.untyped_storage()
        # Whoever else has the object may resize it.
        self.lent = self.lent or sys.getrefcount(memory) > _ALONE
        self.hold(memory)
        if self.foreign and not self.lent:
            self.lent = self.borrowed = True

    def hold(self, memory: torch.UntypedStorage) -> None:
        """Hold the memory, where it lies now."""
        self.memory, self.address, self.extent = memory, memory._cdata, whereabouts(memory)
        self.bytes = bytes_at(memory, self.extent)
        self.foreign = not memory.resizable()

    def is_alive(self) -> bool:
        """Whether somebody still holds the memory."""
        if self.memory is not None:
            return True
        return self.weak is not None and not torch.UntypedStorage._expired(self.weak)

    @property
    def nbytes(self) -> int:
        """How many bytes are held."""
        return 0 if self.memory is None else int(self.memory.nbytes())

    def forget(self) -> None:
        """Forget the values that have been released, and let the memory go if no other is left."""
        if self.drafts:
            self.drafts = tuple([draft for draft in self.drafts if draft.array is not None])
        if self.memory is not None and not self.drafts:
            if self.weak is None:
                self.weak = self.memory._weak_ref()
            self.memory = self.bytes = None

    def __del__(self, free: Callable[[int], None] = _FREE) -> None:
        """Let another have the address."""
        if self.weak is not None:
            free(self.weak)

    def has_moved(self) -> bool:
        """Whether the program has resized the memory unseen."""
        memory = self.memory
        if memory is None or self.extent is None:
            return False
        try:
            return (memory.data_ptr(), memory.nbytes()) != self.extent
        except RuntimeError:
            return True

    def keep(self, draft: Draft) -> None:
        """Keep a value's numbers: in this memory or, if it is lent, in a copy."""
        self.drafts = (*self.drafts, draft)
        if self.lent:
            self._own(draft)

    def beside(self, tensor: torch.Tensor) -> tuple[Draft, ...]:
        """Return the values that share no number with a tensor: such as other chunks of one sum.

        Of many, none: each would be looked at before each write.
        """
        memory, drafts = self.bytes, self.drafts
        if memory is None or self.lent or not 1 < len(drafts) <= _FEW:
            return ()
        first, strides = int(tensor.storage_offset()), tensor.stride()
        written = lying_in(memory, tensor.dtype, tensor.shape, first, strides)
        return () if written is None else tuple([d for d in drafts if _apart(d, memory, written)])

    def lend(self, *, within: bool) -> None:
        """Keep copies, now and later: others may resize this memory, or write to it."""
        self.within = within
        if self.borrowed or not self.lent:
            self.confirm()
            self.lent, self.borrowed = True, False
            for draft in self.drafts:
                self._own(draft)

    def confirm(self) -> None:
        """Drop the values without a copy whose numbers have changed."""
        for draft in self.drafts if self.borrowed else ():
            draft.confirm()

    def _own(self, draft: Draft) -> None:
        if self.borrowed and draft.array is not None and draft.array.nbytes > _LARGE:
            if draft.mark is not None:
                # It was released in the meantime.
                return
        else:
            keep_copy(draft)
        draft.mark = None if draft.array is None else _mark(draft.array)

    def wait(self, draft: Draft, tensor: torch.Tensor) -> None:
        """Leave a value unread for now."""
        draft.lose()
        self.waiting = (*self.waiting, (draft, tensor))

    def settle(self) -> None:
        """Read what waits once every collective that fills this memory is done."""
        if self.filling and all(is_done() for is_done in self.filling):
            self.filled()

    def filled(self) -> None:
        """Read what waits."""
        self.filling = ()
        for draft, tensor in self.waiting:
            # Those released in the meantime are held by no object.
            if draft.objects:
                draft.read(tensor)
                self.keep(draft)
        self.waiting = ()


def drop(storage: Storage) -> None:
    """Drop the values of a storage that were not copied before its memory changed."""
    for draft in storage.drafts:
        if not (draft.copied or draft.mirrored):
            draft.lose()
    storage.drafts = ()
    storage.waiting = ()
    storage.epoch += 1


def _mark(array: NDArray[np.generic]) -> int:
    """Return a checksum of numbers in the order in which they lie: a transpose is not copied."""
    transposed = not is_distant(array) and array.flags.f_contiguous
    return checksum(array.T if transposed else array)


def _apart(draft: Draft, memory: NDArray[np.uint8], written: NDArray[np.generic]) -> bool:
    """Whether a value lies in a memory, and what is written there has no byte of it."""
    array = draft.array
    # Where the search would take long, NumPy says that they may share one.
    lies = array is not None and array.base is memory
    return lies and not np.may_share_memory(array, written, max_work=_WORK)


def keep_copy(draft: Draft) -> None:
    """Give a value an array of its own."""
    if draft.array is None or draft.copied:
        return
    draft.put(copied(draft.array), copied=True)


def keep_copies(drafts: list[Draft], memory: NDArray[np.uint8] | None) -> None:
    """Give the values of one memory arrays of their own: parts of one copy, if it is no larger."""
    lying = [
        (draft, draft.array, draft.layout)
        for draft in drafts
        if draft.array is not None and draft.array.base is memory
    ]
    size = sum(array.nbytes for _, array, _ in lying)
    if len(lying) > 1 and memory is not None and memory.nbytes <= size:
        copy = memory.copy()
        copy.flags.writeable = False
        for draft, array, layout in lying:
            first = 0 if layout is None else layout.offset * array.itemsize
            own: NDArray[np.generic] = np.ndarray(
                array.shape, array.dtype, copy, first, array.strides
            )
            draft.put(own, copied=True)
    for draft in drafts:
        keep_copy(draft)


def _alone() -> int:
    """Return the reference count of a storage that only a local variable holds."""
    tensor = torch.empty(0)
    memory = tensor.untyped_storage()
    return sys.getrefcount(memory)


_ALONE = _alone()
