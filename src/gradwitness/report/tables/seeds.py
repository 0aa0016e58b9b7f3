"""The experiment over many seeds, for terminals and as data."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.console import Group
from rich.text import Text

from gradwitness._printable import several
from gradwitness.files.atomic import make_folder, write_atomically
from gradwitness.judging.numbers import digits_right, short
from gradwitness.report.console import as_text
from gradwitness.report.findings import finding_records
from gradwitness.report.picture.histogram import write_histogram
from gradwitness.report.record import dumps
from gradwitness.report.tables.terminal import FittingTable, styled
from gradwitness.verdict import Fault, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from gradwitness.experiment.seeds import Extreme, OneSeed, Seeds, Worst

SCHEMA = "gradwitness-seeds"
VERSION = 1
# Further seeds than this are counted, not listed.
_LISTED = 20
_BINS = 20
_BAR = 50
# Left out of a narrow table, in this order.
_LESS_TELLING = ("shape", "detects (relative)", "worst error")
# Of many seeds the largest ratio lies near 1.
_DIGITS = {"ratio": 4}
_COLUMNS = {
    "worst error": "error",
    "x bound": "ratio",
    "detects (relative)": "detects_relative",
    "digits": "digits",
}


class Histogram(NamedTuple):
    """How many seeds have a largest error over bound between two edges, and how many beyond 1."""

    edges: list[float]
    counts: list[int]
    beyond: int


def histogram(ratios: Sequence[float]) -> Histogram:
    """Count figures in equal steps of 1, 2 or 5 times a power of ten."""
    within = [ratio for ratio in ratios if ratio <= 1]
    beyond = len(ratios) - len(within)
    if not within:
        return Histogram([], [], beyond)
    low, high = min(within), max(within)
    least = max((high - low) / _BINS, 1e-3)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= least * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    bins = max(1, math.ceil(high / step - 1e-9) - first)
    edges = [round((first + k) * step, 9) for k in range(bins + 1)]
    counts, _ = np.histogram(within, bins=[-math.inf, *edges[1:-1], math.inf])
    return Histogram(edges, counts.tolist(), beyond)


def seeds_table(found: Seeds) -> RenderableType:
    """Return the worst figures of all seeds: by gradient, of all steps, and which do not agree."""
    config = found.config
    head = Text("gradwitness run --seeds\n", style="bold")
    head.append(f"network     {config.describe()}\n")
    head.append(f"loss        {config.loss}, batch {config.batch}, {config.dtype}\n")
    head.append(f"repeat      {found.command()}\n")
    lines = [_cells(name, worst) for name, worst in found.gradients.items()]
    parts: list[RenderableType] = [head]
    if lines:
        parts.append(FittingTable(lines, ("gradient of", "shape"), _LESS_TELLING))
        parts.append(
            Text("each the worst of all seeds, with the first seed that has it", style="dim")
        )
    parts += [_chart(histogram(found.ratios)), *_apart(found), _totals(found)]
    return Group(*parts)


def _cells(name: str, worst: Worst) -> dict[str, Text]:
    cells = {"gradient of": name, "shape": "x".join(map(str, worst.shape)) or "scalar"}
    for column, figure in _COLUMNS.items():
        cells[column] = _with_seed(figure, worst.figures.get(figure))
    return {column: Text(cell) for column, cell in cells.items()}


def _with_seed(name: str, extreme: Extreme | None) -> str:
    if extreme is None:
        return "-"
    figure = extreme.figure
    shown = digits_right(figure) if name == "digits" else short(figure, _DIGITS.get(name, 3))
    return f"{shown} (seed {extreme.seed})"


def _chart(counted: Histogram) -> Text:
    """Draw how the seeds lie, each by its step with the largest error over bound."""
    lines = Text("\nlargest error over bound of each seed; 1 is what rounding allows\n")
    decimals = max((len(f"{edge:g}".partition(".")[2]) for edge in counted.edges), default=0)
    most = max(counted.counts, default=0)
    for low, high, count in zip(counted.edges, counted.edges[1:], counted.counts, strict=False):
        bar = "█" * math.ceil(_BAR * count / most)
        lines.append(f"{low:.{decimals}f} to {high:.{decimals}f} {count:>9,} {bar}\n")
    if counted.beyond:
        lines.append(f"beyond 1: {counted.beyond:,}\n", style="bold red")
    lines.rstrip()
    return lines


def _apart(found: Seeds) -> Iterator[Text]:
    """Name the seeds that do not agree, and how to run each again."""
    for one in found.apart[:_LISTED]:
        lines = Text("\n").append(styled(one.verdict))
        yield lines.append(f"  seed {one.seed}: {one.reason}\n  {found.command(one.seed)}")
    if len(found.apart) > _LISTED:
        yield Text(f"\n... and {len(found.apart) - _LISTED:,} more seeds do not agree")


def _totals(found: Seeds) -> Text:
    first = found.config.seed
    words = {Verdict.AGREES: "agree", Verdict.INCONCLUSIVE: "inconclusive"}
    counts = [f"{n:,} {words.get(v, 'DISAGREE')}" for v, n in _by_severity(found)]
    lines = Text(f"\nseeds     {first} to {first + found.asked - 1}: {', '.join(counts)}")
    if found.is_interrupted:
        lines.append(f"; interrupted after {found.done:,} of {found.asked:,}", style="yellow")
    lines.append(
        f"\njudged    {found.elements:,} numbers, in "
        f"{several(found.processes, 'process', 'processes')}\n"
    )
    if found.worst is not None:
        ratio = short(found.worst.ratio, _DIGITS["ratio"])
        lines.append(
            f"nearest   {ratio} of its bound: {found.worst.step}, seed {found.worst.seed}\n"
        )
    lines.append("verdict   ")
    return lines.append(styled(found.verdict))


def _by_severity(found: Seeds) -> list[tuple[Verdict, int]]:
    return sorted(found.verdicts.items(), key=lambda pair: pair[0].severity)


def seeds_record(found: Seeds) -> dict[str, Any]:
    """Return what came of many seeds as plain data."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "verdict": found.verdict,
        "exit_code": found.exit_code,
        "findings": finding_records(_faults(found)),
        "config": asdict(found.config) | {"width": found.config.units},
        "again": found.command(),
        "asked": found.asked,
        "done": found.done,
        "interrupted": found.is_interrupted,
        "processes": found.processes,
        "verdicts": {verdict.value: found.verdicts[verdict] for verdict in Verdict},
        "elements": found.elements,
        "nearest": found.worst
        and {"ratio": found.worst.ratio, "step": found.worst.step, "seed": found.worst.seed},
        "gradients": [
            {
                "name": name,
                "shape": worst.shape,
                **{figure: extreme._asdict() for figure, extreme in worst.figures.items()},
            }
            for name, worst in found.gradients.items()
        ],
        "histogram": histogram(found.ratios)._asdict(),
        "apart": [
            {
                "seed": one.seed,
                "verdict": one.verdict,
                "reason": one.reason,
                "again": found.command(one.seed),
            }
            for one in found.apart
        ],
    }


def write_seeds(folder: Path, found: Seeds) -> list[Path]:
    """Write the table, the record and the histogram into a folder; return their paths."""
    counted = histogram(found.ratios)
    title = f"Error over bound, {found.done:,} seeds, verdict {found.verdict.value}"
    remark = found.config.describe()
    axis = "largest error over bound of each seed; 1 is what rounding allows"
    if counted.beyond:
        axis += f"; {counted.beyond:,} beyond"
    contents = {
        "seeds.txt": as_text(seeds_table(found)),
        "seeds.json": dumps(seeds_record(found)),
        "seeds.svg": write_histogram(title, axis, counted.edges, counted.counts, remark),
    }
    make_folder(folder)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]


def _faults(found: Seeds) -> Iterator[Fault]:
    yield from (_fault(found, one) for one in found.apart)
    if found.is_interrupted:
        text = (
            f"interrupted after {found.done:,} of {found.asked:,} seeds: the others are not judged"
        )
        yield Fault(
            Verdict.INCONCLUSIVE, "all seeds", text, kind="unjudged seeds", remedy=found.command()
        )


def _fault(found: Seeds, one: OneSeed) -> Fault:
    kind = "wrong" if one.verdict is Verdict.DISAGREES else "unjudged"
    again = found.command(one.seed)
    return Fault(
        one.verdict,
        f"seed {one.seed}: {one.reason}",
        f"the experiment {one.verdict.value} with seed {one.seed}: run {again}",
        kind=f"{kind} seed",
        remedy=again,
    )
