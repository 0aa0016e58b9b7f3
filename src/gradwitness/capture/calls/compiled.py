"""Code that ``torch.compile`` would have compiled: inside a watched block it runs eagerly.

Torch does not compile under a dispatch mode. Left to itself, it would give up such code for good;
so its stance is "force_eager" while the block runs, and what was compiled stays so afterwards.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gradwitness._process_wide import ProcessWide
from gradwitness.tape import COMPILED, Unseen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from types import FrameType

_HOOKS = r"Using `torch\.compile\(module\)` when there are global hooks on modules"
# What it calls its wrapper depends on torch's version.
_COMPILED = "_TorchDynamoContext.__call__.<locals>."
# Where the operators are called that take functions: torch compiles them itself.
_OPERATORS = tuple(
    str(Path(torch.__file__).parent / part) for part in ("_higher_order_ops", "nn/attention")
)
_NOT_COMPILED = "DisableContext.__call__.<locals>._fn"


class _Eager(ProcessWide):
    """The stance "force_eager"."""

    def _set(self) -> bool:
        try:
            self._stance: Any = torch.compiler.set_stance("force_eager")
        except RuntimeError:
            # It cannot be set in the midst of compiled code.
            return False
        # The hooks are this package's: the program shall not be warned of them.
        warnings.filterwarnings("ignore", _HOOKS)
        self._filter: Any = warnings.filters[0]
        return True

    def _restore(self) -> None:
        self._stance.__exit__(None, None, None)
        with contextlib.suppress(ValueError):
            warnings.filters.remove(self._filter)  # type: ignore[attr-defined]

    @property
    def was_asked_for(self) -> bool:
        """Whether the program itself had set this stance."""
        asked: bool = self._stance.prev.stance == "force_eager"
        return asked

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Restore for a while what the program had set."""
        with self._lock:
            held = self._blocks > 0
            if held:
                self._restore()
        try:
            yield
        finally:
            with self._lock:
                if held:
                    self._set()


_EAGER = _Eager()


class Compiled:
    """Keeps the compiler away, and notes whether it would have been used.

    Attributes
    ----------
    unseen : list of Unseen
        At most one.
    """

    def __init__(self) -> None:
        self.unseen: list[Unseen] = []
        self._holds = False

    def keep_away(self) -> None:
        """Set the stance, once something has loaded the compiler."""
        if not self._holds and "torch._dynamo" in sys.modules:
            self._holds = _EAGER.hold()

    def let_back(self) -> None:
        """Restore the program's stance."""
        if self._holds:
            _EAGER.release()

    def look(self, line: str) -> None:
        """Note it if the call that runs would have been compiled."""
        if self.unseen or "torch._dynamo" not in sys.modules:
            return
        meant = not (self._holds and _EAGER.was_asked_for)
        if meant and torch.is_grad_enabled() and _is_compiled():
            self.unseen.append(Unseen(COMPILED, None, None, line=line))


def as_the_program_has_it() -> AbstractContextManager[None]:
    """Return a context in which torch compiles what it would compile outside of all blocks."""
    return _EAGER.lifted()


def renew(function: Any) -> None:
    """Let torch compile a function that it has just given up, since the stance was not set."""
    code = getattr(function, "__code__", None)
    if code is not None and not _EAGER.is_held:
        forget: Any = torch._C._dynamo.eval_frame.reset_code
        forget(code)


def wraps_operator(frame: FrameType) -> bool:
    """Whether in this frame torch itself compiles a call of an operator that takes functions."""
    caller = frame.f_back
    return (
        _is_wrapper(frame)
        and caller is not None
        and caller.f_code.co_filename.startswith(_OPERATORS)
    )


def _is_wrapper(frame: FrameType) -> bool:
    return frame.f_code.co_qualname.startswith(_COMPILED) and "fn" in frame.f_locals


def _is_compiled() -> bool:
    """Whether the running code is wrapped to be compiled, and not excepted from it."""
    frame: FrameType | None = sys._getframe(1)
    # A mode of this package is excepted itself.
    ours = True
    while frame is not None:
        name = frame.f_code.co_qualname
        if _is_wrapper(frame) and not wraps_operator(frame):
            return True
        if name == _NOT_COMPILED:
            if not ours:
                return False
            ours = False
        frame = frame.f_back
    return False
