"""Lines of a name and its numbers each, as ``fc.weight: 0.25 0.5``, read many at a time.

What they say is what they say line by line. Whatever is odd is left to that: names of several
words, or of what is no tensor, and numbers with more between them than white space or commas.
"""

from __future__ import annotations

import re
from itertools import islice, pairwise
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.claims.text_brackets import THOUSANDS, may_be_next_to_each_other
from gradwitness.claims.text_labels import is_run_header
from gradwitness.claims.text_numbers import Numbers
from gradwitness.files.printed_numbers import NUMBER_PATTERN, blocks_of, read_printed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# A name, and where its numbers begin.
_NAMED = re.compile(
    rb"(?:\r?\n){0,2}[ \t]{0,99}(_{0,9}[A-Za-z][\w.]{0,99})[ \t]{0,99}[:=][ \t]{0,99}(?=[-+.\d])"
)
_NO_NAME = re.compile(rb"(?i)" + NUMBER_PATTERN + rb"|(?:.*\W)?(?:shape|dtype|size|numpy)")
_COMMA = ord(",")
# Fewer lines are read sooner one by one; of more, the places and the names take room.
_LEAST, _MOST = 8, 1 << 14


def named_rows(content: bytes, begin: int) -> tuple[list[tuple[int, str, Numbers]], int]:
    """Read lines from a place on: where each is, its name and its numbers; and where they end.

    There are none if they are few, or odd. Of some lines the last is not read: what follows it may
    be another row of its numbers.
    """
    found = list(islice(_lines(content, begin), _MOST))
    end = found[-1][0].start() if found else begin
    lines = [content[match.end() : end] for match, end in found[:-1]]
    words = [match[1] for match, _ in found[:-1]]
    names = [word.decode() for word in words]
    if len(lines) < _LEAST or any(map(_NO_NAME.fullmatch, words)) or any(map(is_run_header, names)):
        return [], end
    numbers, counts = _read(lines)
    if numbers is None:
        return [], end
    parts = (numbers.part(slice(a, b)) for a, b in pairwise([0, *np.cumsum(counts).tolist()]))
    starts = (match.start(1) for match, _ in found)
    return list(zip(starts, names, parts, strict=False)), end


def _lines(content: bytes, begin: int) -> Iterator[tuple[re.Match[bytes], int]]:
    """Yield the beginnings of lines with a name, and where each line ends."""
    end = begin
    while match := _NAMED.match(content, end):
        end = content.find(b"\n", match.end()) + 1 or len(content)
        yield match, end


def _read(lines: list[bytes]) -> tuple[Numbers | None, NDArray[np.int64]]:
    """Return the numbers in lines, and how many are in each; None if there is anything else."""
    text, numbers = b"".join(lines), Numbers()
    line_ends = np.cumsum(np.array([len(line) for line in lines]))
    ends, at = [], 0
    try:
        for block in blocks_of(text, b"\n"):
            printed = read_printed(block, b",")
            numbers.extend_read(printed)
            ends.append(printed.ends + at)
            at += len(block)
    except ValueError:
        return None, line_ends
    counts = np.diff(np.searchsorted(np.concatenate(ends), line_ends), prepend=0)
    commas = np.flatnonzero(np.frombuffer(text, np.uint8) == _COMMA)
    if len(commas):
        between = np.diff(np.searchsorted(commas, line_ends), prepend=0)
        is_right = (between == 0) | (between == counts - 1)
        if any(THOUSANDS.fullmatch(line.strip()) for line in lines):
            return None, counts
        if not is_right.all() or may_be_next_to_each_other(text):
            return None, counts
    return numbers, counts
