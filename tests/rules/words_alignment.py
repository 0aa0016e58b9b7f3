"""Words of the formulas of connectionist temporal classification: alignment after alignment.

Nothing here may come from the rules.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

Plain: TypeAlias = Any


def _targets(targets: Plain, sizes: list[int]) -> list[list[int]]:
    """The labels of each target, from rows or from one row of all."""
    if np.ndim(targets) == 2:
        return [list(row[:n]) for row, n in zip(targets.tolist(), sizes, strict=True)]
    labels = iter(targets.tolist())
    return [[next(labels) for _ in range(n)] for n in sizes]


def _read(path: tuple[int, ...], blank: int) -> list[int]:
    """What a path says: repetitions are one label, blanks are left out."""
    return [label for label, _ in itertools.groupby(path) if label != blank]


def _paths(
    x: Plain, target: list[int], times: int, blank: int
) -> Iterator[tuple[tuple[int, ...], Plain]]:
    """All paths that say a target, each with the sum of its log-probabilities."""
    for path in itertools.product(range(x.shape[1]), repeat=times):
        if _read(path, blank) == target:
            yield path, math.fsum(x[t, c] for t, c in enumerate(path))


def _total(x: Plain, target: list[int], times: int, blank: int) -> float:
    sums = [each for _, each in _paths(x, target, times, blank)]
    if not sums:
        return -math.inf
    return float(max(sums)) + math.log(math.fsum(math.exp(each - max(sums)) for each in sums))


def alignments(x: Plain, targets: Plain, times: Plain, sizes: Plain, blank: int) -> Plain:
    named = _targets(targets, [int(n) for n in sizes])
    return np.array(
        [-_total(x[:, n], target, int(times[n]), blank) for n, target in enumerate(named)]
    )


def to_alignments(
    g: Plain,
    x: Plain,
    targets: Plain,
    times: Plain,
    sizes: Plain,
    blank: int,
    zero_infinity: bool,
) -> Plain:
    """Torch's gradient: exp(x), less the share of the paths that go through a place."""
    dx = np.zeros(x.shape)
    for n, target in enumerate(_targets(targets, [int(n) for n in sizes])):
        steps = int(times[n])
        total = _total(x[:, n], target, steps, blank)
        if math.isinf(total) and zero_infinity:
            continue
        dx[:steps, n] = g[n] * np.exp(x[:steps, n])
        for path, each in _paths(x[:, n], target, steps, blank):
            for t, c in enumerate(path):
                dx[t, n, c] -= g[n] * math.exp(each - total)
    return dx


ALIGNMENTS: dict[str, Any] = {word.__name__: word for word in (alignments, to_alignments)}
