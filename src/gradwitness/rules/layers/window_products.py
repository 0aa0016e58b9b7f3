"""Sums of products over windows of plain numbers, without a copy of each window.

Beside each other stand only the windows along the axes but the first. A window that begins so many
places further along the first axis lies in the same memory, so many rows on. What is put beside
each other of a few images at a time stays in the cache.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, TypeAlias

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
    of_rows = np.reshape(np.moveaxis(w, 2, 0), (len(begins[0]), groups, out, -1))
    y = np.empty((x.shape[0], groups, out, math.prod(count)), np.result_type(w, x))
    for images, rows in _rows_of_images(x, begins, count, step):
        np.matmul(of_rows[0], next(rows), out=y[images])
        for of_row, met in zip(of_rows[1:], rows, strict=True):
            y[images] += of_row @ met
    return y


def weighed(g: Array, x: Array, begins: Begins, count: Sizes, step: Sizes) -> Array:
    """Multiply g, (N, groups, O, points), with the windows of x, and add up over images and points.

    The result is (groups, O, *kernel, C).
    """
    kernel = tuple(map(len, begins))
    columns = math.prod(kernel[1:]) * x.shape[2]
    dw = np.zeros((*g.shape[1:3], kernel[0], columns), np.result_type(g, x))
    for images, rows in _rows_of_images(x, begins, count, step):
        for row, met in enumerate(rows):
            dw[:, :, row] += np.sum(g[images] @ np.swapaxes(met, 2, 3), axis=0)
    return np.reshape(dw, (*dw.shape[:2], *kernel, x.shape[2]))


def _rows_of_images(
    x: Array, begins: Begins, count: Sizes, step: Sizes
) -> Iterator[tuple[slice, Iterator[Array]]]:
    """Yield some images, and what each row of the kernel meets in them.

    That is (images, groups, (positions along the other axes) C, points).
    """
    each = math.prod(x.shape[1:4]) * math.prod(map(len, begins[1:])) * math.prod(count[1:])
    at_once = max(1, _AT_ONCE // max(1, each))
    for start in range(0, x.shape[0], at_once):
        images = slice(start, start + at_once)
        yield images, _rows(x[images], begins, count, step)


def _rows(x: Array, begins: Begins, count: Sizes, step: Sizes) -> Iterator[Array]:
    """Yield what each row of the kernel meets in some images."""
    x, (first, *others) = padded(x, begins, count, step)
    met = windows(x, tuple(others), count[1:], step[1:])
    beside = np.stack(met, axis=2) if len(met) > 1 else met[0]
    beside = np.reshape(beside, (*x.shape[:2], len(met) * x.shape[2], x.shape[3], -1))
    for begin in first:
        rows = beside[:, :, :, begin : begin + step[0] * (count[0] - 1) + 1 : step[0]]
        yield np.reshape(rows, (*rows.shape[:3], -1))


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
