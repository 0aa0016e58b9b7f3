"""What watching costs in elapsed time where torch computes on several threads.

``python benchmarks/threads.py [--threads N] [MODEL ...]``. Both torch and NumPy's BLAS may use N
threads [2]. Each figure is a median of ratios to the plain step, all taken in turns in one process:
watched as ever, with BLAS on one thread while a step is judged, and with BLAS left as it is.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

import threadpoolctl
import torch
from cost import watched
from cost_models import CASES
from rich.progress import track

from gradwitness._process_wide import ONE_BLAS_THREAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from cost_models import Case

ROUNDS = 5


def left_as_it_is(case: Case, depth: str) -> None:
    """Watch a step while BLAS keeps its threads."""
    hold = ONE_BLAS_THREAD.hold
    ONE_BLAS_THREAD.hold = lambda: False  # type: ignore[method-assign]
    try:
        watched(case, depth)
    finally:
        ONE_BLAS_THREAD.hold = hold  # type: ignore[method-assign]


def ratios(name: str) -> list[float]:
    """Return the elapsed time of a step in each way over that of the plain one."""
    torch.manual_seed(0)
    case = CASES[name]()
    case.step()
    ways: list[Callable[[], object]] = [
        partial(way, case, depth) for depth in ("full", "fast") for way in (watched, left_as_it_is)
    ]
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(ROUNDS):
        plain = elapsed(case.step)
        for way, times in zip(ways, taken, strict=True):
            times.append(elapsed(way) / plain)
    return [statistics.median(times) for times in taken]


def elapsed(run: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def main() -> None:
    """Print a table in markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(CASES))
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with threadpoolctl.threadpool_limits(asked.threads, user_api="blas"):
        found = {
            name: ratios(name)
            for name in track(asked.models or [*CASES], description="models", transient=True)
        }
    print(f"torch {torch.__version__}, {asked.threads} threads\n")
    print("| model | full | BLAS as it is | fast | BLAS as it is |\n|---|---:|---:|---:|---:|")
    for name, row in found.items():
        print(f"| {name} |" + "".join(f" {ratio:.1f} |" for ratio in row))
    means = [statistics.geometric_mean(column) for column in zip(*found.values(), strict=True)]
    print("| **geometric mean** |" + "".join(f" {mean:.1f} |" for mean in means))


if __name__ == "__main__":
    main()
