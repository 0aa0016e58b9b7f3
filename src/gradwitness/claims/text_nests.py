"""Large tensors in brackets, read at once: where the brackets are tells the shape."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from gradwitness.claims.text_numbers import Numbers
from gradwitness.files.printed_numbers import BLOCK, blocks_of, read_printed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places: TypeAlias = NDArray[np.int64]

# The limit of NumPy 1.
MAX_DEPTH = 32
_OPEN, _CLOSE = b"[]"
_OPENING = re.compile(rb"[\[\s]+")
_BETWEEN = b"[],"  # besides white space
# Shorter ones are read sooner bracket by bracket.
_LEAST = 1 << 12


def read_regular(content: bytes, begin: int) -> tuple[Numbers, tuple[int, ...], int] | None:
    """Read a large tensor whose first bracket is at a place: its numbers, its shape, its end.

    None if it is small, never ends, or is not of equal rows of numbers.
    """
    opening = _OPENING.match(content, begin)
    depth = opening[0].count(b"[") if opening else 0
    if content.find(b"]" * depth, begin, begin + _LEAST) >= 0:
        return None
    places, depths = _brackets(content, begin)
    if not len(places) or depths[-1] or depths.max() > MAX_DEPTH:
        return None
    end = begin + int(places[-1]) + 1
    numbers, ends = Numbers(), [np.zeros(0, np.int64)]
    at = 0
    for block in blocks_of(content[begin:end], _BETWEEN + b" \n"):
        try:
            printed = read_printed(block, _BETWEEN)
        except ValueError:
            return None
        numbers.extend_read(printed, len(printed.ends))
        ends.append(printed.ends + at)
        at += len(block)
    shape = _shape(places, depths, np.concatenate(ends))
    return None if shape is None else (numbers, shape, end)


def _brackets(content: bytes, begin: int) -> tuple[Places, Places]:
    """Return where brackets are, up to the one that closes the first, and how many are open."""
    places, depths, depth = [], [], 0
    for at in range(begin, len(content), BLOCK):
        letters = np.frombuffer(content, np.uint8, min(BLOCK, len(content) - at), at)
        here = np.flatnonzero((letters | 6) == (_OPEN | 6))
        here = here[(letters[here] == _OPEN) | (letters[here] == _CLOSE)]
        open_ = depth + np.cumsum(np.where(letters[here] == _OPEN, 1, -1))
        closed = np.flatnonzero(open_ == 0)
        last = closed[0] + 1 if len(closed) else len(here)
        places.append(here[:last] + (at - begin))
        depths.append(open_[:last])
        if len(closed):
            break
        depth = int(open_[-1]) if len(open_) else depth
    return np.concatenate(places), np.concatenate(depths)


def _shape(places: Places, depths: Places, ends: Places) -> tuple[int, ...] | None:
    """Return the shape if all brackets of one depth hold as much; ``ends`` are of numbers."""
    is_open = np.diff(depths, prepend=0) > 0
    axes = int(depths.max())
    inner = [places[is_open & (depths == depth)] for depth in range(1, axes + 1)]
    shape = []
    for depth, (opened, held) in enumerate(pairwise([*inner, ends]), 1):
        closed = places[~is_open & (depths == depth - 1)]
        # A number ends where the next letter is.
        counts = np.searchsorted(held, closed, "right") - np.searchsorted(held, opened, "right")
        # What is outside of the innermost brackets is in none of these counts.
        if not counts[0] or (counts != counts[0]).any() or counts.sum() != len(held):
            return None
        shape.append(int(counts[0]))
    return tuple(shape)
