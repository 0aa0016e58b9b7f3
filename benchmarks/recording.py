"""What recording alone costs, without judging: CPU seconds, and function calls of Python's.

``python benchmarks/recording.py [MODEL ...]``: models of ``cost_models.py`` on one thread, recorded
as ``fast`` does (``keep=0``). Each time is the least of some, the ratio a median of pairs taken in
turns. Calls are those that cProfile counts, less those of the plain step: no load changes them. An
event is a recorded call, or the run of a node.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from cost import row, seconds
from cost_models import CASES, Case

from gradwitness._room import Room
from gradwitness.capture.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.tape import Tape

MODELS = ("GRU", "TransformerEncoder", "GPT")
ROUNDS = 5


def recorded(case: Case) -> Tape:
    """Run a step recorded."""
    recorder = Recorder(case.model, room=Room(0))
    recorder.start()
    try:
        case.step()
    finally:
        recorder.stop()
    return recorder.tape


def calls(run: Callable[[], object]) -> int:
    """Return how many functions are called."""
    profile = cProfile.Profile()
    profile.runcall(run)
    counted: Any = pstats.Stats(profile)
    return int(counted.total_calls)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(CASES))
    torch.set_num_threads(1)
    print(row("model", "events", "plain (ms)", "recorded", "ms an event", "calls an event"))
    print(row("---", *["---:"] * 5))
    for name in parser.parse_args().models or MODELS:
        torch.manual_seed(0)
        case = CASES[name]()
        case.step()
        tape = recorded(case)
        events = len(tape.calls) + sum(len(sweep.node_runs) for sweep in tape.sweeps)
        pairs = [(seconds(case.step), seconds(partial(recorded, case))) for _ in range(ROUNDS)]
        plain, watched = map(min, zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        added = calls(partial(recorded, case)) - calls(case.step)
        each = f"{(watched - plain) / events * 1e3:.3f}"
        print(row(name, f"{events:,}", f"{plain * 1e3:.0f}", ratio, each, f"{added / events:.0f}"))


if __name__ == "__main__":
    main()
