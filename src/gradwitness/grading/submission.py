"""What somebody handed in, as claims: a file of numbers, or a program that is run under limits.

The process is another one, with limits on time, memory and the size of files, and without this
one's environment. It is no jail: it may read what its user may read. Whoever grades what strangers
wrote runs all of this in a container.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gradwitness._errors import InputError
from gradwitness.claims.binary import read_arrays
from gradwitness.claims.claim import Claim, Claims
from gradwitness.claims.sources import read_claims
from gradwitness.engine.floats import is_float
from gradwitness.files.named import require_file

if TYPE_CHECKING:
    from gradwitness.grading.task import Limits

# By its file: the isolated interpreter may find another gradwitness, or none.
_CHILD = str(Path(__file__).with_name("child.py"))
_ROUNDS = 20  # in which all that a submission started is looked for: it may start more meanwhile
_SHOWN = 4096  # bytes of what a program printed
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "SYSTEMROOT", "TMPDIR", "VIRTUAL_ENV")


@dataclass(frozen=True)
class HandedIn:
    """What came of a submission."""

    claims: Claims | None  # None if there are none
    failure: str = ""  # why there are none
    printed: str = ""  # the end of what the program printed


def take(path: Path, limits: Limits) -> HandedIn:
    """Read a submission, a ``.py`` file or one of numbers, or run it.

    A submission that fails is a bad one, and no error. Raises `InputError` if there is no such
    file, or programs cannot be run here.
    """
    require_file(path, f"a .py file with {limits.function}(), or a file of gradients")
    if path.suffix == ".py":
        return _run(path, limits)
    try:
        return HandedIn(read_claims(path))
    except InputError as error:
        return HandedIn(None, str(error))


def _run(path: Path, limits: Limits) -> HandedIn:
    if os.name != "posix":
        raise InputError(
            f"{path}: programs run only where memory can be limited (Linux, macOS); "
            "hand in a file of numbers, or grade on such a machine"
        )
    with tempfile.TemporaryDirectory(prefix="gradwitness-") as folder:
        out, log = Path(folder) / "gradients.npz", Path(folder) / "printed"
        words = [path.resolve(), limits.function, limits.data.resolve() if limits.data else ""]
        command = [sys.executable, "-I", _CHILD, *map(str, words)]
        command += [str(out), str(limits.seconds), str(limits.mebibytes)]
        with log.open("wb") as printed:
            code = _bounded(command, Path(folder), limits.seconds, printed)
        said = _end_of(log)
        if code != 0 or not out.is_file():
            return HandedIn(None, _why(code, limits), said)
        try:
            return HandedIn(_claims(out, path.name, limits), printed=said)
        except (InputError, ValueError, KeyError):
            # Only who writes to the file behind the function's back comes here.
            return HandedIn(None, "it did not return named arrays", said)


def _bounded(command: list[str], folder: Path, seconds: float, printed: BinaryIO) -> int | None:
    """Run a command; return its exit code, or None if its time ran out. Nothing of it stays."""
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    # Threads take address space each; an exercise needs one.
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    # What it starts inherits this, and is known by it in whatever session it hides.
    token = f"GRADWITNESS_SUBMISSION={secrets.token_hex(16)}"
    environment |= dict([token.split("=")])
    process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Also what it started, and also if somebody presses Ctrl-C here.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _end_all(token.encode())


def _end_all(token: bytes) -> None:
    """End the processes with something in their environment, where the system lists them."""
    for _ in range(_ROUNDS):
        found = False
        for variables in Path("/proc").glob("[0-9]*/environ"):
            # Others' processes cannot be read, and some are gone by now.
            with contextlib.suppress(OSError):
                if token in variables.read_bytes().split(b"\0"):
                    os.kill(int(variables.parent.name), signal.SIGKILL)
                    found = True
        if not found:
            return


def _why(code: int | None, limits: Limits) -> str:
    """Return why a program came to no result, in a sentence."""
    if code is None or code == -signal.SIGXCPU:
        return f"it did not finish within {limits.seconds:g} seconds"
    if code == 0:
        return "it exited before its function returned"
    if code < 0:
        killed = f"it was ended by {signal.Signals(-code).name}"
        return f"{killed}: perhaps it needs more than {limits.mebibytes:g} MiB of memory"
    return f"{limits.function}() failed: see what it printed"


def _claims(path: Path, source: str, limits: Limits) -> Claims:
    held = read_arrays(path, int(limits.mebibytes * 2**20))
    names = [str(name) for name in held["names"].tolist()]
    arrays = [held[f"array{place}"] for place in range(len(names))]
    if not all(is_float(array.dtype.name) for array in arrays):
        raise ValueError("no real numbers")
    run = {
        name: Claim(name, array, dtype=array.dtype.name)
        for name, array in zip(names, arrays, strict=True)
    }
    return Claims(source, (run,))


def _end_of(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _SHOWN))
        return file.read().decode(errors="replace").rstrip().lstrip("\n")
