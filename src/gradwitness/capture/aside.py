"""This package's dispatch modes, taken away while torch computes the program's gradients.

Under any dispatch mode some of torch's derivative formulas take another branch, with other bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch._C import _pop_torch_dispatch_stack, _push_on_torch_dispatch_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from gradwitness.capture.mode import Mode

if TYPE_CHECKING:
    from collections.abc import Sequence


class Aside:
    """Steps aside just before a node computes, and comes back just after it.

    If the node raises, torch itself restores the modes.
    """

    def __init__(self) -> None:
        # Modes belong to threads, and each node runs on one.
        self._modes: dict[int, Sequence[Any]] = {}

    def step(self, node: int) -> None:
        """Take this package's modes off the thread's stack; the program's own stay, in order."""
        modes = _get_current_dispatch_mode_stack()
        self._modes[node] = modes
        _put([mode for mode in modes if not isinstance(mode, Mode)])

    def back(self, node: int) -> None:
        """Restore the thread's stack."""
        _put(self._modes.pop(node))


def _put(modes: Sequence[Any]) -> None:
    """Replace what differs on the thread's stack; the compiler's modes lie below all others."""
    now = _get_current_dispatch_mode_stack()
    pairs = enumerate(zip(now, modes, strict=False))
    same = next((n for n, (a, b) in pairs if a is not b), min(len(now), len(modes)))
    for _ in now[same:]:
        _pop_torch_dispatch_stack(None)
    for mode in modes[same:]:
        _push_on_torch_dispatch_stack(mode)
