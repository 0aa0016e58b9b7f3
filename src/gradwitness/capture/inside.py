"""What runs inside a backward pass: passes of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from torch.overrides import _get_current_function_mode_stack

if TYPE_CHECKING:
    from torch.overrides import TorchFunctionMode


class Inside:
    """Lets a mode see what a custom function's backward does: it is off while a pass runs.

    Such a backward may run a pass of its own, as checkpoints do.
    """

    def __init__(self, mode: TorchFunctionMode) -> None:
        self._mode: Any = mode
        # Modes belong to threads: accelerators have their own, which torch tidies up itself.
        self._entered: list[int] = []

    def enter(self) -> None:
        """Put the mode on."""
        self._mode.__enter__()
        self._entered.append(threading.get_ident())

    def leave(self) -> None:
        """Take it off again."""
        self._entered.pop()
        self._mode.__exit__(None, None, None)

    def close(self) -> None:
        """Take it off where a backward that raised has left it on."""
        # Torch has put its modes back as they were where the error came out of its engine.
        stack: Any = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
        left = sum(mode is self._mode for mode in stack)
        entered = sum(thread == threading.get_ident() for thread in self._entered)
        for _ in range(min(left, entered)):
            self._mode.__exit__(None, None, None)
        self._entered.clear()
