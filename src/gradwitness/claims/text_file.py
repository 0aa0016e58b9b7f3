"""The text of a file, read as a whole, and places in it."""

from __future__ import annotations

import codecs
import os
import re
from typing import TYPE_CHECKING

from gradwitness._errors import FileFormatError

if TYPE_CHECKING:
    from pathlib import Path

# Printed numbers take many times the room of what they stand for, and whoever has so many of them
# wants them exact.
MOST_BYTES = 64 << 20
_GLANCE = 4096
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LINE = re.compile(rb"[^\n]*")


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a text file as UTF-8; a shell may have written UTF-16.

    Raises `FileFormatError` if it is too large, or not text.
    """
    with path.open("rb") as file:
        # Asked for more than there is, Python makes room for all of it.
        size = min(os.fstat(file.fileno()).st_size, MOST_BYTES)
        content = file.read(size + 1)
        if len(content) > size:
            content += file.read(MOST_BYTES - size)
    if len(content) > MOST_BYTES:
        raise FileFormatError(
            f"{path}: more than {MOST_BYTES >> 20} MiB of text. Save so many numbers as arrays: by "
            "numpy.savez, or as .safetensors or .pt."
        )
    if content.startswith(_UTF16):
        try:
            return content.decode("utf-16").encode("utf-8", "replace")
        except UnicodeError as error:
            raise FileFormatError(
                f"{path}: begins like UTF-16 text, but is not ({error})"
            ) from None
    if b"\0" in content[:_GLANCE]:
        raise FileFormatError(
            f"{path}: this is not text. Files in other formats are recognised by their extension: "
            "see docs/claims.md."
        )
    if b"\n" not in content:
        content = content.replace(b"\r", b"\n")  # as old Macs ended lines
    return content.removeprefix(codecs.BOM_UTF8)


class Cursor:
    """A place in a text."""

    def __init__(self, content: bytes, path: Path) -> None:
        self.content = content
        self.at = 0
        self._path = path
        self._known = 0, 1  # a place, and its line: those asked for are mostly further on

    def line(self) -> bytes:
        """Return the rest of the line."""
        match = _LINE.match(self.content, self.at)
        return match[0] if match else b""

    def error(self, problem: str, at: int | None = None) -> FileFormatError:
        """Return an error with line and column, by default of this place."""
        at = self.at if at is None else at
        before = self.content[self.content.rfind(b"\n", 0, at) + 1 : at].decode(errors="replace")
        return FileFormatError(
            f"{self._path}, line {self._line_of(at)}, column {len(before) + 1}: {problem}"
        )

    def where(self) -> str:
        """Return ``file:line``."""
        return f"{self._path.name}:{self._line_of(self.at)}"

    def _line_of(self, at: int) -> int:
        known, line = self._known if self._known[0] <= at else (0, 1)
        line += self.content.count(b"\n", known, at)
        self._known = at, line
        return line
