"""Where in a gradient its errors are: small maps and histograms, worked out again by the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import Unjudgeable
from gradwitness.engine.backward import gradients
from gradwitness.engine.binding import recorded
from gradwitness.judging.finding import Step
from gradwitness.report.page.columns import Columns
from gradwitness.report.page.steps import shaped
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradwitness.engine.binding import Lookup
    from gradwitness.judging.finding import Finding, Report
    from gradwitness.tape import NodeRun, Tape

# Steps that are drawn, wrong ones first, and how many numbers may be worked out for that.
_MOST_MAPS, _MOST_NUMBERS = 400, 2**20
# Cells of a map along one axis; a cell shows the largest error in it.
_CELLS = 32
# Powers of ten of the error over the largest number expected: under the first, and up to 10^0.
DECADES = tuple(range(-16, 1))


def error_columns(tape: Tape, report: Report) -> Columns:
    """Return a map and a histogram of each backward step that can be worked out again soon."""
    runs = {(n, run.node): run for n, sweep in enumerate(tape.sweeps) for run in sweep.node_runs}
    lookup = recorded(tape)
    drawn: list[tuple[int, NDArray[np.float64], float, tuple[int, ...]]] = []
    room = _MOST_NUMBERS
    steps = [(i, f) for i, f in enumerate(report.findings) if f.step is Step.BACKWARD]
    for number, finding in sorted(steps, key=lambda pair: pair[1].verdict is not Verdict.DISAGREES):
        run = runs.get((finding.sweep, finding.node))  # type: ignore[arg-type]
        if run is None or len(drawn) == _MOST_MAPS or finding.comparison.size > room:
            continue
        errors = _errors(tape, finding, run, lookup)
        if errors is not None:
            drawn.append((number, *errors))
            room -= finding.comparison.size
    return _packed(drawn)


def _errors(
    tape: Tape, finding: Finding, run: NodeRun, lookup: Lookup
) -> tuple[NDArray[np.float64], float, tuple[int, ...]] | None:
    """Return the errors of what a node sent, the largest number expected, and the shape."""
    node = tape.nodes[run.node]
    sent = run.outgoing[finding.tensor_nr] if finding.tensor_nr < len(run.outgoing) else None
    if sent is None:
        return None
    try:
        incoming = [None if n is None else lookup(n) for n in run.incoming]
        expected = gradients(tape, node, incoming, lookup, None)[finding.tensor_nr]
        has = lookup(sent)
    except Unjudgeable:
        return None
    if expected is None or expected.shape != has.shape or not has.size:
        return None
    with np.errstate(all="ignore"):
        errors = np.abs(has - expected).astype(np.float64)
        largest = float(np.max(np.abs(expected)))
    return errors, largest, has.shape


def _packed(drawn: list[tuple[int, NDArray[np.float64], float, tuple[int, ...]]]) -> Columns:
    columns = Columns(decades=list(DECADES))
    maps = [_map(errors) for _, errors, _, _ in drawn]
    columns.numbers("step", [number for number, *_ in drawn], np.int32)
    columns.texts("shape", (shaped(shape) for *_, shape in drawn))
    columns.numbers("rows", [cells.shape[0] for cells in maps], np.uint32)
    columns.numbers("columns", [cells.shape[1] for cells in maps], np.uint32)
    columns.numbers("end", np.cumsum([cells.size for cells in maps]), np.uint32)
    columns.numbers("cells", np.concatenate([*(c.ravel() for c in maps), []]), np.float32)
    counts = [_histogram(errors, largest) for _, errors, largest, _ in drawn]
    columns.numbers("counts", np.array(counts).ravel(), np.float64)
    return columns


def _map(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest error in each cell, over the last axis and all others together."""
    flat = errors.reshape(-1, errors.shape[-1] if errors.ndim else 1)
    for axis in (0, 1):
        size = flat.shape[axis]
        starts = np.unique(np.linspace(0, size, min(size, _CELLS), endpoint=False).astype(int))
        flat = np.maximum.reduceat(flat, starts, axis=axis)
    return flat


def _histogram(errors: NDArray[np.float64], largest: float) -> NDArray[Any]:
    """Count errors by the power of ten of their share of the largest number expected.

    First those that are zero, then one count for each of `DECADES`, and last what is not finite.
    """
    with np.errstate(all="ignore"):
        shares = np.ceil(np.log10(errors / largest))
    zero, odd = errors == 0, ~np.isfinite(errors)
    inside = np.clip(shares[~zero & ~odd], DECADES[0], DECADES[-1])
    # A share of a largest number of zero is infinite: the last decade.
    counts = np.bincount((inside - DECADES[0]).astype(int), minlength=len(DECADES))
    return np.array([zero.sum(), *counts, odd.sum()])
