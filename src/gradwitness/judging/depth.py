"""How thoroughly a program is judged."""

from __future__ import annotations

from gradwitness._errors import InputError

FULL = "full"  # every number against float64
FAST = "fast"  # as much as costs less than the program itself; what looks odd in full
DEPTHS = (FULL, FAST)


def known_depth(depth: str) -> str:
    """Return how thoroughly to judge.

    Raises
    ------
    InputError
        If it is none of the depths.
    """
    if depth not in DEPTHS:
        raise InputError(f"depth={depth!r}: give {' or '.join(map(repr, DEPTHS))}")
    return depth
