"""What watching a step on a GPU costs, what comes to the host for it, and which rules run there.

``python benchmarks/device.py [--device cuda] [--arrays cupy]`` prints two tables in markdown, in
about two minutes. The first: the time of a watched and judged step over the plain one, by the
clock, until the device is done; its calls and nodes; and what came to the host for its verdict:
single numbers, for each of which the device is waited for (those that a rule reads by itself are
not seen), arrays, and the bytes of both. The second: the rules' samples evaluated on CuPy's arrays
(``pip install 'gradwitness[cuda12]'`` or ``[cuda13]``), beside NumPy's results. Without CuPy all
tensors are copied to the host. Without a device it says so, with exit code 2; ``--device cpu
--arrays stand-in`` shows both tables without one, of arrays that take only what CuPy takes: what
comes to the host is the same there, and times tell nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

import numpy as np
import torch
from cost import row
from cost_models import CASES, Case

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import gradwitness
from engine.device_array import DeviceArray
from engine.elsewhere import by_rule, evaluated, recorded_elsewhere
from gradwitness.capture.memory import arrays
from gradwitness.engine import distant
from rules.harness import make

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS = ("MLP, ReLU", "CNN, BatchNorm", "TransformerEncoder")
DEPTHS = ("full", "fast")
ROUNDS = 3
# So many numbers of an array are single ones that came together.
FEW = 8
# Sums of a device may go in another order than NumPy's.
NEAR = 1e-9
ABSENT = 2


class ToHost:
    """Counts what comes to the host: single numbers, arrays of more, and the bytes of all."""

    def __init__(self) -> None:
        self.numbers = self.arrays = self.bytes = 0
        self._patches = contextlib.ExitStack()

    def __enter__(self) -> Self:
        copied, fetched = arrays._brought, distant.on_host

        def counted_copy(tensor: torch.Tensor) -> torch.Tensor:
            if not tensor.is_cpu:
                self._count(tensor.numel(), tensor.nbytes)
            return copied(tensor)

        def counted_fetch(array: Any) -> Any:
            if distant.is_distant(array):
                self._count(array.size, array.nbytes)
            return fetched(array)

        self._patches.enter_context(mock.patch.object(arrays, "_brought", counted_copy))
        for module in [m for name, m in sys.modules.items() if name.startswith("gradwitness")]:
            if getattr(module, "on_host", None) is fetched:
                self._patches.enter_context(mock.patch.object(module, "on_host", counted_fetch))
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()

    def _count(self, size: int, nbytes: int) -> None:
        self.numbers += size <= FEW
        self.arrays += size > FEW
        self.bytes += nbytes


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
    """Print the table of the models, for all steps and until there is a verdict."""
    heads = ("plain (ms)", "over plain", "steps", "numbers", "arrays", "MiB")
    print(row("model", "depth", *heads, "verdict"))
    print(row("---", "---", *["---:"] * len(heads), "---"))
    for name in MODELS:
        torch.manual_seed(0)
        case = moved(CASES[name](), device)
        case.step()
        plain = statistics.median(seconds(case.step, device) for _ in range(ROUNDS))
        for depth in DEPTHS:
            witness = gradwitness.watch(case.model, depth=depth)
            with ToHost() as host:
                taken = seconds(partial(watched, witness, case), device)
            tape = witness.tape
            steps = len(tape.calls) + sum(len(sweep.node_runs) for sweep in tape.sweeps)
            came = host.numbers, host.arrays, host.bytes / 2**20
            figures = plain * 1e3, taken / plain, steps, *came
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
    stand_in = asked.arrays == "stand-in"
    with recorded_elsewhere(DeviceArray) if stand_in else contextlib.nullcontext():
        told_of_models(device)
    try:
        told_of_rules(asked.arrays)
    except ImportError as error:
        print(f"\nno rule was run on the device's arrays: {error}", file=sys.stderr)
        return ABSENT
    return 0


if __name__ == "__main__":
    sys.exit(main())
