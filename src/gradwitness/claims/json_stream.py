"""Claims in JSON, read block by block to hold no more than the numbers and names in memory."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import FileFormatError
from gradwitness.claims.claim import Claim, Claims
from gradwitness.claims.text_brackets import MAX_DEPTH, Malformed, Nest, read_nest
from gradwitness.claims.text_numbers import (
    DECIMALS_OF_A_POINT,
    NUMBER_PATTERN,
    GrowingNumbers,
    parse,
)
from gradwitness.claims.text_stream import BLOCK, FIRST_BLOCK, Stream, progress

if TYPE_CHECKING:
    from pathlib import Path

    from gradwitness.claims.claim import Run

_LONGEST_NAME = 1 << 16
# Most names and values are shorter, and peeking copies.
_SHORT = 256
_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_INSIDE_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_OBJECTS = re.compile(rb"\[[ \t\r\n]*\{")
_WORD = re.compile(rb'[^ \t\r\n,:"\[\]{}]*')
_NUMBER = re.compile(NUMBER_PATTERN)
_NO_CLAIM = (b"null", b"true", b"false")

# Tokens of an array: a part of a number, or one of "[],"; 0 is space.
_NUMBER_PART, _OPEN, _CLOSE, _COMMA = range(1, 5)
_TOKENS = bytearray([_NUMBER_PART]) * 256
for _byte in b" \t\r\n":
    _TOKENS[_byte] = 0
for _byte, _token in zip(b"[],", (_OPEN, _CLOSE, _COMMA), strict=True):
    _TOKENS[_byte] = _token
# Whether a token may follow another; the first bracket counts as following a comma.
_MAY_FOLLOW = np.zeros((5, 5), bool)
_MAY_FOLLOW[[_NUMBER_PART, _CLOSE], _COMMA] = True
_MAY_FOLLOW[[_NUMBER_PART, _CLOSE, _OPEN], _CLOSE] = True
_MAY_FOLLOW[[_COMMA, _OPEN], _NUMBER_PART] = True
_MAY_FOLLOW[[_COMMA, _OPEN], _OPEN] = True


def read_json(path: Path) -> Claims:
    """Read nested objects of nested lists of numbers; names are joined by dots.

    Raises `FileFormatError`, with line and column, if it is not JSON or holds anything else.
    """
    try:
        with path.open("rb") as file, progress(path, path.stat().st_size) as advanced:
            return _Reader(Stream(file, path, advanced), path).read()
    except (OSError, UnicodeError) as error:
        raise FileFormatError(f"{path}: not JSON ({error})") from error


class _Array(Nest):
    """A tensor in JSON: one comma between entries, and nothing left out."""

    # Where floats are written in their shortest form, 1 is 1.0.
    whole_decimals = DECIMALS_OF_A_POINT

    def __init__(self) -> None:
        super().__init__()
        self._before = _COMMA

    def read(self, block: bytes) -> int | None:
        end = super().read(block)
        if self.gaps:
            raise Malformed("expected a number, found '...'", block.find(b"..."))
        tokens = np.frombuffer(block[:end].translate(bytes(_TOKENS)), np.uint8)
        # Numbers do not cross from one block to the next.
        continues = (tokens[1:] == _NUMBER_PART) & (tokens[:-1] == _NUMBER_PART)
        offsets = np.flatnonzero(tokens)
        offsets = offsets[~np.concatenate([[False], continues])[offsets]]
        if not len(offsets):
            return end
        found_tokens = tokens[offsets]
        before = np.concatenate([[self._before], found_tokens[:-1]])
        wrong = np.flatnonzero(~_MAY_FOLLOW[before, found_tokens])
        if len(wrong):
            expected = {_COMMA: "a number or '['", _OPEN: "a number, '[' or ']'"}
            wanted = expected.get(int(before[wrong[0]]), "',' or ']'")
            at = int(offsets[wrong[0]])
            raise Malformed(f"expected {wanted}, found {chr(block[at])!r}", at)
        self._before = int(found_tokens[-1])
        return end


@dataclass
class _Open:
    """An object, or an array of objects, that is still open."""

    path: tuple[str, ...]
    is_object: bool
    is_runs: bool = False
    count: int = 0
    keys: set[str] = field(default_factory=set)


class _Reader:
    """Reads one file."""

    def __init__(self, stream: Stream, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._top_level: Run = {}
        self._runs: list[Run] = []
        self._run = self._top_level

    def read(self) -> Claims:
        open_ones: list[_Open] = []
        self._value((), open_ones)
        while open_ones:
            path = self._next(open_ones[-1])
            if path is not None:
                self._value(path, open_ones)
            elif open_ones.pop().is_runs:
                self._run = self._top_level
        self._expect(b"", "the end of the file")
        runs, notes = [run for run in self._runs if run], []
        if self._runs and self._top_level:
            notes.append(f"{len(self._top_level)} entries besides 'runs' were ignored")
        runs = runs if self._runs else [self._top_level]
        if not any(runs):
            raise FileFormatError(
                f"{self._path}: no numbers found; expected names with lists of numbers"
            )
        return Claims(self._path.name, tuple(runs), tuple(notes))

    def _value(self, path: tuple[str, ...], open_ones: list[_Open]) -> None:
        """Read a number, an array of numbers or a word; or open an object or list of objects."""
        first = self._peek()
        is_object_list = first == b"[" and _OBJECTS.match(self._stream.peek(FIRST_BLOCK))
        if first == b"{" or is_object_list:
            if len(open_ones) == MAX_DEPTH:
                raise self._stream.error(f"nested more than {MAX_DEPTH} levels deep")
            is_runs = bool(is_object_list) and path == ("runs",)
            open_ones.append(_Open(path, first == b"{", is_runs))
            self._stream.skip(1)
        elif first == b"[":
            where, nest = self._stream.where(), _Array()
            read_nest(self._stream, nest)
            self._add(path, nest.numbers, nest.shape, where)
        elif first == b'"':
            self._skip_string()
        else:
            self._word(path)

    def _next(self, container: _Open) -> tuple[str, ...] | None:
        """Return the path of the next value; None if there is none."""
        closing = b"}" if container.is_object else b"]"
        byte = self._peek()
        if byte == closing:
            self._stream.skip(1)
            return None
        if container.count:
            self._expect(b",", f"',' or {closing.decode()!r}")
        container.count += 1
        if container.is_object:
            key = self._key(container)
            self._expect(b":", "':'")
            return (*container.path, key)
        if self._peek() != b"{":
            raise self._unexpected("'{', as earlier in this list")
        if container.is_runs:
            self._run = {}
            self._runs.append(self._run)
            return ()
        return (*container.path, str(container.count - 1))

    def _key(self, container: _Open) -> str:
        if self._peek() != b'"':
            raise self._unexpected("a name in quotes" + (" or '}'" if container.count == 1 else ""))
        quoted = _STRING.match(self._stream.peek(_SHORT))
        quoted = quoted or _STRING.match(self._stream.peek(_LONGEST_NAME))
        if not quoted:
            why = "never closed. Is the file cut off?"
            if len(self._stream.peek(_LONGEST_NAME)) == _LONGEST_NAME:
                why = f"longer than {_LONGEST_NAME} bytes"
            raise self._stream.error(f"this name is {why}")
        try:
            # A lone surrogate could not be printed.
            key = str(json.loads(quoted[0])).encode(errors="backslashreplace").decode()
        except ValueError as error:
            raise self._stream.error(f"this name is not a JSON string ({error})") from None
        if key in container.keys:
            raise self._stream.error(f"two entries of one object are named {key[:80]!r}")
        container.keys.add(key)
        self._stream.skip(len(quoted[0]))
        return key

    def _skip_string(self) -> None:
        unclosed = self._stream.error("this string is never closed. Is the file cut off?")
        self._stream.skip(1)
        size = _SHORT
        while True:
            block = self._stream.peek(size)
            inside = _INSIDE_STRING.match(block)
            end = inside.end() if inside else 0
            if block[end : end + 1] == b'"':
                self._stream.skip(end + 1)
                return
            if not end:
                # At the end, or within an escape.
                raise unclosed
            self._stream.skip(end)
            size = min(4 * size, BLOCK)

    def _word(self, path: tuple[str, ...]) -> None:
        match = _WORD.match(self._stream.peek(FIRST_BLOCK))
        word = match[0] if match else b""
        where = self._stream.where()
        if word not in _NO_CLAIM:
            if not _NUMBER.fullmatch(word):
                raise self._unexpected("a value")
            numbers = GrowingNumbers()
            starts, lengths = np.array([0]), np.array([len(word)])
            numbers.append(*parse(word, starts, lengths, DECIMALS_OF_A_POINT))
            self._add(path, numbers, (), where)
        self._stream.skip(len(word))

    def _add(
        self, path: tuple[str, ...], numbers: GrowingNumbers, shape: tuple[int, ...], where: str
    ) -> None:
        name = ".".join(path) if path else "tensor1"
        if name in self._run:
            raise self._stream.error(
                f"two entries are named {name[:80]!r} when nested names are joined"
            )
        values, rounding = numbers.take()
        if isinstance(rounding, np.ndarray):
            rounding = rounding.reshape(shape)
        self._run[name] = Claim(name, values.reshape(shape), rounding, where=where)

    def _peek(self) -> bytes:
        """Return the next non-space byte; nothing at the end."""
        size = _SHORT
        while block := self._stream.peek(size):
            space = _SPACE.match(block)
            end = space.end() if space else 0
            self._stream.skip(end)
            if end < len(block):
                return block[end : end + 1]
            size = min(4 * size, BLOCK)
        return b""

    def _expect(self, byte: bytes, expected: str) -> None:
        if self._peek() != byte:
            raise self._unexpected(expected)
        self._stream.skip(len(byte))

    def _unexpected(self, expected: str) -> FileFormatError:
        snippet = self._stream.peek(30).split(b"\n")[0].decode("utf-8", "replace")
        if not snippet:
            return self._stream.error(f"expected {expected}, but the file ends. Is it cut off?")
        return self._stream.error(f"not JSON: expected {expected}, found {snippet!r}")
