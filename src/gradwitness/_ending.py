"""How a command ends: with an exit code and one clear message."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeGuard

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
_LONGEST = 900  # characters of a message

# What --json prints where nothing was judged, but for the error and the exit code.
NOTHING_JUDGED: Final = {
    "schema": "gradwitness-error",
    "version": 1,
    "verdict": None,
    "findings": [],
}


class Ended(typer.Exit):
    """The end of a command with a verdict.

    Parameters
    ----------
    code : int
        The exit code of the verdict.
    record : dict, optional
        What ``--json`` prints.
    failed : BaseException, optional
        Why the program did not come to its own end: that decides the exit code.
    """

    def __init__(
        self, code: int, record: dict[str, Any] | None = None, failed: BaseException | None = None
    ) -> None:
        super().__init__(code)
        self.record = record
        self.failed = failed


def exit_code(command: Callable[[], object], answers: TextIO | None = None) -> int:
    """Run a command; return the exit code of its process.

    A command with a verdict raises `Ended`. Everything else, including a verdict that cannot be
    written, ends in a message on standard error and a code that no verdict has. A reader of
    standard output that leaves early, like ``head``, needs no message.

    With ``answers``, one JSON record is written there, whatever happens.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names may contain characters that its encoding lacks.
            stream.reconfigure(errors="backslashreplace")
    record: dict[str, Any] = {}
    try:
        code = _run(command, record, answers)
        _answer(answers, record, code)
    except BrokenPipeError:
        _give_up_output()
        return READER_LEFT
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 (our own bug must not look like a verdict)
        text = _explained(error)
        failed = failure(error, text)
    else:
        return code
    _write(text)
    code = int(failed["exit_code"])
    with contextlib.suppress(OSError, ValueError):
        _answer(answers, NOTHING_JUDGED | record | failed, code)
    return code


def failure(error: BaseException, text: str = "") -> dict[str, Any]:
    """Return what a record says of what ended a command, or the program that it ran."""
    interrupted = isinstance(error, KeyboardInterrupt)
    kind = "KeyboardInterrupt" if interrupted else type(error).__name__
    message = (text or _explained(error)).removeprefix("gradwitness: ")
    return {
        "exit_code": INTERRUPTED if interrupted else FAILED,
        "error": {"kind": kind, "message": message},
    }


# Click's class, wherever typer keeps it.
_UsageError = typer.BadParameter.__mro__[1]


def _run(command: Callable[[], object], record: dict[str, Any], answers: TextIO | None) -> int:
    """Run a command, and take what it has to answer; return the exit code of its verdict."""
    if not _is_open(answers or sys.stdout):
        raise GradwitnessError("standard output is closed: the verdict cannot be shown")
    code = 0
    try:
        command()
    except Ended as end:
        record |= end.record or {}
        if end.failed is not None:
            raise end.failed from None
        code = end.exit_code
    except typer.Exit as end:
        code = end.exit_code
    except ValueError:
        if _is_open(answers or sys.stdout):
            raise
    shown = answers or sys.stdout
    if not _is_open(shown):
        raise GradwitnessError("the program closed standard output: the verdict cannot be shown")
    shown.flush()
    return code


def _answer(answers: TextIO | None, record: dict[str, Any], code: int) -> None:
    if answers is None or not record:
        return
    from gradwitness.report.record import dumps

    answers.write(dumps(record | {"exit_code": code}))
    answers.flush()


def _is_open(stream: TextIO | None) -> TypeGuard[TextIO]:
    # None if the process was started without one.
    return stream is not None and not stream.closed


def _explained(error: BaseException) -> str:
    match error:
        case KeyboardInterrupt():
            return _said("interrupted")
        case GradwitnessError():
            return _said(f"{error}")
        case SystemExit():
            return _said(f"the program called sys.exit({error.code!r}) before there was a verdict")
        case MemoryError():
            return _said(f"out of memory: {error}".removesuffix(": "))
        case OSError():
            return _said(
                f"cannot use {error.filename or 'standard output'}: {error.strerror or error}"
            )
        case _ if isinstance(error, _UsageError):
            text = io.StringIO()
            error.show(file=text)  # type: ignore[attr-defined]
            return text.getvalue().rstrip("\n")
        case _:
            return _our_fault(error)


def _our_fault(error: BaseException) -> str:
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}".partition("\n")[0].removesuffix(": ")
    return _said(
        f"failed: {what}. This is a bug in gradwitness: please report it, with the output of "
        f"{DEBUG}=1"
    )


def _said(text: str) -> str:
    text = one_line(text)
    if len(text) > _LONGEST:
        # Names may have any length: how it begins says what and where, how it ends what to do.
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    return f"gradwitness: {text}"


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
