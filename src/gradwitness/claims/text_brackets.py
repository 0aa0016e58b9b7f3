"""Find the shape of a tensor in nested brackets, one block at a time and vectorised."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradwitness.claims.text_numbers import (
    CLASSES,
    CLOSE,
    FOREIGN,
    NUMBER,
    OPEN,
    BadNumber,
    GrowingNumbers,
    parse,
    starts_and_ends,
)
from gradwitness.claims.text_stream import BLOCK, FIRST_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.claims.text_stream import Stream

# The limit of NumPy 1.
MAX_DEPTH = 32
_GAP = re.compile(rb"\.\.\.+")
_EMPTY_LINE = re.compile(rb"[ \t\r]*\n")
_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")
_Offsets = NDArray[np.intp]


class Malformed(ValueError):
    """Malformed text: the problem, and its byte offset in the block."""

    def __init__(self, problem: str, at: int) -> None:
        super().__init__(problem, at)
        self.problem = problem
        self.at = at


@dataclass
class Axis:
    """One axis: how many entries each bracket of that depth has."""

    size: int | None = None  # None until the first bracket is closed
    gap: int | None = None  # the index of the entry before which some are left out
    # Entries before the last closed bracket, closed brackets, gaps.
    seen: int = 0
    closed: int = 0
    gaps: int = 0

    def close(self, entries: _Offsets, offsets: _Offsets) -> None:
        """Check the sizes, given the number of entries so far at each closing bracket."""
        if not len(entries):
            return
        sizes = np.diff(entries, prepend=self.seen)
        if self.size is None:
            self.size = int(sizes[0])
        wrong = np.flatnonzero(sizes != self.size)
        if len(wrong):
            has = int(sizes[wrong[0]])
            raise Malformed(
                f"a row of length {has} after rows of length {self.size}; "
                "all rows of a tensor must have the same length",
                int(offsets[wrong[0]]),
            )
        self.seen = int(entries[-1])
        self.closed += len(entries)

    def leave_out(self, before: _Offsets, offsets: _Offsets) -> None:
        """Check the positions of gaps, given the number of entries before each."""
        if not len(before):
            return
        if self.gap is None:
            self.gap = int(before[0])
        wrong = np.flatnonzero(before != self.gap)
        if len(wrong):
            raise Malformed("... at a different index than in earlier rows", int(offsets[wrong[0]]))
        self.gaps += len(before)


class Nest:
    """A tensor in brackets, read block by block."""

    # The number of decimals that an integer without a point stands for.
    whole_decimals = 0

    def __init__(self) -> None:
        self.numbers = GrowingNumbers()
        self.axes: list[Axis] = []
        self._depth = 0
        self._leaf = 0
        self._opened = [0] * (MAX_DEPTH + 2)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape so far."""
        return tuple(axis.size or 0 for axis in self.axes)

    @property
    def gaps(self) -> tuple[int | None, ...]:
        """For each axis, the index of the entry before which some are left out, or None."""
        gaps = tuple(axis.gap for axis in self.axes)
        return () if all(gap is None for gap in gaps) else gaps

    def read(self, block: bytes) -> int | None:
        """Read a block, which does not end within a number.

        Returns the end of the tensor, or None if it continues after this block.
        """
        classes = np.frombuffer(block.translate(CLASSES), np.uint8)
        brackets = np.flatnonzero((classes == OPEN) | (classes == CLOSE))
        opens = classes[brackets] == OPEN
        depths = self._depth + np.cumsum(np.where(opens, 1, -1))
        end = None
        if len(depths) and depths.min() <= 0:
            last = int(np.flatnonzero(depths <= 0)[0])
            end = int(brackets[last]) + 1
            brackets, opens, depths = brackets[: last + 1], opens[: last + 1], depths[: last + 1]
            block, classes = block[:end], classes[:end]
        # Report the first error.
        foreign = np.flatnonzero(classes == FOREIGN)
        if len(foreign):
            raise _unexpected(block, int(foreign[0]))
        self._read(block, classes, brackets, opens, depths)
        if end is not None:
            self._check_gaps(end - 1)
        elif len(depths):
            self._depth = int(depths[-1])
        return end

    def _read(
        self,
        block: bytes,
        classes: NDArray[np.uint8],
        brackets: _Offsets,
        opens: NDArray[np.bool_],
        depths: _Offsets,
    ) -> None:
        if len(depths) and depths.max() > MAX_DEPTH:
            offset = int(brackets[np.argmax(depths > MAX_DEPTH)])
            raise Malformed(f"brackets nested more than {MAX_DEPTH} levels deep", offset)
        left_out: _Offsets = np.empty(0, np.intp)
        if b"..." in block:
            left_out = np.array([match.start() for match in _GAP.finditer(block)], np.intp)
            block = _GAP.sub(lambda match: b" " * len(match[0]), block)
            classes = np.frombuffer(block.translate(CLASSES), np.uint8)
        starts, ends = starts_and_ends(classes)
        self._find_leaf(starts, brackets, opens, depths)
        self._measure(starts, brackets, opens, depths, left_out)
        try:
            self.numbers.append(*parse(block, starts, ends, self.whole_decimals))
        except BadNumber as bad:
            raise _unexpected(block, bad.at, bad.length) from None

    def _find_leaf(
        self, starts: _Offsets, brackets: _Offsets, opens: NDArray[np.bool_], depths: _Offsets
    ) -> None:
        """Find the depth of the numbers: that of the first number or the first bracket closed."""
        if self._leaf:
            return
        closed = int(np.argmin(opens)) if not opens.all() else len(opens)
        before = int(np.searchsorted(brackets, starts[0])) if len(starts) else len(opens)
        first = min(closed, before)
        if first == len(opens) and not len(starts):
            return
        self._leaf = int(depths[first - 1]) if first else self._depth
        self.axes = [Axis() for _ in range(self._leaf)]

    def _measure(
        self,
        starts: _Offsets,
        brackets: _Offsets,
        opens: NDArray[np.bool_],
        depths: _Offsets,
        left_out: _Offsets,
    ) -> None:
        levels = np.where(opens, depths, depths + 1)
        if self._leaf and len(levels) and levels.max() > self._leaf:
            offset = int(brackets[np.argmax(levels > self._leaf)])
            raise Malformed("'[' where a number is expected, as in earlier rows", offset)
        gap_levels = self._depth_at(left_out, brackets, depths)
        for level, axis in enumerate(self.axes, start=1):
            at_level = levels == level
            closed = brackets[at_level & ~opens]
            if level == self._leaf:
                children, before = starts, self.numbers.size
                self._check_between(starts, brackets, depths)
            else:
                children, before = brackets[opens & (levels == level + 1)], self._opened[level + 1]
            entries = np.searchsorted(children, closed) + before
            gaps = left_out[gap_levels == level]
            if len(gaps):
                ended = np.concatenate([[axis.seen], entries])
                since = ended[np.searchsorted(closed, gaps)]
                axis.leave_out(np.searchsorted(children, gaps) + before - since, gaps)
            axis.close(entries, closed)
        for level in range(1, self._leaf + 1):
            self._opened[level] += int(np.count_nonzero(opens & (levels == level)))
        if not self._leaf and len(levels):
            for level in levels.tolist():
                self._opened[level] += 1

    def _depth_at(self, offsets: _Offsets, brackets: _Offsets, depths: _Offsets) -> _Offsets:
        depths_after = np.concatenate([[self._depth], depths])
        return depths_after[np.searchsorted(brackets, offsets)]

    def _check_between(self, starts: _Offsets, brackets: _Offsets, depths: _Offsets) -> None:
        """Refuse numbers outside the innermost brackets."""
        bounds = np.concatenate([[0], np.searchsorted(starts, brackets), [len(starts)]])
        wrong = (np.diff(bounds) > 0) & (np.concatenate([[self._depth], depths]) != self._leaf)
        if wrong.any():
            offset = int(starts[bounds[np.argmax(wrong)]])
            raise Malformed("a number where '[' or ']' is expected, as in earlier rows", offset)

    def _check_gaps(self, at: int) -> None:
        for axis in self.axes:
            if axis.gaps and axis.gaps != axis.closed:
                raise Malformed("a tensor with ... in only some of its rows", at)


def read_blocks(stream: Stream, read: Callable[[bytes, bool], int | None]) -> bool:
    """Read block by block; return whether ``read`` came to an end within the file.

    It takes a block, and whether that is the last, and returns its end there, or None.
    """
    size = FIRST_BLOCK
    while True:
        block, is_last = stream.block(size)
        try:
            end = read(block, is_last)
        except Malformed as error:
            raise stream.error(f"{error.problem}.", error.at) from None
        stream.skip(len(block) if end is None else end)
        if is_last or end is not None:
            return end is not None
        size = min(4 * size, BLOCK)


def read_nest(stream: Stream, nest: Nest) -> None:
    """Read a tensor, beginning at the stream's current bracket, to its end.

    Raises `FileFormatError` if it is malformed, or the file ends within it.
    """
    unclosed = stream.error("this bracket is never closed. Is the file cut off?")
    if not read_blocks(stream, lambda block, _: nest.read(block)):
        raise unclosed


def _unexpected(block: bytes, at: int, length: int = 1) -> Malformed:
    end = at + max(length, 1)
    while at and CLASSES[block[at - 1]] == NUMBER:
        at -= 1
    while end < min(len(block), at + 30) and block[end : end + 1] not in b" \t\r\n,[]":
        end += 1
    snippet = block[at:end][:30].decode("utf-8", "replace")
    return Malformed(f"expected a number, ',' or ']', found {snippet!r}", at)


class Table:
    """Rows of numbers without brackets, one per line, read block by block."""

    def __init__(self) -> None:
        self.numbers = GrowingNumbers()
        self.columns = Axis()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape: one row or one column is a vector, one number a scalar."""
        sizes = (self.columns.closed, self.columns.size or 0)
        return tuple(size for size in sizes if size != 1)

    def read(self, block: bytes, is_last: bool) -> int | None:
        """Read a block, which does not end within a number.

        Returns the end of the table, or None if it reaches to the end of the block.
        """
        classes = np.frombuffer(block.translate(CLASSES), np.uint8)
        end = len(block)
        blank = _BLANK_LINE.search(block)
        if blank:
            end = blank.start() + 1
        if self.columns.closed and self.columns.seen == self.numbers.size:
            # The block begins at a new line.
            end = 0 if _EMPTY_LINE.match(block) else end
        foreign = np.flatnonzero(classes[:end] >= OPEN)
        if len(foreign):
            end = block.rfind(b"\n", 0, int(foreign[0])) + 1
            if not end and (not self.columns.closed or self.columns.seen != self.numbers.size):
                raise _unexpected(block, int(foreign[0]))
        is_short = end < len(block)
        block, classes = block[:end], classes[:end]
        starts, ends = starts_and_ends(classes)
        lines = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
        closed = int(np.searchsorted(starts, lines[-1])) if len(lines) else 0
        left = len(starts) - closed + (0 if len(lines) else self.numbers.size - self.columns.seen)
        if (is_last or is_short) and left:
            # The last line of a file may lack a newline.
            lines = np.append(lines, end)
        self.columns.close(np.searchsorted(starts, lines) + self.numbers.size, lines)
        try:
            self.numbers.append(*parse(block, starts, ends))
        except BadNumber as bad:
            raise _unexpected(block, bad.at, bad.length) from None
        return end if is_short else None
