"""Feed the readers of claims with damaged files, guided by coverage, for as long as is wanted.

In an environment of its own, since atheris has no place in the others:

    pip install atheris safetensors .
    python scripts/fuzz_readers.py SECONDS [FOLDER]

Whatever a file holds, the only error is InputError or one of its kind. A file of a few kilobytes
that takes longer than 5 seconds, or more than 1 GiB, is a failure too. What is JSON is also read as
a tree of arrays in memory, as JAX has them. New inputs go to FOLDER.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import atheris
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

with atheris.instrument_imports(include=["gradwitness.claims", "zipfile"]):
    from gradwitness._errors import InputError
    from gradwitness.claims.align import align
    from gradwitness.claims.jax_source import pytree_claims
    from gradwitness.claims.sources import read_claims

from claims.seeds import SEEDS  # noqa: E402

if TYPE_CHECKING:
    from gradwitness.claims.claim import Claims

ENDINGS = [".txt", ".npz", ".safetensors", ".json"]
SHAPES = {
    "0.weight": (2, 2),
    "0.bias": (2,),
    "2.weight": (1, 2),
    "2.bias": (1,),
    "4.weight": (3, 2, 1, 1),
}


def tree_of(part: Any) -> Any:
    """Return a tree with arrays where JSON has lists of numbers of one length."""
    if isinstance(part, dict):
        return {key: tree_of(item) for key, item in part.items()}
    if isinstance(part, list):
        try:
            return np.array(part, float)
        except (TypeError, ValueError, OverflowError):
            return [tree_of(item) for item in part]
    return part


def read_all(path: Path) -> list[Claims]:
    """Read a file, and what is JSON as trees in memory too."""
    sources: list[Any] = [path]
    if path.suffix == ".json":
        try:
            tree = tree_of(json.loads(path.read_bytes()))
        except (ValueError, RecursionError):
            tree = {}
        sources += [lambda: {"tree": tree}, lambda: pytree_claims(tree)]
    read = []
    for source in sources:
        try:
            made = source() if callable(source) else source
            read.append(read_claims(made))
        except InputError:
            pass
    return read


def main() -> None:
    """Run until the time is over or something fails."""
    seconds = sys.argv[1] if len(sys.argv) > 1 else "300"
    with tempfile.TemporaryDirectory() as made:
        folder = Path(sys.argv[2] if len(sys.argv) > 2 else made)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in SEEDS.items():
            first = bytes([ENDINGS.index(Path(name).suffix)])
            (folder / f"seed_{name}").write_bytes(first + content)
        files = [Path(made) / f"case{ending}" for ending in ENDINGS]

        def one(data: bytes) -> None:
            path = files[data[0] % len(files) if data else 0]
            path.write_bytes(data[1:])
            for claims in read_all(path):
                for run in claims.runs:
                    align(run, SHAPES)

        options = [
            "-timeout=5",
            "-rss_limit_mb=1024",
            "-max_len=8192",
            f"-max_total_time={seconds}",
        ]
        atheris.Setup([sys.argv[0], *options, str(folder)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
