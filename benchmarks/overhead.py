"""What watching costs: a recorded step, and its check, against the plain step, side by side.

``python benchmarks/overhead.py``. Each figure is the median of ratios, plain and watched taken in
turns in one process, so that a noisy machine disturbs both alike.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from gradwitness import judge
from gradwitness.capture import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness import Tape

ROUNDS = 15


def mlp(inputs: int, width: int, layers: int, batch: int) -> tuple[nn.Module, torch.Tensor]:
    """Return a multilayer perceptron with ReLUs, and data for it."""
    torch.manual_seed(0)
    stack: list[nn.Module] = [nn.Linear(inputs, width)]
    for _ in range(layers):
        stack += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*stack, nn.Linear(width, 1)), torch.rand(batch, inputs)


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def ratios(model: nn.Module, x: torch.Tensor) -> tuple[float, float, float]:
    """Return the plain step's milliseconds, and recording and checking as multiples of it."""

    def step() -> None:
        model.zero_grad()
        model(x).square().mean().backward()

    tapes: list[Tape] = []

    def watched() -> None:
        with record(model) as recorder:
            step()
        tapes[:] = [recorder.tape]

    step()
    watched()
    plain, recording, checking = [], [], []
    for _ in range(ROUNDS):
        plain.append(timed(step))
        recording.append(timed(watched) / plain[-1])
        checking.append(timed(lambda: judge(tapes[0])) / plain[-1])
    middle = statistics.median
    return middle(plain) * 1e3, middle(recording), middle(checking)


def main() -> None:
    """Print the table."""
    table = Table(title="Cost, as a multiple of the plain step", box=None)
    for column in ("network", "parameters", "plain step (ms)", "recorded step", "check"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for name, sizes in {
        "the experiment: 10 hidden layers of 21, batch 1": (10, 21, 10, 1),
        "4 hidden layers of 256, batch 64": (64, 256, 4, 64),
        "4 hidden layers of 1024, batch 256": (256, 1024, 4, 256),
    }.items():
        model, x = mlp(*sizes)
        parameters = sum(p.numel() for p in model.parameters())
        plain, recording, checking = ratios(model, x)
        table.add_row(
            name, f"{parameters:,}", f"{plain:.2f}", f"{recording:.2f}", f"{checking:.1f}"
        )
    Console(width=120, highlight=False).print(table)


if __name__ == "__main__":
    main()
