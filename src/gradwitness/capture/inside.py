"""Nested backward passes: those that run inside another."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from torch.overrides import _get_current_function_mode_stack

if TYPE_CHECKING:
    from torch.overrides import TorchFunctionMode


class Inside:
    """Lets a mode, which is off while a pass runs, see inside a custom function's backward.

    Such a backward may run another pass, as checkpoints do.
    """

    def __init__(self, mode: TorchFunctionMode) -> None:
        self._mode: Any = mode
        # Modes belong to threads; torch cleans up those of accelerators' threads itself.
        self._entered: list[int] = []

    def enter(self) -> None:
        """Enter the mode."""
        self._mode.__enter__()
        self._entered.append(threading.get_ident())

    def leave(self) -> None:
        """Leave it again."""
        self._entered.pop()
        self._mode.__exit__(None, None, None)

    def close(self) -> None:
        """Leave it where a backward that raised has left it entered."""
        # Torch has restored its modes where the error left its engine.
        stack: Any = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
        left = sum(mode is self._mode for mode in stack)
        entered = sum(thread == threading.get_ident() for thread in self._entered)
        for _ in range(min(left, entered)):
            self._mode.__exit__(None, None, None)
        self._entered.clear()
