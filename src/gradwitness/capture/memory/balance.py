"""The closing balance: every ``.grad`` against what the recording last knew of it."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gradwitness.capture.memory.arrays import address, is_plain
from gradwitness.capture.memory.devices import checksum, handed_over
from gradwitness.tape import REDUCED

if TYPE_CHECKING:
    from collections.abc import Callable

# What sets a gradient, as a function mode sees it.
_GRAD: Any = torch.Tensor.grad
_DATA: Any = torch.Tensor.data
ASSIGNMENTS = {_GRAD.__set__, _GRAD.__delete__, _DATA.__set__}

# The state of a `.grad` whose numbers NumPy cannot see.
_UNREADABLE = -1


@dataclass
class _Account:
    """What is known of one leaf: the checksum of its ``.grad``, and the pass that it is from.

    While its accumulator runs, or a collective fills its ``.grad``, nothing is.
    """

    leaf: weakref.ref[torch.Tensor]
    state: int | None
    sweep: int | None = None
    running: bool = False


@dataclass(frozen=True)
class Change:
    """A ``.grad`` that something unseen has changed.

    Attributes
    ----------
    leaf : Tensor
    sweep : int or None
        The pass that had last added to it.
    during : int or None
        The pass while which it changed.
    received : bool
        Whether other processes sent what was written to it.
    shared : bool
        Whether another backward pass reached the leaf, which was not recorded.
    after : int or None
        The value that its ``.grad`` was then; None for none, and where others may still add to it.
    """

    leaf: torch.Tensor
    sweep: int | None
    during: int | None
    received: bool = False
    shared: bool = False
    after: int | None = None

    @property
    def reason(self) -> str:
        """What happened, in words."""
        if self.received:
            return REDUCED
        if self.shared:
            return (
                "another backward pass that was not recorded, such as another thread's, reached it "
                f"while pass {(self.sweep or 0) + 1} ran"
            )
        when = "before any pass" if self.sweep is None else f"after pass {self.sweep + 1}"
        when = when if self.during is None else f"while pass {self.during + 1} ran"
        return f"its .grad was changed outside of what was recorded, {when}"


class Balance:
    """Knows the state of each leaf's ``.grad``, by checksum.

    A state is taken where the recording sees a gradient change: after an accumulation, after a
    recorded write, after an assignment. Before the next such change, and when the block ends, the
    gradient must still be in that state. Otherwise something outside of the recording has changed
    it: another thread, C++ code, a collective, a NumPy view.

    Parameters
    ----------
    forget : callable
        Drops what was recorded of a tensor's memory, and returns the value that is there now.

    Attributes
    ----------
    changes : list of Change
    """

    def __init__(self, forget: Callable[[torch.Tensor], int]) -> None:
        self.changes: list[Change] = []
        self._forget = forget
        self._accounts: dict[int, _Account] = {}
        # The leaves whose `.grad` lies in a storage, or once did.
        self._in: dict[int, dict[int, None]] = {}

    def open(self, leaf: torch.Tensor, *, new: bool = False) -> None:
        """Take a leaf's ``.grad`` for known when the leaf is first met; of a new one, none."""
        if _collects(leaf) and self._account(leaf) is None:
            self._accounts[id(leaf)] = _Account(weakref.ref(leaf), None)
            if not new:
                self.settle(leaf)

    def settle(self, leaf: torch.Tensor, sweep: int | None = None) -> None:
        """Take a leaf's ``.grad`` for known as it is now, after a pass has added to it."""
        self.open(leaf)
        account = self._account(leaf)
        if account is None:
            return
        account.state, account.running = _state(leaf.grad), False
        account.sweep = account.sweep if sweep is None else sweep
        if leaf.grad is not None:
            self._in.setdefault(address(leaf.grad), {})[id(leaf)] = None

    def settle_in(self, tensor: torch.Tensor, *, received: bool) -> None:
        """Take every ``.grad`` in a tensor's memory for known, after a recorded write to it.

        Note it if what was written came from other processes.
        """
        for leaf in self._lying_in(tensor):
            account = self._account(leaf)
            if received and account is not None:
                self.changes.append(Change(leaf, account.sweep, None, received=True))
            self.settle(leaf)
            if received and account is not None:
                # It may still be on its way.
                account.running = True

    def verify(self, leaf: torch.Tensor, during: int | None = None) -> None:
        """Note it if a leaf's ``.grad`` is not as it was known."""
        account = self._account(leaf)
        if account is None or account.running:
            return
        if account.state != _state(leaf.grad):
            # Another pass may yet add to it, so that it is another number at the end.
            after = None if leaf.grad is None else self._forget(leaf.grad)
            self.changes.append(Change(leaf, account.sweep, during, after=after))
            self.settle(leaf)

    def accumulates(self, leaf: torch.Tensor) -> None:
        """Verify a leaf's ``.grad`` before a pass adds to it."""
        self.verify(leaf)
        account = self._account(leaf)
        if account is not None:
            account.running = True

    def share(self, leaf: torch.Tensor, sweep: int) -> None:
        """Note that a pass which was not recorded may have added to a ``.grad`` at any time."""
        self.changes.append(Change(leaf, sweep, None, shared=True))
        if leaf.grad is not None:
            self._forget(leaf.grad)

    def verify_in(self, tensor: torch.Tensor) -> None:
        """Verify every ``.grad`` in a tensor's memory, before a write to it."""
        for leaf in self._lying_in(tensor):
            self.verify(leaf)

    def verify_all(self, during: int | None = None) -> None:
        """Verify every ``.grad``, after a pass or at the end of the block."""
        for account in list(self._accounts.values()):
            leaf = account.leaf()
            if leaf is not None:
                self.verify(leaf, during)

    def before_assignment(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Verify what an assignment to ``.grad`` or ``.data`` replaces; return the leaves."""
        leaves = [tensor, *self._lying_in(tensor)]
        for leaf in leaves:
            self.verify(leaf)
        return leaves

    def _account(self, leaf: torch.Tensor) -> _Account | None:
        account = self._accounts.get(id(leaf))
        return None if account is None or account.leaf() is not leaf else account

    def _lying_in(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return the leaves whose ``.grad`` overlaps with a tensor."""
        keys = self._in.get(address(tensor)) if self._in else None
        if keys is None:
            return []
        leaves = [account.leaf() for key in keys if (account := self._accounts.get(key))]
        return [
            leaf
            for leaf in leaves
            if leaf is not None and leaf.grad is not None and overlap(leaf.grad, tensor)
        ]


def _collects(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a leaf with a ``.grad``."""
    try:
        return tensor.requires_grad and tensor.is_leaf and is_plain(tensor)
    except RuntimeError:
        # Torch refuses for a view made without grad mode whose base has changed since.
        return False


def overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors share memory."""
    if address(a) != address(b):
        return False
    (first, end), (other_first, other_end) = _span(a), _span(b)
    return first < other_end and other_first < end


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """Return where a tensor's bytes begin and end within its storage."""
    size, first = tensor.element_size(), int(tensor.storage_offset())
    reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return first * size, (first + reach + 1) * size


def _state(grad: torch.Tensor | None) -> int | None:
    """Return a checksum of a ``.grad``."""
    if grad is None:
        return None
    # Of a sharded tensor, this process's part.
    grad = getattr(grad, "_local_tensor", grad)
    array = handed_over(grad) if is_plain(grad) else None
    return _UNREADABLE if array is None else checksum(array)
