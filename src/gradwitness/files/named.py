"""A file that somebody named, to be read."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from gradwitness._errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def require_file(path: Path, expected: str = "") -> None:
    """Raise `InputError` unless a path is that of a regular file; say what was expected.

    To open a pipe may wait for ever, and it cannot be read twice; some devices have no end.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise unreadable(path, error, expected) from None
    if stat.S_ISDIR(mode):
        raise unreadable(path, "it is a folder, not a file", expected)
    if not stat.S_ISREG(mode):
        pipe = "it is a pipe or a device: save what comes from it to a file"
        raise unreadable(path, pipe, expected)


def unreadable(path: Path, why: Exception | str, expected: str = "") -> InputError:
    """Return what to raise when a file cannot be read."""
    # ValueError: a null byte in the name.
    reason = getattr(why, "strerror", None) or why
    return InputError(f"cannot read {path}: {reason}{expected and f' (expected {expected})'}")
