"""What a fast check costs beside the step it checks, where a step takes 50 ms or more.

``python benchmarks/depths.py``: CPU seconds on one thread, plain and watched steps in turns, the
median of their ratios; recording alone is a step watched by nothing.
"""

from __future__ import annotations

import math
import statistics
import time
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import gradwitness
from gradwitness._room import Room
from gradwitness.capture import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 3


def mlp() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Return 16 layers of 256 units, for 8,192 samples."""
    layers = [part for _ in range(16) for part in (nn.Linear(256, 256), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(256, 10))
    return model, torch.randn(8192, 256), torch.randint(0, 10, (8192,))


def cnn() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Return 4 blocks of convolution, normalisation and rectifier, for 32 images."""
    blocks = [
        part
        for _ in range(4)
        for part in (nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1))
    ]
    ends = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), *blocks, *ends)
    return model, torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))


def transformer() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Return 4 layers of 512 units with 8 heads and a table of 8,000 words, for 16 x 64 words."""
    layer = nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True, activation="gelu")
    body = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    model = nn.Sequential(nn.Embedding(8000, 512), body, nn.Linear(512, 8000), nn.Flatten(0, 1))
    return model, torch.randint(0, 8000, (16, 64)), torch.randint(0, 8000, (16 * 64,))


def taken(run: Callable[[], object]) -> float:
    """Return the CPU seconds that a call takes."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def costs(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float, float]:
    """Return a plain step's seconds, and what recording and a fast check add, over that."""

    def step() -> None:
        model.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(x), y))

    def recorded() -> None:
        recorder = Recorder(model, room=Room(0))
        recorder.start()
        step()
        recorder.stop()

    def watched() -> None:
        with gradwitness.watch(model, depth="fast") as witness:
            step()
        witness.require()

    rounds = [[taken(run) for run in (step, recorded, watched)] for _ in range(ROUNDS + 1)][1:]
    added = [statistics.median(one[k] / one[0] - 1 for one in rounds) for k in (1, 2)]
    return statistics.median(one[0] for one in rounds), added[0], added[1]


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    table = Table(title="What a step costs more, as a multiple of the plain step", box=None)
    for column in ("network", "plain step (ms)", "recorded", "watched, fast"):
        table.add_column(column, justify="left" if column == "network" else "right")
    all_added = []
    for make in (mlp, cnn, transformer):
        torch.manual_seed(0)
        plain, recording, fast = costs(*make())
        all_added.append(fast)
        table.add_row(make.__name__, f"{plain * 1e3:.0f}", f"{recording:.2f}", f"{fast:.2f}")
    mean = math.exp(statistics.mean(map(math.log, all_added)))
    table.add_row("geometric mean", "", "", f"{mean:.2f}")
    Console(width=100, highlight=False).print(table)


if __name__ == "__main__":
    main()
