"""What comparing two files costs, beside adding up the same bytes, or reading the same text.

``python benchmarks/diff.py [MEGABYTES]``, on Linux. Two files of so many megabytes of float32
differ by roundings, or not at all. Each ratio is CPU time over that of a memory-mapped
``numpy.add.reduce`` over both files, and over reading both with the library that wrote them; of
text, over that of ``numpy.loadtxt``, and of pandas and pyarrow if they are installed, for one file;
of tables with names, over that of pandas for the same file.
It is the least of some rounds that take turns, on one thread, without imports. Peak memory is that
of a process of its own, which takes some 50 MB before it begins.

``python benchmarks/diff.py --huge [GIGABYTES]`` compares two sparse files of so many gigabytes, 10
by default, in .npy, and tells the peak of memory. They take no room on most file systems.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from functools import partial
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

ROUNDS = 7
WIDTH = 1000
SMALL = 2000
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
        write = np.savez_compressed if path.stem.endswith("packed") else np.savez
        write(path, allow_pickle=False, **tensors)
    elif path.suffix == ".safetensors":
        safetensors.numpy.save_file(tensors, path)
    elif path.suffix == ".pt":
        torch.save({name: torch.from_numpy(x) for name, x in tensors.items()}, path)
    else:
        with h5py.File(path, "w") as file:
            for name, tensor in tensors.items():
                file[name] = tensor


def read(path: Path) -> object:
    """Read all of a file with the library that wrote it."""
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {name: file[name] for name in file}
    if path.suffix == ".safetensors":
        return safetensors.numpy.load_file(path)
    if path.suffix == ".pt":
        return torch.load(path)
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file}


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
    columns = "format", "near / sum", "equal / sum", "near / read", "peak MB"
    table = Table(*columns, title=f"2 x {megabytes:g} MB")
    arrays = dict(zip("ab", pair(megabytes), strict=True))
    for kind in (".npy", ".npz", "packed.npz", ".safetensors", ".h5", ".pt"):
        a, b, copy = (folder / f"{name}{kind}" for name in "abc")
        for path, array in zip((a, b, copy), (*arrays.values(), arrays["a"]), strict=True):
            save(path, array)

        def near(a: Path = a, b: Path = b) -> object:
            return gradwitness.diff(a, b)

        def equal(a: Path = a, copy: Path = copy) -> object:
            return gradwitness.diff(a, copy)

        def both(a: Path = a, b: Path = b) -> object:
            return read(a), read(b)

        near()  # imports
        reduced, reading, *ours = least(lambda: added(folder), both, near, equal)
        ratios = *(x / reduced for x in ours), ours[0] / reading
        table.add_row(kind, *(f"{x:.1f}" for x in ratios), f"{peak(a, b):.0f}")
        copy.unlink()
        if kind != ".npy":
            a.unlink()
            b.unlink()
    return table


def odd(folder: Path, megabytes: float) -> Table:
    """Return the table of files in which some numbers are NaN, in both."""
    shares = {"one": round(megabytes * 1e6), "each hundredth": 100, "all": 1}
    table = Table("NaN", "/ sum", title=f"2 x {megabytes:g} MB of .npy")
    a, b = (folder / f"{name}.npy" for name in "ab")
    arrays = list(pair(megabytes))
    for share, step in shares.items():
        for path, array in zip((a, b), arrays, strict=True):
            array.reshape(-1)[::step] = np.nan
            np.save(path, array)
        reduced, ours = least(lambda: added(folder), partial(gradwitness.diff, a, b))
        table.add_row(share, f"{ours / reduced:.1f}")
    return table


def small(folder: Path) -> Table:
    """Return the table of files of many small tensors."""
    table = Table("tensors", "/ reading both", "ms each", title=f"{SMALL:,} tensors in .npz")
    for shape in ((), (8, 8)):
        arrays = np.random.default_rng(0).standard_normal((SMALL, *shape), np.float32)
        paths = folder / "a.npz", folder / "b.npz"
        for path, numbers in zip(paths, (arrays, arrays * np.float32(1 + 1e-7)), strict=True):
            tensors = {f"layers.{n}.weight": array for n, array in enumerate(numbers)}
            np.savez(path, allow_pickle=False, **tensors)
        reading, ours = least(partial(list, map(read, paths)), partial(gradwitness.diff, *paths))
        table.add_row(str(shape), f"{ours / reading:.1f}", f"{1e3 * ours / SMALL:.2f}")
    return table


def others(folder: Path, plain: str) -> Iterator[tuple[str, Path]]:
    """Write the same numbers in other forms of text, and yield their names and files."""
    lines = plain.splitlines(keepends=True)
    header = ",".join(f"c{n}" for n in range(WIDTH)) + "\n"
    inside = plain[:-1].replace(",", ", ").replace("\n", "],\n        [")
    forms = {
        "empty lines.csv": "\n".join(lines),
        "comment.csv": "# w\n" + plain,
        "delimiter at the end.csv": plain.replace("\n", ",\n"),
        "names of columns.csv": header + plain,
        "brackets.txt": f"w: tensor([[{inside}]])\n",
        "a name before each row.txt": "".join(f"w{n}: {line}" for n, line in enumerate(lines)),
    }
    for name, content in forms.items():
        path = folder / name
        path.write_text(content)
        yield path.stem, path


def text(folder: Path, megabytes: float) -> Table:
    """Return the table of text: our reader beside others'."""
    array = next(pair(megabytes * TEXT))
    csv, rows, dat = folder / "a.csv", folder / "a.txt", folder / "a.dat"
    np.savetxt(csv, array, "%.8e", delimiter=",")
    np.savetxt(rows, array, "%.8e")
    dat.write_text(format_dat({}, {"a": array}))
    names = ("rows", rows), (".csv", csv), (".dat", dat), *others(folder, csv.read_text())
    peers: dict[str, Callable[[], object]] = {"loadtxt": lambda: np.loadtxt(rows)}
    for name, module in (("pandas", "pandas"), ("pyarrow", "pyarrow.csv")):
        try:
            read = importlib.import_module(module).read_csv
        except ImportError:
            continue
        options: dict[str, Any] = {"header": None}
        if name == "pyarrow":
            reading = importlib.import_module(module).ReadOptions
            options = {"read_options": reading(autogenerate_column_names=True, use_threads=False)}
        peers[name] = lambda read=read, options=options: read(csv, **options)  # type: ignore[misc]
    ours = [lambda path=path: read_claims(path) for _, path in names]
    seconds = least(*peers.values(), *ours)
    table = Table("ours", *(f"over {name}" for name in peers), title=f"{array.size:,} numbers")
    for (name, _), taken in zip(names, seconds[len(peers) :], strict=True):
        table.add_row(name, *(f"{taken / other:.1f}" for other in seconds[: len(peers)]))
    return table


def tables(folder: Path, megabytes: float) -> Table:
    """Return the table of tables with names: our reader beside pandas' on the same file."""
    read = importlib.import_module("pandas").read_csv
    array = next(pair(megabytes * TEXT / 4))
    lines = [",".join(f"{x:.8e}" for x in row) + "\n" for row in array.tolist()]
    header = "".join(f",c{n}" for n in range(WIDTH)) + "\n"
    entries = [(*at, f"{x:.8e}") for at, x in np.ndenumerate(array)]
    forms = {
        "a count before each row": header + "".join(f"{n},{x}" for n, x in enumerate(lines)),
        "a name before each row": "".join(f"w{n},{x}" for n, x in enumerate(lines)),
        "a name and a number": "name,value\n" + "".join(f"w{i},{x}\n" for i, _, x in entries),
        "two columns of indices": "name,row,col,value\n"
        + "".join(f"w,{i},{j},{x}\n" for i, j, x in entries),
        "tuples of indices": "name,index,value\n"
        + "".join(f'w,"({i}, {j})",{x}\n' for i, j, x in entries),
    }
    table = Table("ours", "over pandas", title=f"{array.size:,} numbers in tables with names")
    for name, content in forms.items():
        path = folder / f"{name}.csv"
        path.write_text(content)
        ours, theirs = least(partial(read_claims, path), partial(read, path))
        table.add_row(name, f"{ours / theirs:.1f}")
    return table


def huge(folder: Path, gigabytes: float) -> str:
    """Compare two files that are mostly holes, and return what that took."""
    rows = round(gigabytes * 1e9 / 4 / WIDTH)
    paths = folder / "a.npy", folder / "b.npy"
    for path in paths:
        array = np.lib.format.open_memmap(path, "w+", np.float32, (rows, WIDTH))
        array[0] = array[-1] = 1
        array.flush()
    begun = time.perf_counter()
    megabytes = peak(*paths)
    seconds = time.perf_counter() - begun
    return f"2 x {gigabytes:g} GB of .npy: {seconds:.0f} s, and {megabytes:.0f} MB at the peak"


def main() -> None:
    """Print the tables."""
    if sys.argv[1:2] == ["--huge"]:
        with tempfile.TemporaryDirectory() as name:
            print(huge(Path(name), float(sys.argv[2]) if len(sys.argv) > 2 else 10.0))
        return
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 100.0
    with tempfile.TemporaryDirectory() as name:
        Console().print(binary(Path(name), megabytes), odd(Path(name), megabytes))
        Console().print(small(Path(name)), text(Path(name), megabytes))
        if importlib.util.find_spec("pandas"):
            Console().print(tables(Path(name), megabytes))


if __name__ == "__main__":
    main()
