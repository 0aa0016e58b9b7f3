"""The gradients of one leaf in many passes, in one line with the worst of their figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradwitness.judging.finding import Row

# Fewer than so many passes have a line each.
_MANY = 4


def folded(rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """Yield what each line of the table is called, and the row that it shows.

    Gradients are told by name, shape and, in a pass with several such, by their order.
    """
    several = len({row.sweep for row in rows}) > 1
    groups: dict[tuple[object, ...], list[Row]] = {}
    group_of: dict[int, list[Row]] = {}
    met: Counter[tuple[object, ...]] = Counter()
    left: set[int] = set()
    for row in rows:
        leaf = row.name, row.shape, row.sweep
        met[leaf] += 1
        if met[leaf] > 1 and row.value is None:
            # No pass gave it out: it is what an unrecorded one, or a write, left there.
            left.add(id(row))
        key = row.name, row.shape, met[leaf], row.verdict, row.inherited
        group_of[id(row)] = group = groups.setdefault(key, [])
        group.append(row)
    for row in rows:
        group = group_of[id(row)]
        if id(row) in left:
            yield f"{row.name} (.grad at the end)", row
        elif len(group) < _MANY:
            yield f"{row.name} (pass {row.sweep + 1})" if several else row.name, row
        elif row is group[0]:
            yield f"{row.name} ({_passes([row.sweep + 1 for row in group])})", _worst(group)


def _passes(numbers: Sequence[int]) -> str:
    first, last = min(numbers), max(numbers)
    in_turn = f"passes {first} to {last}"
    return in_turn if last - first < len(numbers) else f"{len(numbers)} of {in_turn}"


def _worst(rows: Sequence[Row]) -> Row:
    """Return the row farthest off, that detects and confirms as little as any of them."""
    worst = max(
        rows, key=lambda row: np.nan_to_num([row.relative_error, row.comparison.ratio]).tolist()
    )
    detects = np.fmax.reduce([row.comparison.detects_relative for row in rows])
    return replace(
        worst,
        comparison=replace(worst.comparison, detects_relative=float(detects)),
        digits=float(np.fmin.reduce([row.digits for row in rows])),
    )
