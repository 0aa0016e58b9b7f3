"""From live tensors to numbered values: who is who, and what an in-place write must not destroy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradwitness.capture.arrays import as_array, dtype_name, is_plain
from gradwitness.tape import Layout, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import torch
    from numpy.typing import NDArray


@dataclass
class _Draft:
    """A value while it is being recorded: its array may yet be replaced by a copy."""

    shape: tuple[int, ...]
    dtype: str
    array: NDArray[np.generic] | None
    layout: Layout | None
    made: bool
    leaf: bool
    name: str = ""
    copied: bool = False


@dataclass
class _Storage:
    """One piece of memory; ``epoch`` counts the writes to it."""

    number: int
    keep: Any  # holds the memory, so that its address is not given to another
    epoch: int
    drafts: list[_Draft]


class ValueStore:
    """Numbers the tensors of a program.

    A tensor keeps its number until its memory is written to; then the old number keeps a copy of
    the old numbers. Tensors are held, so that no identity is given out twice.
    """

    def __init__(self) -> None:
        self._drafts: list[_Draft] = []
        self._storages: dict[int, _Storage] = {}
        self._by_object: dict[int, tuple[torch.Tensor, int, int]] = {}
        self._by_place: dict[tuple[Any, ...], tuple[int, int]] = {}
        self._names: dict[int, tuple[torch.Tensor, str]] = {}
        self._overwritten: list[tuple[Any, int, int]] = []

    def name(self, tensor: torch.Tensor, name: str) -> None:
        """Give a tensor the user's name for it; the first name stays."""
        if id(tensor) in self._names:
            return
        self._names[id(tensor)] = (tensor, name)
        # A model that was built inside the block has values already.
        known = self._by_object.get(id(tensor))
        if known is not None and known[0] is tensor:
            self._drafts[known[1]].name = name

    def leaf(self, tensor: torch.Tensor) -> int:
        """Return the number of a tensor that turned out to collect a gradient."""
        number = self.of(tensor)
        self._drafts[number].leaf = True
        return number

    def of(self, tensor: torch.Tensor) -> int:
        """Return the number of a tensor as it is now, giving it one if it is new."""
        epoch = self._epoch(tensor)
        entry = self._by_object.get(id(tensor))
        if entry is not None and entry[0] is tensor and entry[2] == epoch:
            return entry[1]
        known = self._by_place.get(self._place(tensor))
        if known is not None and known[1] == epoch:
            self._by_object[id(tensor)] = (tensor, known[0], epoch)
            return known[0]
        return self._new(tensor, made=False)

    def made(self, tensor: torch.Tensor) -> int:
        """Give a new number to a tensor that a call has just made or changed."""
        return self._new(tensor, made=True)

    def before_write(self, tensor: torch.Tensor) -> None:
        """Copy what is recorded of a tensor's memory, which is about to be overwritten."""
        storage = self._storages.get(_address(tensor))
        if storage is None:
            return
        self._remember(tensor._base if tensor._base is not None else tensor)
        storage.epoch += 1
        for draft in storage.drafts:
            _keep_copy(draft)
        # The copies need no further looking after.
        storage.drafts.clear()

    def storage(self, value: int) -> int | None:
        """Return the number of the memory that a value lies in."""
        layout = self._drafts[value].layout
        return layout.storage if layout else None

    def tensors(self) -> Iterator[tuple[torch.Tensor, int]]:
        """Yield every tensor that is known and unchanged since, with its number."""
        for tensor, value, epoch in self._by_object.values():
            if self._epoch(tensor) == epoch:
                yield tensor, value

    def histories(self) -> Iterator[tuple[Any, int, int]]:
        """Yield nodes with the number of one of their outputs: node, which output, value."""
        yield from self._overwritten
        for tensor, value in self.tensors():
            node = _history(tensor)
            if node is not None:
                yield node, tensor.output_nr, value

    def _remember(self, tensor: torch.Tensor) -> None:
        """Note whose output a tensor is that is about to be overwritten: it gets another node."""
        entry = self._by_object.get(id(tensor))
        if entry is None or entry[0] is not tensor or entry[2] != self._epoch(tensor):
            return
        node = _history(tensor)
        if node is not None:
            self._overwritten.append((node, tensor.output_nr, entry[1]))

    def own(self, values: set[int]) -> None:
        """Copy what the program may change later: the values given, and all that it brought in.

        The views of that memory are copied with it.
        """
        foreign = {
            draft.layout.storage
            for number, draft in enumerate(self._drafts)
            if draft.layout is not None and (number in values or not draft.made)
        }
        for draft in self._drafts:
            if draft.layout is not None and draft.layout.storage in foreign:
                _keep_copy(draft)

    def finish(self) -> tuple[Value, ...]:
        """Return the frozen values."""
        return tuple(
            Value(number, d.shape, d.dtype, d.array, d.layout, d.name, d.leaf)
            for number, d in enumerate(self._drafts)
        )

    def _epoch(self, tensor: torch.Tensor) -> int:
        storage = self._storages.get(_address(tensor))
        return storage.epoch if storage else 0

    def _place(self, tensor: torch.Tensor) -> tuple[Any, ...]:
        address = _address(tensor)
        if address == -1:
            return (id(tensor),)
        layout = (tensor.storage_offset(), tensor.stride(), tuple(tensor.shape))
        return (address, *layout, tensor.dtype)

    def _new(self, tensor: torch.Tensor, *, made: bool) -> int:
        number = len(self._drafts)
        named = self._names.get(id(tensor))
        draft = _Draft(
            shape=tuple(tensor.shape),
            dtype=dtype_name(tensor),
            array=None,
            layout=None,
            made=made,
            # Inside a call that makes it, a tensor has no history yet, so only what comes from
            # outside can be told to be a leaf.
            leaf=not made and tensor.is_leaf and tensor.requires_grad,
            name=named[1] if named else "",
        )
        epoch = 0
        if is_plain(tensor):
            address = _address(tensor)
            storage = self._storages.get(address)
            if storage is None:
                storage = _Storage(len(self._storages), tensor.untyped_storage(), 0, [])
                self._storages[address] = storage
            storage.drafts.append(draft)
            epoch = storage.epoch
            draft.array = as_array(tensor)
            draft.layout = Layout(
                storage.number, int(tensor.storage_offset()), tuple(tensor.stride())
            )
        self._drafts.append(draft)
        self._by_object[id(tensor)] = (tensor, number, epoch)
        self._by_place[self._place(tensor)] = (number, epoch)
        return number


def _history(tensor: torch.Tensor) -> Any:
    try:
        return tensor.grad_fn
    except RuntimeError:
        # Torch refuses for a view that was made without grad mode and whose base changed since.
        return None


def _address(tensor: torch.Tensor) -> int:
    try:
        address: int = tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        # Sparse and wrapped tensors have no storage that can be named.
        return -1
    return address


def _keep_copy(draft: _Draft) -> None:
    if draft.array is None or draft.copied:
        return
    draft.array = draft.array.copy()
    draft.array.flags.writeable = False
    draft.copied = True
