"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gradwitness._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

# open() asks for these, and the process's umask takes away.
_ASKED_MODE = 0o666


@contextmanager
def writing_atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file that takes its place at ``path`` only when the block ends well.

    The bytes go to a temporary file in the same folder, are forced to the disk, and then take the
    name in one step. If anything fails, what stood at ``path`` stands there still. A symbolic link
    is followed; a file that is there keeps its permissions; a device or a pipe, which cannot be
    replaced, is written to. An ``OSError`` in the block counts as one of writing.

    Parameters
    ----------
    path : str or path-like

    Yields
    ------
    binary file

    Raises
    ------
    InputError
        If the place cannot be written to.
    """
    shown = Path(path)
    try:
        target, old_mode = _destination(shown)
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                yield file
            return
        temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, flags, _ASKED_MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if old_mode is not None:
                temporary.chmod(old_mode)
            temporary.replace(target)
        finally:
            # Gone already if all went well.
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(shown, error.strerror or str(error)) from error


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a file so that it is there whole or not at all; text is written as UTF-8.

    Parameters
    ----------
    path : str or path-like
    content : bytes or str

    Raises
    ------
    InputError
        If the place cannot be written to; what stood there stands there still.
    """
    data = content.encode() if isinstance(content, str) else content
    with writing_atomically(path) as file:
        file.write(data)


def _destination(shown: Path) -> tuple[Path, int | None]:
    """Return where a file really goes and, if one is there, its permissions."""
    try:
        target = shown.resolve()
    except (ValueError, RuntimeError) as error:
        # A null byte in the name; a circle of links, before Python 3.13.
        raise _cannot_write(shown, str(error)) from error
    if target.is_dir():
        raise InputError(f"{shown} is a folder: nothing can be written there. Give a file name.")
    if not target.parent.is_dir():
        raise InputError(
            f"{shown} cannot be written: there is no folder {target.parent}. "
            "Make it first, or choose another."
        )
    if not target.exists():
        return target, None
    # Replacing a file needs no leave to write to it; whoever protected it would not expect that.
    if not os.access(target, os.W_OK):
        raise InputError(
            f"{shown} is write-protected. Remove the protection, or choose another name."
        )
    return target, target.stat().st_mode & 0o777


def _cannot_write(shown: Path, why: str) -> InputError:
    return InputError(
        f"{shown} cannot be written: {why}. Choose a folder that you may write to, with room."
    )


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder, with its parents, if it is not there.

    Raises
    ------
    InputError
        If it cannot be made or written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: the folder cannot be made ({error.strerror}); choose another"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: the folder cannot be written to; choose another")
