"""The command ``gradwitness``: one process runs the command line, another watches it.

A checked program runs in the process that judges it, and may end that process at any point
(``os._exit``, a crash in a kernel, out of memory) with an exit code that looks like a verdict. So
the verdict goes through a pipe, and without one the exit code is 2.

This is outside the package so that the watching process imports none of it and costs no more than
the start of a bare interpreter: a twentieth of what the command imports.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from types import FrameType

# Environment variable that gives the watched process the descriptor of the pipe.
_PIPE = "GRADWITNESS_VERDICT_PIPE"
_FAILED = 2
_FINISHING = b"\ngradwitness: interrupted, finishing (Ctrl-C again to leave at once)\n"
_JSON = "--json"
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run the command line; return its exit code."""
    _occupy_standard_streams()
    pipe = os.environ.pop(_PIPE, None)
    if pipe is None and os.name == "posix":
        return _watch()
    if pipe is not None:
        os.set_inheritable(int(pipe), False)
        _end_with_the_watcher()
    code = _command_line()
    if pipe is not None:
        os.write(int(pipe), bytes([code]))
    return code


def _command_line() -> int:
    answers = _apart() if _JSON in sys.argv else None
    try:
        from gradwitness.cli import run_words

        return run_words(sys.argv[1:], answers)
    except KeyboardInterrupt:
        # While the packages are imported, which takes seconds.
        _answer_without_verdict("KeyboardInterrupt", "interrupted", 128 + signal.SIGINT, answers)
        return 128 + signal.SIGINT


def _apart() -> TextIO:
    """Keep standard output for the one record.

    Whatever else is written there, by Python, C or another process, until this one has ended, goes
    to standard error.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    # The old one believes to know what kind of file it writes to.
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", buffering=1, closefd=False)  # type: ignore[misc]
    return answers


def _answer_without_verdict(kind: str, message: str, code: int, answers: TextIO | None) -> None:
    """Write the record of a command that did not come to write its own."""
    if answers is None:
        return
    import json

    from gradwitness._ending import NOTHING_JUDGED

    record = NOTHING_JUDGED | {"error": {"kind": kind, "message": message}, "exit_code": code}
    with contextlib.suppress(OSError):
        print(json.dumps(record, indent=1), file=answers, flush=True)


def _watch() -> int:
    """Run this same command in another process; return its verdict."""
    reading, writing = os.pipe()
    process: subprocess.Popen[bytes] | None = None

    told = False

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal told
        del frame
        if number == signal.SIGINT and not told and os.isatty(2):
            # The step that is being judged, and what follows from it, may take seconds.
            os.write(2, _FINISHING)
            told = True
        # Ctrl-C at a terminal reaches all processes in its foreground.
        if process is not None and not (number == signal.SIGINT and _is_in_foreground()):
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, forward)
    command = [sys.executable, *sys.orig_argv[1:]]
    environment = os.environ | {_PIPE: str(writing)}
    process = subprocess.Popen(command, env=environment, pass_fds=[writing])  # noqa: S603 (ours)
    os.close(writing)
    ended = process.wait()
    # Processes that the program started may hold the pipe open: do not wait for them.
    os.set_blocking(reading, False)
    try:
        verdict = os.read(reading, 1)
    except BlockingIOError:
        verdict = b""
    if verdict:
        return verdict[0]
    answers = sys.stdout if _JSON in sys.argv else None
    if -ended in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        name = signal.Signals(-ended).name
        _answer_without_verdict(name, f"ended by {name}", 128 - ended, answers)
        return 128 - ended
    how = f"exited with code {ended}, as by os._exit" if ended >= 0 else _killed(-ended)
    message = f"the process {how} before there was a verdict"
    with contextlib.suppress(OSError):
        os.write(2, f"gradwitness: {message}\n".encode())
    _answer_without_verdict("ProcessEnded", message, _FAILED, answers)
    return _FAILED


def _killed(number: int) -> str:
    name = signal.Signals(number).name
    if number == signal.SIGKILL:
        return f"was killed by {name} (out of memory?)"
    return f"was killed by {name} (PYTHONFAULTHANDLER=1 shows where)"


def _is_in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _occupy_standard_streams() -> None:
    """Keep files and pipes from taking the descriptor of a closed standard stream."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)


def _end_with_the_watcher() -> None:
    """On Linux, die with the watching process: whoever kills that one means both."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
