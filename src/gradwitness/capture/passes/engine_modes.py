"""Which modes of this package are on while torch's engine runs a node.

The function mode is on for what the program's hooks and custom functions do, such as passes of
their own. The dispatch modes are off while torch alone computes: under any dispatch mode, some of
its derivative formulas take another branch, with other bits.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch._C import _pop_torch_dispatch_stack, _push_on_torch_dispatch_stack
from torch.overrides import _get_current_function_mode_stack, _push_mode
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from gradwitness.capture.calls.mode import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.overrides import TorchFunctionMode


# Torch's types leave these out.
_TORCH: Any = torch._C
_MODE_OF, _FAKED = _TORCH._get_dispatch_mode, _TORCH._TorchDispatchModeKey.FAKE


def enter(mode: TorchFunctionMode) -> None:
    """Enter a mode, if it is off, until torch restores the thread's modes behind the node."""
    stack: Any = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    if all(other is not mode for other in stack):
        _push_mode(mode)  # type: ignore[no-untyped-call]


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
        _put([mode for mode in modes if not isinstance(mode, Mode)], modes)

    def back(self, node: int) -> None:
        """Restore the thread's stack."""
        _put(self._modes.pop(node), _get_current_dispatch_mode_stack())


def are_others_on() -> bool:
    """Whether a dispatch mode of the program's is on the thread's stack."""
    modes = _get_current_dispatch_mode_stack()
    return any(not (isinstance(mode, Mode) or _is_compiler_s(mode)) for mode in modes)


def is_faked() -> bool:
    """Whether a mode is on under which operations compute shapes, and no numbers."""
    return _MODE_OF(_FAKED) is not None


def is_on(mode: object) -> bool:
    """Whether a mode is on the thread's stack."""
    return any(other is mode for other in _get_current_dispatch_mode_stack())


def is_traced() -> bool:
    """Whether a mode of torch's compiler is on, under which tensors stand for others."""
    return any(map(_is_compiler_s, _get_current_dispatch_mode_stack()))


@contextlib.contextmanager
def without_ours() -> Iterator[None]:
    """Leave this package's modes for a while; the program's own stay, in order."""
    before = _get_current_dispatch_mode_stack()
    ours = [mode for mode in before if isinstance(mode, Mode)]
    if are_others_on():
        _put([mode for mode in before if not isinstance(mode, Mode)], before)
        try:
            yield
        finally:
            _put(before, _get_current_dispatch_mode_stack())
        return
    # They are the uppermost. Torch's compiler asks what has been entered, not what is on the stack.
    for mode in reversed(ours):
        TorchDispatchMode.__exit__(mode, None, None, None)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for mode in ours:
            TorchDispatchMode.__enter__(mode)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def below(mode: Mode) -> Iterator[None]:
    """Put a mode below the program's on the thread's stack, so that it sees what they run."""
    before = _get_current_dispatch_mode_stack()
    compilers = sum(map(_is_compiler_s, before))
    moved = [*before[:compilers], mode, *before[compilers:]]
    _put(moved, before)
    try:
        yield
    finally:
        _put(before, moved)


def _is_compiler_s(mode: Any) -> bool:
    return getattr(mode, "_mode_key", None) is not None


def _put(modes: Sequence[Any], now: Sequence[Any]) -> None:
    """Replace what differs on the thread's stack; the compiler's modes lie below all others."""
    same = 0
    for mode, other in zip(modes, now, strict=False):
        if mode is not other:
            break
        same += 1
    for _ in now[same:]:
        _pop_torch_dispatch_stack(None)
    for mode in modes[same:]:
        _push_on_torch_dispatch_stack(mode)
