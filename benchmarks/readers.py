"""How fast text is read, beside ``numpy.loadtxt`` on the same numbers, and in how much memory.

``python benchmarks/readers.py [MEGABYTES]``. Both read the same file of rows, by turns, so that a
noisy machine disturbs both alike; each figure is a median. The last columns are for brackets, as
PyTorch prints them, which ``loadtxt`` does not read: the speed, and the peak of memory in a reading
of its own, as a multiple of what is handed over, arrays with their roundings.
"""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from gradwitness.claims.sources import read_claims

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = ("%.4f", "%.8e", "%.17e")
ROUNDS = 5
COLUMNS = 500


def write(folder: Path, form: str, megabytes: float) -> tuple[Path, Path]:
    """Write the same numbers in rows and in brackets."""
    numbers = np.random.default_rng(0).normal(size=(200, COLUMNS))
    stream = io.BytesIO()
    np.savetxt(stream, numbers, form)
    block = stream.getvalue()
    times = max(1, round(megabytes * 1e6 / len(block)))
    rows, brackets = folder / "rows.txt", folder / "brackets.txt"
    rows.write_bytes(block * times)
    inside = b"[" + block[:-1].replace(b" ", b", ").replace(b"\n", b"],\n        [") + b"]"
    with brackets.open("wb") as file:
        file.write(b"w: tensor([")
        for at in range(times):
            file.write((b",\n        " if at else b"") + inside)
        file.write(b"])\n")
    return rows, brackets


def timed(run: Callable[[Path], object], path: Path) -> float:
    """Return the seconds that reading a file takes."""
    begun = time.perf_counter()
    run(path)
    return time.perf_counter() - begun


def memory(path: Path) -> float:
    """Return the peak of memory in reading a file, as a multiple of what is read."""
    tracemalloc.start()
    claims = read_claims(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = [(c.array, np.asarray(c.rounding)) for run in claims.runs for c in run.values()]
    return peak / sum(array.nbytes + rounding.nbytes for array, rounding in kept)


def main() -> None:
    """Print the table."""
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    table = Table("numbers", "loadtxt MB/s", "rows MB/s", "ratio", "brackets MB/s", "peak / result")
    with tempfile.TemporaryDirectory() as name:
        for form in FORMATS:
            rows, brackets = write(Path(name), form, megabytes)
            theirs, ours, nested = [], [], []
            for _ in range(ROUNDS):
                theirs.append(timed(np.loadtxt, rows))
                ours.append(timed(read_claims, rows))
                nested.append(timed(read_claims, brackets))
            ratio = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
            speeds = [rows, rows, brackets]
            loadtxt, plain, inside = (
                path.stat().st_size / 1e6 / statistics.median(seconds)
                for path, seconds in zip(speeds, (theirs, ours, nested), strict=True)
            )
            table.add_row(
                form,
                f"{loadtxt:.0f}",
                f"{plain:.0f}",
                f"{ratio:.2f}",
                f"{inside:.0f}",
                f"{memory(brackets):.2f}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
