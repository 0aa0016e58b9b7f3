"""Pooling over windows that begin at random places, as far apart as the sizes make it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.rules.kernel_ops import require_certain
from gradwitness.rules.layers.pooling import to_largest
from gradwitness.rules.layers.windows import Windows
from gradwitness.rules.registry import Array, rule

if TYPE_CHECKING:
    from gradwitness.rules.layers.windows import Sizes


def _line(sample: Array, n: int, width: int, count: int) -> Array:
    """Return the elements of each window along an axis; the last one ends it."""
    start = np.zeros(count, dtype=np.int64, like=sample) + (n - width)
    if count > 1:
        step = (0 * sample + (n - width)) / (count - 1)
        places = np.floor((np.arange(count - 1, like=sample) + sample) * step)
        start[:-1] = require_certain(places) - require_certain(np.floor(sample * step))
    return start + np.arange(width, like=sample)[:, None]


@rule(
    "aten.fractional_max_pool2d",
    "y = fraction_max(x, kernel_size, output_size, random_samples)",
    meaning="gives each window's gradient to the largest element, whose index the forward pass "
    "returned",
    aliases=("aten.fractional_max_pool3d",),
)
def fractional_max_pool(
    x: Array, *, kernel_size: Sizes, output_size: Sizes, random_samples: Array
) -> tuple[Array, Array]:
    many = len(output_size)
    sizes = tuple(x.shape[-many:])
    shape = (*x.shape[:-many], *output_size)
    if not math.prod(shape):
        return np.zeros_like(x, shape=shape), np.zeros_like(random_samples, np.int64, shape=shape)
    planes = np.reshape(x, (math.prod(x.shape[:-many]), 1, *sizes))
    samples = np.reshape(random_samples, (len(planes), many))
    values, indices = [], []
    for plane in range(len(planes)):
        # In the plane the first sample is that of the last axis.
        drawn = [samples[plane, [many - 1 - k if many == 2 else k]] for k in range(many)]
        axes = zip(drawn, sizes, kernel_size, output_size, strict=True)
        windows = Windows(tuple(_line(*axis) for axis in axes), sizes)
        value, index = windows.largest(planes[plane])
        values.append(value)
        indices.append(index)
    return np.reshape(np.stack(values), shape), np.reshape(np.stack(indices), shape)


@fractional_max_pool.vjp("x", "to_index(g, y, x, output_size)")
def _(g: Any, y: Any, x: Array, *, output_size: Sizes) -> Array:
    return to_largest(g, y, x, len(output_size))
