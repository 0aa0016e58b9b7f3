"""What watching a step on a GPU costs, and which rules run on its arrays.

``python benchmarks/device.py [--device cuda] [--arrays cupy]`` prints two tables in markdown, in
about two minutes. The first: the time of a watched and judged step over the plain one, by the
clock, until the device is done, and how many recorded tensors were copied to the host for it. The
second: the rules' samples evaluated on CuPy's arrays (``cupy-cuda12x`` or ``cupy-cuda13x``), beside
NumPy's results. Without a device it says so, with exit code 2; ``--device cpu --arrays stand-in``
shows both tables without one: of the host, and of arrays that only take what CuPy takes.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from cost import row
from cost_models import CASES, Case

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import gradwitness
from engine.device_array import DeviceArray
from engine.elsewhere import by_rule, evaluated
from gradwitness.capture import arrays
from rules.harness import make

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS = ("MLP, ReLU", "CNN, BatchNorm", "TransformerEncoder")
DEPTHS = ("full", "fast")
ROUNDS = 3
# Sums of a device may go in another order than NumPy's.
NEAR = 1e-9
ABSENT = 2


class Copies:
    """Counts the tensors that a recording copies to the host, and their bytes."""

    def __init__(self) -> None:
        self.count = self.bytes = 0
        self._copied = arrays._with_memory

    def __enter__(self) -> Self:
        arrays._with_memory = self._counted
        return self

    def __exit__(self, *_: object) -> None:
        arrays._with_memory = self._copied

    def _counted(self, tensor: torch.Tensor) -> torch.Tensor:
        self.count += 1
        self.bytes += tensor.numel() * tensor.element_size()
        return self._copied(tensor)


def moved(case: Case, device: torch.device) -> Case:
    """Return a model and what goes in on a device."""
    return Case(case.model.to(device), tuple(x.to(device) for x in case.inputs), case.loss)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the time that a call takes until the device is done."""
    begun = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def watched(witness: gradwitness.Witness, case: Case) -> gradwitness.Verdict:
    """Run a step watched, and judge it."""
    with witness:
        case.step()
    return witness.verdict


def told_of_models(device: torch.device) -> None:
    """Print the table of the models."""
    print(row("model", "depth", "plain (ms)", "over plain", "host copies", "MiB copied", "verdict"))
    print(row("---", "---", "---:", "---:", "---:", "---:", "---"))
    for name in MODELS:
        torch.manual_seed(0)
        case = moved(CASES[name](), device)
        case.step()
        plain = statistics.median(seconds(case.step, device) for _ in range(ROUNDS))
        for depth in DEPTHS:
            witness = gradwitness.watch(case.model, depth=depth)
            with Copies() as copies:
                taken = seconds(partial(watched, witness, case), device)
            figures = plain * 1e3, taken / plain, copies.count, copies.bytes / 2**20
            print(row(name, depth, *figures, witness.verdict.name), flush=True)


def told_of_rules(name: str) -> None:
    """Print which rules run on the arrays of a device, and where their numbers are others."""
    if name == "cupy":
        cupy = importlib.import_module("cupy")
        put: Callable[[Any], Any] = cupy.asarray
        print(f"\nRules on the arrays of CuPy {cupy.__version__}:\n")
    else:
        put = DeviceArray
        print("\nRules on a stand-in on the host, which takes what CuPy takes:\n")
    rules, right = by_rule(), 0
    print(row("rule", "what happened"))
    print(row("---", "---"))
    for rule, samples in rules.items():
        try:
            runs = (evaluated(make(sample), put) for sample in samples)
            for made, expected in itertools.chain.from_iterable(runs):
                assert not isinstance(made, np.ndarray), "a result is on the host"
                np.testing.assert_allclose(made.get(), expected, rtol=NEAR, atol=NEAR)
        except Exception as error:  # noqa: BLE001 (what an unknown device raises is the finding)
            lines = str(error).split()
            print(row(rule, f"{type(error).__name__}: {' '.join(lines)[:120]}"), flush=True)
        else:
            right += 1
    print(f"\n{right} of {len(rules)} rules run there, with NumPy's results to {NEAR}.")


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda", help="torch's name of it [cuda]")
    parser.add_argument("--arrays", choices=("cupy", "stand-in"), default="cupy")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(
            f"torch {torch.__version__} finds no CUDA device: nothing was measured", file=sys.stderr
        )
        return ABSENT
    about = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(f"torch {torch.__version__}, {about}\n")
    told_of_models(device)
    try:
        told_of_rules(asked.arrays)
    except ImportError as error:
        print(f"\nno rule was run on the device's arrays: {error}", file=sys.stderr)
        return ABSENT
    return 0


if __name__ == "__main__":
    sys.exit(main())
