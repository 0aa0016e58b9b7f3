"""Words of formulas that resample: in exact places, by loops over single elements.

Nothing here may come from the rules.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Plain: TypeAlias = Any
Sizes: TypeAlias = tuple[int, ...]
Kernel: TypeAlias = "Callable[[float], float]"


def _sizes(x: Plain, sizes: Sizes | None, scales: Any) -> list[int]:
    by = scales[-(x.ndim - 2) :]
    wanted = sizes or [None] * len(by)
    return [
        n if n is not None else math.floor(m * Fraction(s))
        for n, m, s in zip(wanted, x.shape[2:], by, strict=True)
    ]


def _steps(x: Plain, counts: list[int], scales: Any) -> list[Fraction]:
    by = scales[-(x.ndim - 2) :]
    return [
        1 / Fraction(s) if s is not None else Fraction(n, count)
        for n, count, s in zip(x.shape[2:], counts, by, strict=True)
    ]


def _copied(x: Plain, sizes: Sizes | None, scales: Any, shift: float) -> Iterator[Any]:
    """Each result's place, and that of the element that it is a copy of."""
    counts = _sizes(x, sizes, scales)
    steps = _steps(x, counts, scales)
    for at in np.ndindex(*x.shape[:2], *counts):
        near = [
            min(math.floor((i + Fraction(shift)) * step), n - 1)
            for i, step, n in zip(at[2:], steps, x.shape[2:], strict=True)
        ]
        yield at, (*at[:2], *near)


def nearest(x: Plain, sizes: Sizes | None, scales: Any, shift: float = 0) -> Plain:
    out = np.zeros((*x.shape[:2], *_sizes(x, sizes, scales)))
    for at, origin in _copied(x, sizes, scales, shift):
        out[at] = x[origin]
    return out


def nearest_add(g: Plain, x: Plain, sizes: Sizes | None, scales: Any, shift: float = 0) -> Plain:
    out = np.zeros(x.shape)
    for at, origin in _copied(x, sizes, scales, shift):
        out[origin] += g[at]
    return out


def hat(t: float) -> float:
    """The weight of an element at a distance, in linear interpolation."""
    return max(0.0, 1.0 - abs(t))


def cubic(t: float) -> float:
    """The weight of an element at a distance, in cubic convolution with slope -3/4 at 1."""
    t = abs(t)
    if t <= 1:
        return 1.25 * t**3 - 2.25 * t**2 + 1
    return -0.75 * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def _line(
    n: int, count: int, step: Fraction, corners: bool, kernel: Kernel
) -> list[dict[int, float]]:
    """For each result along an axis, the weights of the elements; those beyond the ends are
    copies of the last."""
    if kernel.__name__.startswith("wide"):
        if corners:
            step = Fraction(n - 1, max(count - 1, 1))
        return [_smooth_line(n, (i + Fraction(1, 2)) * step, max(step, 1), kernel) for i in
                range(count)]  # fmt: skip
    found = []
    for i in range(count):
        if corners:
            real = Fraction((n - 1) * i, max(count - 1, 1))
        else:
            real = (i + Fraction(1, 2)) * step - Fraction(1, 2)
        weights: dict[int, float] = {}
        for k in range(math.floor(real) - 2, math.floor(real) + 4):
            inside = min(max(k, 0), n - 1)
            weights[inside] = weights.get(inside, 0.0) + kernel(float(real - k))
        found.append(weights)
    return found


def _smooth_line(n: int, middle: Fraction, wide: Any, kernel: Kernel) -> dict[int, float]:
    """The share of each element in a result, by its distance from the middle of that."""
    weights = [kernel(float((k + Fraction(1, 2) - middle) / wide)) for k in range(n)]
    return {k: weight / math.fsum(weights) for k, weight in enumerate(weights)}


def wide_hat(t: float) -> float:
    return hat(t)


def wide_cubic(t: float) -> float:
    """Keys' own cubic, with slope -1/2 at 1."""
    t = abs(t)
    if t <= 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def wide_sinc(t: float) -> float:
    """Lanczos' window of three on either side."""
    return float(np.sinc(t) * np.sinc(t / 3)) if abs(t) < 3 else 0.0


def _weighed(
    x: Plain, sizes: Sizes | None, corners: bool, scales: Any, kernel: Kernel
) -> Iterator[Any]:
    counts = _sizes(x, sizes, scales)
    axes = zip(x.shape[2:], counts, _steps(x, counts, scales), strict=True)
    lines = [_line(n, count, step, corners, kernel) for n, count, step in axes]
    for at in np.ndindex(*x.shape[:2], *counts):
        near = (line[i].items() for line, i in zip(lines, at[2:], strict=True))
        for chosen in product(*near):
            yield at, (*at[:2], *(k for k, _ in chosen)), math.prod(w for _, w in chosen)


def interpolate(x: Plain, sizes: Sizes | None, corners: bool, scales: Any, kernel: Kernel) -> Plain:
    out = np.zeros((*x.shape[:2], *_sizes(x, sizes, scales)))
    for at, origin, weight in _weighed(x, sizes, corners, scales, kernel):
        out[at] += weight * x[origin]
    return out


def interpolate_add(
    g: Plain, x: Plain, sizes: Sizes | None, corners: bool, scales: Any, kernel: Kernel
) -> Plain:
    out = np.zeros(x.shape)
    for at, origin, weight in _weighed(x, sizes, corners, scales, kernel):
        out[origin] += weight * g[at]
    return out


def thinned(x: Plain, mask: Plain, p: float, train: bool | None) -> Plain:
    if train is False:
        return x
    numbers = [n / (1 - p) if kept else 0.0 for n, kept in zip(x.flat, mask.flat, strict=True)]
    return np.array(numbers).reshape(x.shape)


def deal(x: Plain, groups: int) -> Plain:
    size = x.shape[1] // groups
    return np.stack([x[:, k % groups * size + k // groups] for k in range(x.shape[1])], axis=1)


def gather_up(g: Plain, groups: int) -> Plain:
    out = np.zeros(g.shape, g.dtype)
    size = g.shape[1] // groups
    for k in range(g.shape[1]):
        out[:, k % groups * size + k // groups] = g[:, k]
    return out


RESAMPLING: dict[str, Any] = {
    word.__name__: word
    for word in (
        nearest, nearest_add, hat, cubic, interpolate, interpolate_add, thinned, deal, gather_up,
        wide_hat, wide_cubic, wide_sinc,
    )
}  # fmt: skip
