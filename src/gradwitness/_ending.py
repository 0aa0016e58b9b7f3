"""How a command ends: with an exit code and one clear message."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from typing import TYPE_CHECKING, Final, TextIO

import typer

from gradwitness._errors import GradwitnessError
from gradwitness._printable import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED: Final = 2
INTERRUPTED: Final = 130
# What a shell reports of most tools when their reader leaves: 128 + SIGPIPE.
READER_LEFT: Final = 141
# If set in the environment, a bug in gradwitness shows its traceback.
DEBUG = "GRADWITNESS_DEBUG"


def exit_code(command: Callable[[], object]) -> int:
    """Run a command; return the exit code of its process.

    A command with a verdict raises `typer.Exit`. Everything else, including a verdict that cannot
    be written, ends in a message on standard error and a code that no verdict has. A reader of
    standard output that leaves early, like ``head``, needs no message.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names may contain characters that its encoding lacks.
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(command)
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _give_up_output()
        return READER_LEFT
    except (Exception, SystemExit) as error:  # noqa: BLE001 (our own bug must not look like a verdict)
        _explain(error)
        return FAILED


# Click's class, wherever typer keeps it.
_UsageError = typer.BadParameter.__mro__[1]


def _run(command: Callable[[], object]) -> int:
    if not _is_open(sys.stdout):
        raise GradwitnessError("standard output is closed: the verdict cannot be shown")
    code = 0
    try:
        command()
    except typer.Exit as end:
        code = end.exit_code
    except ValueError:
        if _is_open(sys.stdout):
            raise
    if not _is_open(sys.stdout):
        raise GradwitnessError("the program closed standard output: the verdict cannot be shown")
    sys.stdout.flush()
    return code


def _is_open(stream: TextIO | None) -> bool:
    # None if the process was started without one.
    return stream is not None and not stream.closed


def _explain(error: BaseException) -> None:
    match error:
        case GradwitnessError():
            _say(f"{error}")
        case SystemExit():
            _say(f"the program called sys.exit({error.code!r}) before there was a verdict")
        case MemoryError():
            _say(f"out of memory: {error}".removesuffix(": "))
        case OSError():
            _say(f"cannot use {error.filename or 'standard output'}: {error.strerror or error}")
        case _ if isinstance(error, _UsageError):
            text = io.StringIO()
            error.show(file=text)  # type: ignore[attr-defined]
            _write(text.getvalue().rstrip("\n"))
        case _:
            _say_our_fault(error)


def _say_our_fault(error: BaseException) -> None:
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}".partition("\n")[0].removesuffix(": ")
    _say(
        f"failed: {what}. This is a bug in gradwitness: please report it, with the output of "
        f"{DEBUG}=1"
    )


def _say(text: str) -> None:
    _write(f"gradwitness: {one_line(text)}")


def _write(text: str) -> None:
    from gradwitness.report.console import console

    with contextlib.suppress(OSError, ValueError):
        console(stderr=True).print(text, soft_wrap=True)
    _give_up_output()


def _give_up_output() -> None:
    """Let standard output fail now, if it does, and not again when the interpreter ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
