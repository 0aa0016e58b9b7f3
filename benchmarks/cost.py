"""What watching a training step costs, at each depth, beside what else people do about gradients.

``python benchmarks/cost.py [--minutes M] [MODEL ...]`` prints tables in markdown. One thread; CPU
seconds; each figure is a median of ratios to the plain step, all taken in turns in one process, so
that a noisy machine disturbs both alike, after one step of each. ``printed`` is `full` with its
report, for which the float64 replay is made. Memory is what one step adds to a process of its own
at its peak, over that of the plain step (Linux; large blocks are mapped, so that the allocator's
leftovers do not count): of `full` also with ``keep=0``, where no number is kept for the report.
``float64`` is a second run of the step in float64 whose gradients ``torch.testing.assert_close``
compares; gradcheck takes the loss as a function of the parameters, in float64. With ``--compile``
also the step under torch.compile, once it is compiled. ``peers_cost.py`` has JAX beside it, on
fewer networks.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from cost_models import CASES, Case, mlp

import gradwitness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEPTHS, PRINTED, GRADCHECK = ("full", "fast"), "full, printed", "gradcheck, fast"
# The models of which memory is measured, and which gradcheck is shown, once.
SOME = ("MLP, ReLU", "CNN, BatchNorm", "U-Net", "TransformerEncoder", "GPT", "LSTM")
# The modes whose memory is measured, with their depth and what is kept.
MEMORY: dict[str, tuple[Any, ...]] = {
    "full": ("full",),
    "full, keep=0": ("full", 0),
    "fast": ("fast",),
}
ROUNDS = 3
# Layers' widths for 10^4 to 10^7 parameters, and how many blocks are sampled, at what budget.
WIDTHS, BATCH = (50, 160, 500, 1600, 5000), 256
LOOP, BUDGET = 1000, 0.05
MAPPED = {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}


def seconds(run: Callable[[], object]) -> float:
    """Return the CPU seconds that a call takes."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def watched(case: Case, depth: str, keep: int | str = "auto") -> gradwitness.Witness:
    """Run a step watched; a right one that is refuted ends the benchmark, as does a failure."""
    with gradwitness.watch(case.model, depth=depth, keep=keep) as witness:
        case.step()
    if witness.verdict is gradwitness.Verdict.DISAGREES:
        raise SystemExit(f"a right gradient was refuted:\n{witness}")
    if witness.tape.failures:
        raise SystemExit("the witness failed: " + "; ".join(witness.tape.failures))
    return witness


def printed(case: Case) -> str:
    """Run a step watched, and print what it says."""
    return str(watched(case, "full"))


def close(case: Case, double: Case) -> None:
    """Run a step in both formats, and compare the gradients as people do."""
    double.step()
    for a, b in zip(case.model.parameters(), double.model.parameters(), strict=True):
        if a.grad is not None and b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad.to(a.dtype), rtol=1e-3, atol=1e-4)


def gradchecked(double: Case, *, fast: bool) -> None:
    """Let torch check the loss as a function of the parameters."""
    names = [name for name, _ in double.model.named_parameters()]
    leaves = [p.detach().clone().requires_grad_() for p in double.model.parameters()]

    def loss(*parameters: torch.Tensor) -> torch.Tensor:
        def model(*inputs: torch.Tensor) -> Any:
            given = dict(zip(names, parameters, strict=True))
            return torch.func.functional_call(double.model, given, inputs)

        value: torch.Tensor = double.loss(model, *double.inputs)
        return value

    torch.autograd.gradcheck(
        loss, leaves, fast_mode=fast, raise_exception=False, check_undefined_grad=False
    )


def runs_of(case: Case, *, peers: bool, compiled: bool) -> dict[str, Callable[[], object]]:
    """Return what is timed of a model, by the name of its column."""
    double = case.doubled()
    runs: dict[str, Callable[[], object]] = {
        "plain": case.step,
        **{depth: partial(watched, case, depth) for depth in DEPTHS},
        PRINTED: partial(printed, case),
        "float64": partial(close, case, double),
    }
    if peers:
        runs[GRADCHECK] = partial(gradchecked, double, fast=True)
    if compiled:
        model: Any = torch.compile(case.model)
        runs["compiled"] = Case(model, case.inputs, case.loss).step
    return runs


def ratios(name: str, patience: float, *, compiled: bool) -> tuple[float, dict[str, float]]:
    """Return a model's plain seconds, and the medians of what else costs over them."""
    torch.manual_seed(0)
    runs = runs_of(CASES[name](), peers=name in SOME, compiled=compiled)
    begun = time.perf_counter()
    # What is worked out once, of operations of a form or by a compiler, is no step's.
    for column in ("plain", *DEPTHS, *(["compiled"] if compiled else [])):
        runs[column]()
    taken: dict[str, list[float]] = {column: [] for column in runs}
    while len(taken["plain"]) < ROUNDS and (
        not taken["plain"] or time.perf_counter() - begun < patience / 2
    ):
        for column, run in runs.items():
            if column != GRADCHECK or not taken[column]:
                taken[column].append(seconds(run))
    plain = taken.pop("plain")
    over = {
        column: statistics.median(a / b for a, b in zip(times, plain, strict=False))
        for column, times in taken.items()
    }
    return statistics.median(plain), over


def peak(name: str, mode: str) -> float:
    """Return the MiB that one step adds to this process at its peak."""
    torch.manual_seed(0)
    # What is loaded at the first use is not the step's.
    small, case = mlp(8, 1, 4), CASES[name]()
    for depth in DEPTHS:
        watched(small, depth)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = status("VmRSS")
    case.step() if mode == "plain" else watched(case, *MEMORY[mode])
    return status("VmHWM") - before


def status(field: str) -> float:
    """Return an entry of this process's status in MiB; VmHWM is the peak since it was cleared."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def peaks(name: str) -> dict[str, float]:
    """Return the memory of each depth over that of the plain step."""
    most = {
        mode: float(
            subprocess.run(  # noqa: S603 (this file itself)
                [sys.executable, __file__, "--peak", mode, name],
                env=os.environ | MAPPED,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for mode in ("plain", *MEMORY)
    }
    return {mode: most[mode] / most["plain"] for mode in MEMORY}


def mean(figures: Iterable[float]) -> float:
    """Return the geometric mean."""
    return math.exp(statistics.fmean(map(math.log, figures)))


def row(*cells: object) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(f'{c:.2f}' if isinstance(c, float) else str(c) for c in cells)} |"


def told_of_models(names: list[str], patience: float, *, compiled: bool) -> None:
    """Print the table of the models."""
    columns = [*DEPTHS, PRINTED, "float64", GRADCHECK, *(["compiled"] if compiled else [])]
    memory = [f"memory, {mode}" for mode in MEMORY]
    print(row("model", "parameters", "plain (ms)", *columns, *memory))
    print(row("---", *["---:"] * (2 + len(columns) + len(memory))))
    found: dict[str, list[float]] = {column: [] for column in (*columns, *memory)}
    for name in names:
        plain, over = ratios(name, patience, compiled=compiled)
        if name in SOME:
            over |= {f"memory, {mode}": ratio for mode, ratio in peaks(name).items()}
        for column, ratio in over.items():
            found[column].append(ratio)
        size = sum(p.numel() for p in CASES[name]().model.parameters())
        shown = [over.get(column, "-") for column in found]
        print(row(name, f"{size:,}", f"{plain * 1e3:.0f}", *shown), flush=True)
    for title, figure in (("geometric mean", mean), ("worst", max)):
        print(row(f"**{title}**", "", "", *(figure(f) if f else "-" for f in found.values())))


def slope(sizes: list[int], times: list[float]) -> float:
    """Return the exponent with which time grows, by least squares."""
    return statistics.linear_regression(
        list(map(math.log, sizes)), list(map(math.log, times))
    ).slope


def told_of_growth() -> None:
    """Print how the cost grows with the number of parameters."""
    print(f"\nFour layers of ReLUs, {BATCH} samples:\n")
    print(row("parameters", "plain (ms)", *DEPTHS))
    print(row(*["---:"] * (2 + len(DEPTHS))))
    sizes: list[int] = []
    times: dict[str, list[float]] = {mode: [] for mode in ("plain", *DEPTHS)}
    for width in WIDTHS:
        torch.manual_seed(0)
        case = mlp(width, 4, BATCH)
        case.step()
        sizes.append(sum(p.numel() for p in case.model.parameters()))
        for mode, taken in times.items():
            run = case.step if mode == "plain" else partial(watched, case, mode)
            taken.append(statistics.median(seconds(run) for _ in range(ROUNDS)))
        plain = times["plain"][-1]
        over = [times[depth][-1] / plain for depth in DEPTHS]
        print(row(f"{sizes[-1]:,}", f"{plain * 1e3:.1f}", *over), flush=True)
    print(row("exponent", *(slope(sizes, taken) for taken in times.values())))


def told_of_sampling() -> None:
    """Print what a loop costs of whose blocks a random share is watched."""
    torch.manual_seed(0)
    case = mlp(256, 4, 512)
    case.step()
    plain, watching = 0.0, 0.0
    known = gradwitness.watch(case.model, depth="sample", budget=BUDGET).sampling

    def sampled() -> None:
        with gradwitness.watch(case.model, depth="sample", budget=BUDGET):
            case.step()

    for _ in range(LOOP):
        plain += seconds(case.step)
        watching += seconds(sampled)
    print(f'\n`depth="sample"`, {LOOP:,} blocks, each beside a plain step: {watching / plain:.3f}')
    print(f"\n```\n{known}\n```")


def told_of_slow_gradcheck() -> None:
    """Print what gradcheck costs in its slow mode, where it can be waited for."""
    torch.manual_seed(0)
    case = mlp(21, 10, 1)
    case.step()
    double = case.doubled()
    plain = statistics.median(seconds(case.step) for _ in range(ROUNDS))
    slow = seconds(partial(gradchecked, double, fast=False))
    full = statistics.median(seconds(partial(watched, case, "full")) for _ in range(ROUNDS))
    size = sum(p.numel() for p in case.model.parameters())
    print(
        f"\nTen layers of 21 ReLUs, batch 1, {size:,} parameters: gradcheck in slow mode "
        f"{slow / plain:.0f}, full {full / plain:.0f} times the plain step."
    )


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(CASES))
    parser.add_argument("--minutes", type=float, default=5.0, help="about how long [5]")
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    parser.add_argument("--peak", metavar="MODE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.models or list(CASES)
    torch.set_num_threads(1)
    if options.peak:
        print(peak(names[0], options.peak))
        return
    print(f"torch {torch.__version__}, {platform.machine()}, one thread\n")
    told_of_models(names, options.minutes * 60 / len(CASES), compiled=options.compile)
    told_of_growth()
    told_of_sampling()
    told_of_slow_gradcheck()


if __name__ == "__main__":
    main()
