"""How thoroughly a program is judged."""

from __future__ import annotations

from gradwitness._errors import InputError

FULL = "full"  # every number against float64
FAST = "fast"  # projections and samples; what looks odd in full
DEPTHS = (FULL, FAST)
SAMPLE = "sample"  # some blocks of a training loop, fast


def known_depth(depth: str, *more: str) -> str:
    """Return how thoroughly to judge: one of the depths, or of some more words.

    Raises
    ------
    InputError
        If it is none of the depths.
    """
    words = (*DEPTHS, *more)
    if depth not in words:
        listed = ", ".join(map(repr, words[:-1]))
        raise InputError(f"depth={depth!r}: give {listed} or {words[-1]!r}")
    return depth
