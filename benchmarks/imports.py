"""What starting costs: CPU seconds of fresh processes, beside NumPy's import in the same run.

    python benchmarks/imports.py [--rounds 9]

The commands take turns, so that a busy machine slows all of them alike, and the first round, which
writes bytecode, does not count. Printed are medians of user and system time together.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

NOTHING, NUMPY = "pass", "import numpy"
COMMANDS = {
    code: ["-c", code]
    for code in (NOTHING, NUMPY, "import gradwitness", "from gradwitness import watch")
} | {"gradwitness --help": ["-c", "from gradwitness.cli import main; main(['--help'])"]}


def cpu_seconds(words: list[str], environment: dict[str, str]) -> float:
    """Run Python, and return the CPU time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, *words]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
        for _ in range(rounds + 1):
            for name, words in COMMANDS.items():
                times[name].append(cpu_seconds(words, environment))
    cpu = {name: median(measured[1:]) for name, measured in times.items()}
    table = Table("process", box=box.SIMPLE)
    for heading in ("CPU s", "beyond NumPy's import", "times NumPy's import"):
        table.add_column(heading, justify="right")
    for name, seconds in cpu.items():
        # Python's own start is in every one of them, and in no import.
        ratio = (seconds - cpu[NOTHING]) / (cpu[NUMPY] - cpu[NOTHING])
        table.add_row(name, f"{seconds:.3f}", f"{seconds - cpu[NUMPY]:+.3f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
