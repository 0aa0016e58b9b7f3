"""Write files completely or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gradwitness._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

# As open() does; the process's umask removes some.
_NEW_MODE = 0o666


@contextmanager
def writing_atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file that appears at ``path`` only if the block succeeds.

    The bytes go to a temporary file in the same folder, are flushed to disk, and then take the name
    in one step. If anything fails, an older file at ``path`` is left unchanged. Symbolic links are
    followed; an older file's permissions are kept; devices and pipes, which cannot be replaced, are
    written to directly, but a pipe that nobody reads is refused. An ``OSError``, also one in the
    block, is raised as an `InputError`.
    """
    path = Path(path)
    try:
        target, old_mode = _destination(path)
        if target.exists() and not target.is_file():
            with os.fdopen(_open_special(target), "wb") as file:
                yield file
            return
        temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, flags, _NEW_MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if old_mode is not None:
                temporary.chmod(old_mode)
            temporary.replace(target)
        finally:
            # Already gone on success.
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error.strerror or str(error)) from error


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a file completely or not at all; text as UTF-8. See `writing_atomically`."""
    data = content.encode() if isinstance(content, str) else content
    with writing_atomically(path) as file:
        file.write(data)


def _open_special(target: Path) -> int:
    """Open a device or a pipe, without waiting for whoever might read it one day."""
    try:
        descriptor = os.open(target, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise InputError(
            f"cannot write {target}: it is no regular file, and nothing reads from it; give the "
            "name of a file"
        ) from None
    os.set_blocking(descriptor, True)
    return descriptor


def _destination(path: Path) -> tuple[Path, int | None]:
    """Resolve a path; return the permissions of an older file, too."""
    try:
        target = path.resolve()
    except (ValueError, RuntimeError) as error:
        # A null byte in the name; a loop of links, before Python 3.13.
        raise _cannot_write(path, str(error)) from error
    if target.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; give a file name")
    if not target.parent.is_dir():
        raise InputError(
            f"cannot write {path}: there is no folder {target.parent}; create it, or choose another"
        )
    if not target.exists():
        return target, None
    # Replacing a file needs no write permission, but who protected it would not expect that.
    if not os.access(target, os.W_OK):
        raise InputError(
            f"cannot write {path}: it is write-protected; unprotect it, or choose another name"
        )
    return target, target.stat().st_mode & 0o777


def _cannot_write(path: Path, why: str) -> InputError:
    return InputError(f"cannot write {path}: {why}. Choose a writable folder with enough space.")


def require_folder(path: str | os.PathLike[str]) -> None:
    """Raise `InputError` unless a folder is there, or can be created, to write into."""
    folder = Path(path).absolute()
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise InputError(f"cannot write to the folder {path}; choose another")


def make_folder(path: str | os.PathLike[str]) -> None:
    """Create a folder and its parents, if it does not exist; raise `InputError` if that fails."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot create the folder {folder}: {error.strerror}; choose another"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to the folder {folder}; choose another")
