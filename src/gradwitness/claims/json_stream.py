"""Claims in JSON, read block by block: never is more of a file held than its numbers and names."""

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
# Most names and values are shorter, and what is peeked at is copied.
_SHORT = 256
_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_INSIDE_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_OBJECTS = re.compile(rb"\[[ \t\r\n]*\{")
_WORD = re.compile(rb'[^ \t\r\n,:"\[\]{}]*')
_NUMBER = re.compile(NUMBER_PATTERN)
_NO_CLAIM = (b"null", b"true", b"false")

# What stands next in an array: a part of a number, or one of "[],"; 0 is space.
_NUMBER_PART, _OPEN, _CLOSE, _COMMA = range(1, 5)
_TOKENS = bytearray([_NUMBER_PART]) * 256
for _byte in b" \t\r\n":
    _TOKENS[_byte] = 0
for _byte, _token in zip(b"[],", (_OPEN, _CLOSE, _COMMA), strict=True):
    _TOKENS[_byte] = _token
# Whether a token may follow another; before the first bracket stands a comma, as it were.
_MAY_FOLLOW = np.zeros((5, 5), bool)
_MAY_FOLLOW[[_NUMBER_PART, _CLOSE], _COMMA] = True
_MAY_FOLLOW[[_NUMBER_PART, _CLOSE, _OPEN], _CLOSE] = True
_MAY_FOLLOW[[_COMMA, _OPEN], _NUMBER_PART] = True
_MAY_FOLLOW[[_COMMA, _OPEN], _OPEN] = True


def read_json(path: Path) -> Claims:
    """Read nested objects of nested lists of numbers; names are joined by dots.

    Raises
    ------
    FileFormatError
        If it is no JSON, or holds anything else; the message names line and column.
    """
    try:
        with path.open("rb") as file, progress(path, path.stat().st_size) as advanced:
            return _Reader(Stream(file, path, advanced), path).read()
    except (OSError, UnicodeError) as error:
        raise FileFormatError(f"{path}: it is no JSON ({error})") from error


class _Array(Nest):
    """A tensor as JSON has it: with one comma between entries, and nothing left out."""

    # Where floats are written short, 1 is 1.0.
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
        goes_on = (tokens[1:] == _NUMBER_PART) & (tokens[:-1] == _NUMBER_PART)
        places = np.flatnonzero(tokens)
        places = places[~np.concatenate([[False], goes_on])[places]]
        if not len(places):
            return end
        found = tokens[places]
        before = np.concatenate([[self._before], found[:-1]])
        wrong = np.flatnonzero(~_MAY_FOLLOW[before, found])
        if len(wrong):
            wants = {_COMMA: "a number or '['", _OPEN: "a number, '[' or ']'"}
            what = wants.get(int(before[wrong[0]]), "',' or ']'")
            at = int(places[wrong[0]])
            raise Malformed(f"expected {what}, found {chr(block[at])!r}", at)
        self._before = int(found[-1])
        return end


@dataclass
class _Open:
    """An object, or an array of objects, of which the end has not been read yet."""

    way: tuple[str, ...]
    is_object: bool
    is_runs: bool = False
    count: int = 0
    keys: set[str] = field(default_factory=set)


class _Reader:
    """Reads one file from its beginning to its end."""

    def __init__(self, stream: Stream, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._beside: Run = {}
        self._runs: list[Run] = []
        self._run = self._beside

    def read(self) -> Claims:
        open_ones: list[_Open] = []
        self._value((), open_ones)
        while open_ones:
            way = self._next(open_ones[-1])
            if way is not None:
                self._value(way, open_ones)
            elif open_ones.pop().is_runs:
                self._run = self._beside
        self._expect(b"", "the end of the file")
        runs, notes = [run for run in self._runs if run], []
        if self._runs and self._beside:
            notes.append(f"{len(self._beside)} entries beside 'runs' were left out")
        runs = runs if self._runs else [self._beside]
        if not any(runs):
            raise FileFormatError(
                f"{self._path}: no numbers in it. Expected are names with lists of numbers."
            )
        return Claims(self._path.name, tuple(runs), tuple(notes))

    def _value(self, way: tuple[str, ...], open_ones: list[_Open]) -> None:
        """Read a number, an array of numbers or what is no claim; or the beginning of others."""
        first = self._peek()
        is_objects = first == b"[" and _OBJECTS.match(self._stream.peek(FIRST_BLOCK))
        if first == b"{" or is_objects:
            if len(open_ones) == MAX_DEPTH:
                raise self._stream.error(f"nested too deeply: in more than {MAX_DEPTH} levels")
            is_runs = bool(is_objects) and way == ("runs",)
            open_ones.append(_Open(way, first == b"{", is_runs))
            self._stream.skip(1)
        elif first == b"[":
            where, nest = self._stream.where(), _Array()
            read_nest(self._stream, nest)
            self._take(way, nest.numbers, nest.shape, where)
        elif first == b'"':
            self._skip_string()
        else:
            self._word(way)

    def _next(self, here: _Open) -> tuple[str, ...] | None:
        """Go on to the next value; None if there is no other."""
        closing = b"}" if here.is_object else b"]"
        found = self._peek()
        if found == closing:
            self._stream.skip(1)
            return None
        if here.count:
            self._expect(b",", f"',' or {closing.decode()!r}")
        here.count += 1
        if here.is_object:
            key = self._key(here)
            self._expect(b":", "':'")
            return (*here.way, key)
        if self._peek() != b"{":
            raise self._unexpected("'{', as before in this list")
        if here.is_runs:
            self._run = {}
            self._runs.append(self._run)
            return ()
        return (*here.way, str(here.count - 1))

    def _key(self, here: _Open) -> str:
        if self._peek() != b'"':
            raise self._unexpected("a name in quotes" + (" or '}'" if here.count == 1 else ""))
        found = _STRING.match(self._stream.peek(_SHORT))
        found = found or _STRING.match(self._stream.peek(_LONGEST_NAME))
        if not found:
            why = "never closed. Is the file cut off?"
            if len(self._stream.peek(_LONGEST_NAME)) == _LONGEST_NAME:
                why = f"longer than {_LONGEST_NAME} bytes"
            raise self._stream.error(f"this name is {why}")
        try:
            # Half of a surrogate pair could not be printed.
            key = str(json.loads(found[0])).encode(errors="backslashreplace").decode()
        except ValueError as error:
            raise self._stream.error(f"this name is no string of JSON ({error})") from None
        if key in here.keys:
            raise self._stream.error(f"two entries of one object are called {key[:80]!r}")
        here.keys.add(key)
        self._stream.skip(len(found[0]))
        return key

    def _skip_string(self) -> None:
        unclosed = self._stream.error("this string is never closed. Is the file cut off?")
        self._stream.skip(1)
        size = _SHORT
        while True:
            block = self._stream.peek(size)
            found = _INSIDE_STRING.match(block)
            end = found.end() if found else 0
            if block[end : end + 1] == b'"':
                self._stream.skip(end + 1)
                return
            if not end:
                # Nothing is left, or half of an escape.
                raise unclosed
            self._stream.skip(end)
            size = min(4 * size, BLOCK)

    def _word(self, way: tuple[str, ...]) -> None:
        found = _WORD.match(self._stream.peek(FIRST_BLOCK))
        word = found[0] if found else b""
        where = self._stream.where()
        if word not in _NO_CLAIM:
            if not _NUMBER.fullmatch(word):
                raise self._unexpected("a value")
            numbers = GrowingNumbers()
            whole, size = np.array([0]), np.array([len(word)])
            numbers.append(*parse(word, whole, size, DECIMALS_OF_A_POINT))
            self._take(way, numbers, (), where)
        self._stream.skip(len(word))

    def _take(
        self, way: tuple[str, ...], numbers: GrowingNumbers, shape: tuple[int, ...], where: str
    ) -> None:
        name = ".".join(way) if way else "tensor1"
        if name in self._run:
            raise self._stream.error(
                f"two entries are called {name[:80]!r} once nested names are joined"
            )
        values, rounding = numbers.take()
        if isinstance(rounding, np.ndarray):
            rounding = rounding.reshape(shape)
        self._run[name] = Claim(name, values.reshape(shape), rounding, where=where)

    def _peek(self) -> bytes:
        """Return the next byte that is no space; nothing at the end."""
        size = _SHORT
        while block := self._stream.peek(size):
            found = _SPACE.match(block)
            end = found.end() if found else 0
            self._stream.skip(end)
            if end < len(block):
                return block[end : end + 1]
            size = min(4 * size, BLOCK)
        return b""

    def _expect(self, byte: bytes, what: str) -> None:
        if self._peek() != byte:
            raise self._unexpected(what)
        self._stream.skip(len(byte))

    def _unexpected(self, what: str) -> FileFormatError:
        shown = self._stream.peek(30).split(b"\n")[0].decode("utf-8", "replace")
        if not shown:
            return self._stream.error(f"expected {what}, and the file ends. Is it cut off?")
        return self._stream.error(f"it is no JSON: expected {what}, found {shown!r}")
