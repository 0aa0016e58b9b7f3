"""Does the witness ever accuse the innocent, and does it find the guilty? Prints two tables.

``python benchmarks/soundness.py [--quick]``. The first table runs the default experiment over many
seeds, where autograd is right: every DISAGREES is false. The second runs each planted fault over
100 seeds: found means verdict DISAGREES, placed means that no step is accused but the one at fault.
Seeds on which a fault changes nothing (the units of a layer are all dead for the sample) are told
apart, and must not be accused. Beside it stands torch.testing.assert_close with its defaults,
which is shown the right gradients and so needs what the witness does without.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import gradwitness
from faults.planted import FAULTS, Case, case
from gradwitness import Verdict
from gradwitness.experiment import preset, run

RUNS = {"float32": 1000, "float64": 200, "bfloat16": 200}
FAULT_SEEDS = 100


@dataclass
class Innocent:
    """What came of many runs without a fault."""

    runs: int = 0
    disagrees: int = 0
    inconclusive: int = 0
    elements: int = 0
    worst: float = 0.0
    beyond_likely: int = 0

    def add(self, seed: int, dtype: str) -> None:
        """Run one seed."""
        report = run(preset("default", dtype=dtype, seed=seed)).report
        self.runs += 1
        self.disagrees += report.verdict is Verdict.DISAGREES
        self.inconclusive += report.verdict is Verdict.INCONCLUSIVE
        self.elements += report.coverage()["elements"].judged
        self.worst = max(self.worst, *(f.comparison.ratio for f in report.findings))
        self.beyond_likely += sum(f.comparison.suspicious for f in report.findings)


@dataclass
class Guilty:
    """What came of one fault over many seeds."""

    effective: int = 0
    found: int = 0
    placed: int = 0
    accused_without_effect: int = 0
    assert_close: int = 0

    def add(self, name: str, seed: int) -> None:
        """Run one seed."""
        fault = FAULTS[name]
        made = case(fault, seed)
        with gradwitness.watch(made.model) as witness:
            made.step()
        accused = witness.verdict is Verdict.DISAGREES
        if not _has_effect(made):
            self.accused_without_effect += accused
            return
        self.effective += 1
        self.found += accused
        steps = witness.report.wrong
        self.placed += accused and all(fault.node in step.title for step in steps)
        self.assert_close += not _all_close(made)


def _has_effect(made: Case) -> bool:
    wrong = made.wrong()
    return any(
        bool((wrong[n] - g).abs().max() > 1e-5 * g.abs().max()) for n, g in made.right.items()
    )


def _all_close(made: Case) -> bool:
    wrong = made.wrong()
    try:
        for name, right in made.right.items():
            torch.testing.assert_close(wrong[name], right)
    except AssertionError:
        return False
    return True


def main(quick: bool) -> None:
    """Run both tables."""
    console = Console(width=132, highlight=False)
    table = Table(title="Default experiment, no fault", box=None)
    first = ("dtype", "runs", "false DISAGREES", "INCONCLUSIVE", "numbers judged")
    for column in (*first, "worst error/bound", "steps beyond probable"):
        table.add_column(column, justify="right")
    for dtype, runs in RUNS.items():
        innocent = Innocent()
        for seed in range(runs // 20 if quick else runs):
            innocent.add(seed, dtype)
        i = innocent
        figures = (i.runs, i.disagrees, i.inconclusive, i.elements)
        table.add_row(dtype, *map(str, figures), f"{i.worst:.3f}", str(i.beyond_likely))
    console.print(table)

    table = Table(title="Planted faults, float32", box=None)
    table.add_column("fault")
    columns = ("seeds", "with effect", "found", "placed", "falsely accused", "assert_close finds")
    for column in columns:
        table.add_column(column, justify="right")
    for name in FAULTS:
        guilty = Guilty()
        seeds = FAULT_SEEDS // 10 if quick else FAULT_SEEDS
        for seed in range(seeds):
            guilty.add(name, seed)
        g = guilty
        shares = (seeds, g.effective, g.found, g.placed, g.accused_without_effect, g.assert_close)
        table.add_row(name, *map(str, shares))
    console.print(table)


if __name__ == "__main__":
    main(quick="--quick" in sys.argv[1:])
