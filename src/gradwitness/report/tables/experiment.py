"""What the experiment prints and writes."""

from __future__ import annotations

import importlib.util
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group
from rich.text import Text

from gradwitness.engine.replay import confirmed_digits
from gradwitness.files.atomic import make_folder, write_atomically
from gradwitness.files.dat import format_dat
from gradwitness.judging.numbers import seconds_shown, short
from gradwitness.report.console import as_text
from gradwitness.report.page.page import write_page
from gradwitness.report.page.subject import Subject
from gradwitness.report.picture.dot import write_dot
from gradwitness.report.picture.graph import draw
from gradwitness.report.picture.svg import write_pages, write_svg
from gradwitness.report.picture.typeset import write_pdf, write_png
from gradwitness.report.picture.view import view
from gradwitness.report.record import dumps, outcome_record
from gradwitness.report.tables.terminal import summary

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import RenderableType

    from gradwitness.experiment import Outcome


def overview(outcome: Outcome) -> RenderableType:
    """Return the network, the data, and both sides' loss and prediction."""
    config = outcome.config
    lines = Text()
    lines.append("gradwitness run\n", style="bold")
    lines.append(f"network     {config.describe()}\n")
    lines.append(
        f"loss        {config.loss}, batch {config.batch}, {config.dtype}, seed {config.seed}\n"
    )
    lines.append(f"repeat      {config.command()}\n")
    for name, array in outcome.data.items():
        lines.append(f"{name:<12}{_numbers(array)}\n")
    for name in ("prediction", "loss"):
        torch_side, witness_side = outcome.torch_side[name], outcome.witness_side[name]
        lines.append(f"{name:<12}torch {_numbers(torch_side)}   witness {_numbers(witness_side)}")
        lines.append(f"   {_digits(torch_side, witness_side)}\n")
    about = outcome.tape.about
    lines.append(
        f"recorded    {len(outcome.tape.calls)} calls and {len(outcome.tape.nodes)} autograd nodes "
        f"in {seconds_shown(outcome.seconds)} ({outcome.overhead:.0%} recording overhead); "
        f"torch {about['torch']}, numpy {about['numpy']}\n"
    )
    return lines


def full(outcome: Outcome) -> RenderableType:
    """Return everything that a run prints."""
    legend = Text(
        "\nworst error: the entry whose error is the largest multiple of its bound; x bound: that "
        "multiple.\ndetects: the smallest change of any entry that would have been noticed, "
        "relative to the largest entry.\ndigits: decimal digits of torch's gradient that the "
        "float64 replay from the weights confirms.",
        style="dim",
    )
    return Group(overview(outcome), summary(outcome.report, outcome.tape), legend)


def write_folder(folder: Path, outcome: Outcome) -> list[Path]:
    """Write all files of a run, into a folder that is made if it is missing; return their paths.

    Everything is made before anything is written, and each file is replaced whole.
    """
    title = f"Autograd graph, verdict {outcome.verdict.value}"
    everything = draw(outcome.tape, outcome.report, title=title, subtitle=outcome.config.describe())
    picture = view(everything)
    svg = write_svg(picture)
    header = outcome.header()
    contents: dict[str, str | bytes] = {
        "torch_autograd.dat": format_dat({"side": "torch autograd"} | header, outcome.torch_side),
        "my_autograd.dat": format_dat(
            {"side": "gradwitness, from scratch in float64"} | header, outcome.witness_side
        ),
        "comparison.json": dumps(outcome_record(outcome)),
        "report.txt": as_text(full(outcome)),
        "report.html": write_page(_subject(outcome)),
        "graph.svg": svg,
        "graph.dot": write_dot(picture),
        "weights.npz": _npz(outcome.weights),
    }
    if importlib.util.find_spec("typst") is not None:
        contents["graph.pdf"] = write_pdf(*write_pages(picture))
        contents["graph.png"] = write_png(svg)
    make_folder(folder)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]


def _subject(outcome: Outcome) -> Subject:
    return Subject(
        outcome.tape,
        outcome.report,
        outcome.verdict,
        command=outcome.config.command(),
        seed=str(outcome.config.seed),
        sections=(("The experiment", overview(outcome)),),
    )


def _npz(arrays: dict[str, NDArray[Any]]) -> bytes:
    """Return weights as .npz; bfloat16, which it has no name for, as float32."""
    wide = {k: a.astype(np.float32) if a.dtype.itemsize < 4 else a for k, a in arrays.items()}
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **wide)
    return out.getvalue()


def _numbers(array: NDArray[Any], most: int = 10) -> str:
    flat = array.astype(np.float64).ravel()
    shown = " ".join(f"{number:.6g}" for number in flat[:most])
    more = f" ... ({flat.size} numbers)" if flat.size > most else ""
    return f"[{shown}{more}]" if flat.size > 1 else shown


def _digits(recorded: NDArray[Any], reference: NDArray[Any]) -> str:
    digits = confirmed_digits(recorded, reference)
    if math.isinf(digits):
        return "equal"
    return "not equal" if math.isnan(digits) else f"{short(digits, 2)} digits agree"
