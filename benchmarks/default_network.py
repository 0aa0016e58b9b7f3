"""What the witness's own gradients of the default experiment cost, beside torch's, in one run.

``python benchmarks/default_network.py``. Forward and backward of the network that
``gradwitness run`` begins with, batch 1: torch eager in the run's float32; NumPy as one writes it
by hand for this network; the witness's compiled replay, with new leaves each time; a plain replay;
and judging. One thread each (of products of this size NumPy gives none to others). All are taken in
turns, so that a noisy machine disturbs them alike: medians of CPU time, and of the ratios to
torch's of the same turn.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from gradwitness import judge, replay
from gradwitness.capture import record
from gradwitness.engine.compiled_replay import CompiledReplay
from gradwitness.experiment import preset
from gradwitness.experiment.program import build

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradwitness.experiment.program import Program

ROUNDS = 200
# Of what takes long, only so many.
FEW = 20


def by_hand(program: Program) -> Callable[[], list[NDArray[np.float64]]]:
    """Return forward and backward as one writes them for this network alone, in float64."""
    parameters = [p.detach().double().numpy() for p in program.model.parameters()]
    weights, biases = parameters[::2], parameters[1::2]
    assert program.y is not None
    x, y = program.x.double().numpy(), program.y.double().numpy()
    last = len(weights) - 1

    def step() -> list[NDArray[np.float64]]:
        layers = [x]
        for k in range(last + 1):
            z = weights[k] @ layers[-1] + biases[k]
            layers.append(np.maximum(z, 0) if 0 < k < last else z)
        g = 2 * (layers[-1] - y)
        gradients: list[Any] = []
        for k in range(last, -1, -1):
            gradients += [g, np.outer(g, layers[k])]
            if k:
                g = weights[k].T @ g
                g = g * (layers[k] > 0) if k > 1 else g
        return gradients[::-1]

    return step


def seconds(run: Callable[[], object]) -> float:
    """Return the CPU time of a call."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def contenders() -> dict[str, tuple[Callable[[], object], int]]:
    """Return what is compared, by name, each with its number of turns."""
    program = build(preset("default"))

    def step() -> None:
        program.model.zero_grad()
        program.step()

    with record(program.model, names=program.names()) as recorder:
        program.step()
    tape = recorder.tape
    compiled, hand = CompiledReplay(tape), by_hand(program)
    arrays = {number: tape.values[number].array for number in compiled.leaves}
    leaves = {n: array.astype(np.float64) for n, array in arrays.items() if array is not None}
    # All compute the same, to the digits that float32 has.
    ours = compiled(leaves)
    for theirs, (node, _), parameter in zip(
        hand(), tape.leaves(), program.model.parameters(), strict=True
    ):
        gradient = ours.gradient(0, node.id)
        assert gradient is not None
        assert np.allclose(gradient, theirs, rtol=1e-9, atol=1e-18)
        assert parameter.grad is not None
        assert np.allclose(gradient, parameter.grad.numpy(), rtol=1e-2, atol=1e-8)
    return {
        "torch eager, float32": (step, ROUNDS),
        "NumPy by hand": (hand, ROUNDS),
        "gradwitness, compiled replay": (lambda: compiled(leaves), ROUNDS),
        "gradwitness, plain replay": (lambda: replay(tape), FEW),
        "gradwitness, compiling the replay": (lambda: CompiledReplay(tape), FEW),
        "gradwitness, judging": (lambda: judge(tape), FEW),
    }


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    compared = contenders()
    taken: dict[str, list[float]] = {name: [] for name in compared}
    ratios: dict[str, list[float]] = {name: [] for name in compared}
    for turn in range(ROUNDS):
        for name, (run, turns) in compared.items():
            if turn < turns:
                taken[name].append(seconds(run))
                ratios[name].append(taken[name][-1] / taken["torch eager, float32"][-1])
    table = Table(title="Forward and backward of the default experiment, one thread", box=None)
    for column in ("", "CPU time (ms)", "times torch's"):
        table.add_column(column, justify="right" if column else "left")
    for name in compared:
        middle = statistics.median(taken[name]) * 1e3, statistics.median(ratios[name])
        table.add_row(name, f"{middle[0]:.3f}", f"{middle[1]:.3f}")
    Console(width=100, highlight=False).print(table)


if __name__ == "__main__":
    main()
