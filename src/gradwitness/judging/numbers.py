"""Numbers as short text."""

from __future__ import annotations

import math
from typing import Any


def short(number: Any, digits: int = 3) -> str:
    """Return a number with few digits, without a useless exponent: 0.0473, 1.2e-08, inf, 1+2j."""
    if isinstance(number, complex):
        return f"{number:.{digits}g}"
    if math.isnan(number):
        return "-"
    if math.isinf(number) or number == 0:
        return f"{number:g}"
    if 1e-3 <= abs(number) < 1e5:
        return f"{number:.{digits}g}" if abs(number) < 10**digits - 0.5 else f"{number:.0f}"
    return f"{number:.{digits - 1}e}"


def seconds_shown(seconds: float) -> str:
    """Return a time as short text: 0.14 ms, 3.35 s, 1200 s."""
    return f"{short(seconds * 1e3)} ms" if seconds < 1 else f"{short(seconds)} s"


def digits_right(digits: float) -> str:
    """Return how many digits are right as short text; an error beyond the number leaves none."""
    return "all" if digits == math.inf else short(max(round(digits, 2), 0.0) + 0.0, 2)


def subscript(index: tuple[int, ...] | None) -> str:
    """Return an index as written after a name, [2,5]; an empty string for a scalar."""
    return f"[{','.join(map(str, index))}]" if index else ""
