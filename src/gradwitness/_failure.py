"""Descriptions of unexpected failures inside a user's program."""

from __future__ import annotations

import textwrap
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from gradwitness._errors import GradwitnessError
from gradwitness._printable import one_line

if TYPE_CHECKING:
    from types import FrameType

FAILED = "gradwitness failed here"

_PACKAGE = Path(__file__).parent
# Frames of these packages belong neither to the program nor to gradwitness.
_LIBRARIES = ("numpy", "scipy", "ml_dtypes", "torch")


def kind_and_message(error: BaseException) -> str:
    """Return an exception in one line that is not long, however long its message is."""
    text = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
    return one_line(text)


def in_library(frame: FrameType) -> bool:
    """Whether a frame runs code of a library below the program."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _LIBRARIES


def failure(error: BaseException) -> str:
    """Return in one line what failed, and where: in gradwitness, or in the program's own rules."""
    message = str(error).strip().partition("\n")[0][:120]
    if isinstance(error, GradwitnessError):
        return message
    if isinstance(error, MemoryError):
        return f"out of memory: {message}".removesuffix(": ")
    summary = f"{type(error).__name__} ({message})" if message else type(error).__name__
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if in_library(frame):
            continue
        path = Path(frame.f_code.co_filename)
        if not path.is_relative_to(_PACKAGE):
            return (
                f"the program's code failed when gradwitness called it: {summary} at {path}:{line}"
            )
        relative = path.relative_to(_PACKAGE).as_posix()
        return f"{FAILED}: {summary} at {relative}:{line}; please report"
    return f"{FAILED}: {summary}; please report"
