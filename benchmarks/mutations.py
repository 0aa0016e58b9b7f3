"""Does the witness find a single wrong step in a real model, and name it? Prints one table.

``python benchmarks/mutations.py [--seeds N] [--each N] [--depth D] [MODEL ...]``. In each
architecture whose step has one loss, for each kind of autograd node in its graph, a node is drawn,
and what it sends along one edge is changed, in `--each` ways (2) drawn from `faults.mutations`.
Found: the verdict is DISAGREES. Placed: no step but that one is accused. A fault counts as visible
if it changes a number by more than the smallest error that the report of the right run says it sees
at that step; the others may be found or not, and are shown beside. One that is not found is told if
the report of the wrong run has a doubt there, or bounds as wide as the fault: then it does not say
that it would have seen it. (With ``--depth fast``, nothing counts as visible where a sample was
looked at.)

The same faults are shown to torch.testing.assert_close with its defaults, which is given the right
gradients of the parameters, and to torch.autograd.gradcheck in float64: fast, and slow at a few
edges of the smallest model. A fault counts as found if the check fails; a model that fails the
check while it is right is left out. A run that is interrupted prints the table of what was tried.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import random
import sys
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import gradwitness
from architectures.workload import Turns
from architectures.zoo import ZOO, build
from faults.mutations import MUTATIONS, Numbers, planted
from gradwitness import Verdict
from gradwitness.judging.finding import Step

if TYPE_CHECKING:
    from architectures.workload import Workload

# After a failure in fast mode gradcheck goes through slow mode, for minutes, to word its message.
importlib.import_module("torch.autograd.gradcheck").__dict__["_run_slow_mode_and_get_error"] = (
    lambda *_, **__: ""
)

# In slow mode gradcheck evaluates a model twice for each number in its parameters.
SLOW_MODEL, SLOW_SITES = "mlp", 3


@dataclass
class Tally:
    """What came of the faults of one sort."""

    visible: int = 0
    found: int = 0
    placed: int = 0
    told: int = 0
    small: int = 0
    small_found: int = 0
    others: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class Site:
    """One edge of one node, and the smallest change that the witness says it sees there."""

    node: int
    input_nr: int
    name: str
    detects: float


@dataclass(frozen=True)
class Seen:
    """A fault's size, and what became of it: found, placed, or bounds as wide as that told."""

    size: float
    found: bool
    placed: bool
    told: bool


def watched(work: Workload, depth: str) -> gradwitness.Witness:
    """Run one training step under watch; gradients start from nothing."""
    work.model.zero_grad()
    with gradwitness.watch(work.model, depth=depth) as witness:
        torch.autograd.backward(work.loss())
    return witness


def sites(work: Workload, draw: random.Random, depth: str) -> list[Site]:
    """Return one edge for each kind of node in a model's graph."""
    witness = watched(work, depth)
    if witness.verdict is Verdict.DISAGREES:
        raise SystemExit("the right model is refuted; see benchmarks/models.py")
    kinds: dict[str, list[Site]] = defaultdict(list)
    nodes = witness.tape.nodes
    # The faults are planted once all passes but the last are over.
    last = len(witness.tape.sweeps) - 1
    for finding in witness.report.findings:
        if finding.step is Step.BACKWARD and finding.node is not None and finding.sweep == last:
            name = nodes[finding.node].name
            c = finding.comparison
            detects = c.detects if c.share == 1 else math.inf
            kinds[name].append(Site(finding.node, finding.tensor_nr, name, detects))
    return [draw.choice(found) for _, found in sorted(kinds.items())]


def judge(name: str, seed: int, site: Site, mutation: Any, depth: str) -> Seen | None:
    """Return what the witness says of a fault."""
    work = build(name, seed)
    work.model.zero_grad()
    with (
        gradwitness.watch(work.model, depth=depth) as witness,
        contextlib.ExitStack() as stack,
    ):
        with Numbers() as numbers:
            loss = work.loss()
        node = numbers.behind([loss])[site.node]
        sizes = stack.enter_context(planted(node, site.input_nr, mutation))
        torch.autograd.backward(loss)
    if not sizes:
        return None
    wrong = witness.report.wrong
    placed = bool(wrong) and all(f.node == site.node and f.step is Step.BACKWARD for f in wrong)
    here = [
        f
        for f in witness.report.findings
        if (f.step, f.node, f.tensor_nr) == (Step.BACKWARD, site.node, site.input_nr)
    ]
    told = any(f.verdict is Verdict.INCONCLUSIVE or f.comparison.detects >= sizes[0] for f in here)
    return Seen(sizes[0], bool(wrong), placed, told)


def gradients(work: Workload, site: Site | None, mutation: Any) -> list[torch.Tensor | None]:
    """Return the gradients of a model's parameters, with a fault or without."""
    work.model.zero_grad()
    with Numbers() as numbers:
        loss = work.loss()
    with contextlib.ExitStack() as stack:
        if site is not None:
            node = numbers.behind([loss])[site.node]
            stack.enter_context(planted(node, site.input_nr, mutation))
        torch.autograd.backward(loss)
    return [p.grad for p in work.model.parameters()]


def assert_close_finds(name: str, seed: int, site: Site, mutation: Any) -> bool:
    """Whether the wrong gradients differ, by assert_close's defaults, from the right ones."""
    right = gradients(build(name, seed), None, None)
    wrong = gradients(build(name, seed), site, mutation)
    try:
        torch.testing.assert_close(wrong, right)
    except AssertionError:
        return True
    return False


def gradcheck_finds(
    name: str, seed: int, site: Site | None, mutation: Any, *, fast: bool
) -> bool | None:
    """Whether gradcheck fails; None if it cannot say, since the right model fails as well."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        work = build(name, seed)
        inputs = tuple(p for p in work.model.parameters() if p.requires_grad)
        with contextlib.ExitStack() as stack, warnings.catch_warnings():
            warnings.simplefilter("ignore")

            def function(*_: Any) -> Any:
                torch.manual_seed(0)
                with Numbers() as numbers:
                    loss = work.loss()
                if site is not None and loss.grad_fn is not None:
                    node = numbers.behind([loss])[site.node]
                    _same(node, site)
                    stack.enter_context(planted(node, site.input_nr, mutation))
                return loss

            return not torch.autograd.gradcheck(
                function,
                inputs,
                fast_mode=fast,
                raise_exception=False,
                check_undefined_grad=False,
            )
    except (RuntimeError, TypeError, ValueError):
        return None
    finally:
        torch.set_default_dtype(before)


def _same(node: Any, site: Site) -> None:
    """Refuse a graph in which another node has a site's number, as it may in float64."""
    if node.name() != site.name:
        raise ValueError(f"{node.name()} is not {site.name}")


def examine(name: str, seed: int, each: int, depth: str, tallies: dict[str, Tally]) -> None:
    """Plant faults, one at a time, at one edge of every kind of node of one model."""
    draw = random.Random(f"{name} {seed}")  # noqa: S311 (which node, nothing secret)
    work = build(name, seed)
    modes = {"fast": True, "slow": False} if name == SLOW_MODEL else {"fast": True}
    fair = {
        mode: gradcheck_finds(name, seed, None, None, fast=fast) is False
        for mode, fast in modes.items()
    }
    for number, site in enumerate(sites(work, draw, depth)):
        for kind, mutation in draw.sample(list(MUTATIONS.items()), each):
            seen = judge(name, seed, site, mutation, depth)
            if seen is None:
                continue
            tally = tallies[kind]
            if seen.size <= site.detects:
                tally.small += 1
                tally.small_found += seen.found
                continue
            tally.visible += 1
            tally.found += seen.found
            tally.placed += seen.placed
            tally.told += seen.told and not seen.found
            if not ((seen.found and seen.placed) or seen.told):
                print(f"missed: {name} seed {seed}: {kind} at {site}: {seen}", flush=True)
            tally.others["assert_close"].append(assert_close_finds(name, seed, site, mutation))
            for mode, fast in modes.items():
                if fair[mode] and (fast or number < SLOW_SITES):
                    said = gradcheck_finds(name, seed, site, mutation, fast=fast)
                    if said is not None:
                        tally.others[mode].append(said)


def show(tallies: dict[str, Tally]) -> None:
    """Print the table."""
    table = Table(
        "fault", "visible", "found", "placed", "told", "below what is seen", "found of these"
    )
    columns = ("assert_close", "fast", "slow")
    for column in ("assert_close", "gradcheck fast", "gradcheck slow"):
        table.add_column(column)
    total = Tally()
    for kind, tally in [*tallies.items(), ("all", total)]:
        if tally is not total:
            total.visible += tally.visible
            total.found += tally.found
            total.placed += tally.placed
            total.told += tally.told
            total.small += tally.small
            total.small_found += tally.small_found
            for column in columns:
                total.others[column] += tally.others[column]
        others = [
            f"{sum(tally.others[c])} of {len(tally.others[c])}" if tally.others[c] else "-"
            for c in columns
        ]
        figures = (tally.visible, tally.found, tally.placed, tally.told)
        below = (tally.small, tally.small_found)
        table.add_row(kind, *map(str, (*figures, *below)), *others)
    Console(width=120).print(table)


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--each", type=int, default=2, choices=range(1, len(MUTATIONS) + 1))
    parser.add_argument("--depth", default="full", choices=("full", "fast"))
    parser.add_argument("models", nargs="*")
    options = parser.parse_args()
    # A step of several losses has no one graph to plant a fault in.
    single = [name for name in ZOO if not isinstance(build(name), Turns)]
    unfit = set(options.models) - set(single)
    if unfit:
        parser.error(f"no models with one loss: {', '.join(sorted(unfit))}")
    tallies: dict[str, Tally] = defaultdict(Tally)
    runs = [(name, seed) for name in options.models or single for seed in range(options.seeds)]
    done = 0
    try:
        for name, seed in track(runs, description="models"):
            examine(name, seed, options.each, options.depth, tallies)
            done += 1
    finally:
        print(f"{done} of {len(runs)} runs of a model")
        show(tallies)


if __name__ == "__main__":
    main()
