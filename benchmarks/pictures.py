"""How long pictures take, in CPU seconds, and how large they are, in pixels.

``python benchmarks/pictures.py``. First the layout alone, of made-up networks; then folding and
drawing: a picture of very many nodes, and recordings of ``nn.RNN`` and of the default experiment.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar
from xml.etree import ElementTree as ET

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

import gradwitness as gw
from gradwitness import experiment
from gradwitness.report.picture.graph import draw
from gradwitness.report.picture.layout import lay_out
from gradwitness.report.picture.picture import Arrow, Box, Flow, Picture, Role
from gradwitness.report.picture.svg import write_svg
from gradwitness.report.picture.view import View, view
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
SIZES = (3_000, 100_000)
STEPS = (50, 200)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Return the CPU seconds of a call, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def network(boxes: int) -> list[tuple[int, int]]:
    """Return the arrows of a chain whose every link has a leaf, and a branch of two boxes."""
    return [
        arrow
        for node in range(0, boxes - 4, 4)
        for arrow in ((node, node + 1), (node, node + 4), (node, node + 2), (node + 2, node + 3))
    ]


def recurrent(boxes: int) -> list[tuple[int, int]]:
    """Return the arrows of a chain whose every link points at one shared leaf."""
    chain = [(step, step + 1) for step in range(boxes - 2)]
    return chain + [(step, boxes - 1) for step in range(boxes - 1)]


def layouts(table: Table) -> None:
    """Measure the layout alone."""
    rng = np.random.default_rng(0)
    for size in SIZES:
        widths, heights = rng.uniform(150, 450, size), rng.uniform(50, 130, size)
        for name, arrows in (("network", network(size)), ("shared leaf", recurrent(size))):
            sources, targets = [s for s, _ in arrows], [t for _, t in arrows]
            seconds, layout = timed(lambda: lay_out(widths, heights, sources, targets))  # noqa: B023
            extent = f"{layout.width:.0f} x {layout.height:.0f}"
            table.add_row(f"layout, {name}", f"{size:,}", f"{seconds:.2f}", "", extent)


def picture(size: int) -> Picture:
    """Return a picture of a network of so many nodes, without modules or repetitions."""
    rng = np.random.default_rng(0)
    boxes = tuple(
        Box(f"n{n}", Role.OPERATION, f"SinBackward0 #{n}", ("y = sin(x)",), Verdict.AGREES,
            short=f"SinBackward0 ({rng.integers(99)})", line=f"a.py:{n}", when=size - n)
        for n in range(size)
    )  # fmt: skip
    arrows = (Arrow(f"n{s}", f"n{t}", Flow.GRADIENT) for s, t in network(size))
    return Picture("made up", "", boxes, tuple(arrows))


def recorded(steps: int) -> Picture:
    """Return the picture of a step of a recurrent network."""
    torch.manual_seed(0)
    model = torch.nn.RNN(3, 4)
    with gw.watch(model) as witness:
        model(torch.randn(steps, 2, 3))[0].square().mean().backward()
    return draw(witness.tape, witness.report, title=f"{steps} steps")


def pictures(table: Table) -> None:
    """Measure folding and drawing."""
    outcome = experiment.run(experiment.preset("default"))
    everything = [
        *((f"made up, {size:,}", picture(size)) for size in SIZES),
        *((f"nn.RNN, {steps} steps", recorded(steps)) for steps in STEPS),
        ("the default experiment", draw(outcome.tape, outcome.report, title="")),
    ]
    for name, whole in everything:
        for form, chosen in (("folded", View()), ("unfolded", View(unfold=True))):
            folding, shown = timed(lambda: view(whole, chosen))  # noqa: B023
            seconds, svg = timed(lambda: write_svg(shown))  # noqa: B023
            size = ET.fromstring(svg).attrib  # noqa: S314  # our own writer's text
            extent = f"{float(size['width']):.0f} x {float(size['height']):.0f}"
            boxes = f"{len(shown.boxes):,} of {len(whole.boxes):,}"
            table.add_row(f"{name}, {form}", boxes, f"{folding:.2f}", f"{seconds:.2f}", extent)


def main() -> None:
    """Print the table."""
    table = Table("", box=box.SIMPLE)
    for heading in ("boxes", "layout or folding, s", "drawing, s", "pixels"):
        table.add_column(heading, justify="right")
    layouts(table)
    pictures(table)
    Console().print(table)


if __name__ == "__main__":
    main()
