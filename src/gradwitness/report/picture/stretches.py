"""Stretches of a sequence that repeat: the blocks of a network, the steps of a loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# The longest stretch that is looked for. A longer one would cost, and shows as what it is made of.
_LONGEST = 256


class Stretch(NamedTuple):
    """``times`` equal parts, each ``length`` long, from ``start`` on."""

    start: int
    length: int
    times: int

    @property
    def stop(self) -> int:
        """The position behind the last part."""
        return self.start + self.length * self.times


def repeated(signs: Sequence[int], weights: Sequence[int], least: int) -> list[Stretch]:
    """Find repeated stretches that do not overlap, from the left the longest each time.

    A stretch counts if folding it hides at least ``least``, each sign hiding its weight.
    """
    sequence = np.asarray(signs, dtype=np.int64)
    size = len(sequence)
    # From each position on: the length of a part, and how many equal ones follow each other.
    lengths = np.ones(size, dtype=np.int64)
    times = np.ones(size, dtype=np.int64)
    for length in range(1, min(size // 2, _LONGEST) + 1):
        run = _equal_from(sequence, length)
        longer = np.flatnonzero(
            (run >= length) & ((run // length + 1) * length > (lengths * times)[: len(run)])
        )
        lengths[longer] = length
        times[longer] = run[longer] // length + 1
    hidden = np.concatenate([[0], np.cumsum(weights)])
    found: list[Stretch] = []
    start = 0
    while start < size:
        stretch = Stretch(start, int(lengths[start]), int(times[start]))
        if hidden[stretch.stop] - hidden[start + stretch.length] >= least:
            found.append(stretch)
            start = stretch.stop
        else:
            start += 1
    return found


def _equal_from(sequence: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Return for each position how many elements in a row equal those ``length`` later."""
    differs = np.flatnonzero(sequence[length:] != sequence[:-length])
    count = len(sequence) - length
    ends = np.append(differs, count)
    runs = np.diff(ends, prepend=-1)
    if runs.max() <= length:
        return np.zeros(0, dtype=np.int64)
    return np.repeat(ends, runs)[:count] - np.arange(count)
