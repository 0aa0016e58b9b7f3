"""Read a text file block by block, keeping track of line and column."""

from __future__ import annotations

import codecs
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from gradwitness._errors import FileFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Small enough to stay in the processor's cache.
BLOCK = 1 << 18
FIRST_BLOCK = 4096
_BOUNDARIES = (b" ", b"\n", b",", b"[", b"]", b"\t", b"\r")
# Smaller files need no progress bar.
BIG = 64 << 20
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Stream:
    """The bytes of a text file from the current position; ``advanced`` hears how many were read."""

    def __init__(self, file: BinaryIO, path: Path, advanced: Callable[[int], None]) -> None:
        self._raw = self._file = file
        self._path = path
        self._advanced = advanced
        self._buffer = b""
        self._at = 0
        self._line = 1
        self._column = 1
        first = file.read(4)
        file.seek(3 if first.startswith(codecs.BOM_UTF8) else 0)
        if first.startswith(_UTF16):
            # Some shells write UTF-16 for "command > file".
            self._file = codecs.EncodedFile(file, "utf-8", "utf-16", "replace")

    def peek(self, count: int) -> bytes:
        """Return the next ``count`` bytes, fewer only at the end."""
        while len(self._buffer) - self._at < count:
            more = self._file.read(max(BLOCK, count))
            if not more:
                break
            self._buffer = self._buffer[self._at :] + more
            self._at = 0
            self._advanced(self._raw.tell())
        return self._buffer[self._at : self._at + count]

    def block(self, size: int) -> tuple[bytes, bool]:
        """Return bytes that do not end within a number, and whether they end the file."""
        while True:
            block = self.peek(size + 1)
            if len(block) <= size:
                return block, True
            cut = max(block.rfind(boundary) for boundary in _BOUNDARIES) + 1
            if cut:
                return block[:cut], False
            if size >= BLOCK:
                raise self.error(f"expected numbers, found {size} bytes without a space or comma.")
            size *= 4

    def skip(self, count: int) -> None:
        """Advance by some of the peeked bytes."""
        self._line, self._column = self.position(count)
        self._at += count

    def position(self, offset: int = 0) -> tuple[int, int]:
        """Return the line and column, from 1, of a peeked byte."""
        end = self._at + offset
        lines = self._buffer.count(b"\n", self._at, end)
        if not lines:
            return self._line, self._column + offset
        return self._line + lines, end - self._buffer.rfind(b"\n", self._at, end)

    def error(self, problem: str, offset: int = 0) -> FileFormatError:
        """Return an error with line and column."""
        line, column = self.position(offset)
        return FileFormatError(f"{self._path}, line {line}, column {column}: {problem}")

    def where(self) -> str:
        """Return ``file:line``."""
        return f"{self._path.name}:{self._line}"


@contextmanager
def progress(path: Path, size: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar for a big file in a terminal."""
    if size < BIG or not sys.stderr.isatty():
        yield lambda _: None
        return
    with Progress(
        TextColumn("reading {task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(path.name, total=size)
        yield lambda done: bar.update(task, completed=done)
