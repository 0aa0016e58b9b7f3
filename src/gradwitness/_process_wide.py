"""What is the whole process's, and set while any watched block runs, or is judged."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import warnings
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# A recorded step makes so many times the objects that a plain one does, at least.
_TIMES = 10
# The largest threshold that Python takes: a C int.
_MOST = 2**31 - 1
# Whose threads compute nothing with NumPy: a notebook's, a progress bar's, those that load data.
_IDLE = (
    "ipykernel", "IPython", "multiprocessing", "rich", "tensorboard", "torch", "tqdm", "zmq",
)  # fmt: skip
# But these run the program's own functions: those of a ThreadPool, of a notebook's subshells.
_WORKING = ("IPython.lib.backgroundjobs", "ipykernel.subshell", "multiprocessing.dummy")


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

    @property
    def is_held(self) -> bool:
        """Whether any block holds it."""
        return self._blocks > 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Set it for a while, if that is possible."""
        if not self.hold():
            yield
            return
        try:
            yield
        finally:
            self.release()

    @abstractmethod
    def _set(self) -> bool: ...

    @abstractmethod
    def _restore(self) -> None: ...


class _FullCollections(ProcessWide):
    """Has Python's collector go through older objects of the program about as often as unwatched.

    It does so after so many new objects, and here most of those are the recorder's. Young objects
    are collected as ever; so many times as seldom those that stayed, and with them, as often as
    ever after that, all objects.
    """

    def _set(self) -> bool:
        young, self._before, old = gc.get_threshold()
        self._own = min(self._before * _TIMES, _MOST)
        gc.set_threshold(young, self._own, old)
        return True

    def _restore(self) -> None:
        # The program may have set the others, or all three.
        young, now, old = gc.get_threshold()
        if now == self._own:
            gc.set_threshold(young, self._before, old)


class _OneBlasThread(ProcessWide):
    """Has the BLAS that came with NumPy compute on one thread.

    Its threads wait actively for the next product, and so do torch's: on as many cores they are in
    each other's way, and take twice as long for the same. Not where the program has threads of its
    own, which may multiply with NumPy meanwhile: their last digits could be others.
    """

    def _set(self) -> bool:
        library = _blas_of_numpy()
        self._before = 0 if library is None else library.get_num_threads()
        if self._before <= 1 or not _is_alone():
            return False
        library.set_num_threads(1)
        return True

    def _restore(self) -> None:
        _blas_of_numpy().set_num_threads(self._before)


@cache
def _blas_of_numpy() -> Any:
    """Return what sets the number of threads of NumPy's own BLAS; None if it has none to itself.

    Or if that cannot be told: what is only faster shall not fail in the user's program.
    """
    import threadpoolctl

    home = Path(sys.modules["numpy"].__file__ or "").parent
    found: list[Any] = []
    # It warns of libraries that the program has loaded; such a warning may be an error there.
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = threadpoolctl.ThreadpoolController().lib_controllers
    return next(
        (
            library
            for library in found
            if library.user_api == "blas"
            and Path(library.filepath).parent in (home.parent / "numpy.libs", home / ".dylibs")
        ),
        None,
    )


def _is_alone() -> bool:
    """Whether no thread but this one may compute with NumPy."""
    return threading.active_count() == 1 or all(map(_is_idle, threading.enumerate()))


def _is_idle(thread: threading.Thread) -> bool:
    if thread is threading.current_thread():
        return True
    if type(thread).__module__ in _WORKING:
        return False
    runs = getattr(thread, "_target", None) or type(thread)
    return str(getattr(runs, "__module__", "")).partition(".")[0] in _IDLE


FULL_COLLECTIONS = _FullCollections()
ONE_BLAS_THREAD = _OneBlasThread()
