"""What is the whole process's, and set from the first watched block to the last."""

from __future__ import annotations

import gc
import threading
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# A recorded step makes so many times the objects that a plain one does, at least.
_TIMES = 10
# The largest threshold that Python takes: a C int.
_MOST = 2**31 - 1


class ProcessWide(ABC):
    """A setting that is held while any block runs. Blocks of several threads end in any order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0

    def hold(self) -> bool:
        """Set it for one more block; return whether that was possible."""
        with self._lock:
            if not self._blocks and not self._set():
                return False
            self._blocks += 1
            return True

    def release(self) -> None:
        """Restore what the program had set, if no other block holds this one."""
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                self._restore()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it in a ``with``, if that is possible."""
        holds = self.hold()
        try:
            yield
        finally:
            if holds:
                self.release()

    @abstractmethod
    def _set(self) -> bool: ...

    @abstractmethod
    def _restore(self) -> None: ...


class _FullCollections(ProcessWide):
    """Has Python's collector go through all objects of the program about as often as unwatched.

    It does so after so many new objects, and here most of those are the recorder's. Young objects
    are collected as ever.
    """

    def _set(self) -> bool:
        young, middle, self._before = gc.get_threshold()
        self._own = min(self._before * _TIMES, _MOST)
        gc.set_threshold(young, middle, self._own)
        return True

    def _restore(self) -> None:
        # The program may have set the others, or all three.
        young, middle, now = gc.get_threshold()
        if now == self._own:
            gc.set_threshold(young, middle, self._before)


FULL_COLLECTIONS = _FullCollections()
