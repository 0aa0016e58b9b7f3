"""The cubic by which torch interpolates (Keys 1981), from the distance, with its derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradwitness.rules.registry import Array

_SHARPNESS = -0.75


def near(t: Array, order: int = 0, a: float = _SHARPNESS) -> Array:
    """Return the weight at a distance up to 1, or its first or second derivative."""
    if order == 1:
        return (3 * (a + 2) * t - 2 * (a + 3)) * t
    if order == 2:
        return 6 * (a + 2) * t - 2 * (a + 3)
    return ((a + 2) * t - (a + 3)) * t * t + 1


def far(t: Array, order: int = 0, a: float = _SHARPNESS) -> Array:
    """Return the weight at a distance from 1 to 2, or its first or second derivative."""
    if order == 1:
        return (3 * a * t - 10 * a) * t + 8 * a
    if order == 2:
        return 6 * a * t - 10 * a
    return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
