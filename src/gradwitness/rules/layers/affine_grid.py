"""Places on a grid, moved by a matrix: where a transformed image is read off."""

from __future__ import annotations

import math

import numpy as np

from gradwitness.rules.made_like import full_like
from gradwitness.rules.registry import Array, rule
from gradwitness.rules.shape.create import spaced

Sizes = tuple[int, ...]


def _centres(one: Array, count: int, align: bool) -> Array:
    """Return the centres of pixels along an axis whose ends, or whose last centres, are -1 and 1.

    ``one`` is 1, in the arithmetic to compute in.
    """
    if count == 1:
        return 0 * one * np.arange(1, like=one)
    ends = spaced(-one, one, count, one)
    return ends if align else ends * (count - 1) / count


def _grid(theta: Array, size: Sizes, align: bool) -> Array:
    """Return every pixel's place and a 1: the image's last axis comes first."""
    sizes = size[2:]
    one = full_like(theta, (), 1)
    columns = []
    for axis in reversed(range(len(sizes))):
        along = [sizes[axis] if k == axis else 1 for k in range(len(sizes))]
        centres = np.reshape(_centres(one, sizes[axis], align), along)
        columns.append(np.reshape(np.broadcast_to(centres, sizes), (math.prod(sizes),)))
    columns.append(np.ones_like(theta, shape=(math.prod(sizes),)))
    return np.stack(columns, axis=-1)


@rule(
    "aten.affine_grid_generator",
    "y = moved_grid(theta, size, align_corners)",
    meaning="adds up, for each number of the matrix, the gradients of all places times the "
    "coordinate that it was multiplied by",
    composite=True,
)
def affine_grid_generator(theta: Array, *, size: Sizes, align_corners: bool) -> Array:
    places = _grid(theta, size, align_corners) @ np.swapaxes(theta, 1, 2)
    return np.reshape(places, (theta.shape[0], *size[2:], len(size) - 2))


@affine_grid_generator.vjp("theta", "to_matrix(g, theta, size, align_corners)")
def _(g: Array, theta: Array, *, size: Sizes, align_corners: bool) -> Array:
    flat = np.reshape(g, (theta.shape[0], math.prod(size[2:]), len(size) - 2))
    return np.swapaxes(flat, 1, 2) @ _grid(theta, size, align_corners)
