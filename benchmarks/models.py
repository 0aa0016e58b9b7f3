"""Is a real model ever refuted though autograd is right, and what does watching it cost? One table.

``python benchmarks/models.py [--seeds N] [MODEL ...]``. Each architecture of
``tests/architectures`` runs one training step for each of 20 seeds, in float32, under bfloat16
autocast and, where torch can, with everything in bfloat16; every DISAGREES is false. Bound over
error is the median over all steps that are off at all, beside what nine in ten do not exceed. A run
that is interrupted prints the table of what was tried; ``--formats`` and ``--sound`` leave out
formats, and what watching costs; ``--depth fast`` judges by samples and projections.
Time is the median ratio of a watched step to a plain one, taken in turns in one process.
Memory is what one step adds to the process at its peak, each step in a process of its own (Linux).
The models of the zoo are small, so that both figures are mostly fixed costs there; the three large
ones at the end, whose activations fill hundreds of MiB, show how they grow.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import gradwitness
from architectures.workload import Workload
from architectures.zoo import ZOO, build
from gradwitness import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEEDS, ROUNDS = 20, 3


def wide_mlp() -> Workload:
    """16 layers of 256 units for 16,384 samples: 512 MiB of activations."""
    layers = [part for _ in range(16) for part in (nn.Linear(256, 256), nn.ReLU())]
    model, x = nn.Sequential(*layers), torch.randn(16384, 256)
    return Workload(model, lambda: model(x).square().mean())


def wide_cnn() -> Workload:
    """12 blocks of convolution, normalisation and rectifier on 8 images of 16 x 128 x 128."""
    blocks = [
        part
        for _ in range(12)
        for part in (nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    ]
    model, x = nn.Sequential(*blocks), torch.randn(8, 16, 128, 128)
    return Workload(model, lambda: model(x).square().mean())


def wide_transformer() -> Workload:
    """8 encoder layers of width 128 for 16 sequences of 256."""
    layer = nn.TransformerEncoderLayer(128, 4, 512, batch_first=True)
    model = nn.TransformerEncoder(layer, 8, enable_nested_tensor=False)
    x = torch.randn(16, 256, 128)
    return Workload(model, lambda: model(x).square().mean())


LARGE: dict[str, Callable[[], Workload]] = {
    made.__name__: made for made in (wide_mlp, wide_cnn, wide_transformer)
}


@dataclass
class Sound:
    """What came of right models."""

    runs: int = 0
    refuted: int = 0
    doubtful: int = 0
    steps: int = 0
    judged: int = 0
    gradients: int = 0
    # The bound over the error, of each step that is off.
    slack: list[float] = field(default_factory=list)


FORMATS = ("float32", "autocast", "bfloat16")


def made(name: str, seed: int = 0) -> Workload:
    """Build a model of the zoo, or a large one."""
    if name not in LARGE:
        return build(name, seed)
    torch.manual_seed(seed)
    return LARGE[name]()


@contextlib.contextmanager
def default_dtype(form: str) -> Iterator[None]:
    """Make all numbers of a program bfloat16, if that is the format."""
    torch.set_default_dtype(torch.bfloat16 if form == "bfloat16" else torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def soundness(name: str, seeds: int, form: str, depth: str) -> Sound:
    """Watch one right step for each seed; none where torch cannot run it in bfloat16."""
    sound = Sound()
    for seed in range(seeds):
        try:
            with default_dtype(form):
                work = made(name, seed)
                with gradwitness.watch(work.model, depth=depth) as witness:
                    work.step(low=form == "autocast")
        except (RuntimeError, TypeError, NotImplementedError):
            if form == "bfloat16":
                break
            raise
        report = witness.report
        shares = report.coverage()
        sound.runs += 1
        sound.refuted += report.verdict is Verdict.DISAGREES
        sound.doubtful += report.count(Verdict.INCONCLUSIVE)
        sound.steps += len(report.findings)
        sound.judged += shares["gradients"].judged
        sound.gradients += shares["gradients"].total
        compared = [f.comparison for f in report.findings]
        sound.slack += [c.bound / c.error for c in compared if c.error > 0 < c.bound < math.inf]
        for finding in report.wrong:
            print(f"refuted: {name} seed {seed} {form}: {finding.title}")
    return sound


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def slowdown(name: str) -> float:
    """Return the median ratio of watched to plain."""
    work = made(name)

    def watched() -> None:
        with gradwitness.watch(work.model, keep=0):
            work.step()

    if name not in LARGE:
        work.step()
        watched()
    rounds = 1 if name in LARGE else ROUNDS
    return statistics.median(1 / (timed(work.step) / timed(watched)) for _ in range(rounds))


def peak(name: str, mode: str) -> int:
    """Return the MiB that one step adds to this process at its peak; run in a fresh process."""
    work = made(name)
    # Forget the peak of what came before.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    chosen = (
        gradwitness.watch(work.model, keep=0) if mode == "watched" else contextlib.nullcontext()
    )
    with chosen:
        work.step()
    return round((_status("VmHWM") - before) / 1024)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def peaks(name: str) -> list[str]:
    """Return the peaks of a plain and of a watched step, or dashes where they cannot be had."""
    if not Path("/proc/self/clear_refs").exists():
        return ["-", "-"]
    # So that memory counts while it is used, and not what the C library holds back for later.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    return [
        subprocess.run(  # noqa: S603 (this file)
            [sys.executable, __file__, "--peak", name, mode],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()[-1]
        for mode in ("plain", "watched")
    ]


def rows(name: str, options: argparse.Namespace, whole: dict[str, Sound]) -> Iterator[list[str]]:
    """Yield what the table says of a model, and add it to the whole."""
    for form in options.formats if name in ZOO else ("float32",):
        sound = soundness(name, options.seeds if name in ZOO else 1, form, options.depth)
        for figure in vars(sound):
            sums = whole.setdefault(form, Sound())
            setattr(sums, figure, getattr(sums, figure) + getattr(sound, figure))
        costs = form == "float32" and not options.sound
        cost = [f"{slowdown(name):.0f} x", *peaks(name)] if costs else ["", "", ""]
        yield [name, form, *told(sound), *cost]


def told(sound: Sound) -> list[str]:
    """Return what the table says of soundness."""
    return [
        str(sound.runs),
        str(sound.refuted),
        f"{sound.doubtful} of {sound.steps}",
        f"{sound.judged} of {sound.gradients}",
        f"{statistics.median(sound.slack):.2g}" if sound.slack else "",
        f"{np.quantile(sound.slack, 0.9):.2g}" if sound.slack else "",
    ]


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--sound", action="store_true")
    parser.add_argument("--depth", choices=("full", "fast"), default="full")
    parser.add_argument("models", nargs="*")
    options = parser.parse_args()
    unknown = set(options.models) - {*ZOO, *LARGE}
    if unknown:
        parser.error(f"no models: {', '.join(sorted(unknown))}")
    warnings.simplefilter("ignore")
    table = Table("architecture", "format", "runs", "falsely refuted")
    for column in (
        "steps in doubt",
        "gradients judged",
        "bound / error",
        "90 %",
        "time",
        "MiB plain",
        "MiB watched",
    ):
        table.add_column(column, justify="right")
    whole: dict[str, Sound] = {}
    try:
        for name in track(options.models or [*ZOO, *LARGE], description="architectures"):
            for row in rows(name, options, whole):
                table.add_row(*row)
    finally:
        for form, sound in whole.items():
            table.add_row("all", form, *told(sound), "", "", "")
        Console(width=132).print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        print(peak(sys.argv[2], sys.argv[3]))
    else:
        main()
