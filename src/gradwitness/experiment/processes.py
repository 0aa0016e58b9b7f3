"""Processes that run one function for many arguments."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradwitness._progress import hush

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# To start a process, which imports torch, takes as long as some tens of seeds.
_WORTH_A_PROCESS = 32
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_function: Callable[[Any], Any]


def processes_for(count: int) -> int:
    """Return how many processes so many calls are worth: on many, one for each core."""
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    return max(1, min(cores, count // _WORTH_A_PROCESS))


@contextmanager
def working(function: Callable[[Any], Any], processes: int) -> Iterator[Callable[[Any], Any]]:
    """Yield what submits an argument to processes of one thread each, and returns a future.

    They are started anew (spawned), so that no thread or lock of this one is half in them.
    """
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(function,),
    )

    def submit(argument: Any) -> Any:
        # The process that a call may start inherits all of this.
        with _uninterrupted(), _of_one_thread():
            return pool.submit(_call, argument)

    try:
        yield submit
    finally:
        # Interrupted here, by a second Ctrl-C, the pool would never end.
        with _uninterrupted():
            pool.shutdown(cancel_futures=True)


def _begin(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    hush()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _call(argument: Any) -> Any:
    return _function(argument)


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 (this runs in a child)
    parent.join()
    os._exit(1)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C, as a process then does that starts here: its parent ends the work."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _of_one_thread() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
