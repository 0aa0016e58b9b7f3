"""What comparing two files costs, beside adding up the same bytes, or reading the same text.

``python benchmarks/diff.py [MEGABYTES]``, on Linux. Two files of so many megabytes of float32
differ by roundings, or not at all. Each ratio is CPU time over that of a memory-mapped
``numpy.add.reduce`` over both files; of text, over that of ``numpy.loadtxt``, and of pandas and
pyarrow if they are installed, for one file. It is the least of some rounds that take turns, without
imports. Peak memory is that of a process of its own, which takes some 50 MB before it begins.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import safetensors.numpy
import torch
from rich.console import Console
from rich.table import Table

import gradwitness
from gradwitness.claims.sources import read_claims
from gradwitness.files.dat import format_dat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 5
WIDTH = 1000
TEXT = 0.02  # of the size: text is slow for all
PEAK = """
import pathlib, sys, gradwitness
gradwitness.diff(*sys.argv[1:])
status = pathlib.Path("/proc/self/status").read_text()
print(status.partition("VmHWM:")[2].split()[0])
"""


def pair(megabytes: float) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    """Return two arrays that differ by roundings."""
    rng = np.random.default_rng(0)
    shape = round(megabytes * 1e6 / 4 / WIDTH), WIDTH
    first = rng.standard_normal(shape, np.float32)
    yield first
    yield first * (1 + 6e-8 * rng.standard_normal(shape, np.float32))


def save(path: Path, array: Any) -> None:
    """Write an array as the gradient of one weight, and a small one of its bias."""
    tensors = {"fc.weight": array, "fc.bias": array[:, 0].copy()}
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, allow_pickle=False, **tensors)
    elif path.suffix == ".safetensors":
        safetensors.numpy.save_file(tensors, path)
    elif path.suffix == ".pt":
        torch.save({name: torch.from_numpy(x) for name, x in tensors.items()}, path)
    else:
        with h5py.File(path, "w") as file:
            for name, tensor in tensors.items():
                file[name] = tensor


def least(*runs: Callable[[], object]) -> list[float]:
    """Return the least CPU seconds of each of some functions, which take turns."""
    seconds = []
    for _ in range(ROUNDS):
        for run in runs:
            begun = time.process_time()
            run()
            seconds.append(time.process_time() - begun)
    return [min(seconds[n :: len(runs)]) for n in range(len(runs))]


def added(folder: Path) -> None:
    """Add up the numbers of both files, memory-mapped."""
    for name in "ab":
        np.add.reduce(np.load(folder / f"{name}.npy", mmap_mode="r"), axis=None)


def peak(*paths: Path) -> float:
    """Return the peak memory of a comparison in megabytes."""
    words = [sys.executable, "-c", PEAK, *map(str, paths)]
    return int(subprocess.run(words, check=True, capture_output=True).stdout) / 1e3  # noqa: S603


def binary(folder: Path, megabytes: float) -> Table:
    """Return the table of binary formats."""
    table = Table("format", "near / sum", "equal / sum", "peak MB", title=f"2 x {megabytes:g} MB")
    arrays = dict(zip("ab", pair(megabytes), strict=True))
    for extension in (".npy", ".npz", ".safetensors", ".h5", ".pt"):
        a, b = (folder / f"{name}{extension}" for name in arrays)
        for path, array in zip((a, b), arrays.values(), strict=True):
            save(path, array)

        def near(a: Path = a, b: Path = b) -> object:
            return gradwitness.diff(a, b)

        def equal(a: Path = a) -> object:
            return gradwitness.diff(a, a)

        near()  # imports
        reduced, *ours = least(lambda: added(folder), near, equal)
        table.add_row(extension, *(f"{x / reduced:.1f}" for x in ours), f"{peak(a, b):.0f}")
        if extension != ".npy":
            a.unlink()
            b.unlink()
    return table


def text(folder: Path, megabytes: float) -> Table:
    """Return the table of text: our reader beside others'."""
    array = next(pair(megabytes * TEXT))
    csv, rows, dat = folder / "a.csv", folder / "a.txt", folder / "a.dat"
    np.savetxt(csv, array, "%.8e", delimiter=",")
    np.savetxt(rows, array, "%.8e")
    dat.write_text(format_dat({}, {"a": array}))
    peers: dict[str, Callable[[], object]] = {"loadtxt": lambda: np.loadtxt(rows)}
    for name, module in (("pandas", "pandas"), ("pyarrow", "pyarrow.csv")):
        try:
            read = importlib.import_module(module).read_csv
        except ImportError:
            continue
        peers[name] = lambda read=read: read(csv)  # type: ignore[misc]
    ours = [lambda path=path: read_claims(path) for path in (rows, csv, dat)]
    seconds = least(*peers.values(), *ours)
    table = Table("ours", *(f"over {name}" for name in peers), title=f"{array.size:,} numbers")
    for name, taken in zip(("rows", ".csv", ".dat"), seconds[len(peers) :], strict=True):
        table.add_row(name, *(f"{taken / other:.1f}" for other in seconds[: len(peers)]))
    return table


def main() -> None:
    """Print the tables."""
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 100.0
    with tempfile.TemporaryDirectory() as name:
        Console().print(binary(Path(name), megabytes), text(Path(name), megabytes))


if __name__ == "__main__":
    main()
