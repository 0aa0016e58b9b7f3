"""Feed the readers of claims with damaged files, guided by coverage, for as long as is wanted.

In an environment of its own, since atheris has no place in the others:

    pip install atheris safetensors .
    python scripts/fuzz_readers.py SECONDS [FOLDER]

Whatever a file holds, the only error is InputError or one of its kind. A file of a few kilobytes
that takes longer than 5 seconds, or more than 1 GiB, is a failure too. New inputs go to FOLDER.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

with atheris.instrument_imports(include=["gradwitness.claims", "zipfile"]):
    from gradwitness._errors import InputError
    from gradwitness.claims.align import align
    from gradwitness.claims.sources import read_claims

from claims.seeds import SEEDS  # noqa: E402

ENDINGS = [".txt", ".npz", ".safetensors", ".json"]
SHAPES = {"0.weight": (2, 2), "0.bias": (2,), "2.weight": (1, 2), "2.bias": (1,)}


def main() -> None:
    """Run until the time is over or something fails."""
    seconds = sys.argv[1] if len(sys.argv) > 1 else "300"
    with tempfile.TemporaryDirectory() as made:
        folder = Path(sys.argv[2] if len(sys.argv) > 2 else made)
        for name, content in SEEDS.items():
            first = bytes([ENDINGS.index(Path(name).suffix)])
            (folder / f"seed_{name}").write_bytes(first + content)
        files = [Path(made) / f"case{ending}" for ending in ENDINGS]

        def one(data: bytes) -> None:
            path = files[data[0] % len(files) if data else 0]
            path.write_bytes(data[1:])
            try:
                claims = read_claims(path)
            except InputError:
                return
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
