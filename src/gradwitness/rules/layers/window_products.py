"""Sums of products over windows of plain numbers, without a copy of each window.

Beside each other stand only the windows along the axes but the first. A window that begins so many
places further along the first axis lies in the same memory, so many rows on. What is put beside
each other of a few images at a time stays in the cache.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwitness.rules.layers.windows import Sizes
    from gradwitness.rules.registry import Array

# Along each axis, the place of an array at which each window begins.
Begins: TypeAlias = tuple[list[int], ...]

# Numbers that are put beside each other at a time.
_AT_ONCE = 2**17


def correlated(w: Array, x: Array, begins: Begins, count: Sizes, step: Sizes) -> Array:
    """Multiply w, (groups, O, *kernel, C), with the windows of x, (N, groups, C, ...), and add up.

    The result is (N, groups, O, points).
    """
    groups, out = w.shape[:2]
    y = np.empty((x.shape[0], groups, out, math.prod(count)), np.result_type(w, x))
    kernel, others = math.prod(w.shape[2:-1]), math.prod(w.shape[3:-1])
    copied = x.shape[2] * others * x.shape[3] * math.prod(count[1:])
    if kernel > 1 and out * kernel * math.prod(x.shape[3:]) < copied:
        return _met_later(w, x, begins, count, step, y)
    of_rows = np.reshape(np.moveaxis(w, 2, 0), (len(begins[0]), groups, out, -1))
    for part in _parts(x, begins, count):
        of_part = of_rows[:, part[1]]
        rows = _rows(x[part], begins, count, step)
        total = np.matmul(of_part[0], next(rows), out=y[part])
        more = np.empty_like(total) if len(of_part) > 1 else None
        for of_row, met in zip(of_part[1:], rows, strict=True):
            total += np.matmul(of_row, met, out=more)
    return y


def _met_later(w: Array, x: Array, begins: Begins, count: Sizes, step: Sizes, y: Array) -> Array:
    """Do what `correlated` does, where products are fewer than windows: add them up in theirs."""
    groups, out, kernel = w.shape[0], w.shape[1], w.shape[2:-1]
    rows = np.reshape(w, (groups, -1, w.shape[-1]))
    places = [*itertools.product(*map(range, kernel))]
    windows_of = [
        [*map(_inside, at, x.shape[3:], count, step)] for at in itertools.product(*begins)
    ]
    total = np.reshape(y, (*y.shape[:3], *count))
    total[...] = 0
    images = max(1, _AT_ONCE // max(1, rows.shape[0] * rows.shape[1] * math.prod(x.shape[3:])))
    for first in range(0, x.shape[0], images):
        some = x[first : first + images]
        products = rows @ np.reshape(some, (*some.shape[:3], -1))
        made: Array = np.reshape(products, (*some.shape[:2], out, *kernel, *x.shape[3:]))
        for at, met in zip(places, windows_of, strict=True):
            into, taken = ((..., *part) for part in zip(*met, strict=True))
            total[first : first + images][into] += made[(*(slice(None),) * 3, *at)][taken]
    return y


def weighed(g: Array, x: Array, begins: Begins, count: Sizes, step: Sizes) -> Array:
    """Multiply g, (N, groups, O, points), with the windows of x, and add up over images and points.

    The result is (groups, O, *kernel, C).
    """
    kernel = tuple(map(len, begins))
    columns = math.prod(kernel[1:]) * x.shape[2]
    dw = np.zeros((*g.shape[1:3], kernel[0], columns), np.result_type(g, x))
    for part in _parts(x, begins, count):
        for row, met in enumerate(_rows(x[part], begins, count, step)):
            dw[part[1], :, row] += np.sum(g[part] @ np.swapaxes(met, 2, 3), axis=0)
    return np.reshape(dw, (*dw.shape[:2], *kernel, x.shape[2]))


def _parts(x: Array, begins: Begins, count: Sizes) -> Iterator[tuple[slice, slice]]:
    """Yield ranges of images, and of their groups, of which so much is put beside each other."""
    of_group = math.prod(x.shape[2:4]) * math.prod(map(len, begins[1:])) * math.prod(count[1:])
    groups = min(max(1, _AT_ONCE // max(1, of_group)), max(1, x.shape[1]))
    images = max(1, _AT_ONCE // max(1, of_group * groups)) if groups == x.shape[1] else 1
    for image, group in itertools.product(
        range(0, x.shape[0], images), range(0, x.shape[1], groups)
    ):
        yield slice(image, image + images), slice(group, group + groups)


def _rows(x: Array, begins: Begins, count: Sizes, step: Sizes) -> Iterator[Array]:
    """Yield what each row of the kernel meets: (N, groups, (other positions) C, points)."""
    first, size = begins[0], x.shape[3]
    before = max(0, -min(first))
    height = max(size + before, max(first) + before + step[0] * (count[0] - 1) + 1)
    others = [*itertools.product(*begins[1:])]
    if height == size and len(others) == 1 and x.shape[4:] == count[1:] and not any(others[0]):
        beside = x
    else:
        beside = np.zeros((*x.shape[:2], len(others), x.shape[2], height, *count[1:]), x.dtype)
        for place, at in enumerate(others):
            met: list[Any] = [*map(_inside, at, x.shape[4:], count[1:], step[1:])]
            inner = beside[:, :, place, :, before : before + size]
            inner[(..., *(into for into, _ in met))] = x[(..., *(taken for _, taken in met))]
    beside = np.reshape(beside, (*x.shape[:2], len(others) * x.shape[2], height, -1))
    for begin in (before + place for place in first):
        rows = beside[:, :, :, begin : begin + step[0] * (count[0] - 1) + 1 : step[0]]
        yield np.reshape(rows, (*rows.shape[:3], -1))


def _inside(begin: int, size: int, count: int, step: int) -> tuple[slice, slice]:
    """Return which places of a window lie inside an axis, and where there."""
    low = max(0, -(begin // step))
    high = max(low, min(count, (size - 1 - begin) // step + 1))
    start = begin + step * low
    return slice(low, high), slice(start, start + step * (high - low), step)


def windows(x: Array, begins: Begins, count: Sizes, step: Sizes) -> list[Array]:
    """Return windows of the last axes, of ``count`` places a step apart; 0 outside of x."""
    x, begins = padded(x, begins, count, step)
    ends = [s * (n - 1) + 1 for n, s in zip(count, step, strict=True)]
    return [
        x[(..., *(slice(b, b + e, s) for b, e, s in zip(at, ends, step, strict=True)))]
        for at in itertools.product(*begins)
    ]


def padded(x: Array, begins: Begins, count: Sizes, step: Sizes) -> tuple[Array, Begins]:
    """Return x with the zeros that windows of its last axes reach, and where they begin there."""
    sizes = x.shape[x.ndim - len(count) :]
    ends = [s * (n - 1) + 1 for n, s in zip(count, step, strict=True)]
    before = [max(0, -min(begin)) for begin in begins]
    after = [
        max(0, max(begin) + end - n) for begin, end, n in zip(begins, ends, sizes, strict=True)
    ]
    if any(before + after):
        rest = [(0, 0)] * (x.ndim - len(count))
        x = np.pad(x, (*rest, *zip(before, after, strict=True)))
    return x, tuple([b + p for b in begin] for begin, p in zip(begins, before, strict=True))
