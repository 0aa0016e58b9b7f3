"""Settings of the whole process are the program's again after the last block."""

from __future__ import annotations

import contextlib
import functools
import gc
import multiprocessing.pool
import threading
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import threadpoolctl
import torch
from torch import nn

import gradwitness
from gradwitness import _process_wide
from gradwitness.judging.local import Judge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.tape import Tape


@pytest.fixture(autouse=True)
def _thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 11, 12)
    yield
    gc.set_threshold(*before)


def test_full_collections_are_rarer_within_blocks_alone() -> None:
    with gradwitness.watch(nn.Linear(1, 1)):
        assert gc.get_threshold() == (700, 110, 12)
        with gradwitness.watch(nn.Linear(1, 1)):
            assert gc.get_threshold() == (700, 110, 12)
        assert gc.get_threshold() == (700, 110, 12)
    assert gc.get_threshold() == (700, 11, 12)


def test_blocks_may_end_in_any_order() -> None:
    first, second = gradwitness.watch(), gradwitness.watch()
    with first:
        second.__enter__()
    assert gc.get_threshold() == (700, 110, 12)
    second.__exit__(None, None, None)
    assert gc.get_threshold() == (700, 11, 12)


def test_what_the_program_sets_stays() -> None:
    with gradwitness.watch(nn.Linear(1, 1)):
        gc.set_threshold(1000, 20, 30)
    assert gc.get_threshold() == (1000, 20, 30)


def test_what_the_program_sets_in_part_stays_and_the_rest_is_restored() -> None:
    with gradwitness.watch(nn.Linear(1, 1)):
        gc.set_threshold(0)
    assert gc.get_threshold() == (0, 11, 12)


def test_the_largest_threshold_can_be_held() -> None:
    largest = 2**31 - 1
    gc.set_threshold(700, largest, 12)
    with gradwitness.watch(nn.Linear(1, 1)):
        assert gc.get_threshold() == (700, largest, 12)
    assert gc.get_threshold() == (700, largest, 12)


def test_they_are_rare_until_the_verdict_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    conclude = Judge.conclude

    def concluding(self: Judge, tape: Tape) -> Any:
        seen.append(gc.get_threshold())
        return conclude(self, tape)

    monkeypatch.setattr(Judge, "conclude", concluding)
    with gradwitness.watch(nn.Linear(1, 1)):
        pass
    assert seen == [(700, 110, 12)]
    assert gc.get_threshold() == (700, 11, 12)


def test_a_verdict_that_fails_restores_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Judge, "conclude", interrupted)
    with pytest.raises(KeyboardInterrupt), gradwitness.watch(nn.Linear(1, 1)):
        pass
    assert gc.get_threshold() == (700, 11, 12)


def blas_threads() -> list[int]:
    """Return the number of threads of each BLAS in the process that has its own."""
    found = threadpoolctl.threadpool_info()
    return [
        one["num_threads"]
        for one in found
        if one["user_api"] == "blas" and "/numpy.libs/" in one["filepath"]
    ]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """Collect how many threads the BLAS of NumPy has while each call is judged; else two."""
    threads: list[list[int]] = []
    called = Judge.called

    def looked(self: Judge, number: int) -> None:
        threads.append(blas_threads())
        called(self, number)

    monkeypatch.setattr(Judge, "called", looked)
    # Other tests may have left threads behind: these are not the program's.
    all_threads, here = threading.enumerate, threading.current_thread()
    others = {thread for thread in all_threads() if thread is not here}
    monkeypatch.setattr(
        threading, "enumerate", lambda: [t for t in all_threads() if t not in others]
    )
    monkeypatch.setattr(threading, "active_count", lambda: len(threading.enumerate()))
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        if blas_threads() != [2]:
            pytest.skip("this NumPy has no OpenBLAS of its own that runs on two threads")
        yield threads


def watched_step() -> list[int]:
    """Judge a step; return what the program itself sees between them."""
    x = torch.ones(3, requires_grad=True)
    with gradwitness.watch(names={"x": x}) as witness:
        y = x * 2
        within = blas_threads()
        torch.autograd.backward(y.sum())
    assert witness.verdict is gradwitness.Verdict.AGREES
    return within


def test_blas_has_one_thread_while_judging_and_the_programs_own_else(seen: list[list[int]]) -> None:
    assert watched_step() == [2]
    assert seen
    assert all(threads == [1] for threads in seen)
    assert blas_threads() == [2]


def test_a_recording_is_judged_on_one_blas_thread(seen: list[list[int]]) -> None:
    x = torch.ones(3, requires_grad=True)
    with gradwitness.watch(names={"x": x}) as witness:
        torch.autograd.backward((x * 2).sum())
    del seen[:]
    gradwitness.judge(witness.tape)
    assert seen
    assert all(threads == [1] for threads in seen)
    assert blas_threads() == [2]


def test_blas_is_restored_after_a_failure(
    seen: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Judge, "called", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        watched_step()
    assert not seen
    assert blas_threads() == [2]


# A thread of the standard library's, as one that prefetches data is; and Python's own wrapper of a
# method of a type that is written in C, which belongs to no module.
@pytest.mark.parametrize(
    "wrapped", [lambda f: lambda: f(), lambda f: functools.partial(f).__call__]
)
def test_threads_that_may_compute_keep_their_blas(seen: list[list[int]], wrapped: Any) -> None:
    done = threading.Event()
    other = threading.Thread(target=wrapped(done.wait))
    other.start()
    try:
        assert watched_step() == [2]
    finally:
        done.set()
        other.join()
    assert seen
    assert all(threads == [2] for threads in seen)


def test_threads_of_a_pool_may_compute_those_of_a_pool_of_processes_do_not(
    seen: list[list[int]],
) -> None:
    with multiprocessing.pool.ThreadPool(1):
        watched_step()
    assert seen
    assert all(threads == [2] for threads in seen)
    del seen[:]
    with multiprocessing.get_context("spawn").Pool(1):
        watched_step()
    assert seen
    assert all(threads == [1] for threads in seen)


def fails() -> Any:
    raise OSError("the libraries cannot be listed")


def warns() -> Any:
    warnings.warn("two libraries of OpenMP", RuntimeWarning, stacklevel=1)
    return SimpleNamespace(lib_controllers=[])


@pytest.mark.parametrize("controller", [fails, warns])
def test_libraries_that_cannot_be_told_leave_the_program_alone(
    monkeypatch: pytest.MonkeyPatch, controller: Any
) -> None:
    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", controller)
    _process_wide._blas_of_numpy.cache_clear()
    x = torch.ones(3, requires_grad=True)
    try:
        with gradwitness.watch(names={"x": x}) as witness:
            torch.autograd.backward((x * 2).sum())
    finally:
        _process_wide._blas_of_numpy.cache_clear()
    assert witness.verdict is gradwitness.Verdict.AGREES
