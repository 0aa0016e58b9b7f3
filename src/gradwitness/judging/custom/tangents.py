"""Directions in which an operand may move: along symmetric matrices, along the unit sphere.

A function of symmetric matrices or unit vectors may send the part of its gradient that lies among
them, and no more. What it sends must lie there: a transposed gradient of a symmetric matrix does
not, unless it is right. A function that reads one triangle is one of symmetric matrices, and what
it sends need only be right along these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradwitness.engine.floats import unit_roundoff
from gradwitness.judging.comparing.compare import SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from gradwitness.judging.comparing.comparison import Comparison

    Floats = NDArray[np.float64]

# Roundings that may part an operand, or what is sent, from the directions that it belongs to.
_ROUNDINGS = 32


@dataclass(frozen=True)
class Tangent:
    """Some directions, by name and by the projection to them."""

    name: str
    project: Callable[[Floats], Floats]

    def explains(self, sent: Floats, expected: Floats, bound: float) -> bool:
        """Whether what was sent is the part of the expected gradient that lies along these."""
        return bool(np.all(np.abs(sent - self.project(expected)) <= 2 * bound))


SYMMETRIC = Tangent("symmetric", lambda v: (v + np.swapaxes(v, -1, -2)) / 2)


def is_symmetric(at: Floats, unit: float) -> bool:
    """Whether an operand is a symmetric matrix, or several, but for rounding."""
    if not (at.ndim > 1 and at.shape[-1] == at.shape[-2] > 1):
        return False
    return bool(np.max(np.abs(at - np.swapaxes(at, -1, -2))) <= _ROUNDINGS * unit * _size(at))


def tangents(at: Floats, sent: Floats, unit: float) -> Iterator[Tangent]:
    """Yield the directions to which both an operand and what was sent to it keep."""
    if sent.shape != at.shape or at.ndim == 0 or not sent.any():
        return
    allowed = _ROUNDINGS * unit

    def near(a: Floats, b: Floats, size: float) -> bool:
        return bool(np.max(np.abs(a - b)) <= allowed * size)

    if is_symmetric(at, unit) and near(SYMMETRIC.project(sent), sent, _size(sent)):
        yield SYMMETRIC
    norms = np.sqrt(np.sum(at * at, axis=-1, keepdims=True))
    if at.shape[-1] > 1 and near(norms, np.ones(norms.shape), 1.0):
        tangent = Tangent("tangent", lambda v: v - at * np.sum(at * v, axis=-1, keepdims=True))
        if near(tangent.project(sent), sent, _size(sent)):
            yield tangent


def explaining(by_rules: Comparison, at: Floats, sent: Floats, expected: Floats, dtype: str) -> str:
    """Return along what a gradient is the expected one, if only along that; empty for nothing."""
    if by_rules.detects_relative > SHARE:
        return ""
    found = tangents(at, sent, unit_roundoff(dtype))
    bound = by_rules.detects / 2
    return next((t.name for t in found if t.explains(sent, expected, bound)), "")


def _size(array: Floats) -> float:
    return float(np.max(np.abs(array)))
