"""Tensors in text: nested brackets, and rows without brackets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gradwitness._errors import FileFormatError
from gradwitness.claims.text_nests import MAX_DEPTH as MAX_DEPTH
from gradwitness.claims.text_nests import read_regular
from gradwitness.claims.text_numbers import Numbers, advice
from gradwitness.files.printed_numbers import BLOCK, NUMBER_PATTERN, read_printed

if TYPE_CHECKING:
    from gradwitness.claims.text_file import Cursor

_TOKEN = re.compile(
    rb"[\s,]*(?:(?P<number>" + NUMBER_PATTERN + rb")(?=[\s,\[\]]|$)|(?P<open>\[)|(?P<close>\])"
    rb"|(?P<gap>\.\.\.+))"
)
_SEPARATORS = re.compile(rb"[\s,]*")
_SNIPPET = re.compile(rb"[^\s,\[\]]{1,30}|.", re.DOTALL)
_NUMBER = re.compile(NUMBER_PATTERN)
_WORD = re.compile(rb"[^\s,]+")
# A line of these is one of a table, if it is right.
_TABLE_LINE = re.compile(
    rb"[\s,]*[-+\d.][-+\d.\s,eEnNaAiIfFtTyY]*|[\s,]*(?i:nan|inf(?:inity)?)\b.*"
)
# What numbers consist of, if none is infinite or NaN, and what is between them.
_PLAIN = b"0123456789+-.eE, \t\r"
_ROW = re.compile(rb"[-+.\deEnNaAiIfFtTyY,\s]+")
# What ends many lines of numbers, and, so that they do not, infinite ones and NaN.
_OTHER = re.compile(rb"(?i)(?<![^-+\s,])(?:nan|inf(?:inity)?)(?![^\s,])|[^\x00-9e]")
_NINE, _E, _NEWLINE, _COMMA, _SPACE, _TAB = b"9e\n, \t"
_LOWER = 0x20  # the bit that makes a letter a small one
# Between numbers, and within one: of decimals, or of thousands.
_TIGHT_COMMA = re.compile(rb"\d[\d.eE+-]*,[-+.]?\d[^\s\[\]]{0,30}")
_SPACES = re.compile(rb"[\d.][ \t]+[-+.\d]")
# One number with thousands set apart, and not several.
THOUSANDS = re.compile(rb"[-+]?(?:\d{1,3}(?:,\d{3})+\.\d*|[1-9]\d{0,2}(?:,\d{3})+)")
_LOOSE_COMMAS = b", ", b",\n"
_NOTHING = re.compile(rb",[ \t]*,")
_EMPTY_LINE = re.compile(rb"\n[ \t\r,]*\n")
_MOST_BLANKS = 16  # that are looked at one by one
# Fewer bytes of rows are read line by line.
_BY_LINE = 1 << 12
_UNEQUAL = "all rows of a tensor must have the same length"


@dataclass
class Axis:
    """One axis: how many entries each bracket of that depth has."""

    size: int | None = None  # None until the first bracket is closed
    gap: int | None = None  # the index of the entry before which some are left out
    closed: int = 0  # closed brackets
    gaps: int = 0


@dataclass
class Tensor:
    """A tensor as it was printed."""

    numbers: Numbers = field(default_factory=Numbers)
    axes: list[Axis] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return tuple(axis.size or 0 for axis in self.axes)

    @property
    def gaps(self) -> tuple[int | None, ...]:
        """For each axis, the index of the entry before which some are left out, or None."""
        gaps = tuple(axis.gap for axis in self.axes)
        return () if all(gap is None for gap in gaps) else gaps


def read_nest(text: Cursor) -> Tensor:
    """Read a tensor in brackets, beginning at the first one, to its end.

    Raises `FileFormatError` if it is malformed, or the file ends within it.
    """
    begin = text.at
    regular = read_regular(text.content, begin)
    try:
        tensor = _read_nest(text, by_rows=True) if regular is None else _regular(text, *regular)
    except (ValueError, FileFormatError):
        # Word by word, so that an error names the place.
        text.at = begin
        tensor = _read_nest(text, by_rows=False)
    _check_commas(text, begin, len(tensor.numbers))
    return tensor


def _regular(text: Cursor, numbers: Numbers, shape: tuple[int, ...], end: int) -> Tensor:
    text.at = end
    return Tensor(numbers, [Axis(size) for size in shape])


def _read_nest(text: Cursor, *, by_rows: bool) -> Tensor:
    """Read a tensor; `ValueError` if what is read by whole rows are no numbers."""
    content, at, nest = text.content, text.at, _Nest(text)
    by_word = 0 if by_rows else len(content)  # until there
    readers = {"number": nest.number, "open": nest.open, "close": nest.close, "gap": nest.gap}
    while token := _TOKEN.match(content, at):
        kind = token.lastgroup or ""
        begin = token.start(kind)
        row = _ROW.match(content, begin) if kind == "number" and begin >= by_word else None
        by_word = row.end() if row else by_word
        if row and content[by_word : by_word + 1] in (b"[", b"]") and b".." not in row[0]:
            nest.numbers(row[0].replace(b",", b" ").split(), begin)
            at = by_word
        else:
            readers[kind](token[kind], begin)
            at = token.end()
        if not nest.counts:
            text.at = at
            nest.tensor.numbers.read()
            return nest.tensor
    left = _SEPARATORS.match(content, at)
    at = left.end() if left else at
    if at == len(content):
        raise text.error("this bracket is never closed. Is the file cut off?")
    raise _no_number(text, at)


class _Nest:
    """A tensor in brackets that is being read."""

    def __init__(self, text: Cursor) -> None:
        self.tensor = Tensor()
        self.counts: list[int] = []  # of the entries of each open bracket
        self._leaf = 0  # the depth of the numbers, once it is known
        self._text = text

    def number(self, word: bytes, at: int) -> None:
        self.numbers([word], at)

    def numbers(self, words: list[bytes], at: int) -> None:
        self._leaf = self._leaf or len(self.counts)
        if len(self.counts) != self._leaf:
            raise self._text.error("a number where '[' or ']' is expected, as in earlier rows.", at)
        self.counts[-1] += len(words)
        self.tensor.numbers.extend(words)

    def open(self, _: bytes, at: int) -> None:
        depth = len(self.counts)
        if depth == self._leaf > 0:
            raise self._text.error("'[' where a number is expected, as in earlier rows.", at)
        if depth == MAX_DEPTH:
            raise self._text.error(f"brackets nested more than {MAX_DEPTH} levels deep.", at)
        if depth:
            self.counts[-1] += 1
        self.counts.append(0)
        if len(self.tensor.axes) == depth:
            self.tensor.axes.append(Axis())

    def gap(self, _: bytes, at: int) -> None:
        axis, before = self.tensor.axes[len(self.counts) - 1], self.counts[-1]
        if axis.gap not in (None, before):
            raise self._text.error("... at a different index than in earlier rows.", at)
        axis.gap = before
        axis.gaps += 1

    def close(self, _: bytes, at: int) -> None:
        self._leaf = self._leaf or len(self.counts)
        axes = self.tensor.axes
        _close(self._text, axes[len(self.counts) - 1], self.counts.pop(), at)
        if not self.counts and any(axis.gaps not in (0, axis.closed) for axis in axes):
            raise self._text.error("a tensor with ... in only some of its rows.", at)


def read_rows(text: Cursor) -> Tensor:
    """Read rows of numbers without brackets, up to a line that is empty or of another kind."""
    begin = text.at
    try:
        tensor = _read_rows(text, by_rows=True)
    except (ValueError, FileFormatError):
        # A name may be of letters that numbers have, too: e.
        text.at = begin
        tensor = _read_rows(text, by_rows=False)
    _check_thousands(text, begin)
    _check_commas(text, begin, len(tensor.numbers))
    return tensor


def _check_thousands(text: Cursor, begin: int) -> None:
    """Refuse rows each of which may be one number, with thousands set apart."""
    end = text.content.find(b"\n", begin, text.at)
    first = text.content[begin : text.at if end < 0 else end].strip()
    if not THOUSANDS.fullmatch(first):
        return
    lines = map(bytes.strip, text.content[begin : text.at].split(b"\n"))
    if all(THOUSANDS.fullmatch(line) for line in lines if line):
        raise text.error(
            f"{first.decode()!r} may be one number or two. Write nothing between thousands, and "
            "a space between two numbers.",
            begin,
        )


def _check_commas(text: Cursor, begin: int, count: int) -> None:
    """Refuse a number left out between commas, and commas that may be part of a number.

    They may where white space sets other numbers apart.
    """
    read = text.content[begin : text.at]
    commas = read.count(b",")
    if not commas:
        return
    if may_be_next_to_each_other(read) and (nothing := _NOTHING.search(read)):
        raise text.error("nothing between two commas.", begin + nothing.start())
    # Where one is between any two numbers, white space alone is nowhere.
    if commas == count - 1 or commas == sum(map(read.count, _LOOSE_COMMAS)):
        return
    if not _SPACES.search(read):
        return
    if comma := _TIGHT_COMMA.search(read):
        found = comma[0].decode("utf-8", "replace")
        raise text.error(
            f"{found!r}, but elsewhere white space alone is between numbers. Write decimals with "
            "a point, nothing between thousands, and the same between all numbers.",
            begin + comma.start(),
        )


def may_be_next_to_each_other(read: bytes) -> bool:
    """Whether two commas have nothing, or many blanks, between them."""
    letters = np.frombuffer(read + b"\n", np.uint8)
    after = np.flatnonzero(letters == _COMMA) + 1
    for _ in range(_MOST_BLANKS):
        following = letters[after]
        if (following == _COMMA).any():
            return True
        after = after[(following == _SPACE) | (following == _TAB)] + 1
    return bool(len(after))


def _read_rows(text: Cursor, *, by_rows: bool) -> Tensor:
    numbers, columns = Numbers(), Axis()
    by_line = text.at + _BY_LINE * (not by_rows)
    # Tables may be short: what is read in vain must not cost more than what is read.
    most = 4 * _BY_LINE
    while (line := text.line()).strip(b" \t\r,"):
        if by_rows and text.at >= by_line:
            if _read_block(text, numbers, columns, max(most, 2 * len(line))):
                most = min(2 * most, BLOCK)
                continue
            by_line = text.at + _BY_LINE
        if by_rows and not line.translate(None, _PLAIN):
            words = line.replace(b",", b" ").split()
        elif (
            columns.closed
            and not _TABLE_LINE.fullmatch(line)
            and not _begins_a_row(line, columns.size)
        ):
            break
        else:
            words = _words(text, line)
        numbers.extend(words)
        _close(text, columns, len(words), text.at + len(line))
        text.at = min(text.at + len(line) + 1, len(text.content))
    numbers.read()
    return Tensor(numbers, [Axis(columns.closed), columns])


def _read_block(text: Cursor, numbers: Numbers, columns: Axis, most: int) -> bool:
    """Read many lines of numbers at once, as far as they are alike; False if they are too few.

    They are of ``most`` letters at most. Raises `ValueError` if they are no numbers, or of
    different counts.
    """
    block = text.content[text.at : text.at + most]
    empty = _EMPTY_LINE.search(block)
    block = block[: empty.start() + 1] if empty else block
    letters = np.frombuffer(block, np.uint8)
    others = (letters > _NINE) & (letters | _LOWER != _E)
    end = len(block)
    if others.any():
        found = _OTHER.finditer(block, int(np.argmax(others)))
        end = next((other.start() for other in found if len(other[0]) == 1), end)
    if end < len(block) or text.at + end < len(text.content):
        end = block.rfind(b"\n", 0, end) + 1
    if end < _BY_LINE:
        return False
    printed = read_printed(block[:end].replace(b",", b" "))
    line_ends = np.flatnonzero(letters[:end] == _NEWLINE)
    if block[end - 1] != _NEWLINE:
        line_ends = np.append(line_ends, end)
    counts = np.diff(np.searchsorted(printed.ends, line_ends, side="right"), prepend=0)
    rows = int(np.argmin(counts)) if not counts.all() else len(counts)
    size = columns.size or int(counts[0])
    if not rows or (counts[:rows] != size).any():
        raise ValueError("lines of different lengths")
    columns.size = size
    columns.closed += rows
    numbers.extend_read(printed, rows * size)
    text.at = min(text.at + int(line_ends[rows - 1]) + 1, len(text.content))
    return True


def _begins_a_row(line: bytes, size: int | None) -> bool:
    """Whether a line below rows of several numbers is another one, with something amiss."""
    first = _WORD.search(line)
    if size == 1 or not first or not _NUMBER.fullmatch(first[0]):
        return False
    words = _WORD.findall(line)
    return len(words) == size or (len(words) > 1 and bool(_NUMBER.fullmatch(words[1])))


def _words(text: Cursor, line: bytes) -> list[bytes]:
    words = []
    for word in _WORD.finditer(line):
        if not _NUMBER.fullmatch(word[0]):
            raise _no_number(text, text.at + word.start())
        words.append(word[0])
    return words


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of rows: one row or one column is a vector, one number a scalar."""
    return tuple(size for size in shape if size != 1)


def _close(text: Cursor, axis: Axis, count: int, at: int) -> None:
    if axis.size not in (None, count):
        raise text.error(
            f"a row of length {count} after rows of length {axis.size}; {_UNEQUAL}.", at
        )
    axis.size = count
    axis.closed += 1


def _no_number(text: Cursor, at: int) -> FileFormatError:
    match = _SNIPPET.match(text.content, at)
    found = match[0].decode("utf-8", "replace") if match else ""
    return text.error(f"expected a number, ',' or ']', found {found!r}.{advice(found)}", at)
